"""What it takes to continue a supernet's training exactly: weights, momentum, the epochs done, and whose they are."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from worker.nas.checkpoint import Checkpoint, CheckpointError, CheckpointStore

SUPERNET = "supernet"
"""Name of the finished supernet's checkpoint."""

_EPOCH_PREFIX = "training-"
_NUM_KEPT = 2
_WEIGHTS = "weights."
_MOMENTUM = "momentum."


@dataclass(frozen=True)
class EpochResult:
    """One epoch of supernet training.

    Attributes:
        loss: Mean training loss over the epoch's iterations, each with its own sampled path.
        accuracy: Share of the training images classified rightly in passing, in [0, 1].
    """

    loss: float
    accuracy: float


@dataclass
class TrainingState:
    """A supernet in training.

    Attributes:
        network: The supernet (not its replica wrapper).
        optimizer: SGD with a momentum buffer for every parameter.
        scaler: Gradient scaler of float16 training; does nothing otherwise.
        digest: Digest of everything that decides the result: space, data, configuration, seed.
        results: The epochs done so far.
    """

    network: nn.Module
    optimizer: torch.optim.SGD
    scaler: torch.amp.GradScaler
    digest: str
    results: list[EpochResult] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and momentum buffers by name."""
        stored = {_WEIGHTS + name: tensor for name, tensor in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            stored[_MOMENTUM + name] = self.optimizer.state[parameter]["momentum_buffer"]
        return stored

    def metadata(self) -> dict[str, str]:
        """Return what else a checkpoint needs, as texts."""
        results = json.dumps([asdict(result) for result in self.results])
        return {"digest": self.digest, "results": results, "scaler": json.dumps(self.scaler.state_dict())}

    def save_epoch(self, checkpoints: CheckpointStore) -> None:
        """Save the state after its latest epoch, and drop all but the last two saved ones.

        Raises:
            CheckpointError: If the weights are not finite.
        """
        checkpoints.save_tensors(f"{_EPOCH_PREFIX}{len(self.results):06d}", self.tensors(), self.metadata())
        for name in epoch_checkpoints(checkpoints)[_NUM_KEPT:]:
            checkpoints.delete(name)

    def save_finished(self, checkpoints: CheckpointStore) -> None:
        """Save the finished supernet, then drop the epochs' checkpoints."""
        checkpoints.save_tensors(SUPERNET, self.network.state_dict(), self.metadata())
        for name in epoch_checkpoints(checkpoints):
            checkpoints.delete(name)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a saved epoch's state.

        Raises:
            CheckpointError: If it belongs to another training.
        """
        check_digest(checkpoint, self.digest)
        self.network.load_state_dict(_with_prefix(checkpoint.tensors, _WEIGHTS))
        momentum = _with_prefix(checkpoint.tensors, _MOMENTUM)
        for name, parameter in self.network.named_parameters():
            self.optimizer.state[parameter]["momentum_buffer"].copy_(momentum[name])
        scaler = json.loads(checkpoint.metadata["scaler"])
        if scaler:
            self.scaler.load_state_dict(scaler)
        self.results = parse_results(checkpoint)


def epoch_checkpoints(checkpoints: CheckpointStore) -> list[str]:
    """Return the names of the epochs' checkpoints, latest first."""
    return sorted((name for name in checkpoints.names() if name.startswith(_EPOCH_PREFIX)), reverse=True)


def load_latest_epoch(checkpoints: CheckpointStore) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """Return the latest readable epoch checkpoint, and why later ones were passed over; None if none was ever saved.

    Raises:
        CheckpointError: If there are some and none can be read: a silent restart would hide the loss.
    """
    reasons: list[str] = []
    for name in epoch_checkpoints(checkpoints):
        try:
            return checkpoints.load_tensors(name), tuple(reasons)
        except CheckpointError as error:
            reasons.append(str(error))
    if reasons:
        raise CheckpointError(
            f"no checkpoint of this training can be read; delete them to start again: {'; '.join(reasons)}"
        )
    return None, ()


def check_digest(checkpoint: Checkpoint, digest: str) -> None:
    """Check that a checkpoint belongs to a training.

    Raises:
        CheckpointError: If it belongs to one with another space, data, configuration or seed.
    """
    if checkpoint.metadata.get("digest") != digest:
        raise CheckpointError(
            "the saved supernet was trained with another search space, data set, configuration or seed; "
            "start a new search, or delete its checkpoints"
        )


def parse_results(checkpoint: Checkpoint) -> list[EpochResult]:
    """Return the epochs' results that a checkpoint carries."""
    return [EpochResult(**result) for result in json.loads(checkpoint.metadata["results"])]


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
