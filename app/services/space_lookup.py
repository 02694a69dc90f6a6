"""The best architectures of a whole search space under limits, from the predictor fitted on all rounds' pairs."""

import uuid
from functools import lru_cache

from sqlalchemy import Connection, Engine

from app.db import lookup as lookup_db
from app.db.lookup import FoundSpace
from app.domain import space_model_bytes
from app.domain.whole_space import SpaceAnswer, WholeSpaceModel
from app.errors import NoTableError, SearchNotFoundError, TableNotReadyError
from app.schemas.lookup import CostRanges, LookupAnswer, LookupItem
from app.schemas.search import Range
from app.services.callers import Caller
from app.services.limits import in_units, infeasible
from app.services.space_cache import SearchedSpace, searched_space


class _Models:
    """Prepared models by their id: a search that is fitted anew gets another one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.model = lru_cache(maxsize=32)(self._read)

    def _read(self, model_id: int) -> WholeSpaceModel:
        with lookup_db.reading(self._engine) as connection:
            stored = lookup_db.read_space_model(connection, model_id)
        if stored is None:
            raise SearchNotFoundError(detail="the search was deleted just now; GET /search lists those there are")
        model = space_model_bytes.from_bytes(stored)
        # what only the first question of a model would have to wait for
        model.best({}, 1)
        return model


@lru_cache(maxsize=8)
def _models(engine: Engine) -> _Models:
    return _Models(engine)


def look_up_space(
    engine: Engine,
    caller: Caller,
    *,
    search_id: uuid.UUID | None,
    max_madds: float | None,
    max_params: float | None,
    limit: int,
) -> LookupAnswer:
    """Return the best architectures of the whole space under limits given in millions.

    Raises:
        SearchNotFoundError, NoTableError, TableNotReadyError: If there is no such search, or it has not got that far.
    """
    with lookup_db.reading(engine) as connection:
        found = _space(connection, caller, search_id)
        assert found.model_id is not None, "checked above"
        asked = {"multi_adds": in_units(max_madds), "params": in_units(max_params)}
        model = _models(engine).model(found.model_id)
        best = model.best({name: float(value) for name, value in asked.items() if value is not None}, limit)
        searched = searched_space(found.search_id, found.space, found.config)
        items = _items(connection, found.search_id, searched, best)
    smallest, largest = searched.target_costs
    feasible = CostRanges(
        multi_adds=Range(min=smallest.multi_adds, max=largest.multi_adds),
        params=Range(min=smallest.params, max=largest.params),
    )
    return LookupAnswer(
        scope="space",
        search_id=found.search_id,
        round_index=None,
        num_rows=searched.space.size,
        table_digest=None,
        feasible=feasible,
        is_exact=best.is_exact,
        items=items,
        message=None if items else infeasible("search space", feasible, smallest, max_madds, max_params),
    )


def _space(connection: Connection, caller: Caller, search_id: uuid.UUID | None) -> FoundSpace:
    found = lookup_db.find_space(connection, search_id, caller.visible_owner)
    if found is None:
        if search_id is not None:
            raise SearchNotFoundError(detail=f"there is no search {search_id}; GET /search lists those there are")
        raise NoTableError(detail="no search has succeeded yet; submit one with POST /search, or name one by search_id")
    if found.model_id is None:
        what_to_do = (
            "it was made before whole spaces were fitted; ask its tables with scope=table, or submit it again"
            if found.state == "succeeded"
            else "the whole space is fitted in its last round; ask its published rounds with scope=table until then"
        )
        raise TableNotReadyError(
            detail=f"search {found.search_id} is {found.state} and has no predictor of the whole space: {what_to_do}",
            search_id=str(found.search_id),
            state=found.state,
            progress=1.0 if found.state == "succeeded" else 0.0,
            rounds_with_tables=[],
        )
    return found


def _items(
    connection: Connection, search_id: uuid.UUID, searched: SearchedSpace, best: SpaceAnswer
) -> list[LookupItem]:
    architectures = [tuple(row) for row in best.choices_NL.tolist()]
    codes = [searched.space.code(architecture) for architecture in architectures]
    known = lookup_db.accuracies_anywhere(connection, search_id, codes) if codes else {}
    return [
        LookupItem(
            rank=row + 1,
            code=code,
            readable=searched.space.readable(architecture),
            predicted_accuracy=float(best.predicted_N[row]),
            sampled_accuracy=known.get(("sampled", code)),
            reevaluated_accuracy=known.get(("reevaluated", code)),
            multi_adds=int(best.costs["multi_adds"][row]),
            params=int(best.costs["params"][row]),
        )
        for row, (code, architecture) in enumerate(zip(codes, architectures, strict=True))
    ]
