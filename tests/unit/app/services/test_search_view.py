"""Parts of what is said about a search that need no database: pairs, and codes that name no architecture."""

import datetime as dt
import uuid

import pytest

from app.db.models import PairRow, RoundRow, SearchRow
from app.domain.search_config import from_preset
from app.domain.search_space import preset
from app.domain.subspace import Subspace
from app.errors import InvalidRequestError
from app.services.search_view import SearchRecord, _view, check_code, pair_views
from app.services.space_cache import searched_space

SPACE = preset("nas-bench-macro")


def test_pairs_have_the_names_of_their_choices() -> None:
    search = SearchRow(id=uuid.uuid4(), search_space=SPACE.model_dump(mode="json"), config={})
    rows = [
        PairRow(round_index=1, source="reevaluated", code="00000002", accuracy=0.5, held_out=False),
        PairRow(round_index=0, source="sampled", code="00000000", accuracy=0.25, held_out=True),
    ]
    first, second = pair_views(search, rows)
    assert first.readable.split() == ["ID"] * 7 + ["K5E6"]
    assert (first.round_index, first.source, first.accuracy, first.held_out) == (1, "reevaluated", 0.5, False)
    assert (second.code, second.held_out) == ("00000000", True)


@pytest.mark.parametrize(
    ("code", "says"), [("0", "has 8 cells, this one has 1"), ("00000003", "choices 0 to 2, not 3"), ("x" * 8, "digit")]
)
def test_a_code_of_a_path_is_refused_where_it_stands(code: str, says: str) -> None:
    searched = searched_space(uuid.uuid4(), SPACE.model_dump(mode="json"), {})
    assert check_code(searched, "00000002") == (0,) * 7 + (2,)
    with pytest.raises(InvalidRequestError) as caught:
        check_code(searched, code)
    (error,) = caught.value.errors
    assert error.loc == ["path", "code"]
    assert says in error.msg == caught.value.detail


NOW = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


def ended(code: str, kind: str = "search") -> SearchRow:
    config = from_preset("quick", {"num_classes": 10}).resolved(SPACE)
    return SearchRow(
        id=uuid.uuid4(),
        kind=kind,
        state="succeeded",
        dataset="digits",
        preset="quick",
        num_rounds=1,
        search_space=SPACE.model_dump(mode="json"),
        config=config.model_dump(mode="json"),
        created_at=NOW,
        final_code=code,
        final_accuracy=0.5,
    )


def round_of(search: SearchRow, code: str) -> RoundRow:
    subspace = Subspace(SPACE, (0,) * 8, tuple(range(8))).to_dict()
    return RoundRow(
        search_id=search.id, round_index=0, subspace=subspace, best_code=code, best_accuracy=0.5, finished_at=NOW
    )


def test_the_final_architecture_is_the_best_of_its_round_with_what_was_predicted() -> None:
    search = ended("00000002")
    view = _view(SearchRecord(search, [], [round_of(search, "00000002")], [], {}, predicted_best={0: 0.4}), NOW)
    assert view.final is not None
    assert view.final == view.rounds[0].best
    assert (view.final.code, view.final.accuracy, view.final.predicted_accuracy) == ("00000002", 0.5, 0.4)


def test_of_another_final_architecture_nothing_was_predicted() -> None:
    search = ended("00000001")
    view = _view(SearchRecord(search, [], [round_of(search, "00000002")], [], {}, predicted_best={0: 0.4}), NOW)
    assert view.final is not None
    assert (view.final.code, view.final.accuracy, view.final.predicted_accuracy) == ("00000001", 0.5, None)
