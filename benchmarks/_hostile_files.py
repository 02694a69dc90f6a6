"""Data sets that are not what they seem: links out of the root, bombs, damaged and lying files; and odd honest ones."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NUM_IMAGES = 60
"""Of an honest set: enough for two classes and a tiny search."""


def noise(seed: int, size: int = 16) -> Image.Image:
    """Return a small image of noise."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image as a file of a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_bomb() -> bytes:
    """Return a PNG of some kilobytes that claims 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def write_parquet(path: Path, images: list[bytes], labels: list[object]) -> None:
    """Write images in the Hugging Face layout."""
    struct_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": data, "path": None} for data in images], struct_type)
    pq.write_table(pa.table({"image": column, "label": pa.array(labels)}), path)


def write_folder(folder: Path, files: list[tuple[str, bytes]]) -> None:
    """Write images into two class folders in turn."""
    for number, (name, data) in enumerate(files):
        place = folder / f"class{number % 2}" / f"{number}-{name}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def honest(count: int = NUM_IMAGES) -> list[bytes]:
    """Return images that nothing is wrong with."""
    return [encoded(noise(i), "PNG") for i in range(count)]


def labels(count: int = NUM_IMAGES) -> list[object]:
    """Return labels of two classes in turn."""
    return [i % 2 for i in range(count)]


def one_bad(data: bytes, name: str = "bad.png") -> Callable[[Path], None]:
    """Return what writes a folder of honest images and a bad one."""
    return lambda place: write_folder(place, [*[("good.png", image) for image in honest()], (name, data)])


def npz_bomb(place: Path) -> None:
    """4 TiB of zeros by the header, in a kilobyte."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (2**22, 1024, 1024)})
    with zipfile.ZipFile(place.with_suffix(".npz"), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(1000))
        archive.writestr("labels.npy", header.getvalue() + bytes(1000))


def npz_pickle(place: Path) -> None:
    """Labels that are Python objects: loading them would run them."""
    objects = np.array([{"a": 1}] * NUM_IMAGES, dtype=object)
    np.savez(place.with_suffix(".npz"), images=np.zeros((NUM_IMAGES, 8, 8), np.uint8), labels=objects)


def npz_lying(place: Path) -> None:
    """More images by the header than there are bytes."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1000, 8, 8)})
    label = io.BytesIO()
    np.save(label, np.arange(1000) % 2)
    with zipfile.ZipFile(place.with_suffix(".npz"), "w") as archive:
        archive.writestr("images.npy", header.getvalue() + bytes(64))
        archive.writestr("labels.npy", label.getvalue())


def gzip_bomb(place: Path) -> None:
    """Ten honest images by the header of the idx file, then 64 MiB of zeros in 64 KiB."""
    place.mkdir()
    with gzip.open(place / "train-images-idx3-ubyte.gz", "wb", compresslevel=9) as file:
        file.write(struct.pack(">IIII", 0x0803, 10, 8, 8))
        for _ in range(64):
            file.write(bytes(2**20))
    with gzip.open(place / "train-labels-idx1-ubyte.gz", "wb") as file:
        file.write(struct.pack(">II", 0x0801, 10) + bytes(i % 2 for i in range(10)))


def archive_as_folder(place: Path) -> None:
    """A tar whose members lead out of it, where images should be: nothing unpacks it."""
    (place / "class0").mkdir(parents=True)
    (place / "class1").mkdir()
    with tarfile.open(place / "class0" / "0.png", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../../escaped"))
    for i, data in enumerate(honest(4)):
        (place / f"class{i % 2}" / f"{i + 1}.png").write_bytes(data)


def outside(place: Path) -> Path:
    """Return an honest folder beside the data root."""
    folder = place.parent.parent / "outside"
    if not folder.exists():
        write_folder(folder, [("good.png", image) for image in honest()])
    return folder


def linked_folder(place: Path) -> None:
    """A link to a folder outside of the root."""
    place.symlink_to(outside(place))


def linked_image(place: Path) -> None:
    """Honest folders, in which one image is a link out of the root."""
    one_bad(b"")(place)
    bad = next(place.rglob("*bad.png"))
    bad.unlink()
    bad.symlink_to(next(outside(place).rglob("*.png")))


def linked_parquet(place: Path) -> None:
    """A folder whose parquet file is a link out of the root."""
    place.mkdir()
    target = place.parent.parent / "outside.parquet"
    write_parquet(target, honest(), labels())
    (place / "train.parquet").symlink_to(target)


def loop(place: Path) -> None:
    """A link to itself."""
    place.symlink_to(place)


def parquet_of(images: list[bytes], numbers: list[object]) -> Callable[[Path], None]:
    """Return what writes a parquet file."""
    return lambda place: write_parquet(place.with_suffix(".parquet"), images, numbers)


def parquet_columns(**columns: object) -> Callable[[Path], None]:
    """Return what writes a parquet file of other columns."""
    return lambda place: pq.write_table(pa.table(columns), place.with_suffix(".parquet"))


def parquet_cell_bomb(column: str, num_bytes: int, num_rows: int = 1000) -> Callable[[Path], None]:
    """Return what writes one large cell that stands in every row: some kilobytes that unpack to gigabytes."""

    def write(place: Path) -> None:
        image = honest(1)[0]
        large: dict[str, list[object]] = {"image": [image, image + bytes(num_bytes)], "label": ["0", "a" * num_bytes]}
        cells: dict[str, object] = {"image": [image] * num_rows, "label": ["0", "1"] * (num_rows // 2)}
        indices = pa.array([0, *[1] * (num_rows - 1)], pa.int32())
        cells[column] = pa.DictionaryArray.from_arrays(indices, pa.array(large[column]))
        pq.write_table(
            pa.table(cells),
            place.with_suffix(".parquet"),
            compression="zstd",
            store_schema=False,
            dictionary_pagesize_limit=2**30,
        )

    return write


def cut_parquet(place: Path) -> None:
    """The first half of a parquet file."""
    write_parquet(place.with_suffix(".parquet"), honest(), labels())
    content = place.with_suffix(".parquet").read_bytes()
    place.with_suffix(".parquet").write_bytes(content[: len(content) // 2])


def late_poison(place: Path) -> None:
    """More images than are checked when a search is submitted, with a bad one where the sample does not look."""
    images = honest(1) * 9001
    images[5] = b"\xff\xd8\xff no image"
    write_parquet(place.with_suffix(".parquet"), images, labels(9001))


JPEG = encoded(noise(0, 64), "JPEG")

REFUSED: dict[str, Callable[[Path], None]] = {
    "a link to a folder outside": linked_folder,
    "a link to an image outside": linked_image,
    "a link to a parquet file outside": linked_parquet,
    "a link to itself": loop,
    "a PNG of 2.5 gigapixels": one_bad(png_bomb()),
    "a truncated JPEG": one_bad(JPEG[: len(JPEG) // 2], "bad.jpg"),
    "a truncated PNG": one_bad(encoded(noise(0, 64), "PNG")[:500]),
    "an empty image": one_bad(b""),
    "a text named image": one_bad(b"<svg onload=alert(1)>"),
    "a program named image": one_bad(b"\x7fELF" + bytes(500)),
    "a float image with NaN": one_bad(encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "bad.tif"),
    "an npz of 4 TiB": npz_bomb,
    "an npz of Python objects": npz_pickle,
    "an npz that lies about its size": npz_lying,
    "an idx file that goes on for 64 MiB": gzip_bomb,
    "a tar named image": archive_as_folder,
    "a parquet file cut in half": cut_parquet,
    "a parquet file with a damaged image": parquet_of([*honest(59), b"none"], labels()),
    "a parquet file with labels of text and null": parquet_of(honest(), ["a", None] * 30),
    "a parquet file with negative labels": parquet_of(honest(), [-1, 1] * 30),
    "a parquet file with fractional labels": parquet_of(honest(), [0.5, 1.0] * 30),
    "a parquet file whose images are numbers": parquet_columns(image=list(range(60)), label=[0, 1] * 30),
    "a parquet file whose images are lists": parquet_columns(image=[[1, 2]] * 60, label=[0, 1] * 30),
    "a parquet file whose labels are structs": parquet_columns(image=honest(), label=[{"x": 1}] * 60),
    "a parquet file with no rows": parquet_columns(image=pa.array([], pa.binary()), label=pa.array([], pa.int64())),
    "a parquet file whose label unpacks to 5 GB": parquet_cell_bomb("label", 5 * 10**6),
    "a parquet file whose image is too large": parquet_cell_bomb("image", 80 * 10**6, 60),
    "a bad image beyond those that are checked": late_poison,
}
"""Data sets that no search may run on: what is wrong with each, and how to make it."""


def _mixed(*kinds: tuple[str, bytes]) -> Callable[[Path], None]:
    return lambda place: write_folder(place, [kinds[i % len(kinds)] for i in range(NUM_IMAGES)])


def _animation() -> bytes:
    frames = [noise(i) for i in range(5)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


ACCEPTED: dict[str, Callable[[Path], None]] = {
    "CMYK": _mixed(("a.jpg", encoded(noise(0).convert("CMYK"), "JPEG"))),
    "16 bits of grey": _mixed(
        ("a.png", encoded(Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 256), "PNG"))
    ),
    "animations": _mixed(("a.gif", _animation())),
    "palettes, transparency, grey": _mixed(
        ("a.png", encoded(noise(0).convert("P"), "PNG")),
        ("b.png", encoded(noise(1).convert("LA"), "PNG")),
        ("c.webp", encoded(noise(2).convert("RGBA"), "WEBP")),
        ("d.bmp", encoded(noise(3).convert("1"), "BMP")),
    ),
}
"""Odd but honest data sets: a search must run on them."""
