"""The rounds of Algorithm 1: which segment is searched when, what is preserved, and the subspace that follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain.search_space import Architecture, SearchSpace
from app.domain.subspace import Subspace

if TYPE_CHECKING:
    from app.domain.search_config import SearchConfig


@dataclass(frozen=True)
class Reevaluated:
    """One of the top ``num_reevaluated`` of a round's table, evaluated again (step 3).

    Attributes:
        index: Its row in the table.
        architecture: M.
        predicted_accuracy: f(M).
        sampled_accuracy: z of the re-evaluation, a fraction.
    """

    index: int
    architecture: Architecture
    predicted_accuracy: float
    sampled_accuracy: float


def default_architecture(space: SearchSpace) -> Architecture:
    """Return M_0: kernel 3 and expansion 6 in every cell that has it (section 3.3), else the cell's last choice."""
    architecture = []
    for cell in space.cells:
        labels = [choice.label for choice in cell.choices]
        architecture.append(labels.index("K3E6") if "K3E6" in labels else len(labels) - 1)
    return tuple(architecture)


def round_segments(config: "SearchConfig") -> tuple[tuple[int, ...], ...]:
    """Return L_t of every round; beyond the number of segments they come around again.

    With two segments or more, no two consecutive rounds share a cell: L_t and L_{t+1} are disjoint.
    """
    assert config.segments is not None, "the configuration must be resolved"
    assert config.num_rounds is not None, "the configuration must be resolved"
    segments = config.segments if config.segment_order == "front_to_back" else config.segments[::-1]
    return tuple(segments[round_index % len(segments)] for round_index in range(config.num_rounds))


def first_subspace(space: SearchSpace, config: "SearchConfig") -> Subspace:
    """Return S_0: the first segment around the initial architecture."""
    assert config.initial_architecture is not None, "the configuration must be resolved"
    return Subspace(space, space.parse_code(config.initial_architecture), round_segments(config)[0])


def select_preserved(reevaluated: Sequence[Reevaluated], num_preserved: int) -> tuple[Reevaluated, ...]:
    """Return the best re-evaluated ones, best first; equal ones by prediction, then by their row.

    The first one is M_t* of Algorithm 1.
    """
    ranked = sorted(reevaluated, key=lambda r: (-r.sampled_accuracy, -r.predicted_accuracy, r.index))
    return tuple(ranked[:num_preserved])


def next_subspace(
    space: SearchSpace, config: "SearchConfig", round_index: int, preserved: Sequence[Architecture]
) -> Subspace | None:
    """Return S_{t+1} after round t, or None after the last round."""
    segments = round_segments(config)
    if round_index + 1 >= len(segments):
        return None
    return Subspace.following(space, preserved, segments[round_index + 1])
