"""A search's images: split, statistics, calibration, and what is refused."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from app.domain.data_sets import DataSetError, load_images
from worker.nas import data as data_module
from worker.nas.data import load_search_data, with_left_out


def load(root=None, name="digits", **changes):
    arguments = {
        "resolution": 8,
        "num_classes": None,
        "num_images": 400,
        "validation_fraction": 0.1,
        "num_calibration_images": 50,
        "seed": 3,
    }
    return load_search_data(name, root, **{**arguments, **changes})


def test_parts_and_their_sizes():
    data = load()
    assert len(data.train_labels_N) + len(data.validation_labels_N) == 400
    assert len(data.validation_labels_N) == 40
    assert len(data.calibration_images_NCHW) == 50
    assert data.num_classes == len(data.class_names) == 10
    assert data.resolution == 8
    for images in (data.train_images_NCHW, data.validation_images_NCHW, data.calibration_images_NCHW):
        assert images.dtype == torch.uint8
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_calibration_images_are_training_images_and_never_validation_images():
    data = load(num_images=None)
    train = {image.numpy().tobytes() for image in data.train_images_NCHW}
    assert all(image.numpy().tobytes() in train for image in data.calibration_images_NCHW)
    held_out = {image.numpy().tobytes() for image in data.validation_images_NCHW} - train
    assert len(held_out) > 100
    everything = load(num_calibration_images=10_000)
    assert len(everything.calibration_images_NCHW) == len(everything.train_images_NCHW)


def test_the_seed_decides_everything():
    first, again, other = load(), load(), load(seed=4)
    for field in dataclasses.fields(first):
        value = getattr(first, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(again, field.name))
    assert not torch.equal(first.train_images_NCHW, other.train_images_NCHW)
    assert not torch.equal(first.calibration_images_NCHW, other.calibration_images_NCHW)


def test_normalised_training_images_have_mean_zero_and_variance_one(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 200, (300, 9, 9, 3), dtype=np.uint8)
    pixels[..., 2] //= 3
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(300) % 3)
    data = load(tmp_path, "a", resolution=9, num_images=None)
    normalised = data.normalise(data.train_images_NCHW)
    assert normalised.dtype == torch.float32
    assert normalised.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(normalised.var((0, 2, 3), correction=0), torch.ones(3), atol=1e-4)
    exact = (data.train_images_NCHW.double() / 255 - data.mean_C.double().view(3, 1, 1)) / data.std_C.double().view(
        3, 1, 1
    )
    assert torch.allclose(normalised.double(), exact, atol=1e-5)


def test_images_of_one_colour_do_not_divide_by_zero(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.full((20, 4, 4), 9, np.uint8), labels=np.arange(20) % 2)
    data = load(tmp_path, "a", resolution=4, num_images=None)
    assert torch.isfinite(data.normalise(data.train_images_NCHW)).all()


def test_images_are_those_of_the_data_set():
    images = load_images("digits", None, resolution=8, num_images=400, seed=3)
    data = load()
    assert sorted(images.labels_N.tolist()) == sorted(
        [*data.train_labels_N.tolist(), *data.validation_labels_N.tolist()]
    )
    total = int(data.train_images_NCHW.sum()) + int(data.validation_images_NCHW.sum())
    assert total == int(images.images_NHWC.sum(dtype=np.int64))


class TestMoreForValidation:
    @staticmethod
    def more(data, num_validation_images, **changes):
        arguments = {"num_classes": None, "num_images": 400, "seed": 3, **changes}
        return with_left_out(data, "digits", None, num_validation_images=num_validation_images, **arguments)

    def test_they_are_of_those_that_the_search_leaves_out(self):
        data = load()
        more = self.more(data, 300)
        assert len(more.validation_labels_N) == len(more.validation_images_NCHW) == 300
        assert torch.equal(more.validation_images_NCHW[:40], data.validation_images_NCHW)
        assert torch.equal(more.validation_labels_N[:40], data.validation_labels_N)
        assert more.validation_images_NCHW.is_contiguous(memory_format=torch.channels_last)
        assert more.train_images_NCHW is data.train_images_NCHW
        everything = load_images("digits", None, resolution=8, seed=3)
        known = {
            (image.tobytes(), label)
            for image, label in zip(everything.images_NHWC, everything.labels_N.tolist(), strict=True)
        }
        added = {
            (image.permute(1, 2, 0).numpy().tobytes(), int(label))
            for image, label in zip(more.validation_images_NCHW[40:], more.validation_labels_N[40:], strict=True)
        }
        trained = {image.permute(1, 2, 0).numpy().tobytes() for image in data.train_images_NCHW}
        assert added <= known
        assert not {image for image, _ in added} & trained

    def test_no_more_than_the_search_takes_itself_and_than_there_are(self):
        assert len(self.more(load(num_images=100), 10_000, num_images=100).validation_labels_N) == 10 + 100
        data = load(num_images=1700)
        more = self.more(data, 10_000, num_images=1700)
        assert len(more.validation_labels_N) == len(data.validation_labels_N) + 1797 - 1700

    def test_none_where_none_are_left_or_wanted(self):
        data = load()
        assert self.more(data, 40) is data
        whole = load(num_images=None)
        assert self.more(whole, 10_000, num_images=None) is whole
        assert self.more(whole, 10_000, num_images=1797) is whole


def test_what_cannot_be_given_is_refused(monkeypatch):
    with pytest.raises(DataSetError, match="no data set 'nothing'"):
        load(name="nothing")
    with pytest.raises(DataSetError, match="num_calibration_images"):
        load(num_calibration_images=1)
    monkeypatch.setattr(data_module, "memory_at_hand", lambda device: 2**20)
    with pytest.raises(DataSetError, match="lower num_images"):
        load(resolution=64)


def test_only_images_that_will_be_loaded_count_as_memory(tmp_path, monkeypatch):
    """ImageNet with 100 of its 1,000 classes must fit where a tenth of ImageNet fits."""
    np.savez(tmp_path / "a.npz", images=np.zeros((400, 16, 16), np.uint8), labels=np.arange(400) % 20)
    two_classes = 40 * 16 * 16 * 3
    monkeypatch.setattr(data_module, "memory_at_hand", lambda device: 2 * two_classes)
    data = load(tmp_path, "a", resolution=16, num_classes=2, num_images=None)
    assert len(data.train_labels_N) + len(data.validation_labels_N) == 40
    load(tmp_path, "a", resolution=16, num_images=40)
    for beyond in ({"num_classes": 3, "num_images": None}, {"num_images": 41}, {"num_images": None}):
        with pytest.raises(DataSetError, match="lower num_images, num_classes or the proxy resolution"):
            load(tmp_path, "a", resolution=16, **beyond)


def test_malformed_tensors_are_refused():
    data = load()
    for changes, match in (
        ({"train_images_NCHW": data.train_images_NCHW.float()}, "must be uint8"),
        ({"train_labels_N": data.train_labels_N[1:]}, "one per image"),
        ({"num_classes": 9}, "must lie in 0 to 8"),
        ({"calibration_images_NCHW": data.calibration_images_NCHW[:0]}, "no calibration images"),
        ({"std_C": torch.zeros(3)}, "positive"),
    ):
        with pytest.raises(ValueError, match=match):
            dataclasses.replace(data, **changes)


def test_moving_keeps_everything():
    data = load()
    assert data.to("cpu") is data
    moved = data.to("cpu:0")
    assert moved is not data
    assert torch.equal(moved.calibration_images_NCHW, data.calibration_images_NCHW)
    assert moved.class_names == data.class_names


def test_progress_reaches_the_end():
    fractions = []
    load(on_progress=fractions.append, num_images=None)
    assert fractions
    assert fractions == sorted(fractions)


@pytest.fixture
def imagenet(tmp_path):
    """A folder of ImageNet's layout: 12 synsets, odd sizes, some grey; every pixel of a validation image is 255."""
    for part, shade in (("train", 100), ("val", 255)):
        for label in range(12):
            for index in range(10 if part == "train" else 2):
                path = tmp_path / "imagenet" / part / f"n{label:08}" / f"{index}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                size = (256 + 40 * index, 300 - 10 * label)
                grey = index % 3 == 0
                Image.new("L" if grey else "RGB", size, shade if grey else (shade,) * 3).save(path, "JPEG")
    return tmp_path


def test_imagenet_from_its_folder_at_224_with_the_class_subset(imagenet):
    data = load(imagenet, "imagenet", resolution=224, num_classes=5, num_images=None, num_calibration_images=8, seed=7)
    assert data.train_images_NCHW.shape == (45, 3, 224, 224)
    assert data.validation_images_NCHW.shape == (5, 3, 224, 224)
    assert (data.num_classes, len(data.class_names)) == (5, 5)
    assert set(data.class_names) < {f"n{label:08}" for label in range(12)}
    # each class nine to one, out of the training images: those of `val` are never looked at
    assert torch.bincount(data.train_labels_N).tolist() == [9] * 5
    assert torch.bincount(data.validation_labels_N).tolist() == [1] * 5
    assert int(data.validation_images_NCHW.max()) < 255
    other = load(imagenet, "imagenet", resolution=8, num_classes=5, num_images=None, seed=8)
    assert other.class_names != data.class_names
    half = load(imagenet, "imagenet", resolution=8, num_images=None, validation_fraction=0.5)
    assert len(half.validation_labels_N) == 60


def test_odd_sizes_are_cropped_at_the_centre_and_never_stretched(tmp_path):
    """A circle stays a circle, and what lies outside of the middle square is gone."""
    for label, (width, height) in enumerate(((200, 100), (100, 200))):
        y, x = np.mgrid[:height, :width]
        inside = (x - width / 2) ** 2 + (y - height / 2) ** 2 < 40**2
        outside = (np.abs(x - width / 2) > 50) | (np.abs(y - height / 2) > 50)
        pixels = np.where(inside, 200, np.where(outside, 255, 0)).astype(np.uint8)
        for index in range(3):
            path = tmp_path / "round" / f"class{label}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    data = load(tmp_path, "round", resolution=50, num_images=None, num_calibration_images=2)
    y, x = np.mgrid[:50, :50] + 0.5
    distance = np.hypot(x - 25, y - 25)
    for image in data.train_images_NCHW:
        assert torch.equal(image[0], image[1])
        assert torch.equal(image[0], image[2])
        grey = image[0].numpy()
        assert (grey[distance < 18] == 200).all()
        assert (grey[distance > 22] <= 60).all()
    normalised = data.normalise(data.train_images_NCHW)
    assert torch.allclose(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
