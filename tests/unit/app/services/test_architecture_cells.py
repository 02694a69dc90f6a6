from hypothesis import given
from hypothesis import strategies as st

from app.domain.multi_adds import count, fixed_cost
from app.domain.search_space import preset
from app.services.architecture_cells import cells_of, differences

FAIRNAS = preset("fairnas")
ARCHITECTURES = st.lists(st.integers(0, 5), min_size=19, max_size=19)


@given(ARCHITECTURES)
def test_the_cells_cost_what_the_network_costs_without_stem_and_head(architecture: list[int]) -> None:
    cells, fixed, whole = cells_of(FAIRNAS, architecture), fixed_cost(FAIRNAS), count(FAIRNAS, architecture)
    assert sum(cell.multi_adds for cell in cells) + fixed.multi_adds == whole.multi_adds
    assert sum(cell.params for cell in cells) + fixed.params == whole.params
    assert [cell.resolution for cell in cells][::6] == [56, 14, 14, 7]


@given(ARCHITECTURES, ARCHITECTURES)
def test_differences_add_up(first: list[int], second: list[int]) -> None:
    found = differences(cells_of(FAIRNAS, first), cells_of(FAIRNAS, second))
    assert [one.first.cell_index for one in found] == [i for i in range(19) if first[i] != second[i]]
    more = count(FAIRNAS, second).multi_adds - count(FAIRNAS, first).multi_adds
    assert sum(one.multi_adds for one in found) == more
