"""Who asks, and what they may do."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from app.errors import ForbiddenError

Scope = Literal["read", "submit", "admin"]

_IMPLIED: dict[str, frozenset[Scope]] = {
    "read": frozenset({"read"}),
    "submit": frozenset({"read", "submit"}),
    "admin": frozenset({"read", "submit", "admin"}),
}


@dataclass(frozen=True)
class Caller:
    """The one who made a request.

    Attributes:
        owner: Whose searches are theirs; None where the service needs no keys.
        scopes: What they may do: ``read``; ``submit``, which is also to cancel, resume and delete; ``admin``, which is
            that with every owner's searches.
        key_id: The API key they came with; None where the service needs no keys.
        rate_limit_per_minute: Requests that the key allows; None: any number.
    """

    owner: str | None
    scopes: frozenset[Scope]
    key_id: uuid.UUID | None = None
    rate_limit_per_minute: int | None = None

    @property
    def visible_owner(self) -> str | None:
        """The owner whose searches alone they see; None: they see every search."""
        if "admin" in self.scopes:
            return None
        assert self.owner is not None, "only a key without the scope admin is limited to its owner"
        return self.owner

    def sees(self, owner: str | None) -> bool:
        """Whether a search of that owner exists for them."""
        return self.visible_owner is None or self.visible_owner == owner

    def check_may(self, scope: Scope) -> None:
        """Check a scope.

        Raises:
            ForbiddenError: If they do not have it.
        """
        if scope not in self.scopes:
            raise ForbiddenError(
                detail=f"this needs an API key with the scope {scope}; this key has {' and '.join(sorted(self.scopes))}"
            )


EVERYONE = Caller(None, _IMPLIED["admin"])
"""Whoever calls where no keys are needed."""


def with_implied(scopes: Iterable[str]) -> frozenset[Scope]:
    """Return scopes with those they imply: admin implies submit, submit implies read."""
    return frozenset().union(*(_IMPLIED[scope] for scope in scopes))
