"""Every name that the glossary and the architecture page mention exists in the code."""

import re
from functools import lru_cache
from pathlib import Path

import pytest

from app.db.models import SEARCH_STATES, STEP_KINDS, STEP_STATES
from app.domain.search_space import PRESETS

ROOT = Path(__file__).parents[2]
PAGES = ("glossary.md", "architecture.md")


@lru_cache(maxsize=1)
def identifiers() -> frozenset[str]:
    """Every word of the code and its texts."""
    words: set[str] = set()
    for package in ("app", "worker"):
        for file in (ROOT / package).rglob("*.py"):
            words.update(re.findall(r"[A-Za-z_][A-Za-z_0-9]*", file.read_text(encoding="utf-8")))
    return frozenset(words)


def quoted(page: str) -> list[str]:
    """What stands in backticks, outside of fenced blocks."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", text)


def exists(dotted: str) -> bool:
    """Whether a module, or something defined in one, has that name."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        module = path.with_suffix(".py")
        if not module.is_file():
            module = path / "__init__.py"
        if module.is_file():
            rest = parts[length:]
            text = module.read_text(encoding="utf-8")
            return all(re.search(rf"^\s*(class|def) {name}\b|^{name}( =|:)", text, re.MULTILINE) for name in rest)
    return False


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name(page: str) -> None:
    names = [name for name in quoted(page) if re.fullmatch(r"(app|worker)(\.\w+)*", name)]
    assert len(names) > 15
    assert [name for name in names if not exists(name)] == []


def test_every_plain_name_of_the_glossary() -> None:
    names = [name for name in quoted("glossary.md") if not name.startswith(("app.", "worker."))]
    assert len(names) > 20
    assert [name for name in names if name not in identifiers() and name not in PRESETS] == []


def test_the_names_that_do_not_exist_are_found() -> None:
    assert not exists("app.domain.subspace.HyperCell")
    assert not exists("app.nothing")
    assert exists("worker.nas.gcn.GCN")
    assert exists("app.domain.whole_space")


def test_the_architecture_page_has_every_step_and_state() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in STEP_KINDS if f"`{name}`" not in text] == []
    states = text.partition("## States")[2].partition("## ")[0]
    assert [name for name in (*SEARCH_STATES, *STEP_STATES) if not re.search(rf"\b{name}\b", states)] == []
