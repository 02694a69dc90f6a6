"""Networks as files for other programs: ONNX, checked before it is handed out, and safetensors with a description."""

import copy
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from app.domain.architecture_export import DESCRIPTION_KEY, Export, artifact_name
from app.domain.multi_adds import count
from worker.nas.checkpoint import CheckpointStore
from worker.nas.child_call import call_in_child
from worker.nas.data import SearchData
from worker.nas.subnetwork import Subnetwork, num_correct

TOLERANCE = 1e-4
"""Largest difference of a logit between onnxruntime and torch; relative where logits are larger than one."""

_ROUNDINGS = 4.0
"""An ill-conditioned network (hardly trained, BN over little spread) may differ by so many of torch's own errors."""

_LOOSEST = 100 * TOLERANCE
"""But never by more than this, relative likewise: a file that is off by a percent ranks images otherwise."""

_CHECKED_BATCH_SIZES = (1, 2, 5)
_TRACED_BATCH_SIZE = 2


class ExportError(ValueError):
    """The exported file does not compute what the network computes."""


def describe(
    network: Subnetwork, data: SearchData, export: Export, on_wait: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Return what a user of the network's file has to know, as JSON data.

    ``mean`` and ``std`` are those of the training images' channels, in units of [0, 1]: the network takes
    (image - mean) / std. ``accuracy`` is on the validation images; ``on_wait`` is called batch by batch and may raise
    to stop.
    """
    space, architecture = network.space, network.architecture
    cost = count(space, architecture)
    return {
        "search_space": space.name,
        "code": space.code(architecture),
        "readable": space.readable(architecture),
        "weights": export.weights,
        "retraining": None if export.retraining is None else export.retraining.model_dump(mode="json"),
        "input": {"name": "images", "shape": ["batch", 3, space.input_resolution, space.input_resolution]},
        "output": {"name": "logits", "shape": ["batch", space.num_classes]},
        "mean": data.mean_C.tolist(),
        "std": data.std_C.tolist(),
        "class_names": list(data.class_names),
        "accuracy": num_correct(network, data, on_batch=on_wait) / len(data.validation_labels_N),
        "num_validation_images": len(data.validation_labels_N),
        "multi_adds": cost.multi_adds,
        "params": cost.params,
        "space": space.model_dump(mode="json"),
    }


def write_export(
    network: Subnetwork,
    data: SearchData,
    export: Export,
    checkpoints: CheckpointStore,
    on_wait: Callable[[], None] = lambda: None,
) -> Mapping[str, Any]:
    """Write a network to the artifacts of its job; the file's name is that of ``artifact_name``.

    Args:
        network: The network, on the images' device.
        data: Its accuracy is that on the validation images.
        export: What is asked for.
        checkpoints: The artifacts of the job.
        on_wait: Called at least about twice a second; may raise to stop, and nothing is written.

    Returns:
        Figures of the export, as JSON data.

    Raises:
        ExportError: If the file does not compute what the network computes.
    """
    description = describe(network, data, export, on_wait)
    figures = {"format": export.format, "accuracy": description["accuracy"]}
    if export.format == "safetensors":
        texts = {DESCRIPTION_KEY: json.dumps(description)}
        # the extension is the checkpoints' own
        name = artifact_name("safetensors").removesuffix(".safetensors")
        checkpoints.save_tensors(name, network.state_dict(), texts)
        return figures
    network = network.cpu()
    images_NCHW = data.validation_images_NCHW[: max(_CHECKED_BATCH_SIZES)]
    # in a process of its own: torch's exporter takes many seconds and never looks up
    payload, check = call_in_child(
        on_wait, checked_onnx, network, description, data.normalise(images_NCHW).cpu().contiguous()
    )
    checkpoints.save_bytes(artifact_name("onnx"), payload)
    return {**figures, **check._asdict()}


def checked_onnx(network: Subnetwork, description: Mapping[str, Any], images_NCHW: Tensor) -> tuple[bytes, "OnnxCheck"]:
    """Return a network as an ONNX file, and how much its logits differ; see :func:`check_onnx`."""
    payload = to_onnx(network, description)
    return payload, check_onnx(payload, network, images_NCHW)


def to_onnx(network: Subnetwork, description: Mapping[str, Any]) -> bytes:
    """Return a network in evaluation mode as an ONNX file with a free batch dimension."""
    resolution = network.space.input_resolution
    images_NCHW = torch.zeros(_TRACED_BATCH_SIZE, 3, resolution, resolution)
    with warnings.catch_warnings():
        # torch's exporter uses what torch itself deprecates
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        program = torch.onnx.export(
            network.eval(),
            (images_NCHW,),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_the_exporter(model)
    onnx.helper.set_model_props(model, {DESCRIPTION_KEY: json.dumps(description)})
    payload: bytes = model.SerializeToString()
    return payload


class OnnxCheck(NamedTuple):
    """How an ONNX file compares with its network.

    Attributes:
        largest_difference: Of a logit.
        is_ill_conditioned: Whether that is beyond :data:`TOLERANCE`, and no further off than torch's own rounding.
    """

    largest_difference: float
    is_ill_conditioned: bool


def check_onnx(payload: bytes, network: nn.Module, images_NCHW: Tensor) -> OnnxCheck:
    """Compare an ONNX file in onnxruntime with the network in torch, on batches of several sizes.

    A difference of more than :data:`TOLERANCE` is an error, unless torch's own float32 results are as far from float64;
    a hundred times that is an error in any case.

    Args:
        payload: The file.
        network: The network, on the CPU, in evaluation mode.
        images_NCHW: Normalised images, some of which each batch takes.

    Returns:
        The largest difference, and whether the looser bound was needed.

    Raises:
        ExportError: If the difference is too large.
    """
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])
    largest, is_ill_conditioned = 0.0, False
    for batch_size in _CHECKED_BATCH_SIZES:
        batch_NCHW = images_NCHW[:batch_size]
        (found,) = session.run(None, {"images": batch_NCHW.numpy()})
        with torch.no_grad():
            expected_NK = network(batch_NCHW)
        difference = float((torch.from_numpy(found) - expected_NK).abs().max())
        scale = max(1.0, float(expected_NK.abs().max()))
        allowed = TOLERANCE * scale
        # also where the difference is no number
        if not difference <= allowed:
            allowed = max(allowed, min(_ROUNDINGS * _rounding(network, batch_NCHW), _LOOSEST * scale))
            is_ill_conditioned = True
        if not difference <= allowed:
            raise ExportError(f"in onnxruntime a logit differs by {difference:g} from torch's; {allowed:g} is allowed")
        largest = max(largest, difference)
    return OnnxCheck(largest, is_ill_conditioned)


@torch.no_grad()
def _rounding(network: nn.Module, images_NCHW: Tensor) -> float:
    """Largest error of a logit that torch's own float32 makes."""
    exact_NK = copy.deepcopy(network).double()(images_NCHW.double())
    return float((network(images_NCHW) - exact_NK).abs().max())


def _forget_the_exporter(model: Any) -> None:
    """Drop notes on how the file came about, which hold paths of this machine."""
    graph = model.graph
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
