"""The best architectures of a whole search space under limits, from the predictor fitted on all rounds' pairs."""

import uuid
from functools import lru_cache

from sqlalchemy import Connection, Engine

from app.db import lookup as lookup_db
from app.domain.subspace import codes_of
from app.domain.whole_space import model_bytes
from app.domain.whole_space.model import SpaceAnswer, WholeSpaceModel
from app.errors import SearchNotFoundError
from app.schemas.lookup import CostRanges, LookupAnswer, LookupItem
from app.schemas.search import Range
from app.services.callers import Caller
from app.services.limits import in_units, infeasible
from app.services.lookup_errors import not_ready, nothing_to_ask
from app.services.lookup_items import lookup_items
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
        model = model_bytes.from_bytes(stored)
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
        found = lookup_db.find_space(connection, search_id, caller.visible_owner)
        if found is None:
            raise nothing_to_ask(search_id)
        if found.model_id is None:
            raise not_ready(
                engine, caller, found.search_id, "a predictor of the whole space, which its last round fits"
            )
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


def _items(
    connection: Connection, search_id: uuid.UUID, searched: SearchedSpace, best: SpaceAnswer
) -> list[LookupItem]:
    if not len(best.predicted_N):
        return []
    known = lookup_db.accuracies(connection, search_id, None, codes_of(best.choices_NL))
    costs = [(int(m), int(p)) for m, p in zip(best.costs["multi_adds"], best.costs["params"], strict=True)]
    return lookup_items(searched.space, best.choices_NL, best.predicted_N.tolist(), costs, known)
