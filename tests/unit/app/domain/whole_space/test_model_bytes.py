"""A published model answers as the one that was prepared."""

import numpy as np
import pytest

from app.domain.monotone_link import MonotoneLink
from app.domain.saturation import Saturation
from app.domain.tensor_bytes import pack, unpack
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.archive import ArchiveConfig, prepared_model
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor
from app.domain.whole_space.model_bytes import from_bytes, to_bytes

CONFIG = ArchiveConfig(num_limits=20, num_enumerated=3, num_proposed=10, num_elites=2, num_predictions=500)


def prepared(gcn_weight):
    rng = np.random.default_rng(0)
    sizes = (3, 4, 5)
    score = AdditiveFunction(0.7, tuple(rng.normal(0, 0.01, n) for n in sizes))
    costs = {name: AdditiveFunction(1.0, tuple(rng.random(n) for n in sizes)) for name in ("params", "latency_ms/a b")}
    shapes = ((6, 12), (6,), (4, 6), (4,), (4,), ())
    gcn = HammingGCN(tuple(np.eye(n) for n in sizes), *(rng.normal(0, 0.3, shape) for shape in shapes))
    return prepared_model(BlendedPredictor(score, gcn if gcn_weight else None, gcn_weight), costs, 1, CONFIG)


@pytest.mark.parametrize("gcn_weight", [0.0, 0.1])
def test_bytes_and_back(gcn_weight):
    model = prepared(gcn_weight)
    again = from_bytes(to_bytes(model))
    assert to_bytes(again) == to_bytes(model)
    assert list(again.costs) == ["params", "latency_ms/a b"]
    assert again.predictor.gcn_weight == gcn_weight
    for limit in (2.0, 2.5, 3.5):
        first, second = (one.best({"params": limit}, 20) for one in (model, again))
        np.testing.assert_array_equal(first.choices_NL, second.choices_NL)
        np.testing.assert_array_equal(first.predicted_N, second.predicted_N)


def test_a_link_of_efforts_and_its_ceiling_are_kept():
    score = AdditiveFunction(0.0, (np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.5])))
    link = MonotoneLink(np.array([0.0, 2.5]), np.array([0.4, 2.0]), lowest=0.1, highest=np.inf)
    predictor = BlendedPredictor(score, link=link, saturation=Saturation(0.8, 0.01))
    read = from_bytes(to_bytes(prepared_model(predictor, {}, 1))).predictor
    everything = np.array([[0, 0], [2, 1]])
    np.testing.assert_array_equal(read.predict(everything), predictor.predict(everything))
    np.testing.assert_allclose(read.predict(everything), 0.8 - np.exp([-0.4, -2.0]))
    assert read.saturation == Saturation(0.8, 0.01)


def test_other_bytes_are_refused():
    data = to_bytes(prepared(0.1))
    tensors, metadata = unpack(data)
    with pytest.raises(ValueError, match="publish"):
        from_bytes(pack(tensors, {**metadata, "format": "older"}))
    for name in tensors:
        rest = {other: tensor for other, tensor in tensors.items() if other != name}
        with pytest.raises(ValueError, match=r"missing|no GCN"):
            from_bytes(pack(rest, metadata))
    with pytest.raises(ValueError, match="cut short"):
        from_bytes(data[:-1])
