from hypothesis import given
from hypothesis import strategies as st

from app.dashboard.drawing import Drawing, draw
from app.domain.search_space import preset
from app.services.architecture_cells import cells_of

FAIRNAS = preset("fairnas")


def picture(code: str, space: str = "fairnas") -> Drawing:
    return draw(cells_of(preset(space), preset(space).parse_code(code)))


@given(st.text("012345", min_size=19, max_size=19))
def test_blocks_are_in_order_and_inside_the_drawing(code: str) -> None:
    drawing = picture(code)
    assert len(drawing.blocks) == 19
    right = 0.0
    for block in drawing.blocks:
        assert block.x > right
        right = block.x + block.width
        assert 0 < block.y < drawing.base
        assert block.y + block.height == drawing.base
    assert right < drawing.width


def test_a_block_shows_its_cell() -> None:
    drawing = picture("5" + "0" * 18)
    first, second, last = drawing.blocks[0], drawing.blocks[1], drawing.blocks[-1]
    assert (first.shade, second.shade) == (3, 1)
    assert first.width > second.width
    assert last.height > first.height
    assert (first.halves, second.halves) == (True, False)
    assert first.title.startswith("Cell 0: kernel 7, expansion 6, stride 2, 16 to 32 channels at 56 pixels")
    assert drawing.description.endswith("K7E6" + " K3E3" * 18)


def test_the_identity_has_no_kernel() -> None:
    blocks = picture("00000000", "nas-bench-macro").blocks
    assert {block.shade for block in blocks} == {0}
    assert "identity" in blocks[0].title


def test_marks() -> None:
    drawing = draw(cells_of(FAIRNAS, [0] * 19), marked=[2, 5])
    assert [block.cell.cell_index for block in drawing.blocks if block.marked] == [2, 5]
