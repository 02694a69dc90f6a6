"""The guides: what is marked `sh run` runs, in order; of everything else the names are checked to exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from app.cli.main import app as cli
from app.domain.search_config import SearchConfig
from app.domain.standalone_recipe import StandaloneRecipe
from app.embedded.stack import Stack
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
PAGES = [*GUIDES, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]
# the later ones ask what the first one has found
RUN_ORDER = ("first-search", "constraints-and-devices", "own-data")
MARK = "::guide line"


@dataclass(frozen=True)
class Block:
    """A fenced block of commands.

    Attributes:
        page: The file it is in.
        line: Where it begins, from 1.
        runs: Whether it is marked for running.
        text: Its content.
    """

    page: Path
    line: int
    runs: bool
    text: str


def blocks(page: Path) -> list[Block]:
    """The `sh` blocks of a page."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```sh( run)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text.count("\n", 0, match.start()) + 2, match[1] is not None, match[2]) for match in found]


ALL_BLOCKS = [block for page in (*GUIDES, ROOT / "docs" / "operations.md") for block in blocks(page)]


def commands(block: Block) -> list[list[str]]:
    """The words of every command of a block, without settings in front and here-documents; `a > b` keeps its words."""
    text = re.sub(r"<<'END'.*?^END$", "", block.text, flags=re.MULTILINE | re.DOTALL)
    lines = text.replace("\\\n", " ").splitlines()
    found = [shlex.split(line, comments=True) for line in lines]
    return [words for line in found if (words := _without_assignments(line))]


def _without_assignments(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    return words


@dataclass(frozen=True)
class ComposeCall:
    """A call of `docker compose`: its verb, the services and profiles that it names, and what runs inside of one."""

    verb: str
    services: tuple[str, ...]
    profiles: tuple[str, ...]
    inside: tuple[str, ...]

    @classmethod
    def parse(cls, words: list[str]) -> "ComposeCall":
        rest, profiles, names = words, [], []
        while rest[0] == "--profile":
            profiles.append(rest[1])
            rest = rest[2:]
        verb, rest = rest[0], rest[1:]
        while rest and not (verb in ("run", "exec") and names):
            word, rest = rest[0], rest[1:]
            if word == "--entrypoint":
                rest = rest[1:]
            elif word == "--scale":
                names.append(rest[0].partition("=")[0])
                rest = rest[1:]
            elif word not in COMPOSE_FLAGS:
                names.append(word)
        return cls(verb, tuple(names), tuple(profiles), tuple(rest))


COMPOSE_FLAGS = {"-d", "-f", "-T", "--build", "--rm", "--no-deps"}


def service_commands() -> Iterator[tuple[Block, list[str]]]:
    """Every call of `nasatlas`, also those inside of containers."""
    for block in ALL_BLOCKS:
        for words in commands(block):
            if words[:2] == ["docker", "compose"]:
                words = list(ComposeCall.parse(words[2:]).inside)
            if words and words[0] == "nasatlas":
                yield block, words[1:]


class TestNamesExist:
    def test_every_command_and_option_of_the_command_line(self) -> None:
        fields = set(SearchConfig.model_fields) | set(StandaloneRecipe.model_fields)
        seen = 0
        for block, words in service_commands():
            place = f"{block.page.name}:{block.line}"
            command: Any = typer.main.get_command(cli)
            while hasattr(command, "commands"):
                assert words[0] in command.commands, f"{place}: there is no command {words[0]}"
                command, words = command.commands[words[0]], words[1:]
            known = {option for parameter in command.params for option in parameter.opts}
            for position, word in enumerate(words):
                if word.startswith("--"):
                    assert word.partition("=")[0] in known, f"{place}: {command.name} has no option {word}"
                if word == "--set":
                    assert words[position + 1].partition("=")[0] in fields, f"{place}: no field {words[position + 1]}"
            seen += 1
        assert seen > 30

    def test_every_service_and_profile_of_compose(self) -> None:
        compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
        services, profiles = (
            compose["services"],
            {p for s in compose["services"].values() for p in s.get("profiles", ())},
        )
        verbs = {"up", "down", "ps", "logs", "run", "exec"}
        seen = 0
        for block in ALL_BLOCKS:
            for words in commands(block):
                if words[:2] != ["docker", "compose"]:
                    continue
                call, place = ComposeCall.parse(words[2:]), f"{block.page.name}:{block.line}: {words}"
                assert call.verb in verbs, place
                assert set(call.profiles) <= profiles, place
                assert set(call.services) <= set(services), place
                seen += 1
        assert seen > 18

    def test_volumes_and_services_that_the_guides_name(self) -> None:
        compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
        page = (ROOT / "docs" / "guides" / "gpu-host.md").read_text(encoding="utf-8")
        for name in [*compose["volumes"], *compose["services"]]:
            assert f"`{name}`" in page, f"the guide does not say what {name} is"

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_every_setting(self, page: Path) -> None:
        known = {f"NASATLAS_{name.upper()}" for name in Settings.model_fields}
        deployment = (ROOT / "docker-compose.yml").read_text() + (ROOT / ".env.example").read_text()
        for name in re.findall(r"NASATLAS_[A-Z_]*[A-Z]", page.read_text(encoding="utf-8")):
            assert name in known or name == "NASATLAS_MAX" or re.search(rf"\b{name}\b", deployment), name

    def test_every_target_of_make(self) -> None:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        for block in ALL_BLOCKS:
            for words in commands(block):
                if words[0] == "make":
                    assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words

    def test_every_path_of_the_api(self) -> None:
        app = create_app(Settings(database_url="postgresql+psycopg://nobody@127.0.0.1:1/none", authentication="none"))
        routes = [re.sub(r"\{[^}]*\}", "[^/]+", path) for path in app.openapi()["paths"]]
        seen = 0
        for block in ALL_BLOCKS:
            for path in re.findall(r"(?:\$NASATLAS_URL|127\.0\.0\.1:8000)(/[^?\s\"]*)", block.text):
                assert any(re.fullmatch(route, path) for route in routes), f"{block.page.name}:{block.line}: {path}"
                seen += 1
        assert seen >= 7

    @pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
    def test_every_link(self, page: Path) -> None:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            linked = (page.parent / file).resolve() if file else page
            assert linked.exists(), f"{page.name} links {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in anchors, f"{page.name} links {target}"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of somebody who follows the guides, with a service in it."""
    directory = tmp_path_factory.mktemp("guides")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("NASATLAS_") and "TEST" not in name]:
            patch.delenv(name)
        patch.setenv("NASATLAS_HEARTBEAT_S", "0.3")
        with Stack(directory / ".nasatlas") as stack:
            # whatever is activated, the commands are those of this interpreter and this checkout
            patch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
            patch.setenv("PYTHONPATH", str(ROOT))
            patch.setenv("NASATLAS_URL", stack.url)
            yield directory


class Reader:
    """Somebody who types all that a guide marks for running, block by block, in one shell."""

    def __init__(self, workdir: Path, guide: str) -> None:
        script = "set -euo pipefail\n"
        for block in ALL_BLOCKS:
            if block.runs and block.page.stem == guide:
                script += f"echo '{MARK} {block.line}'\n{block.text}"
        self.guide = guide
        # files: a pipe that nobody reads yet would fill up
        self._out, self._err = workdir / f".{guide}.out", workdir / f".{guide}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(["bash", "-c", script], cwd=workdir, stdout=out, stderr=err)

    def finish(self) -> str:
        """Return what the commands have printed, when all have succeeded."""
        status = self.process.wait(timeout=400)
        out, err = self._out.read_text(encoding="utf-8"), self._err.read_text(encoding="utf-8")
        line = out.rpartition(MARK)[2].partition("\n")[0]
        assert status == 0, f"{self.guide}.md, the block at line{line}:\n{err[-2000:]}"
        return out


@pytest.fixture(scope="module")
def started(workdir: Path) -> Iterator[dict[str, Reader]]:
    """A reader of the guide that needs no other, at work from the beginning: half of the time is spent in starting."""
    readers = {"own-data": Reader(workdir, "own-data")}
    yield readers
    for reader in readers.values():
        reader.process.kill()
        reader.process.wait()


def test_the_guides_that_run_are_all_run() -> None:
    assert {block.page.stem for block in ALL_BLOCKS if block.runs} == set(RUN_ORDER) == set(EXPECTED)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the guides use curl")
@pytest.mark.parametrize("guide", RUN_ORDER)
def test_a_guide_runs(workdir: Path, started: dict[str, Reader], guide: str) -> None:
    if guide not in started:
        started[guide] = Reader(workdir, guide)
    said = started[guide].finish()
    assert [text for text in EXPECTED[guide] if text not in said] == [], said


EXPECTED = {
    "first-search": ("succeeded", "K", "network.py"),
    "constraints-and-devices": ("max_madds=1 is below the cheapest", "pixel", "4679144", "device pixel is deleted"),
    "own-data": ("digits", "81 images", "rose/broken.png", "80 images", "succeeded"),
}
"""Words of the answers: a command that prints nothing of the kind has not done what its guide says."""
