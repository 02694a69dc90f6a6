"""Limits that a search is told beforehand: on multi-adds, parameters, and latencies of devices."""

from collections.abc import Collection
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from app.domain.multi_adds import MILLION, cost_functions, in_units
from app.domain.search_space import Architecture, SearchSpace
from app.domain.whole_space.additive_function import AdditiveFunction

if TYPE_CHECKING:
    from app.domain.search_config import SearchConfig

Budget = tuple[AdditiveFunction, float]
"""A cost, and what it may be at most."""


def target_limits(config: "SearchConfig", space: SearchSpace) -> list[Budget]:
    """Return every limit that will be asked for, with the cost that it is on; none is above what the space has."""
    costs = cost_functions(space)
    limits = [
        *((costs["multi_adds"], in_units(limit)) for limit in config.target_madds),
        *((costs["params"], in_units(limit)) for limit in config.target_params),
        *(
            (config.device_latencies[name].function, limit)
            for name, limits in config.target_latency_ms.items()
            for limit in limits
        ),
    ]
    return [(cost, min(limit, cost.maximum)) for cost, limit in limits]


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
    costs = cost_functions(space)
    for name, limits, cost, unit, of_unit in (
        ("target_madds", config.target_madds, costs["multi_adds"], MILLION, "M multi-adds"),
        ("target_params", config.target_params, costs["params"], MILLION, "M parameters"),
        *(
            (f"target_latency_ms of {name}", limits, config.device_latencies[name].function, 1, " ms there")
            for name, limits in config.target_latency_ms.items()
        ),
    ):
        assert config.initial_architecture is not None, "the configuration must be resolved"
        least = reachable_range(cost, space.parse_code(config.initial_architecture), searched)[0]
        if unmet := [limit for limit in limits if limit < least / unit]:
            which = "" if len(searched) == space.num_cells else " that differs from M_0 only in the searched cells"
            smallest = f"the smallest architecture{which} has {_at_least(least / unit)}{of_unit}"
            raise ValueError(f"{name} {unmet} cannot be met: {smallest}")
    num_targets = len(target_limits(config, space))
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
