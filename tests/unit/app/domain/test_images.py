"""Encoded images of every kind a user brings become upright RGB squares, or an error that names them."""

import errno
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.domain import images as images_module
from app.domain.images import DataSetError, decode_image, decode_images, resize_arrays


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(image, kind="PNG", resolution=8, **options):
    return decode_image((encoded(image, kind, **options), "the image"), resolution)


def test_rgb_pixels_stay_when_the_size_fits():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decoded(Image.fromarray(pixels)), pixels)


def test_grey_becomes_three_equal_channels():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(decoded(Image.fromarray(pixels)), np.repeat(pixels[:, :, None], 3, axis=2))


def test_the_centre_is_cropped_and_the_aspect_kept():
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 200
    assert (decoded(Image.fromarray(wide)) == 200).all()
    assert (decoded(Image.fromarray(wide.transpose(1, 0, 2).copy())) == 200).all()


def test_shrinking_averages_instead_of_picking():
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    small = decoded(Image.fromarray(checkers.astype(np.uint8)), resolution=8)
    assert np.abs(small.astype(int) - 127).max() < 8


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG"),
        (Image.new("RGB", (9, 9), "red").quantize(4), "PNG"),
        (Image.new("RGBA", (9, 9), (255, 0, 0, 255)), "PNG"),
        (Image.new("RGB", (9, 9), "red"), "BMP"),
        (Image.new("RGB", (9, 9), "red"), "WEBP"),
    ],
)
def test_every_colour_mode_ends_as_the_same_red(image, kind):
    red, green, blue = decoded(image, kind)[4, 4].astype(int)
    assert red > 245
    assert max(green, blue) < 12


def test_transparent_pixels_are_white_whatever_colour_they_hide():
    assert (decoded(Image.new("RGBA", (8, 8), (10, 20, 30, 0))) == 255).all()
    grey = Image.new("LA", (8, 8), (0, 128))
    assert np.abs(decoded(grey).astype(int) - 127).max() <= 1
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([1, 2, 3] * 256)
    assert (decoded(palette, transparency=0) == 255).all()


def test_sixteen_bits_are_scaled_and_not_cut():
    values = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    assert decoded(Image.fromarray(values), resolution=2)[:, :, 0].tolist() == [[0, 100], [200, 255]]


def test_float_images_are_scaled_from_the_unit_interval_and_refuse_nan():
    assert (decoded(Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)), "TIFF") == 128).all()
    with pytest.raises(DataSetError, match="the image has grey values"):
        decoded(Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)), "TIFF")


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    red = decoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert red[0, 0].tolist() == [255, 0, 0]


def test_cameras_orientation_is_honoured():
    pixels = np.zeros((16, 16), dtype=np.uint8)
    pixels[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decoded(Image.fromarray(pixels), resolution=16, exif=exif)[:, :, 0]
    assert (turned[:, 8:] == 255).all()
    assert (turned[:, :8] == 0).all()


# Pillow warns of a damaged TIFF directory before it gives up.
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_truncated_images_are_named(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    payload = encoded(Image.fromarray(noise), kind)
    for length in (0, 3, 20, len(payload) // 2):
        with pytest.raises(DataSetError, match="row 7 is a corrupt or truncated image"):
            decode_image((payload[:length], "row 7"), 8)


def test_a_disk_that_is_away_says_nothing_about_the_image(monkeypatch, tmp_path):
    def away(*_):
        raise OSError(errno.EIO, "Input/output error", "/data/x.png")

    monkeypatch.setattr(Image, "open", away)
    with pytest.raises(OSError, match="Input/output error"):
        decode_image((Path("/data/x.png"), "the file x.png"), 8)
    monkeypatch.undo()
    with pytest.raises(DataSetError, match="Is a directory"):
        decode_image((tmp_path, "a folder"), 8)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    payload = encoded(Image.new("L", (64, 64)))
    for limit in (64 * 64 - 1, 64 * 40, 64):  # Pillow warns up to twice its limit and raises beyond
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(DataSetError, match="bomb"):
            decode_image((payload, "bomb"), 8)


def test_many_images_keep_their_order_with_threads_and_without(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)) for _ in range(300)]
    expected = np.stack([np.asarray(picture) for picture in pictures])
    payloads = [(encoded(picture), f"image {i}") for i, picture in enumerate(pictures)]
    fractions = []
    assert np.array_equal(decode_images(payloads, 300, 8, fractions.append), expected)
    assert fractions[-1] == 1.0
    files = []
    for i, (payload, origin) in enumerate(payloads):
        path = tmp_path / f"{i}.png"
        path.write_bytes(payload)
        files.append((path, origin))
    assert np.array_equal(decode_images(files, 300, 8), expected)


def test_progress_can_stop_the_decoding():
    payload = encoded(Image.new("L", (8, 8)))

    def stop(fraction):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_images(((payload, "x") for _ in range(10_000)), 10_000, 8, stop)


def test_one_slow_image_is_no_silence(monkeypatch):
    """Whoever cancels waits for the next report, which must not wait for an image."""
    reports, reported_often = [], threading.Event()

    def slow(image, resolution):
        assert reported_often.wait(60)
        return np.zeros((resolution, resolution, 3), dtype=np.uint8)

    def on_progress(fraction):
        reports.append(fraction)
        if len(reports) == 3:
            reported_often.set()

    monkeypatch.setattr(images_module, "_REPORT_S", 0.001)
    monkeypatch.setattr(images_module, "decode_image", slow)
    decode_images([(Path("a.png"), "a"), (Path("b.png"), "b")], 2, 8, on_progress)
    assert reports[:3] == [0.0, 0.0, 0.0]
    assert reports[-1] == 1.0


def test_stopping_does_not_wait_for_what_is_queued(monkeypatch):
    begun, stopped = [], threading.Event()

    def slow(image, resolution):
        begun.append(image)
        assert stopped.wait(60)
        return np.zeros((resolution, resolution, 3), dtype=np.uint8)

    def stop(fraction):
        raise KeyboardInterrupt

    monkeypatch.setattr(images_module, "_REPORT_S", 0.001)
    monkeypatch.setattr(images_module, "decode_image", slow)
    with pytest.raises(KeyboardInterrupt):
        decode_images(((Path(f"{i}.png"), "x") for i in range(10_000)), 10_000, 8, stop)
    stopped.set()
    assert len(begun) <= 8, "one per thread"


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8, 8, 1), (3, 8, 8, 3)])
def test_raw_arrays_of_every_layout(shape):
    images = np.full(shape, 77, dtype=np.uint8)
    resized = resize_arrays(images, 5)
    assert resized.shape == (3, 5, 5, 3)
    assert (resized == 77).all()


def test_large_encoded_images_do_not_wait_in_memory_together(monkeypatch):
    """Images inside archives are read no faster than they are decoded, by their bytes and not only by their number."""
    monkeypatch.setattr(images_module, "_HELD_BYTES", 1000)
    monkeypatch.setattr(images_module, "_THREADED_BYTES", 100)
    monkeypatch.setattr(images_module, "decode_image", lambda image, resolution: np.zeros((1, 1, 3), dtype=np.uint8))
    read = []

    def archive():
        for index in range(10):
            read.append(index)
            yield bytes(400), str(index)

    with ThreadPoolExecutor(2) as pool:
        progress = images_module._Progress(10, None)
        waiting = [len(read) - done for done, _ in enumerate(images_module._decoded(archive(), 1, pool, 100, progress))]
    assert len(waiting) == 10
    assert max(waiting) == 3
