"""Values of options."""

from pathlib import Path

import pytest

from app.cli.errors import CommandError
from app.cli.options import read_settings_of, read_space


def test_values_are_json_where_they_can_be() -> None:
    given = [
        "epochs=10",
        "proxy_width=0.5",
        "segments=[[0,1],[2]]",
        "similarity=measured",
        "num_classes=null",
        'x="a=b"',
        "y=a=b",
    ]
    assert read_settings_of(given) == {
        "epochs": 10,
        "proxy_width": 0.5,
        "segments": [[0, 1], [2]],
        "similarity": "measured",
        "num_classes": None,
        "x": "a=b",
        "y": "a=b",
    }


@pytest.mark.parametrize("given", [["epochs"], ["=3"], ["a=1", "a=2"]])
def test_what_is_no_assignment(given: list[str]) -> None:
    with pytest.raises(CommandError) as caught:
        read_settings_of(given)
    assert caught.value.exit_code == 2


def test_a_space_is_a_name_or_a_file(tmp_path: Path) -> None:
    assert read_space("fairnas") == "fairnas"
    path = tmp_path / "space.json"
    path.write_text('{"name": "mine"}')
    assert read_space(str(path)) == {"name": "mine"}
    for content in ("[]", "{", ""):
        path.write_text(content)
        with pytest.raises(CommandError):
            read_space(str(path))
    with pytest.raises(CommandError, match="cannot be read"):
        read_space(str(tmp_path / "none.json"))
