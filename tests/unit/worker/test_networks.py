"""The torch side of a search behind the pipeline's port: what goes wrong in it belongs to the step."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from app.domain.architecture_export import Export
from app.domain.data_sets import choose_images, open_source
from app.domain.search_config import from_preset
from app.domain.search_space import preset
from app.domain.standalone_recipe import Retraining, TrainingImages, from_recipe
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.data import SearchData
from worker.nas.device import choose_device
from worker.nas.distributed_training import train_supernet_distributed
from worker.networks import TorchNetworks
from worker.pipeline.ports import Search

SPACE = preset("nas-bench-macro")
SEARCH = Search("search", "digits", SPACE, from_preset("quick", {"num_images": 200}).resolved(SPACE))

TINY = from_preset(
    "quick", {"num_images": None, "epochs": 1, "batch_size": 16, "proxy_resolution": 8, "proxy_width": 0.25}
).resolved(SPACE)


def _silent(_progress: float, _detail: object) -> None:
    pass


def _retraining(batch_size: int, **changes: Any) -> Retraining:
    """One epoch of one architecture."""
    recipe = from_recipe("small", {"epochs": 1, "batch_size": batch_size})
    given = {"code": "2" * 8, "recipe_name": "small", "network": "proxy", "from_supernet": False, "seed": 0}
    return Retraining(**{**given, "recipe": recipe, **changes})


def _exported(networks: TorchNetworks, search: Search, retraining: Retraining, artifacts: Path) -> dict[str, Any]:
    """What the file of the network that the job ``job`` has trained says of itself."""
    export = Export(code="2" * 8, format="safetensors", weights="retrained", job_id="job", retraining=retraining)
    networks.export(search, "export", export, _silent)
    exported = CheckpointStore(str(artifacts), "export").load_tensors("export")
    description: dict[str, Any] = json.loads(exported.metadata["description"])
    return description


def test_a_device_that_is_not_there_fails_the_step_and_not_the_worker(tmp_path: Path) -> None:
    networks = TorchNetworks(
        choose_device=lambda: choose_device(f"cuda:{torch.cuda.device_count()}"),
        data_root=None,
        artifact_url=str(tmp_path),
    )
    with pytest.raises(ValueError, match="is not there: torch sees"):
        networks.train_supernet(SEARCH, lambda _progress, _detail: None)


def test_an_upload_is_read_in_its_own_folder_or_not_at_all(tmp_path: Path) -> None:
    """Never the operator's data set of the same name."""
    for name, value in (("root", 10), ("uploads/the-id", 200)):
        (tmp_path / name).mkdir(parents=True)
        images = np.full((40, 8, 8), value, np.uint8)
        np.savez(tmp_path / name / "mine.npz", images=images, labels=np.arange(40) % 2)
    networks = TorchNetworks(
        choose_device=lambda: torch.device("cpu"),
        data_root=tmp_path / "root",
        artifact_url=str(tmp_path),
        upload_root=tmp_path / "uploads",
    )
    search = dataclasses.replace(SEARCH, dataset="mine", upload_id="the-id")
    for searched, value in ((search, 200), (dataclasses.replace(search, id="other", upload_id=None), 10)):
        data = networks._load(searched, lambda _progress, _detail: None).data
        assert int(data.train_images_NCHW.min()) == int(data.train_images_NCHW.max()) == value
    with pytest.raises(ValueError, match="were deleted"):
        networks._load(dataclasses.replace(search, id="third", upload_id="gone"), lambda _progress, _detail: None)


def test_a_data_set_that_changed_after_training_is_not_evaluated_on(tmp_path: Path) -> None:
    """Another split of it would hold out images that the supernet was trained on."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    search = dataclasses.replace(SEARCH, dataset="mine", config=TINY)
    architecture = SPACE.parse_code("0" * len(SPACE.cells))

    def networks(images: np.ndarray) -> TorchNetworks:
        np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(len(images)) % 2)
        return TorchNetworks(
            choose_device=lambda: torch.device("cpu"), data_root=tmp_path, artifact_url=str(tmp_path / "artifacts")
        )

    networks(pixels).train_supernet(search, _silent)
    (accuracy,) = networks(pixels).evaluate(search, [architecture], _silent)
    assert 0.0 <= accuracy <= 1.0
    for changed in (np.roll(pixels, 2, axis=0), pixels[:-2], 255 - pixels):
        for work in (
            lambda other: other.evaluate(search, [architecture], _silent),
            lambda other: other.train_supernet(search, _silent),
        ):
            with pytest.raises(
                CheckpointError, match=r"images of the data set have changed|another search space, data"
            ):
                work(networks(changed))
    with pytest.raises(CheckpointError, match="images of the data set have changed since"):
        networks(np.roll(pixels, 2, axis=0)).evaluate(search, [architecture], _silent)


def test_several_processes_train_from_a_copy_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the worker's device holds none meanwhile; what is evaluated afterwards is what they have trained."""
    moved_to = []

    def move(data: SearchData, device: torch.device) -> SearchData:
        moved_to.append(device)
        return data

    def train(space, data, *args, **kwargs):
        assert moved_to == [torch.device("cpu")]
        return train_supernet_distributed(space, data, *args, **kwargs)

    monkeypatch.setattr(SearchData, "to", move)
    monkeypatch.setattr("worker.networks.train_supernet_distributed", train)
    networks = TorchNetworks(
        choose_device=lambda: torch.device("cpu:0"), data_root=None, artifact_url=str(tmp_path), num_processes=2
    )
    search = dataclasses.replace(SEARCH, config=TINY.model_copy(update={"num_images": 100}))
    figures = networks.train_supernet(search, _silent)
    assert len(figures["loss_curve"]) == 1
    (accuracy,) = networks.evaluate(search, [SPACE.parse_code("0" * len(SPACE.cells))], _silent)
    assert 0.0 <= accuracy <= 1.0
    assert moved_to[-1] == torch.device("cpu:0")


def test_a_retraining_sees_the_images_that_it_names_and_its_export_has_their_classes(tmp_path: Path) -> None:
    networks = TorchNetworks(choose_device=lambda: torch.device("cpu"), data_root=None, artifact_url=str(tmp_path))
    config = from_preset("quick", {"num_images": 200, "num_classes": 4, "proxy_resolution": 8}).resolved(SPACE)
    search = dataclasses.replace(SEARCH, config=config)
    of_search = networks._load(search, lambda _progress, _detail: None)
    retraining = _retraining(500, images=TrainingImages(num_classes=10, num_images=None, validation_fraction=0.2))
    figures = networks.retrain(search, "job", retraining, lambda _progress, _detail: None).figures
    assert figures["num_classes"] == 10
    assert figures["num_train_images"] + figures["num_validation_images"] == 1797
    description = _exported(networks, search, retraining, tmp_path)
    assert description["class_names"] == [str(digit) for digit in range(10)]
    assert description["output"]["shape"] == ["batch", 10]
    # the search's own are loaded again for its next step
    assert networks._load(search, lambda _progress, _detail: None).data.class_names == of_search.data.class_names


def test_a_network_trained_by_itself_is_judged_by_images_that_the_search_leaves_out_as_well(tmp_path: Path) -> None:
    networks = TorchNetworks(choose_device=lambda: torch.device("cpu"), data_root=None, artifact_url=str(tmp_path))
    search = dataclasses.replace(SEARCH, config=TINY.model_copy(update={"num_images": 200}))
    networks.train_supernet(search, _silent)
    architecture = SPACE.parse_code("2" * 8)
    (before,) = networks.evaluate(search, [architecture], _silent)
    retraining = _retraining(20, from_supernet=True)
    retrained = networks.retrain(search, "job", retraining, _silent)
    # D_val is 20 images, and as many more as the search takes
    assert retrained.figures["num_validation_images"] == 20 + 200
    assert (retrained.accuracy * 220) == pytest.approx(round(retrained.accuracy * 220))
    assert retrained.figures["num_train_images"] == 180
    again = networks.retrain(search, "job", retraining, _silent)
    assert again.accuracy == retrained.accuracy
    description = _exported(networks, search, retraining, tmp_path)
    assert (description["accuracy"], description["num_validation_images"]) == (retrained.accuracy, 220)
    # z is still about D_val alone
    assert networks.evaluate(search, [architecture], _silent) == [before]
    assert before * 20 == pytest.approx(round(before * 20))


def test_a_search_goes_on_without_images_that_it_leaves_out_and_cannot_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(2):
        (tmp_path / "mine" / str(label)).mkdir(parents=True)
        for number in range(40):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(tmp_path / "mine" / str(label) / f"{number:02}.png")
    config = TINY.model_copy(update={"num_images": 60})
    taken = choose_images(open_source("mine", tmp_path), num_classes=None, num_images=60, seed=config.seed).index_N
    for index in set(range(80)) - set(taken.tolist()):
        (tmp_path / "mine" / str(index // 40) / f"{index % 40:02}.png").write_bytes(b"broken")
    networks = TorchNetworks(
        choose_device=lambda: torch.device("cpu"), data_root=tmp_path, artifact_url=str(tmp_path / "artifacts")
    )
    retraining = _retraining(20)
    search = dataclasses.replace(SEARCH, dataset="mine", config=config)
    for job in ("first", "second"):
        figures = networks.retrain(search, job, retraining, _silent).figures
        assert figures["num_validation_images"] == 6
        (warning,) = figures["warnings"]
        assert warning.startswith("measured on D_val alone")
        assert ".png" in warning
