"""What it takes to continue a training exactly: weights, momentum, the epochs done, and whose they are."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from worker.nas.checkpoint import Checkpoint, CheckpointError, CheckpointMissingError, CheckpointStore

SUPERNET = "supernet"
"""Name of the finished supernet's checkpoint."""

_DATA_DIGEST = "data_digest"
_EPOCH_PREFIX = "training-"
_NUM_KEPT = 2


@dataclass(frozen=True)
class EpochResult:
    """One epoch of training.

    Attributes:
        loss: Mean training loss over the epoch's iterations (of a supernet: each with its own sampled path).
        accuracy: Share of the training images classified rightly in passing, in [0, 1].
    """

    loss: float
    accuracy: float


@dataclass
class TrainingState:
    """A network in training.

    Attributes:
        network: The network itself (not its replica wrapper).
        optimizer: An optimiser that has every tensor of ``moments`` for every parameter.
        scaler: Gradient scaler of float16 training; does nothing otherwise.
        digest: Digest of everything that decides the result: space, data, configuration, seed.
        name: Under which the finished network is saved.
        data_digest: Digest of the images themselves; empty where nobody will ask for it.
        moments: The optimiser's tensors per parameter.
        average: Moving averages of the network's floating-point tensors, in their order; empty: none are kept.
        results: The epochs done so far.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    digest: str
    name: str = SUPERNET
    data_digest: str = ""
    moments: tuple[str, ...] = ("momentum_buffer",)
    average: list[Tensor] = field(default_factory=list)
    results: list[EpochResult] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, counters and momentum buffers, each as one vector in the order of the network's names.

        One vector, because a supernet has thousands of small tensors, and an epoch may be short.
        """
        parts = {name: tensors for name, tensors in self._parts().items() if tensors}
        return {name: torch.cat([tensor.detach().reshape(-1) for tensor in tensors]) for name, tensors in parts.items()}

    def _parts(self) -> dict[str, list[Tensor]]:
        state = list(self.network.state_dict().values())
        moments = {
            moment: [self.optimizer.state[parameter][moment] for parameter in self.network.parameters()]
            for moment in self.moments
        }
        return {
            "weights": [tensor for tensor in state if tensor.is_floating_point()],
            "counters": [tensor for tensor in state if not tensor.is_floating_point()],
            **moments,
            "average": self.average,
        }

    def finished_tensors(self) -> dict[str, Tensor]:
        """Return the weights that are handed out by their names: the averaged ones where averages are kept."""
        tensors: dict[str, Tensor] = dict(self.network.state_dict())
        floating = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
        return tensors | dict(zip(floating, self.average, strict=True)) if self.average else tensors

    def metadata(self) -> dict[str, str]:
        """Return what else a checkpoint needs, as texts."""
        results = json.dumps([asdict(result) for result in self.results])
        return {
            "digest": self.digest,
            _DATA_DIGEST: self.data_digest,
            "results": results,
            "scaler": json.dumps(self.scaler.state_dict()),
        }

    def save_epoch(self, checkpoints: CheckpointStore) -> None:
        """Save the state after its latest epoch, and drop all but the last two saved ones.

        Raises:
            CheckpointError: If the weights are not finite.
        """
        checkpoints.save_tensors(f"{_EPOCH_PREFIX}{len(self.results):06d}", self.tensors(), self.metadata())
        for name in epoch_checkpoints(checkpoints)[_NUM_KEPT:]:
            checkpoints.delete(name)

    def save_finished(self, checkpoints: CheckpointStore) -> None:
        """Save the finished network, then drop the epochs' checkpoints."""
        checkpoints.save_tensors(self.name, self.finished_tensors(), self.metadata())
        for name in epoch_checkpoints(checkpoints):
            checkpoints.delete(name)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over a saved epoch's state.

        Raises:
            CheckpointError: If it belongs to another training.
        """
        check_digest(checkpoint, self.digest)
        check_data_digest(checkpoint, self.data_digest)
        for name, tensors in self._parts().items():
            if not tensors:
                continue
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


class SavedTraining(NamedTuple):
    """What is saved of a training.

    Attributes:
        results: Of all epochs, where it is finished; else None.
        checkpoint: After the latest epoch, where it is not finished and one is done.
        warnings: Why later epochs' checkpoints were passed over.
    """

    results: list[EpochResult] | None
    checkpoint: Checkpoint | None = None
    warnings: tuple[str, ...] = ()


def load_saved_training(checkpoints: CheckpointStore, name: str, digest: str, data_digest: str = "") -> SavedTraining:
    """Return what is saved of the training with a digest, whose finished network bears a name.

    Args:
        checkpoints: Where.
        name: Of the finished network.
        digest: Of the training.
        data_digest: Of the images themselves; empty where nobody asks for it.

    Raises:
        CheckpointError: If it belongs to another training or other images, or there are epochs' checkpoints and none
            can be read.
    """
    finished = _finished(checkpoints, name, digest, data_digest)
    if finished is None:
        checkpoint, warnings = load_latest_epoch(checkpoints)
        if checkpoint is not None:
            return SavedTraining(None, checkpoint, warnings)
        # a fenced worker may have finished meanwhile; it deletes the epochs once the network is saved
        finished = _finished(checkpoints, name, digest, data_digest)
    return SavedTraining(finished)


def _finished(checkpoints: CheckpointStore, name: str, digest: str, data_digest: str) -> list[EpochResult] | None:
    if not checkpoints.exists(name):
        return None
    finished = checkpoints.load_tensors(name)
    check_digest(finished, digest)
    if data_digest:
        check_data_digest(finished, data_digest)
    return parse_results(finished)


def load_latest_epoch(checkpoints: CheckpointStore) -> tuple[Checkpoint | None, tuple[str, ...]]:
    """Return the latest readable epoch checkpoint, and why later ones were passed over; None if there is none.

    Raises:
        CheckpointError: If there are some and none can be read: a silent restart would hide the loss.
    """
    reasons: dict[str, str] = {}
    vanished: set[str] = set()
    # listed again where one has vanished since, but each is tried twice at most
    while unread := [name for name in epoch_checkpoints(checkpoints) if name not in reasons]:
        try:
            return checkpoints.load_tensors(unread[0]), tuple(reasons.values())
        except CheckpointError as error:
            if isinstance(error, CheckpointMissingError) and unread[0] not in vanished:
                vanished.add(unread[0])
            else:
                reasons[unread[0]] = str(error)
    if reasons:
        raise CheckpointError(
            f"no checkpoint of this training can be read; delete them to start again: {'; '.join(reasons.values())}"
        )
    return None, ()


def check_digest(checkpoint: Checkpoint, digest: str) -> None:
    """Check that a checkpoint belongs to a training.

    Raises:
        CheckpointError: If it belongs to one with another space, data, configuration or seed.
    """
    if checkpoint.metadata.get("digest") != digest:
        raise CheckpointError(
            "the saved network was trained with another search space, data set, configuration or seed; "
            "start a new search, or delete its checkpoints"
        )


def check_data_digest(checkpoint: Checkpoint, data_digest: str) -> None:
    """Check that a network was trained on these very images, if its checkpoint says on which.

    The split into training and validation images is drawn anew whenever they are loaded: of a data set that has changed
    meanwhile, images that have been trained on could be evaluated on.

    Raises:
        CheckpointError: If it was trained on others.
    """
    if checkpoint.metadata.get(_DATA_DIGEST, "") not in ("", data_digest):
        raise CheckpointError(
            "the images of the data set have changed since the supernet was trained on them, so that its validation "
            "images may be among those it was trained on; put the data set back as it was, or start a new search"
        )


def digest_of(parts: object, tensors: Iterable[Tensor]) -> str:
    """Return a digest of values, by their ``repr``, and of tensors' bytes."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
    for tensor in tensors:
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def parse_results(checkpoint: Checkpoint) -> list[EpochResult]:
    """Return the epochs' results that a checkpoint carries."""
    return [EpochResult(**result) for result in json.loads(checkpoint.metadata["results"])]
