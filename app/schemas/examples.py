"""Examples of answers for the OpenAPI document: plain JSON, so that the schemas can name them without a cycle.

A test checks every one of them against the schema that it illustrates.
"""

from typing import Any

from app.domain.search_config import from_preset
from app.domain.search_space import preset

_ID = "8c4f6a0e-2b1d-4a57-9a55-0f7d1c3b2e11"
_JOB_ID = "d1f0a9b2-6c3e-4f6d-8d0a-5b7c9e2f4a33"
_SPACE = preset("nas-bench-macro")
_CODE = "12212021"
_READABLE = _SPACE.readable(_SPACE.parse_code(_CODE))
_BEST: dict[str, Any] = {
    "code": _CODE,
    "readable": _READABLE,
    "accuracy": 0.8675,
    "multi_adds": 95_640_320,
    "params": 2_081_482,
}
_RANGES: dict[str, Any] = {
    "multi_adds": {"min": 17_104_896, "max": 140_599_296},
    "params": {"min": 346_250, "max": 3_253_130},
}

_INTERVAL: dict[str, Any] = {"level": 0.9, "lower": 0.8455, "upper": 0.8832}
_QUALITY: dict[str, Any] = {
    "predictor": "auto",
    "held_out_tau": 0.824,
    "num_held_out": 30,
    "additive_tau": 0.771,
    "label_noise": 0.0102,
    "standalone_tau": None,
    "standalone_tau_interval": None,
}

SUMMARY: dict[str, Any] = {
    "id": _ID,
    "kind": "search",
    "origin_id": None,
    "state": "running",
    "phase": "fitting_gcn",
    "progress": 0.64,
    "eta_s": 95.0,
    "error": None,
    "dataset": "cifar10",
    "search_space": "nas-bench-macro",
    "preset": "quick",
    "num_rounds": 1,
    "created_at": "2026-01-05T10:00:00Z",
    "started_at": "2026-01-05T10:00:01Z",
    "finished_at": None,
    "final": None,
}

ROUND: dict[str, Any] = {
    "round_index": 0,
    "segment": list(range(8)),
    "state": "fitting_gcn",
    "progress": 0.75,
    "stages": {"evaluating_subnetworks": 1.0, "fitting_gcn": 0.5, "retraining": 0.0, "reevaluating": 0.0},
    "subspace_size": 6561,
    "num_sampled": 300,
    "num_reevaluated": 0,
    "held_out_tau": None,
    "fit_report": None,
    "standalone": None,
    "quality": None,
    "best": None,
    "preserved": [],
    "table_digest": None,
    "num_rows": None,
    "started_at": "2026-01-05T10:01:10Z",
    "finished_at": None,
}

WEBHOOK: dict[str, Any] = {
    "url": "https://example.org/hook",
    "state": "waiting",
    "ended_as": None,
    "attempts": 0,
    "last_status": None,
    "last_error": None,
    "next_attempt_at": None,
    "delivered_at": None,
}

SEARCH: dict[str, Any] = {
    **SUMMARY,
    "config": from_preset("quick", {"num_classes": 10, "segments": [list(range(8))]}).model_dump(mode="json"),
    "networks": {
        "target": {"resolution": 32, "width": 1.0, "num_classes": 10, **_RANGES},
        "proxy": {
            "resolution": 32,
            "width": 0.25,
            "num_classes": 10,
            "multi_adds": {"min": 1_180_000, "max": 9_400_000},
            "params": {"min": 38_000, "max": 240_000},
        },
    },
    "training_progress": 1.0,
    "retraining": None,
    "standalone": None,
    "steps": [
        {
            "kind": "fit_gcn",
            "round_index": 0,
            "shard_index": 0,
            "progress": 0.5,
            "detail": {"epoch": 150, "epochs": 300, "loss": 0.00021},
        }
    ],
    "rounds": [ROUND],
    "webhook": WEBHOOK,
}

PAIR: dict[str, Any] = {
    "round_index": 0,
    "source": "sampled",
    "code": _CODE,
    "readable": _READABLE,
    "accuracy": 0.8625,
    "held_out": False,
}

ARCHITECTURE: dict[str, Any] = {
    "code": _CODE,
    "readable": _READABLE,
    "multi_adds": _BEST["multi_adds"],
    "params": _BEST["params"],
    "proxy_multi_adds": 6_412_000,
    "proxy_params": 158_000,
    "is_reevaluated": True,
    "pairs": [PAIR],
    "predictions": [{"round_index": 0, "subspace_index": 4111, "predicted_accuracy": 0.8641, "interval": _INTERVAL}],
    "space_prediction": {"predicted_accuracy": 0.8638, "interval": _INTERVAL, "is_reevaluated": True},
    "standalone": [
        {
            "job_id": _JOB_ID,
            "accuracy": 0.9125,
            "recipe": "small",
            "network": "proxy",
            "from_supernet": False,
            "seed": 1,
            "epochs": 20,
            "images": None,
            "finished_at": "2026-01-05T11:30:00Z",
        }
    ],
}

_ITEM: dict[str, Any] = {
    "rank": 1,
    "code": _CODE,
    "readable": _READABLE,
    "predicted_accuracy": 0.8641,
    "interval": _INTERVAL,
    "sampled_accuracy": 0.8625,
    "reevaluated_accuracy": 0.8675,
    "is_reevaluated": True,
    "multi_adds": _BEST["multi_adds"],
    "params": _BEST["params"],
    "latency_ms": {"pixel": 3.94},
}

_TABLE: dict[str, Any] = {
    "search_id": _ID,
    "round_index": 0,
    "num_rows": 6561,
    "table_digest": "5be1c4a09d3f7e26" * 4,
    "feasible": {**_RANGES, "latency_ms": {"pixel": {"min": 0.81, "max": 5.85}}},
}

LOOKUP: dict[str, Any] = {
    **_TABLE,
    "scope": "table",
    "is_exact": True,
    "quality": {**_QUALITY, "band_tau": 0.79, "num_in_band": 24},
    "items": [_ITEM],
    "message": None,
}

PARETO: dict[str, Any] = {
    **_TABLE,
    "feasible": {**_RANGES, "latency_ms": {}},
    "quality": {**_QUALITY, "band_tau": _QUALITY["held_out_tau"], "num_in_band": _QUALITY["num_held_out"]},
    "items": [{**_ITEM, "latency_ms": {}}],
}

DEVICE: dict[str, Any] = {
    "name": "pixel",
    "search_space": "nas-bench-macro",
    "is_shared": True,
    "origin": "uploaded",
    "created_at": "2026-01-05T09:00:00Z",
    "base_ms": 0.41,
    "cells_ms": [[0.05, 0.31, 0.68]] * 8,
    "min_ms": 0.81,
    "max_ms": 5.85,
    "report": None,
}

_DATA_SET: dict[str, Any] = {
    "name": "flowers",
    "origin": "upload",
    "num_bytes": 48_230_114,
    "created_at": "2026-01-04T16:20:00Z",
}

DATA_SETS: dict[str, Any] = {
    "items": [{"name": "digits", "origin": "built-in", "num_bytes": None, "created_at": None}, _DATA_SET]
}

DATA_SET: dict[str, Any] = {
    **_DATA_SET,
    "num_images": 2400,
    "num_classes": 2,
    "classes": [{"name": "daisy", "num_images": 1300}, {"name": "tulip", "num_images": 1100}],
    "num_examined": 2400,
    "num_decoded": 512,
    "num_sizes": 2,
    "sizes": [{"width": 500, "height": 333, "num_images": 2100}, {"width": 320, "height": 240, "num_images": 299}],
    "modes": {"RGB": 2398, "L": 1},
    "num_broken": 1,
    "broken": [
        {
            "file": "tulip/0041.jpg",
            "problem": "the file tulip/0041.jpg is a corrupt or truncated image; replace or remove it",
        }
    ],
}

UPLOAD: dict[str, Any] = {**DATA_SET, "num_ignored": 1, "ignored": ["README.txt"]}

SAMPLES: dict[str, Any] = {
    "items": [{"class_name": "daisy", "images": ["data:image/png;base64,iVBORw0KGgo="]}],
    "num_classes": 2,
}


def page_of(item: dict[str, Any]) -> dict[str, Any]:
    """Return a page with one item, the last one of its list."""
    return {
        "items": [item],
        "total": None,
        "current_page": "Pg%3D%3D",
        "current_page_backwards": "PA%3D%3D",
        "previous_page": None,
        "next_page": None,
    }
