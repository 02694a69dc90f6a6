"""What a picture of a whole lookup table needs: its density, its band, and the predictions of evaluated rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class DensityCell:
    """A cell of a table's histogram that is not empty.

    Attributes:
        cost_bin: Its place along the multi-adds.
        accuracy_bin: Its place along the predicted accuracy.
        num_rows: Architectures in it.
        min_params: The fewest parameters of any of them.
        min_multi_adds: The fewest multi-adds of any of them.
    """

    cost_bin: int
    accuracy_bin: int
    num_rows: int
    min_params: int
    min_multi_adds: int


@dataclass(frozen=True)
class BandRow:
    """An architecture that few others beat.

    Attributes:
        subspace_index: Its index in the round's subspace.
        predicted_accuracy: f(M).
        multi_adds: Of the target network.
        params: Of the target network.
        band: How many others beat it on everything.
    """

    subspace_index: int
    predicted_accuracy: float
    multi_adds: int
    params: int
    band: int


_RANGE = text("select min(predicted_accuracy), max(predicted_accuracy) from lookup_rows where table_id = :table_id")
# the largest value would fall into a bin of its own, and the smallest may: its text is not quite the stored float
_DENSITY = text("""
    select least(width_bucket(multi_adds::float8, :min_cost, :max_cost, :cost_bins), :cost_bins) - 1 as cost_bin,
        greatest(least(
            width_bucket(predicted_accuracy::float8, :min_accuracy, :max_accuracy, :accuracy_bins), :accuracy_bins
        ), 1) - 1 as accuracy_bin,
        count(*), min(params), min(multi_adds)
    from lookup_rows where table_id = :table_id group by 1, 2 order by 1, 2
""")
_BAND = text("""
    select subspace_index, predicted_accuracy, multi_adds, params, band from lookup_rows
    where table_id = :table_id and band is not null
    order by band, predicted_accuracy desc, subspace_index limit :num_rows
""")
_PREDICTIONS = text("""
    select subspace_index, predicted_accuracy from lookup_rows
    where table_id = :table_id and subspace_index = any(:indices)
""")
_COUNT = text("""
    select count(*) from lookup_rows
    where table_id = :table_id and multi_adds <= :max_multi_adds and params <= :max_params
""")


def accuracy_range(connection: Connection, table_id: int) -> tuple[float, float] | None:
    """Return the lowest and the highest prediction of a table; None if it is gone."""
    low, high = connection.execute(_RANGE, {"table_id": table_id}).one()
    return None if low is None else (float(low), float(high))


def density(
    connection: Connection,
    table_id: int,
    *,
    costs: tuple[int, int],
    accuracies: tuple[float, float],
    bins: tuple[int, int],
) -> list[DensityCell]:
    """Return the histogram of a whole table over multi-adds and predicted accuracy; each range has a width."""
    parameters = {
        "table_id": table_id,
        "min_cost": float(costs[0]),
        "max_cost": float(costs[1]),
        "min_accuracy": accuracies[0],
        "max_accuracy": accuracies[1],
        "cost_bins": bins[0],
        "accuracy_bins": bins[1],
    }
    return [DensityCell(*row) for row in connection.execute(_DENSITY, parameters)]


def band_rows(connection: Connection, table_id: int, num_rows: int) -> list[BandRow]:
    """Return the rows that the fewest others beat; those that none beats come first."""
    return [BandRow(*row) for row in connection.execute(_BAND, {"table_id": table_id, "num_rows": num_rows})]


def predictions(connection: Connection, table_id: int, subspace_indices: Sequence[int]) -> dict[int, float]:
    """Return the predictions of some rows of a table by their index."""
    rows = connection.execute(_PREDICTIONS, {"table_id": table_id, "indices": list(subspace_indices)})
    return {index: float(accuracy) for index, accuracy in rows}


def num_rows_within(connection: Connection, table_id: int, *, max_multi_adds: int, max_params: int) -> int:
    """Return how many rows of a table meet the limits."""
    parameters = {"table_id": table_id, "max_multi_adds": max_multi_adds, "max_params": max_params}
    return int(connection.execute(_COUNT, parameters).scalar_one())
