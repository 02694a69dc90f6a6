"""The rounds of Algorithm 1: which segment is searched when, what is preserved, and the subspace that follows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.domain.lookup_table import Limits, LookupTable
from app.domain.multi_adds import cell_costs, count, fixed_cost
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


def round_budgets(space: SearchSpace, config: "SearchConfig", round_index: int) -> tuple[Limits, ...]:
    """Return, for each of ``target_madds`` and ``target_params``, what an architecture of round t may cost.

    The cells searched so far may take the same share of their range as the limit leaves to the whole network; cells
    that no round has searched yet count as in M_0. After all cells have been searched this is the limit itself.
    """
    of_multi_adds, of_params = (
        _budgets_of(cost, space, config, round_index, [limit * 1e6 for limit in limits])
        for cost, limits in (("multi_adds", config.target_madds), ("params", config.target_params))
    )
    return (
        *(Limits(max_multi_adds=budget) for budget in of_multi_adds),
        *(Limits(max_params=budget) for budget in of_params),
    )


def _budgets_of(
    cost: str, space: SearchSpace, config: "SearchConfig", round_index: int, limits: Sequence[float]
) -> list[int]:
    """The budgets of limits on one cost."""
    if not limits:
        return []
    assert config.initial_architecture is not None, "the configuration must be resolved"
    searched = {cell_index for segment in round_segments(config)[: round_index + 1] for cell_index in segment}
    initial = space.parse_code(config.initial_architecture)
    costs = [[getattr(choice, cost) for choice in choices] for choices in cell_costs(space)]
    lowest = [min(choices) for choices in costs]
    ranges = [max(choices) - low for choices, low in zip(costs, lowest, strict=True)]
    fixed = getattr(fixed_cost(space), cost)
    unsearched = sum(costs[i][initial[i]] for i in range(space.num_cells) if i not in searched)
    budgets = []
    for limit in limits:
        share = min(1.0, (limit - fixed - sum(lowest)) / max(1, sum(ranges)))
        budgets.append(int(fixed + unsearched + sum(lowest[i] + share * ranges[i] for i in searched)))
    return budgets


def reevaluation_candidates(table: LookupTable, config: "SearchConfig", round_index: int) -> list[int]:
    """Return the rows to evaluate again: the top ``num_reevaluated``, and the top tenth of that within each budget."""
    rows = dict.fromkeys(table.top(config.num_reevaluated).tolist())
    for budget in round_budgets(table.subspace.space, config, round_index):
        within = table.top(max(1, config.num_reevaluated // 10), budget)
        rows |= dict.fromkeys(within.tolist())
    return list(rows)


def select_preserved(
    reevaluated: Sequence[Reevaluated],
    num_preserved: int,
    budgets: Sequence[Limits] = (),
    space: SearchSpace | None = None,
    reevaluation_weight: float = 1.0,
) -> tuple[Reevaluated, ...]:
    """Return the best re-evaluated ones, best first; equal ones by prediction, then by their row.

    The first one is M_t* of Algorithm 1. Where there are budgets, the last ones make room for the best within each;
    there are fewer budgets than places (``SearchConfig`` checks it), so M_t* always stays.

    Args:
        reevaluated: All of a round.
        num_preserved: How many to keep.
        budgets: Of :func:`round_budgets`.
        space: Whose costs the budgets are about; needed with budgets.
        reevaluation_weight: Of the re-evaluated accuracy beside the predicted one, from 0 to 1; 1 is the paper's.
    """
    weight = reevaluation_weight

    def score(r: Reevaluated) -> float:
        return weight * r.sampled_accuracy + (1.0 - weight) * r.predicted_accuracy

    ranked = sorted(reevaluated, key=lambda r: (-score(r), -r.predicted_accuracy, r.index))
    kept: dict[int, Reevaluated] = {}
    for budget in budgets:
        assert space is not None, "budgets are about the costs of a space"
        within = next((r for r in ranked if budget.allows(count(space, r.architecture))), None)
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
