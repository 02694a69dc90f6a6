"""How a round's predictions compare with what its evaluated sub-networks reached, and how the supernet was trained."""

import uuid

from sqlalchemy.orm import Session

from app.db import atlas as atlas_db
from app.db import searches
from app.db.models import PairRow
from app.domain.subspace import Subspace
from app.errors import RoundNotFoundError
from app.schemas.atlas import FitPoint, RoundFit, TrainingCurve
from app.services.callers import Caller
from app.services.lifecycle import require
from app.services.space_cache import searched_space

MAX_POINTS = 4000


def read_round_fit(session: Session, search_id: uuid.UUID, round_index: int, caller: Caller) -> RoundFit:
    """Return a round's evaluated architectures with their predictions; empty before its table is published.

    Raises:
        SearchNotFoundError: If there is no search of that id.
        RoundNotFoundError: If the search has no such round.
    """
    search = require(session, search_id, caller)
    if not 0 <= round_index < search.num_rounds:
        raise RoundNotFoundError(detail=f"search {search_id} has the rounds 0 to {search.num_rounds - 1}")
    row = next((row for row in searches.rounds_of(session, [search_id]) if row.round_index == round_index), None)
    table = next((t for t in searches.tables_of(session, [search_id]) if t.round_index == round_index), None)
    if row is None or table is None:
        return RoundFit(round_index=round_index, held_out_tau=None, sampled=[], reevaluated=[])
    subspace = Subspace.from_dict(searched_space(search.id, search.search_space, search.config).space, row.subspace)
    points: dict[str, list[FitPoint]] = {"sampled": [], "reevaluated": []}
    pairs = session.scalars(searches.pairs_in_order(search_id, round_index, None).limit(2 * MAX_POINTS)).all()
    indices = {pair.code: subspace.index(subspace.space.parse_code(pair.code)) for pair in pairs}
    predicted = atlas_db.predictions(session.connection(), table.id, sorted(set(indices.values())))
    for pair in pairs:
        if indices[pair.code] in predicted:
            points[pair.source].append(_point(pair, predicted[indices[pair.code]]))
    return RoundFit(round_index=round_index, held_out_tau=row.held_out_tau, **points)


def read_training_curve(session: Session, search_id: uuid.UUID, caller: Caller) -> TrainingCurve:
    """Return the training of a search's supernet, as far as it is.

    Raises:
        SearchNotFoundError: If there is no search of that id.
    """
    search = require(session, search_id, caller)
    step = next((step for step in searches.steps_of(session, [search_id]) if step.kind == "train_supernet"), None)
    if step is not None and step.result is not None:
        curves = step.result.get("loss_curve", []), step.result.get("accuracy_curve", [])
        points = [(epoch, loss, accuracy) for epoch, (loss, accuracy) in enumerate(zip(*curves, strict=False), start=1)]
    else:
        points = ((step and step.detail) or {}).get("curve", [])
    return TrainingCurve(epochs=int(search.config["epochs"]), points=points)


def _point(pair: PairRow, predicted: float) -> FitPoint:
    return FitPoint(code=pair.code, predicted_accuracy=predicted, accuracy=pair.accuracy, held_out=pair.held_out)
