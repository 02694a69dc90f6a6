"""A whole-space model as bytes and back: what the worker publishes and the API reads, nothing in it executable."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.monotone_link import MonotoneLink
from app.domain.saturation import NOT_SATURATED, Saturation
from app.domain.tensor_bytes import Tensors, pack, unpack
from app.domain.whole_space.additive_function import AdditiveFunction
from app.domain.whole_space.doubt import Doubt
from app.domain.whole_space.hamming_gcn import HammingGCN
from app.domain.whole_space.model import BlendedPredictor, Candidates, WholeSpaceModel

_FORMAT = "nasatlas whole-space model 3"
_READABLE = ("nasatlas whole-space model 1", "nasatlas whole-space model 2", _FORMAT)
"""The first had neither link nor doubt, the second no saturation."""


def to_bytes(model: WholeSpaceModel) -> bytes:
    """Return a model as safetensors bytes; a GCN's own are one array in them."""
    predictor = model.predictor
    tensors: Tensors = {
        "factor_sizes": np.array(predictor.factor_sizes, dtype=np.int64),
        "additive": predictor.additive.entries,
        "proposal": model.proposal.entries,
        "archive.choices": model.archive.choices_NL,
        "archive.predicted": model.archive.predicted_N,
    }
    tensors |= {f"cost.{number}": cost.entries for number, cost in enumerate(model.costs.values())}
    if predictor.gcn is not None:
        tensors["gcn"] = np.frombuffer(predictor.gcn.to_bytes(), dtype=np.uint8)
    if (link := predictor.link) is not None:
        tensors |= {
            "link.scores": link.scores_K,
            "link.values": link.values_K,
            "link.bounds": np.array([link.lowest, link.highest]),
        }
    if (ceiling := predictor.saturation.ceiling) is not None:
        tensors["ceiling"] = np.array([ceiling, predictor.saturation.nearest])
    if model.doubt is not None:
        tensors |= model.doubt.tensors()
    metadata = {"format": _FORMAT, "gcn_weight": repr(predictor.gcn_weight), "costs": json.dumps(list(model.costs))}
    return pack(tensors, metadata)


def from_bytes(data: bytes) -> WholeSpaceModel:
    """Return the model of :func:`to_bytes`.

    Raises:
        ValueError: If the bytes hold no such model, or one of another version.
    """
    tensors, metadata = unpack(data)
    if metadata.get("format") not in _READABLE:
        raise ValueError(f"these bytes are not a {_FORMAT!r}; publish the search's model again")
    try:
        return _model(tensors, float(metadata["gcn_weight"]), json.loads(metadata["costs"]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"a part of this whole-space model is missing: {error}") from error


def _model(tensors: Tensors, gcn_weight: float, names: list[str]) -> WholeSpaceModel:
    sizes = tuple(tensors["factor_sizes"].tolist())

    def additive(entries: NDArray[Any]) -> AdditiveFunction:
        return AdditiveFunction.from_entries(entries, sizes)

    gcn = HammingGCN.from_bytes(tensors["gcn"].tobytes()) if "gcn" in tensors else None
    link = None
    if "link.bounds" in tensors:
        link = MonotoneLink(tensors["link.scores"], tensors["link.values"], *tensors["link.bounds"].tolist())
    saturation = Saturation(*tensors["ceiling"].tolist()) if "ceiling" in tensors else NOT_SATURATED
    return WholeSpaceModel(
        BlendedPredictor(additive(tensors["additive"]), gcn, gcn_weight, link, saturation),
        {name: additive(tensors[f"cost.{number}"]) for number, name in enumerate(names)},
        additive(tensors["proposal"]),
        Candidates(tensors["archive.choices"], tensors["archive.predicted"]),
        Doubt.from_tensors(tensors, sizes),
    )
