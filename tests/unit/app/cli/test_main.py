"""Commands that need no service, and how commands end."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import shellingham
import typer

from app.cli import services
from app.cli.errors import FAILED, INTERRUPTED, OK, UNREACHABLE, USAGE
from app.cli.main import app, run
from app.settings import get_settings


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NASATLAS_URL", raising=False)
    get_settings.cache_clear()


def test_count_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "--search-space", "fairnas", "3" * 19]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["multi_adds"], answer["params"]) == (452_036_096, 4_679_144)
    assert answer["readable"].startswith("K3E6 ")


def test_count_for_other_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["count", "--num-classes", "10", "0" * 19, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["params"] == 3_189_080 - 1281 * 990


def test_count_of_a_space_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from app.domain.search_space import preset

    path = tmp_path / "space.json"
    path.write_text(preset("nas-bench-macro").model_dump_json())
    assert run(["count", "--search-space", str(path), "01201201"]) == 0
    assert json.loads(capsys.readouterr().out)["search_space"] == "nas-bench-macro"
    path.write_text("{}")
    assert run(["count", "--search-space", str(path), "01201201"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["count", "33"],
        ["count", "--search-space", "darts", "33"],
        ["count"],
        ["nothing"],
        ["search", "--nothing"],
        ["search", "--set", "epochs"],
        ["status", "--url", "nowhere"],
        ["lookup", "--max-madds", "many", "--url", "http://127.0.0.1:1"],
    ],
)
def test_bad_requests_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err


@pytest.mark.parametrize(
    ("arguments", "may_be"),
    [
        (["devices", "delete", "../search/0198c1de-5b7a-7c3e-9d55-0f6b3a1c2d4e"], "letters, digits, dots"),
        (["devices", "show", "../lookup"], "a device's name is 1 to 64 characters long"),
        (["devices", "show", ".."], "a device's name"),
        (["devices", "show", ""], "a device's name"),
        (["devices", "measure", "a/b"], "a device's name"),
        (["datasets", "delete", "a%2Fb"], "a data set's name is 1 to 100 characters long"),
        (["datasets", "show", "hub:a/b"], "a data set's name"),
        (["status", "../lookup"], "a search's id is a UUID"),
        (["resume", "1"], "a search's id"),
        (["cancel", "0198c1de-5b7a-7c3e-9d55-0f6b3a1c2d4e/../x"], "a search's id"),
        (["pairs", "."], "a search's id"),
        (["retrain", "0198c1de-5b7a-7c3e-9d55-0f6b3a1c2d4e", "../0"], "one digit per cell"),
        (["export", "0198c1de-5b7a-7c3e-9d55-0f6b3a1c2d4e", "..", "--output", "net.onnx"], "one digit per cell"),
    ],
)
def test_names_that_lead_elsewhere_are_refused_before_anything_is_asked_or_started(
    arguments: list[str], may_be: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # of a service nobody answers here, and none is started: that would end with another code
    assert run([*arguments, "--url", "http://127.0.0.1:1"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert may_be in " ".join(captured.err.split())


@pytest.mark.parametrize("command", ["status", "lookup", "search", "demo"])
def test_nobody_there_ends_with_3(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--url", "http://127.0.0.1:1"]) == 3
    assert "Is the service up" in capsys.readouterr().err


def test_detached_needs_a_service_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--detach"]) == 3
    assert "nasatlas serve" in capsys.readouterr().err


def test_a_broken_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("NASATLAS_LEASE_S", "long")
    assert run(["status"]) == 2
    assert "NASATLAS_LEASE_S" in capsys.readouterr().err
    get_settings.cache_clear()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"]


def test_a_worker_without_a_service(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NASATLAS_DATABASE_URL", "NASATLAS_BROKER_URL"):
        monkeypatch.delenv(name, raising=False)
    get_settings.cache_clear()
    assert run(["worker"]) == 2
    assert "NASATLAS_BROKER_URL" in capsys.readouterr().err


@pytest.mark.parametrize(("visible", "num"), [("0,1,2", 3), ("", 0), ("-1", 0), ("GPU-1", 1)])
def test_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch, visible: str, num: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert services.num_gpus() == num


def commands_of(group: typer.core.TyperGroup, *path: str) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    """Every command, with the words that call it."""
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            yield from commands_of(command, *path, name)
        else:
            yield (*path, name), command


def test_every_command_prints_json_on_demand() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    without = [path for path, command in commands_of(group) if not any("--json" in p.opts for p in command.params)]
    assert without == []


def test_the_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for code in (OK, FAILED, USAGE, UNREACHABLE, INTERRUPTED):
        assert f"{code} " in printed.partition("Exit codes:")[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_there(
    shell: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shellingham, "detect_shell", lambda: (shell, f"/bin/{shell}"))
    with pytest.raises(SystemExit) as caught:
        run(["--show-completion"])
    assert caught.value.code == 0
    assert "_NASATLAS_COMPLETE" in capsys.readouterr().out


def test_words_are_completed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_NASATLAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "nasatlas devices me")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit) as caught:
        run([])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == "measure"


@pytest.mark.parametrize(
    ("command", "option", "values"),
    [
        ("search", "--preset", {"quick", "paper"}),
        ("retrain", "--recipe", {"small", "paper"}),
        ("retrain", "--network", {"proxy", "target"}),
        ("export", "--format", {"onnx", "safetensors", "python"}),
        ("export", "--weights", {"supernet", "retrained"}),
        ("pairs", "--source", {"sampled", "reevaluated"}),
        ("lookup", "--scope", {"table", "space"}),
    ],
)
def test_the_shell_completes_an_options_values(
    command: str, option: str, values: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_NASATLAS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"nasatlas {command} {option} ")
    monkeypatch.setenv("COMP_CWORD", "3")
    with pytest.raises(SystemExit):
        typer.main.get_command(app)(prog_name="nasatlas")
    assert set(capsys.readouterr().out.split()) == values
