"""What scopes imply and whose searches a caller sees."""

import pytest

from app.errors import ForbiddenError
from app.services.callers import EVERYONE, Caller, with_implied


@pytest.mark.parametrize(
    ("scopes", "implied"),
    [
        (["read"], {"read"}),
        (["submit"], {"read", "submit"}),
        (["admin"], {"read", "submit", "admin"}),
        (["read", "submit"], {"read", "submit"}),
        ([], set()),
    ],
)
def test_scopes_imply_lesser_ones(scopes: list[str], implied: set[str]) -> None:
    assert with_implied(scopes) == implied


def test_an_owner_sees_its_own_and_an_administrator_all() -> None:
    alice, root = Caller("alice", with_implied(["submit"])), Caller("root", with_implied(["admin"]))
    owners = ("alice", "bob", None)
    assert [alice.sees(owner) for owner in owners] == [True, False, False]
    assert [root.sees(owner) for owner in owners] == [True] * 3
    assert [EVERYONE.sees(owner) for owner in owners] == [True] * 3
    assert (alice.visible_owner, root.visible_owner, EVERYONE.visible_owner) == ("alice", None, None)


def test_nobody_without_an_owner_is_limited_to_it() -> None:
    with pytest.raises(AssertionError):
        _ = Caller(None, with_implied(["read"])).visible_owner


def test_a_missing_scope_is_named() -> None:
    caller = Caller("alice", with_implied(["submit"]))
    caller.check_may("read")
    with pytest.raises(ForbiddenError, match="the scope admin; this key has read and submit"):
        caller.check_may("admin")
