"""The rounds of Algorithm 1: which segment is searched when, what is preserved, and the subspace that follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.domain.lookup_table import LookupTable
from app.domain.ranked_table import RankedTable
from app.domain.search_space import Architecture, SearchSpace
from app.domain.subspace import Subspace
from app.domain.target_limits import Budget, reachable_range, target_limits

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


def max_table_rows(space: SearchSpace, config: "SearchConfig") -> int:
    """Return how many rows the lookup tables of all rounds have together at most.

    The largest super-cell has ``num_preserved`` choices; where preserved architectures agree on it, it has fewer.
    """
    sizes = [math.prod(space.num_choices[cell_index] for cell_index in segment) for segment in round_segments(config)]
    return sum(size * (config.num_preserved if round_index else 1) for round_index, size in enumerate(sizes))


def num_standalone_of(config: "SearchConfig", round_index: int) -> int:
    """Return how many architectures a round trains by themselves: equal shares, the first rounds one more."""
    assert config.num_rounds is not None, "the configuration must be resolved"
    share, left = divmod(config.num_standalone, config.num_rounds)
    return share + (round_index < left)


def first_subspace(space: SearchSpace, config: "SearchConfig") -> Subspace:
    """Return S_0: the first segment around the initial architecture."""
    assert config.initial_architecture is not None, "the configuration must be resolved"
    return Subspace(space, space.parse_code(config.initial_architecture), round_segments(config)[0])


def searched_cells(config: "SearchConfig", num_rounds: int | None = None) -> frozenset[int]:
    """Return the cells that the first rounds search, or all rounds."""
    return frozenset(cell_index for segment in round_segments(config)[:num_rounds] for cell_index in segment)


def round_budgets(space: SearchSpace, config: "SearchConfig", round_index: int) -> tuple[Budget, ...]:
    """Return, for each limit of the configuration, what an architecture of round t may cost.

    The cells searched so far may take the same share of their range as the limit leaves to all cells that any round
    searches; others count as in M_0. From the round on that searches the last of them this is the limit itself.
    """
    assert config.initial_architecture is not None, "the configuration must be resolved"
    initial = space.parse_code(config.initial_architecture)
    so_far, in_all = searched_cells(config, round_index + 1), searched_cells(config)
    limits = target_limits(config, space)
    if so_far == in_all:
        return tuple(limits)
    budgets = []
    for cost, limit in limits:
        least, most = reachable_range(cost, initial, in_all)
        share = min(1.0, (limit - least) / max(most - least, cost.grid))
        least, most = reachable_range(cost, initial, so_far)
        # sums are multiples of the grid: half a step keeps rounding from taking the smallest architecture away
        budgets.append((cost, least + share * (most - least) + cost.grid / 2))
    return tuple(budgets)


def reevaluation_candidates(table: LookupTable, config: "SearchConfig", round_index: int) -> list[int]:
    """Return the rows to evaluate again: the top ``num_reevaluated``, and the top tenth of that within each budget."""
    ranked = RankedTable(table.subspace, table.predicted_accuracy, table.order.astype(np.int32))
    rows = dict.fromkeys(ranked.top(config.num_reevaluated, ()))
    for budget in round_budgets(table.subspace.space, config, round_index):
        rows |= dict.fromkeys(ranked.top(max(1, config.num_reevaluated // 10), [budget]))
    return list(rows)


def select_preserved(
    reevaluated: Sequence[Reevaluated],
    num_preserved: int,
    budgets: Sequence[Budget] = (),
    reevaluation_weight: float = 1.0,
) -> tuple[Reevaluated, ...]:
    """Return the best re-evaluated ones, best first; equal ones by prediction, then by their row.

    The first one is M_t* of Algorithm 1. Where there are budgets, the last ones make room for the best within each;
    there are fewer budgets than places (``SearchConfig`` checks it), so M_t* always stays.

    Args:
        reevaluated: All of a round.
        num_preserved: How many to keep.
        budgets: Of :func:`round_budgets`.
        reevaluation_weight: Of the re-evaluated accuracy beside the predicted one, from 0 to 1; 1 is the paper's.
    """
    weight = reevaluation_weight

    def score(r: Reevaluated) -> float:
        return weight * r.sampled_accuracy + (1.0 - weight) * r.predicted_accuracy

    ranked = sorted(reevaluated, key=lambda r: (-score(r), -r.predicted_accuracy, r.index))
    kept: dict[int, Reevaluated] = {}
    for cost, maximum in budgets:
        within = next((r for r in ranked if cost.of([r.architecture])[0] <= maximum), None)
        if within is not None:
            kept[within.index] = within
    for candidate in ranked:
        if len(kept) >= num_preserved:
            break
        kept[candidate.index] = candidate
    return tuple(r for r in ranked if r.index in kept)


def next_subspace(
    space: SearchSpace, config: "SearchConfig", round_index: int, preserved: Sequence[Architecture]
) -> Subspace | None:
    """Return S_{t+1} after round t, or None after the last round."""
    segments = round_segments(config)
    if round_index + 1 >= len(segments):
        return None
    return Subspace.following(space, preserved, segments[round_index + 1])
