"""The best architecture under these limits, from a stored table (section 4.5)."""

import math
import uuid
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal

from sqlalchemy import Connection, Engine

from app.db import lookup as lookup_db
from app.db.engine import transaction
from app.db.lookup import FoundTable, TableHeader, TableRow
from app.domain.multi_adds import Cost
from app.domain.subspace import Subspace
from app.errors import NoTableError, RoundNotFoundError, SearchNotFoundError, TableNotReadyError
from app.schemas.lookup import CostRanges, LookupAnswer, LookupItem, ParetoAnswer
from app.schemas.search import Range
from app.services import search_view
from app.services.space_cache import searched_space

MILLION = 1_000_000


class _Tables:
    """Subspaces of published tables; a table never changes, and one that takes its place has another id."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.subspace = lru_cache(maxsize=256)(self._read)

    def _read(self, header: TableHeader) -> tuple[Subspace, tuple[Cost, Cost]]:
        with lookup_db.reading(self._engine) as connection:
            space, config, subspace = lookup_db.read_subspace(connection, header.search_id, header.round_index)
        searched = searched_space(header.search_id, space, config)
        return Subspace.from_dict(searched.space, subspace), searched.target_costs


@lru_cache(maxsize=8)
def _tables(engine: Engine) -> _Tables:
    return _Tables(engine)


def in_units(millions: float | None) -> int | None:
    """Return a limit in millions as a whole number of units, exact in the decimals that were given."""
    return None if millions is None else math.floor(Decimal(repr(millions)) * MILLION)


def look_up(
    engine: Engine,
    *,
    search_id: uuid.UUID | None,
    round_index: int | None,
    max_madds: float | None,
    max_params: float | None,
    limit: int,
) -> LookupAnswer:
    """Return the best architectures of a table under limits given in millions.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, search_id, round_index)
        rows = lookup_db.top_rows(
            connection,
            header.table_id,
            limit,
            max_multi_adds=in_units(max_madds),
            max_params=in_units(max_params),
        )
        subspace, space_costs = _tables(engine).subspace(header)
        items = _items(connection, header, subspace, rows)
    message = None if items else _infeasible(header, space_costs, max_madds, max_params)
    return LookupAnswer(**_header_fields(header), items=items, message=message)


def pareto(
    engine: Engine, *, search_id: uuid.UUID | None, round_index: int | None, cost: Literal["multi_adds", "params"]
) -> ParetoAnswer:
    """Return the Pareto front of a table's predicted accuracy over a cost, cheapest first.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, search_id, round_index)
        rows = lookup_db.pareto_front(connection, header.table_id, cost)
        subspace, _ = _tables(engine).subspace(header)
        items = _items(connection, header, subspace, rows)
    return ParetoAnswer(**_header_fields(header), items=items[::-1])


def open_table(engine: Engine, search_id: uuid.UUID, round_index: int) -> tuple[TableHeader, Subspace]:
    """Return the header and the subspace of a round's published table.

    Raises:
        SearchNotFoundError, NoTableError, RoundNotFoundError, TableNotReadyError: If there is no such table (yet).
    """
    with lookup_db.reading(engine) as connection:
        header = _table(engine, connection, search_id, round_index)
    return header, _tables(engine).subspace(header)[0]


def _table(engine: Engine, connection: Connection, search_id: uuid.UUID | None, round_index: int | None) -> TableHeader:
    found = lookup_db.find_table(connection, search_id, round_index)
    if found is None:
        if search_id is not None:
            raise SearchNotFoundError(detail=f"there is no search {search_id}; GET /search lists those there are")
        raise NoTableError(
            detail="no search has succeeded yet, so there is no table to ask; submit one with POST /search, or ask a "
            "round of an unfinished one with search_id and round_index"
        )
    if not found.num_rounds:
        raise NoTableError(
            detail=f"{found.search_id} is a job about an architecture, without a table; ask the search it belongs to"
        )
    if round_index is not None and round_index >= found.num_rounds:
        raise RoundNotFoundError(
            detail=f"search {found.search_id} has the rounds 0 to {found.num_rounds - 1}, not {round_index}"
        )
    if found.header is None or (round_index is None and found.state != "succeeded"):
        raise _not_ready(engine, found)
    return found.header


def _not_ready(engine: Engine, found: FoundTable) -> TableNotReadyError:
    with transaction(engine) as session:
        search = search_view.read_one(session, found.search_id)
    rounds = [r.round_index for r in search.rounds if r.table_digest is not None]
    published = f"ask one of its published rounds ({', '.join(map(str, rounds))}) with round_index" if rounds else ""
    what_to_do = {
        "queued": "wait until it has finished",
        "running": "wait until it has finished",
        "cancelling": f"resume it with POST /search/{search.id}/resume",
        "cancelled": f"resume it with POST /search/{search.id}/resume",
        "failed": f"resume it with POST /search/{search.id}/resume",
        "succeeded": "",
    }[search.state]
    return TableNotReadyError(
        detail=f"search {search.id} is {search.state} at {search.progress:.0%} ({search.phase}), without that table; "
        + ", or ".join(filter(None, [what_to_do, published])),
        search_id=str(search.id),
        state=search.state,
        progress=search.progress,
        rounds_with_tables=rounds,
    )


def _items(
    connection: Connection, header: TableHeader, subspace: Subspace, rows: Sequence[TableRow]
) -> list[LookupItem]:
    if not rows:
        return []
    architectures = subspace.architectures([row.subspace_index for row in rows]).tolist()
    codes = [subspace.space.code(architecture) for architecture in architectures]
    known = lookup_db.accuracies(connection, header.search_id, header.round_index, codes)
    return [
        LookupItem(
            rank=rank,
            code=code,
            readable=subspace.space.readable(architecture),
            predicted_accuracy=row.predicted_accuracy,
            sampled_accuracy=known.get(("sampled", code)),
            reevaluated_accuracy=known.get(("reevaluated", code)),
            multi_adds=row.multi_adds,
            params=row.params,
        )
        for rank, (row, code, architecture) in enumerate(zip(rows, codes, architectures, strict=True), start=1)
    ]


def _header_fields(header: TableHeader) -> dict[str, Any]:
    return {
        "search_id": header.search_id,
        "round_index": header.round_index,
        "num_rows": header.num_rows,
        "table_digest": header.digest,
        "feasible": CostRanges(
            multi_adds=Range(min=header.min_multi_adds, max=header.max_multi_adds),
            params=Range(min=header.min_params, max=header.max_params),
        ),
    }


def _infeasible(
    header: TableHeader, space_costs: tuple[Cost, Cost], max_madds: float | None, max_params: float | None
) -> str:
    """Say why nothing meets the limits, and from where on something would."""
    smallest, _ = space_costs
    limits = (
        ("max_madds", "multi-adds", max_madds, header.min_multi_adds, header.max_multi_adds, smallest.multi_adds),
        ("max_params", "parameters", max_params, header.min_params, header.max_params, smallest.params),
    )
    reasons = [
        f"{name}={value:g} is below the cheapest architecture of this table, which go from {low / MILLION:.2f}M to "
        f"{high / MILLION:.2f}M {what} (the whole search space: from {least / MILLION:.2f}M)"
        for name, what, value, low, high, least in limits
        if value is not None and (in_units(value) or 0) < low
    ]
    if reasons:
        return "; ".join(reasons)
    given = " and ".join(f"{name}={value:g}" for name, _, value, *_ in limits if value is not None)
    return f"each limit can be met by itself, but no architecture of this table meets {given}; raise one of them"
