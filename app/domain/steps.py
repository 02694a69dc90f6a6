"""The kinds of steps that a search and its jobs consist of, and where pairs come from."""

from typing import Literal

StepKind = Literal[
    "train_supernet",
    "evaluate_shard",
    "fit_gcn",
    "reevaluate_shard",
    "fit_space",
    "advance",
    "train_standalone",
    "correct_predictions",
    "export",
    "measure_device",
]
PairSource = Literal["sampled", "reevaluated"]
"""``sampled`` in step 1, or ``reevaluated`` in step 3."""
