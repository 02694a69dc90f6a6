"""Every file computes what the network computes: onnxruntime, and the generated module with the safetensors weights."""

import copy
import importlib.util
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from app.domain.architecture_export import Export
from app.domain.model_source import model_source
from app.domain.multi_adds import count
from app.domain.search_space import SearchSpace, preset
from app.domain.standalone_recipe import from_recipe
from worker.nas import export as export_module
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.data import load_search_data
from worker.nas.export import ExportError, check_onnx, to_onnx, write_export
from worker.nas.standalone_training import train_standalone
from worker.nas.subnetwork import Subnetwork, fresh_subnetwork, inherited_subnetwork, num_correct
from worker.nas.supernet import Supernet

RESOLUTION = 16
CODES = {"fairnas": "0123450123450123450", "fairnas-se": "5432105432105432105", "nas-bench-macro": "01200120"}


@pytest.fixture(scope="module")
def data():
    return load_search_data(
        "digits",
        None,
        resolution=RESOLUTION,
        num_classes=None,
        num_images=200,
        validation_fraction=0.2,
        num_calibration_images=40,
        seed=0,
    )


@pytest.fixture(scope="module", params=CODES)
def network(request, data, tmp_path_factory) -> Subnetwork:
    """Trained a little: an untrained network of 19 cells amplifies rounding errors beyond any tolerance."""
    return trained(request.param, data, str(tmp_path_factory.mktemp("training")))


def trained(name, data, directory) -> Subnetwork:
    space: SearchSpace = preset(name).proxy(resolution=RESOLUTION, width=0.25, num_classes=10)
    recipe = from_recipe("small", {"epochs": 6, "batch_size": 32, "augmentation": "none"})
    return train_standalone(
        space,
        space.parse_code(CODES[name]),
        data,
        recipe,
        seed=0,
        device=torch.device("cpu"),
        checkpoints=CheckpointStore(directory, "job"),
    ).network


def export_of(network: Subnetwork, export_format: str) -> Export:
    code = network.space.code(network.architecture)
    return Export.model_validate({"code": code, "format": export_format, "weights": "supernet"})


@pytest.fixture(scope="module")
def written(network, data, tmp_path_factory):
    """The directory with both files, and the figures of the ONNX export."""
    directory = tmp_path_factory.mktemp("exports")
    store = CheckpointStore(str(directory), "job")
    write_export(network, data, export_of(network, "safetensors"), store)
    return directory / "job", write_export(network, data, export_of(network, "onnx"), store)


def test_onnx_equals_torch_at_any_batch_size(network, data, written):
    directory, figures = written
    session = onnxruntime.InferenceSession(str(directory / "export.onnx"), providers=["CPUExecutionProvider"])
    images = data.normalise(data.validation_images_NCHW).contiguous()
    with torch.no_grad():
        expected = network(images).numpy()
    allowed = 1e-4 * max(1.0, np.abs(expected).max())
    assert np.abs(expected).max() > 0.1
    assert figures["largest_difference"] < allowed
    assert figures["is_ill_conditioned"] is False
    for batch_size in (1, 3, 40):
        (logits,) = session.run(["logits"], {"images": images[:batch_size].numpy()})
        assert np.abs(logits - expected[:batch_size]).max() < allowed


def test_onnx_says_what_it_is_and_nothing_of_this_machine(network, data, written):
    payload = (written[0] / "export.onnx").read_bytes()
    model = onnx.load_from_string(payload)
    onnx.checker.check_model(model)
    description = json.loads({prop.key: prop.value for prop in model.metadata_props}["description"])
    assert description["code"] == network.space.code(network.architecture)
    assert description["accuracy"] == num_correct(network, data) / 40
    assert description["mean"] == data.mean_C.tolist()
    cost = count(network.space, network.architecture)
    assert (description["multi_adds"], description["params"]) == (cost.multi_adds, cost.params)
    assert b"site-packages" not in payload
    assert b"worker/nas" not in payload


def test_the_generated_module_equals_torch(network, data, written, tmp_path):
    (tmp_path / "model.py").write_text(model_source(network.space, network.architecture))
    spec = importlib.util.spec_from_file_location("exported_model", tmp_path / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded, description = module.load(written[0] / "export.safetensors")
    images = data.validation_images_NCHW[:7].contiguous()
    with torch.no_grad():
        assert torch.equal(loaded(data.normalise(images)), network(data.normalise(images)))
    assert torch.allclose(module.normalise(images / 255, description), data.normalise(images), atol=1e-6)
    assert sum(p.numel() for p in loaded.parameters()) == description["params"]


def test_safetensors_are_read_by_their_own_library(network, written):
    with safe_open(str(written[0] / "export.safetensors"), "pt") as file:
        assert set(file.keys()) == set(network.state_dict())
        assert json.loads(file.metadata()["description"])["weights"] == "supernet"


def test_a_file_that_computes_something_else_is_not_handed_out(data, tmp_path, monkeypatch):
    network = trained("nas-bench-macro", data, str(tmp_path / "training"))

    def broken(original, description):
        changed = copy.deepcopy(original)
        with torch.no_grad():
            changed.head.classifier.bias.add_(0.1)
        return to_onnx(changed, description)

    monkeypatch.setattr(export_module, "to_onnx", broken)
    monkeypatch.setattr(export_module, "call_in_child", lambda on_wait, function, *arguments: function(*arguments))
    with pytest.raises(ExportError, match=r"differs by 0\.1"):
        write_export(network, data, export_of(network, "onnx"), CheckpointStore(str(tmp_path), "job"))
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize("num_reports", [0, 1], ids=["while it is judged", "while it is written"])
def test_an_export_can_be_stopped(data, tmp_path, num_reports):
    space = preset("nas-bench-macro").proxy(resolution=RESOLUTION, width=0.25, num_classes=10)
    network = fresh_subnetwork(space, (0,) * 8, torch.Generator().manual_seed(0))
    reports = []

    def stop():
        if len(reports) == num_reports:
            raise KeyboardInterrupt
        reports.append(1)

    with pytest.raises(KeyboardInterrupt):
        write_export(network, data, export_of(network, "onnx"), CheckpointStore(str(tmp_path), "job"), stop)
    assert len(data.validation_labels_N) <= 64, "one batch, so that the second report is the child's"
    assert not (tmp_path / "job").exists()


def test_logits_that_are_no_numbers_are_not_handed_out(network, data, written):
    images = data.normalise(data.validation_images_NCHW[:5]).contiguous()
    with pytest.raises(ExportError, match="nan"):
        check_onnx((written[0] / "export.onnx").read_bytes(), network, images * float("nan"))


def test_a_network_that_torch_itself_computes_badly_is_no_fault_of_the_file(data, monkeypatch):
    """Here float32 is further from float64 than from onnxruntime; that is said, and has its bound."""
    space = preset("fairnas-se").proxy(resolution=RESOLUTION, width=0.25, num_classes=10)
    supernet = Supernet(space, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        supernet.head.classifier.weight.mul_(10.0)
    network = inherited_subnetwork(supernet, space.parse_code(CODES["fairnas-se"]), data)
    images = data.normalise(data.validation_images_NCHW).contiguous()
    with torch.no_grad():
        logits = network(images)
        exact = copy.deepcopy(network).double()(images.double())
    worst = (logits - exact).abs().amax(1).argsort(descending=True)[:5]
    allowed = 1e-4 * max(1.0, float(logits[worst].abs().max()))
    assert float((logits - exact)[worst].abs().max()) > allowed
    payload = to_onnx(network, {})
    check = check_onnx(payload, network, images[worst])
    assert check.largest_difference > allowed
    assert check.is_ill_conditioned
    monkeypatch.setattr(export_module, "_LOOSEST", 1.01e-4)
    with pytest.raises(ExportError, match="in onnxruntime a logit differs"):
        check_onnx(payload, network, images[worst])


def test_file_names_stay_in_their_directory(tmp_path):
    with pytest.raises(CheckpointError, match="no file name"):
        CheckpointStore(str(tmp_path), "job").save_bytes("../other", b"")


def test_retrained_weights_need_their_job():
    with pytest.raises(ValueError, match="need the job"):
        Export(code="0", format="onnx", weights="retrained")
    with pytest.raises(ValueError, match="supernet's need none"):
        Export(code="0", format="onnx", weights="supernet", job_id="job")
