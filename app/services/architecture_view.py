"""All that a search knows of one architecture: its costs, what was evaluated, and what every predictor says of it."""

import uuid

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.db import searches
from app.db.engine import transaction
from app.domain.multi_adds import count
from app.domain.search_space import Architecture, SearchSpace
from app.domain.subspace import Subspace
from app.schemas.search import ArchitectureView, PredictionView
from app.services import device_latencies, standalone_view
from app.services.callers import Caller
from app.services.fit_figures import interval_in, intervals_of
from app.services.lifecycle import require_search
from app.services.search_view import check_code, pair_views
from app.services.space_cache import searched_space
from app.services.space_lookup import predicted_by_space


def read_architecture(engine: Engine, search_id: uuid.UUID, code: str, caller: Caller) -> ArchitectureView:
    """Return all that a search knows of an architecture.

    Raises:
        SearchNotFoundError: If there is no search of that id.
        InvalidRequestError: If the code names no architecture of its space.
    """
    with transaction(engine) as session:
        search = require_search(session, search_id, caller)
        searched = searched_space(search.id, search.search_space, search.config)
        architecture = check_code(searched, code)
        pairs = pair_views(search, searches.pairs_of_architecture(session, search_id, code))
        predictions = _predictions(session, search_id, searched.space, architecture)
        standalone = standalone_view.of_architecture(session, search_id, code)
    target, proxy = count(searched.space, architecture), count(searched.proxy, architecture)
    return ArchitectureView(
        code=code,
        readable=searched.space.readable(architecture),
        multi_adds=target.multi_adds,
        params=target.params,
        proxy_multi_adds=proxy.multi_adds,
        proxy_params=proxy.params,
        is_reevaluated=any(pair.source == "reevaluated" for pair in pairs),
        pairs=pairs,
        predictions=predictions,
        space_prediction=predicted_by_space(engine, search_id, architecture),
        standalone=standalone,
    )


def read_latencies(engine: Engine, search_id: uuid.UUID, code: str, caller: Caller) -> dict[str, float]:
    """Return the milliseconds of an architecture's target network on every device that is known for it, by name.

    Raises:
        SearchNotFoundError: If there is no search of that id.
        InvalidRequestError: If the code names no architecture of its space.
    """
    with engine.begin() as connection, Session(connection) as session:
        search = require_search(session, search_id, caller)
        searched = searched_space(search.id, search.search_space, search.config)
        architecture = check_code(searched, code)
        names = device_latencies.names_for(session, caller, search, searched.space)
        known = device_latencies.latencies_on(connection, caller, names, searched.space, search.id)
    return {device.name: device.function.shortest(float(device.function.of([architecture])[0])) for device in known}


def _predictions(
    session: Session, search_id: uuid.UUID, space: SearchSpace, architecture: Architecture
) -> list[PredictionView]:
    """What the tables of those rounds say whose subspace the architecture is in."""
    rounds = {row.round_index: row for row in searches.rounds_of(session, [search_id])}
    found = []
    for table in searches.tables_of(session, [search_id]):
        subspace = Subspace.from_dict(space, rounds[table.round_index].subspace)
        try:
            index = subspace.index(architecture)
        except ValueError:  # not in this round's subspace
            continue
        predicted = searches.prediction(session, table.id, index)
        if predicted is None:  # the table has been replaced since its header was read
            continue
        [interval] = intervals_of(interval_in(rounds[table.round_index].fit_report or {}), [predicted])
        found.append(
            PredictionView(
                round_index=table.round_index, subspace_index=index, predicted_accuracy=predicted, interval=interval
            )
        )
    return found
