"""Step 0 of the paper: single-path training of the supernet (section 3.3; values of section 4.1).

In every iteration one mini-batch trains one sub-network, whose choice in each cell is drawn with equal probability.
"""

import dataclasses

import torch

from app.domain.search_space import SearchSpace
from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.data import SearchData
from worker.nas.single_path import SinglePathLoop
from worker.nas.supernet import Supernet
from worker.nas.training_config import (
    OnTrainingProgress,
    SupernetTrainingConfig,
    TrainingDivergedError,
    TrainingProgress,
    TrainingReport,
)
from worker.nas.training_loop import SingleReplica, check_fit
from worker.nas.training_state import (
    SUPERNET,
    EpochResult,
    check_data_digest,
    digest_of,
    load_saved_training,
)

__all__ = [
    "SUPERNET",
    "EpochResult",
    "OnTrainingProgress",
    "SupernetTrainingConfig",
    "TrainingDivergedError",
    "TrainingProgress",
    "TrainingReport",
    "load_supernet",
    "train_supernet",
    "training_digest",
]


def train_supernet(
    space: SearchSpace,
    data: SearchData,
    config: SupernetTrainingConfig,
    *,
    seed: int,
    device: torch.device,
    checkpoints: CheckpointStore,
    on_progress: OnTrainingProgress | None = None,
    replica: SingleReplica | None = None,
) -> TrainingReport:
    """Train the supernet of a space, continuing where a checkpoint left off, and save it as ``"supernet"``.

    Args:
        space: The space of the networks that are trained (the proxy, where the search has one).
        data: Its images.
        config: How to train.
        seed: The search's seed.
        device: Where to train.
        checkpoints: The search's checkpoints; one is written after every epoch.
        on_progress: Called several times a second; may raise to stop, and nothing is half-written then.
        replica: This process's part in a training by several.

    Raises:
        ValueError: If space, data and configuration do not fit together.
        TrainingDivergedError: If the loss or the weights became NaN or infinite.
        CheckpointError: If the checkpoints belong to another training, or all are damaged.
    """
    replica = replica or SingleReplica()
    check_fit(space, data, config.batch_size, replica.num_replicas)
    digest = training_digest(space, data, config, seed)
    saved = load_saved_training(checkpoints, SUPERNET, digest, data.digest())
    if saved.results is not None:
        return TrainingReport(tuple(saved.results), len(saved.results), 0, 0.0, 0.0)
    loop = SinglePathLoop(space, data.to(device), config, seed=seed, digest=digest, replica=replica)
    if saved.checkpoint is not None:
        loop.state.restore(saved.checkpoint)
    report = loop.run(checkpoints, on_progress)
    return dataclasses.replace(report, warnings=saved.warnings)


def load_supernet(
    space: SearchSpace, checkpoints: CheckpointStore, device: torch.device, data: SearchData | None = None
) -> Supernet:
    """Return the trained supernet of a search, in evaluation mode.

    Args:
        space: The space of the networks that were trained.
        checkpoints: The search's checkpoints.
        device: Where it is to be.
        data: The images that it will be evaluated on, to check that it was trained on their training images.

    Raises:
        CheckpointError: If it is missing, damaged, of another space, or of other images.
    """
    checkpoint = checkpoints.load_tensors(SUPERNET)
    if data is not None:
        check_data_digest(checkpoint, data.digest())
    supernet = Supernet(space)
    try:
        supernet.load_state_dict(checkpoint.tensors)
    except RuntimeError as error:
        raise CheckpointError(f"the saved supernet is not one of the space {space.name!r}: {error}") from error
    return supernet.to(device).eval()


def training_digest(space: SearchSpace, data: SearchData, config: SupernetTrainingConfig, seed: int) -> str:
    """Return a digest of everything that decides the trained weights."""
    parts = (space.model_dump_json(), repr(config), seed, tuple(data.train_images_NCHW.shape), data.num_classes)
    return digest_of(parts, (data.train_labels_N, data.mean_C, data.std_C))
