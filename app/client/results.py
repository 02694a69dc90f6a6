"""Answers that are tables: the service's own schemas, and a data frame of each."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from app.client.errors import MissingPandasError
from app.schemas.lookup import LookupAnswer, LookupItem, ParetoAnswer
from app.schemas.search import PairView

if TYPE_CHECKING:
    import pandas as pd


class Lookup(LookupAnswer):
    """The best architectures under the limits, best first."""

    def to_dataframe(self) -> "pd.DataFrame":
        """Return a row per architecture.

        It has columns ``interval_lower`` and ``interval_upper`` where they are known, and ``latency_ms_DEVICE`` per
        device that was asked for.

        Raises:
            MissingPandasError: If pandas is not installed.
        """
        return _items_frame(self.items)


class Pareto(ParetoAnswer):
    """The Pareto front of a table, cheapest first."""

    def to_dataframe(self) -> "pd.DataFrame":
        """Return a row per architecture.

        Raises:
            MissingPandasError: If pandas is not installed.
        """
        return _items_frame(self.items)


@dataclass(frozen=True)
class Pairs(Sequence[PairView]):
    """Arch-accuracy pairs, by round, source and code."""

    items: tuple[PairView, ...]

    @overload
    def __getitem__(self, index: int) -> PairView: ...
    @overload
    def __getitem__(self, index: slice) -> "Pairs": ...
    def __getitem__(self, index: int | slice) -> "PairView | Pairs":
        return Pairs(self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[PairView]:
        return iter(self.items)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return a row per pair.

        Raises:
            MissingPandasError: If pandas is not installed.
        """
        return _frame((pair.model_dump() for pair in self.items), list(PairView.model_fields))


@dataclass(frozen=True)
class Table:
    """A whole lookup table, a row per architecture of the round's subspace.

    Attributes:
        parquet: It as a Parquet file.
    """

    parquet: bytes = field(repr=False)

    def save(self, target: Path | str) -> None:
        """Write the Parquet file."""
        Path(target).write_bytes(self.parquet)

    def to_dataframe(self) -> "pd.DataFrame":
        """Return a row per architecture: index in the subspace, code, predicted accuracy, multi-adds, parameters.

        Raises:
            MissingPandasError: If pandas is not installed.
        """
        return _pandas().read_parquet(BytesIO(self.parquet), engine="pyarrow")


def _items_frame(items: Iterable[LookupItem]) -> "pd.DataFrame":
    nested = {"latency_ms", "interval"}
    columns = [name for name in LookupItem.model_fields if name not in nested]
    rows = [
        {
            **item.model_dump(exclude=nested),
            **({f"interval_{name}": value for name, value in item.interval} if item.interval else {}),
            **{f"latency_ms_{device}": latency_ms for device, latency_ms in item.latency_ms.items()},
        }
        for item in items
    ]
    return _frame(rows, list(dict.fromkeys([*columns, *(name for row in rows for name in row)])))


def _frame(rows: Iterable[dict[str, Any]], columns: list[str]) -> "pd.DataFrame":
    return _pandas().DataFrame.from_records(list(rows), columns=columns)


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingPandasError(
            "data frames need pandas, which is not installed: pip install 'nasatlas[notebook]', or pip install pandas"
        ) from error
    return pd
