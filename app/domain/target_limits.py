"""Limits that a search is told beforehand: on multi-adds, parameters, and latencies of devices."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from app.domain.multi_adds import MILLION, cost_functions, in_units
from app.domain.search_space import Architecture, SearchSpace
from app.domain.whole_space.additive_function import AdditiveFunction

if TYPE_CHECKING:
    from app.domain.search_config import SearchConfig

Budget = tuple[AdditiveFunction, float]
"""A cost, and what it may be at most."""


@dataclass(frozen=True)
class TargetLimit:
    """A limit that will be asked for.

    Attributes:
        name: Where the configuration has it, with its value as it stands there.
        cost: What it is on.
        maximum: What the cost may be at most, in its own unit.
        unit: That of the configuration, in the cost's.
        of_unit: How a number in that unit goes on for people.
    """

    name: str
    cost: AdditiveFunction
    maximum: float
    unit: int
    of_unit: str


def _target_limits(config: "SearchConfig", space: SearchSpace) -> list[TargetLimit]:
    costs = cost_functions(space)
    found = [
        TargetLimit(f"{name} {limit:g}", costs[cost], in_units(limit), MILLION, f"M {people}")
        for name, cost, people in (
            ("target_madds", "multi_adds", "multi-adds"),
            ("target_params", "params", "parameters"),
        )
        for limit in getattr(config, name)
    ]
    for device, limits in config.target_latency_ms.items():
        latency, name = config.device_latencies[device].function, f"target_latency_ms of {device}"
        found += [TargetLimit(f"{name}, {ms:g},", latency, latency.with_room(ms), 1, " ms there") for ms in limits]
    return found


def target_limits(config: "SearchConfig", space: SearchSpace) -> list[Budget]:
    """Return every limit that will be asked for, with the cost that it is on; none is above what the space has."""
    return [(limit.cost, min(limit.maximum, limit.cost.maximum)) for limit in _target_limits(config, space)]


def reachable_range(cost: AdditiveFunction, initial: Architecture, searched: Collection[int]) -> tuple[float, float]:
    """Return the smallest and the largest cost if only some cells are searched and the others stay as in M_0."""
    fixed = cost.constant + sum(float(table[initial[i]]) for i, table in enumerate(cost.tables) if i not in searched)
    tables = [cost.tables[cell_index] for cell_index in sorted(searched)]
    return fixed + sum(float(t.min()) for t in tables), fixed + sum(float(t.max()) for t in tables)


def check_targets(config: "SearchConfig", space: SearchSpace, searched: Collection[int]) -> None:
    """Check that every limit can be met, and that there is a preserved architecture for each of them.

    Args:
        config: Resolved.
        space: The target search space.
        searched: The cells that any round searches.

    Raises:
        ValueError: If not, or if the latencies of a device are missing, of other cells, or of no use.
    """
    _check_devices(config, space)
    assert config.initial_architecture is not None, "the configuration must be resolved"
    initial, limits = space.parse_code(config.initial_architecture), _target_limits(config, space)
    which = "" if len(searched) == space.num_cells else " that differs from M_0 only in the searched cells"
    problems = []
    for limit in limits:
        least, _ = reachable_range(limit.cost, initial, searched)
        if limit.maximum < least:
            smallest = _at_least(limit.cost.shortest(least) / limit.unit) + limit.of_unit
            problems.append(f"{limit.name} cannot be met: the smallest architecture{which} has {smallest}")
    if problems:
        raise ValueError("; ".join(problems))
    num_targets = len(limits)
    if num_targets and num_targets >= config.num_preserved:
        raise ValueError(
            f"{num_targets} limits of target_madds, target_params and target_latency_ms and the best architecture "
            f"need places among the preserved; raise num_preserved from {config.num_preserved} to {num_targets + 1}"
        )


def _at_least(least: float) -> str:
    """A number in a few decimals that is not below it, so that it can be given as a limit."""
    return f"{Decimal(repr(least)).quantize(Decimal('1e-6'), ROUND_CEILING).normalize():f}"


def _check_devices(config: "SearchConfig", space: SearchSpace) -> None:
    """Check that there are latencies of this space's cells for the devices that have limits, and for no others."""
    if unknown := sorted(config.target_latency_ms.keys() - config.device_latencies.keys()):
        raise ValueError(f"target_latency_ms names {', '.join(unknown)}, of which device_latencies has nothing")
    if unused := sorted(config.device_latencies.keys() - config.target_latency_ms.keys()):
        raise ValueError(f"device_latencies has {', '.join(unused)}, for which target_latency_ms sets no limit")
    for name, table in config.device_latencies.items():
        try:
            table.check_fits(space)
        except ValueError as error:
            raise ValueError(f"device_latencies of {name}: {error}") from None
