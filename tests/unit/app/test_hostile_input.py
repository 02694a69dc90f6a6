"""Whatever is written where the service reads: what it is for, or an error of its own that says so; never a crash.

One test per reader of text that comes from outside.
"""

import contextlib
import json
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.api.pages import PairPageParams, SearchPageParams
from app.cli.errors import CommandError
from app.cli.options import read_settings_of
from app.domain.data_sets import DataSetError, inspect_data_set, is_hub_data_set
from app.domain.latency import LatencyTable
from app.domain.search_config import SearchConfig, from_preset
from app.domain.search_space import InvalidArchitectureError, SearchSpace, preset
from app.domain.supernet_size import MAX_SUPERNET_PARAMS, supernet_params
from app.domain.tensor_bytes import unpack
from app.errors import InvalidRequestError
from app.schemas.search_request import SearchRequest
from app.services import api_keys
from app.settings import Settings

BOUNDED = settings(max_examples=60, suppress_health_check=list(HealthCheck))

SQL = ["'; drop table searches; --", '" or 1=1 --', "$$", "%s %(x)s :x", "\\", "E'\\000'", "'||pg_sleep(9)||'"]
PATHS = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..",
    "~/.ssh",
    "a/../b",
    "\0",
    ".",
    "..",
    "x\0.npz",
    "%2e%2e%2f",
    "con",
]
TEXTS = st.one_of(
    st.text(max_size=80),
    st.sampled_from(SQL + PATHS + ["\ud800", "\u202e", "ﬀ", "٣" * 8, "𝟘" * 8, "9" * 5000, "nan", "1e999", "-0"]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def refusal(kind: type[Exception], call: Callable[[], object]) -> str:
    """What is said when something is refused, or nothing where it is not; any other error is the test's end."""
    try:
        call()
    except kind as error:
        return str(error)
    return ""


@BOUNDED
@given(TEXTS)
def test_architecture_codes(code: str) -> None:
    space = preset("nas-bench-macro")
    said = refusal(InvalidArchitectureError, lambda: space.parse_code(code))
    assert len(said) < 300
    assert said or space.code(space.parse_code(code)) == code


@BOUNDED
@given(name=TEXTS)
def test_data_set_names(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Nothing outside of the root can be named."""
    root = tmp_path_factory.getbasetemp() / "root"
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root.parent / "passwd").write_text("outside")
    said = refusal(DataSetError, lambda: is_hub_data_set(name) or inspect_data_set(name, root))
    assert said or name == "digits" or is_hub_data_set(name)
    assert "outside" not in said
    assert len(said) < 600


SPACE = preset("nas-bench-macro").model_dump(mode="json")


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, Any]) -> Any:
    """A JSON object in which one value, however deep, is replaced, removed, or joined by another."""
    copy = json.loads(json.dumps(whole))
    place: Any = copy
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.booleans()):
            break
        place = inner
    match draw(st.sampled_from(["replace", "remove", "add", "repeat"])):
        case "replace":
            place[key] = draw(st.one_of(JSON, st.sampled_from([2**31, 2**63, 10**400, -1, 0, math.inf, math.nan])))
        case "remove":
            del place[key]
        case "add" if isinstance(place, dict):
            place[draw(TEXTS)] = draw(JSON)
        case _ if isinstance(place, list):
            place *= draw(st.integers(2, 200))
    return copy


@BOUNDED
@given(damaged(SPACE))
def test_search_spaces(value: Any) -> None:
    """One that is taken is of a size that was computed, and counts, before anything is built from it."""
    with contextlib.suppress(ValidationError):
        space = SearchSpace.model_validate(value)
        with contextlib.suppress(ValueError):
            from_preset("quick", {}).resolved(space)
            assert supernet_params(space.proxy(resolution=32, width=0.25)) <= MAX_SUPERNET_PARAMS


CSV = LatencyTable(0.4, ((0.1, 0.2, 0.3),) * 8).to_csv()
CSV_PIECES = st.sampled_from(
    [*CSV.splitlines(), "\r", "\n", ",", '"', "\0", "\ufeff", "\x85", "base,,", "0,0,", "9" * 5000]
)


@BOUNDED
@given(
    st.one_of(
        TEXTS,
        st.binary(max_size=200).map(lambda data: data.decode("utf-8", errors="replace")),
        st.lists(st.one_of(CSV_PIECES, TEXTS), max_size=12).map("".join),
        st.tuples(st.integers(0, len(CSV)), st.one_of(CSV_PIECES, TEXTS)).map(lambda at: CSV[: at[0]] + at[1]),
        st.tuples(st.integers(0, len(CSV)), CSV_PIECES).map(lambda at: CSV[: at[0]] + at[1] + CSV[at[0] :]),
    )
)
def test_latencies(text: str) -> None:
    """The answer to them can be written as JSON in UTF-8."""
    space = preset("nas-bench-macro")
    said = refusal(ValueError, lambda: LatencyTable.from_csv(text, space))
    assert len(said.encode()) < 600
    assert said or LatencyTable.from_csv(text, space).function.minimum >= 0


CONFIG = SearchConfig().model_dump(mode="json")


@BOUNDED
@given(damaged({"dataset": "digits", "search_space": SPACE, "preset": "quick", **CONFIG}))
def test_requests(value: Any) -> None:
    with contextlib.suppress(ValidationError):
        request = SearchRequest.model_validate(value)
        json.dumps(request.as_json(), allow_nan=False)
        with contextlib.suppress(ValueError):
            json.dumps(from_preset(request.preset, request.overrides).model_dump(mode="json"), allow_nan=False)


@BOUNDED
@given(st.one_of(TEXTS, st.text(string.ascii_letters + string.digits + "-_=+/~<>:", max_size=80)))
def test_cursors(cursor: str) -> None:
    for params in (SearchPageParams, PairPageParams):
        with contextlib.suppress(InvalidRequestError, ValidationError):
            bookmark = params(cursor=cursor).decode_cursor(cursor)
            assert bookmark is None or "\0" not in bookmark


class NoDatabase:
    """Fails the test if it is asked anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the database is asked ({name}) for what cannot be a key")


@BOUNDED
@given(TEXTS)
def test_keys(secret: str) -> None:
    if not secret.startswith("nas_"):
        assert api_keys.caller_of_key(NoDatabase(), secret) is None  # type: ignore[arg-type]
    assert api_keys.caller_of_key(NoDatabase(), "nas_" + secret * 300 + "x" * 200) is None  # type: ignore[arg-type]
    assert len(api_keys._hash(secret)) == 64


@BOUNDED
@given(st.dictionaries(st.sampled_from(["LEASE_S", "HEARTBEAT_S", "REAP_S", "RETENTION_DAYS", "LOGIN_HOURS"]), TEXTS))
def test_durations(values: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in values.items():
            if "\0" not in value and value.isprintable():
                patch.setenv(f"NASATLAS_{name}", value)
        if not refusal(ValidationError, Settings):
            found = Settings()
            assert 0 < found.heartbeat_s <= found.lease_s / 2 < math.inf


@pytest.mark.parametrize("name", ["LEASE_S", "HEARTBEAT_S", "REAP_S", "REWAKE_S", "RETENTION_DAYS", "LOGIN_HOURS"])
@pytest.mark.parametrize("value", ["inf", "nan", "-1", "0", "1e300", "1 hour"])
def test_durations_that_are_none(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"NASATLAS_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


@BOUNDED
@given(st.lists(TEXTS, max_size=4))
def test_assignments_of_the_command_line(assignments: list[str]) -> None:
    with contextlib.suppress(CommandError):
        assert len(read_settings_of(assignments)) == len(assignments)


@BOUNDED
@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_stored_tensors(data: bytes, length: int) -> None:
    for payload in (data, length.to_bytes(8, "little") + data, len(data).to_bytes(8, "little") + data):
        with contextlib.suppress(ValueError):
            unpack(payload)


def test_no_file_outside_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in PATHS:
        with pytest.raises(DataSetError):
            inspect_data_set(name, root)
