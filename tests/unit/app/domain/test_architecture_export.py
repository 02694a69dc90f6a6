"""What is handed out of an architecture: weights that are somewhere, and the space of the network that has them."""

from typing import Any

import pytest
from pydantic import ValidationError

from app.domain.architecture_export import SUFFIXES, Export, ExportFormat, artifact_name
from app.domain.search_space import preset
from app.domain.standalone_recipe import Retraining, TrainingImages, from_recipe

SPACE = preset("nas-bench-macro")
PROXY = SPACE.proxy(resolution=16, width=0.25, num_classes=5)
RETRAINING = Retraining(
    code="01201201", recipe_name="small", network="target", from_supernet=False, seed=0, recipe=from_recipe("small", {})
)
RETRAINED = {"code": "01201201", "format": "onnx", "weights": "retrained", "job_id": "j", "retraining": RETRAINING}


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": None},
        {"retraining": None},
        {"job_id": None, "retraining": None},
        {"weights": "supernet"},
        {"weights": "supernet", "job_id": None},
        {"weights": "supernet", "retraining": None},
    ],
)
def test_weights_that_are_nowhere_or_of_two_places(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="retrained weights need the job that trained them, the supernet's need"):
        Export.model_validate(RETRAINED | changes)


def test_the_supernets_weights_are_those_of_the_proxy() -> None:
    export = Export(code="01201201", format="safetensors", weights="supernet")
    assert export.space_of(SPACE, PROXY) == PROXY


def test_retrained_weights_are_those_of_what_was_trained() -> None:
    of_target = Export.model_validate(RETRAINED).space_of(SPACE, PROXY)
    assert (of_target.input_resolution, of_target.num_classes, of_target.cells[0].out_channels) == (32, 5, 64)
    images = TrainingImages(num_classes=7, num_images=None, validation_fraction=0.1)
    on_others = RETRAINING.model_copy(update={"network": "proxy", "images": images})
    of_proxy = Export.model_validate(RETRAINED | {"retraining": on_others}).space_of(SPACE, PROXY)
    assert of_proxy == PROXY.model_copy(update={"num_classes": 7}).proxy()


def test_python_source_needs_no_worker() -> None:
    """It is written by the API, so it is no job, though it has a file name."""
    with pytest.raises(ValidationError, match="format"):
        Export.model_validate({"code": "01201201", "format": "python", "weights": "supernet"})
    assert SUFFIXES["python"] == ".py"


@pytest.mark.parametrize(("export_format", "name"), [("onnx", "export.onnx"), ("safetensors", "export.safetensors")])
def test_the_file_of_a_job(export_format: ExportFormat, name: str) -> None:
    assert artifact_name(export_format) == name
