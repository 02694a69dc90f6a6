"""Paths of the API: whatever a name or an id is, it leads to the resource of that name or nowhere."""

import uuid
from collections.abc import Callable

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from app.api.data_sets import Name as DataSetName
from app.api.devices import Name as DeviceName
from app.client import BadNameError, NasAtlas
from app.client.paths import architecture_path, data_set_path, device_path, search_path
from app.domain.names import DEVICE_NAME_PATTERN, check_name, in_words
from tests.unit.app.client.answers import ID, answering

HOSTILE = ["../search/x", ".", "..", "", "a/b", "a%2Fb", "a\\b", "a?b", "a#b", "a b", "a\n", "é", "-a", "a" * 200]
NAMES = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8), st.text("aZ0._-/%", max_size=70))


@given(NAMES)
@example("a" * 64)
@example("a" * 65)
@pytest.mark.parametrize(
    ("path", "prefix", "api"),
    [
        (device_path, "/devices/", TypeAdapter(DeviceName)),
        (data_set_path, "/datasets/", TypeAdapter(DataSetName)),
    ],
)
def test_names_are_those_that_the_api_takes(
    path: Callable[[str], str], prefix: str, api: TypeAdapter[str], name: str
) -> None:
    try:
        api.validate_python(name)
    except ValidationError:
        with pytest.raises(BadNameError, match="characters long"):
            path(name)
    else:
        assert httpx2.URL(f"http://service{path(name)}").path == prefix + name


@given(NAMES)
def test_ids_and_codes(given_text: str) -> None:
    with pytest.raises(BadNameError, match="is a UUID"):
        search_path(given_text)
    if not (given_text.isascii() and given_text.isdigit()):
        with pytest.raises(BadNameError, match="one digit per cell"):
            architecture_path(ID, given_text)


def test_parts() -> None:
    assert search_path(ID) == search_path(str(ID).upper()) == f"/search/{ID}"
    assert search_path(ID, "rounds", "0", "table") == f"/search/{ID}/rounds/0/table"
    assert architecture_path(ID, "0120", "export") == f"/search/{ID}/architectures/0120/export"
    assert device_path("pixel-6", "measurement") == "/devices/pixel-6/measurement"
    assert search_path(ID, "a/../b") == f"/search/{ID}/a%2F..%2Fb"


@pytest.mark.parametrize(
    "call",
    [
        lambda atlas: atlas.delete_device(f"../search/{ID}"),
        lambda atlas: atlas.device(".."),
        lambda atlas: atlas.register_device("a/b"),
        lambda atlas: atlas.measure_device("a/b"),
        lambda atlas: atlas.delete_data_set(f"../search/{ID}"),
        lambda atlas: atlas.data_set("../lookup"),
        lambda atlas: atlas.search("../lookup"),
        lambda atlas: atlas.delete("../devices/pixel"),
        lambda atlas: atlas.pairs("x"),
        lambda atlas: atlas.table("x", 0),
        lambda atlas: atlas.architecture(uuid.UUID(int=0), ".."),
        lambda atlas: list(atlas.events("../x")),
    ],
)
def test_no_call_of_the_client_leaves_its_resource(call: Callable[[NasAtlas], object]) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        raise AssertionError(f"{request.method} {request.url} was asked")

    with answering(answer) as atlas, pytest.raises(BadNameError):
        call(atlas)


def test_what_a_name_may_be_is_said_with_what_it_is() -> None:
    with pytest.raises(ValueError, match=r"^a device's name is 1 to 64 characters long: .*; not 'a/b'$"):
        check_name("a/b", DEVICE_NAME_PATTERN)
    assert in_words("^https?://") is None
