"""What it takes to continue a supernet's training exactly: weights, momentum, the epochs done, and whose they are."""

import json
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from worker.nas.checkpoint import Checkpoint, CheckpointError, CheckpointStore

SUPERNET = "supernet"
"""Name of the finished supernet's checkpoint."""

_EPOCH_PREFIX = "training-"
_NUM_KEPT = 2


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
        """Return weights, counters and momentum buffers, each as one vector in the order of the network's names.

        One vector, because a supernet has thousands of small tensors, and an epoch may be short.
        """
        parts = self._parts()
        return {name: torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) for name, tensors in parts.items()}

    def _parts(self) -> dict[str, list[Tensor]]:
        state = list(self.network.state_dict().values())
        momentum = [self.optimizer.state[parameter]["momentum_buffer"] for parameter in self.network.parameters()]
        return {
            "weights": [tensor for tensor in state if tensor.is_floating_point()],
            "counters": [tensor for tensor in state if not tensor.is_floating_point()],
            "momentum": momentum,
        }

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
        for name, tensors in self._parts().items():
            saved = torch.split(checkpoint.tensors[name], [tensor.numel() for tensor in tensors])
            for tensor, values in zip(tensors, saved, strict=True):
                tensor.copy_(values.view(tensor.shape))
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
