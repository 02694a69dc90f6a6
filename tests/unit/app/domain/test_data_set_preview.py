"""What is shown of a data set: every kind of image, and broken ones by name."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.domain.data_set_preview import class_samples, preview
from app.domain.data_sets import open_source


def write(path: Path, image: Image.Image, kind: str = "PNG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, kind)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Grey, coloured, transparent, palette and deep grey images of odd sizes, three of them broken."""
    folder = tmp_path / "mixed"
    write(folder / "cat" / "a.png", Image.new("L", (31, 7), 90))
    write(folder / "cat" / "b.jpg", Image.new("RGB", (5, 40), (10, 20, 30)), "JPEG")
    write(folder / "cat" / "c.png", Image.new("RGBA", (8, 8), (1, 2, 3, 0)))
    write(folder / "dog" / "a.png", Image.new("P", (8, 8)))
    write(folder / "dog" / "b.png", Image.fromarray(np.full((8, 8), 65535, np.uint16)))
    write(folder / "dog" / "c.jpg", Image.new("RGB", (300, 200), (9, 9, 9)), "JPEG")
    whole = (folder / "dog" / "c.jpg").read_bytes()
    (folder / "dog" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "dog" / "empty.png").write_bytes(b"")
    (folder / "cat" / "text.png").write_bytes(b"not an image")
    return tmp_path


def test_kinds_sizes_and_broken_images_by_name(mixed: Path) -> None:
    found = preview(open_source("mixed", mixed), 100)
    assert (found.num_images, found.num_examined, found.num_decoded, found.num_broken) == (9, 9, 9, 3)
    assert dict(zip(found.class_names, found.class_counts, strict=True)) == {"cat": 4, "dog": 5}
    assert [facts.origin for facts in found.broken] == [
        "the file cat/text.png",
        "the file dog/cut.jpg",
        "the file dog/empty.png",
    ]
    assert all("replace or remove it" in (facts.problem or "") for facts in found.broken)
    assert found.modes == {"RGB": 2, "L": 1, "RGBA": 1, "P": 1, "I;16": 1}
    assert {(size.width, size.height): size.num_images for size in found.sizes} == {
        (8, 8): 3,
        (31, 7): 1,
        (5, 40): 1,
        (300, 200): 1,
    }


def test_every_image_is_looked_at_whatever_is_decoded(mixed: Path) -> None:
    found = preview(open_source("mixed", mixed), 2)
    assert (found.num_images, found.num_examined, found.num_decoded) == (9, 9, 2)
    assert found.broken == preview(open_source("mixed", mixed)).broken
    assert preview(open_source("digits", None), 10).modes == {"L": 1797}


def test_raw_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 4, 5, 3), np.uint8), labels=np.array([0, 1, 0, 1, 0, 1]))
    found = preview(open_source("a", tmp_path), 100)
    assert found.modes == {"RGB": 6}
    assert [(size.width, size.height) for size in found.sizes] == [(5, 4)]


def test_samples_are_what_a_search_sees_without_the_broken_ones(mixed: Path) -> None:
    cat, dog = class_samples(open_source("mixed", mixed), per_class=8, resolution=16, labels=[0, 1])
    assert (cat.class_name, len(cat.pngs)) == ("cat", 3)
    assert (dog.class_name, len(dog.pngs)) == ("dog", 3)
    for png in cat.pngs + dog.pngs:
        with Image.open(io.BytesIO(png)) as image:
            assert (image.size, image.mode, image.format) == ((16, 16), "RGB", "PNG")
    with Image.open(io.BytesIO(cat.pngs[0])) as image:
        assert image.getpixel((3, 3)) == (90, 90, 90)
    source = open_source("digits", None)
    (only,) = class_samples(source, per_class=2, resolution=8, labels=[7])
    chosen = np.flatnonzero(source.labels_N == 7)[[0, -1]]
    with Image.open(io.BytesIO(only.pngs[1])) as image:
        assert np.array_equal(np.asarray(image), source.decode(chosen, 8)[1])
    assert class_samples(source, per_class=2, resolution=8, labels=[]) == ()
