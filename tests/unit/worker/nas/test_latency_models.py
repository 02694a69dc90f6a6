"""The ONNX models that are timed are those of the search space: same multi-adds, and they run."""

import json
import math
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from app.domain.latency import LatencyTable
from app.domain.multi_adds import cell_costs, count, fixed_cost
from app.domain.search_space import SearchSpace, preset
from worker.nas.latency_models import bundle, network, parts, sampled_networks

SMALL = preset("nas-bench-macro").proxy(resolution=16, width=0.25)


def multi_adds(model: onnx.ModelProto) -> int:
    """Count those of convolutions and fully connected layers from the graph's own shapes."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*inferred.graph.value_info, *inferred.graph.output)
    }
    weights = {w.name: list(w.dims) for w in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            _, channels, height, width = shapes[node.output[0]]
            total += channels * height * width * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "Gemm":
            total += math.prod(weights[node.input[1]])
    return total


@pytest.mark.parametrize("name", ["fairnas", "fairnas-se", "nas-bench-macro"])
def test_a_network_has_the_multi_adds_of_its_architecture(name: str) -> None:
    space = preset(name)
    architecture = sampled_networks(space)[0]
    assert multi_adds(network(space, architecture)) == count(space, architecture).multi_adds


@pytest.mark.parametrize("name", ["fairnas", "fairnas-se", "nas-bench-macro"])
def test_parts_have_the_multi_adds_of_their_choices(name: str) -> None:
    space = preset(name)
    models, cells = parts(space)
    counted = {part: multi_adds(model) for part, model in models.items()}
    assert counted["stem"] + counted["head"] == fixed_cost(space).multi_adds
    expected = [[cost.multi_adds for cost in cell] for cell in cell_costs(space)]
    assert [[counted[part] for part in names] for names in cells] == expected
    assert len(models) < sum(space.num_choices)  # cells of one shape share theirs


@pytest.mark.parametrize("space", [SMALL, preset("fairnas-se").proxy(resolution=32, width=0.25)], ids=["small", "se"])
def test_networks_run_in_onnxruntime(space: SearchSpace) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = network(space, sampled_networks(space)[1])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = np.random.default_rng(0).random((1, 3, space.input_resolution, space.input_resolution), dtype=np.float32)
    (logits,) = session.run(None, {"input": image})
    assert logits.shape == (1, space.num_classes)
    assert np.isfinite(logits).all()
    assert np.abs(logits).max() > 1e-3  # nothing has vanished on the way


def test_a_bundle_measures_a_target_with_nothing_of_this_project(tmp_path: Path) -> None:
    (tmp_path / "bundle.zip").write_bytes(bundle(SMALL))
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        archive.extract("latency_measurement.py", tmp_path)
    command = [sys.executable, "-I", "latency_measurement.py", "bundle.zip", "--output", "device.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr
    assert "off by" in done.stdout
    device = json.loads((tmp_path / "device.json").read_text())
    table = LatencyTable(device["base_ms"], tuple(map(tuple, device["cells_ms"])))
    table.check_fits(SearchSpace.model_validate(device["search_space"]))
    assert device["report"]["num_networks"] == 20
    assert device["report"]["runtime"].startswith("onnxruntime")
