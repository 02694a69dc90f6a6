"""The Python of README and guides: it parses, and what it imports, calls and reads is there."""

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.client import NasAtlas

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]


def examples() -> Iterator[tuple[str, ast.Module]]:
    for page in PAGES:
        for match in re.finditer(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            yield page.name, ast.parse(match[1])


EXAMPLES = list(examples())


def calls_of_the_client(tree: ast.Module) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.fullmatch(r"atlas\.\w+", ast.unparse(node.func)):
            yield node


def test_there_are_some() -> None:
    assert {page for page, _ in EXAMPLES} >= {"README.md", "scripting.md"}
    assert sum(len(list(calls_of_the_client(tree))) for _, tree in EXAMPLES) > 10


@pytest.mark.parametrize(("page", "tree"), EXAMPLES)
def test_what_is_imported_is_there(page: str, tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == [], page


@pytest.mark.parametrize(("page", "tree"), EXAMPLES)
def test_calls_fit_the_client(page: str, tree: ast.Module) -> None:
    for call in calls_of_the_client(tree):
        assert isinstance(call.func, ast.Attribute)
        method = getattr(NasAtlas, call.func.attr)
        given = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        inspect.signature(method).bind(None, *call.args, **given)
