"""Parts of what is said about a search that need no database: pairs, and codes that name no architecture."""

import uuid

import pytest

from app.db.models import PairRow, SearchRow
from app.domain.search_space import preset
from app.errors import InvalidRequestError
from app.services.search_view import check_code, pair_views
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
