"""The generated module: readable, of nothing but torch, and the same network for every kind of choice."""

import ast
import itertools

import pytest

from app.domain.model_source import model_source
from app.domain.search_space import Cell, Choice, Head, InvalidArchitectureError, SearchSpace, Stem, preset

SPACES = {name: preset(name) for name in ("fairnas", "fairnas-se", "nas-bench-macro")}


@pytest.mark.parametrize("name", SPACES)
def test_it_is_python_that_needs_torch_only(name: str) -> None:
    space = SPACES[name]
    architecture = tuple(cell_index % n for cell_index, n in enumerate(space.num_choices))
    source = model_source(space, architecture)
    imported = {
        alias.name.split(".")[0] if isinstance(node, ast.Import) else str(node.module).split(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported == {"json", "torch"}
    assert space.code(architecture) in source
    assert space.readable(architecture) in source
    assert max(map(len, source.splitlines())) <= 120 or name != "nas-bench-macro"


def test_it_says_what_it_is() -> None:
    source = model_source(SPACES["fairnas"], (3,) * 19)
    assert "452,036,096 multi-adds" in source
    assert "4,679,144 parameters" in source
    assert "SqueezeExcitation" not in source
    assert "SqueezeExcitation" in model_source(SPACES["fairnas-se"], (3,) * 19)


def test_an_identity_is_one_where_the_shape_stays() -> None:
    source = model_source(SPACES["nas-bench-macro"], (0,) * 8)
    assert source.count("            nn.Identity(),") == 5
    assert "ConvBN(32, 64, 1, 2)" in source


def test_every_choice_of_a_mixed_space_is_written() -> None:
    choices = (Choice(kind="identity"), Choice(kernel_size=3, se_ratio=0.5), Choice(kernel_size=5, expansion=1))
    space = SearchSpace(
        name="mixed",
        input_resolution=8,
        num_classes=3,
        stem=Stem(out_channels=8),
        cells=(Cell(out_channels=8, choices=choices), Cell(out_channels=12, stride=2, choices=choices)),
        head=Head(out_channels=16, dropout=0.1),
    )
    sources = [model_source(space, architecture) for architecture in itertools.product(range(3), repeat=2)]
    assert len(set(sources)) == 9
    for source in sources:
        compile(source, "model.py", "exec")


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(InvalidArchitectureError):
        model_source(SPACES["fairnas"], (6,) * 19)
