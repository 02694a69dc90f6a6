"""What is found of a training while another worker, which was fenced off, is still at its checkpoints."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from worker.nas.checkpoint import CheckpointError, CheckpointStore
from worker.nas.training_state import SavedTraining, load_saved_training

METADATA = {"digest": "d", "results": '[{"loss": 1.0, "accuracy": 0.5}]'}


class RacedStore(CheckpointStore):
    """Checkpoints that another worker changes right after they are listed for the first time."""

    def __init__(self, directory: Path, change: Callable[[CheckpointStore], None]) -> None:
        super().__init__(str(directory), "search")
        self.change = change

    def names(self) -> tuple[str, ...]:
        names = super().names()
        change, self.change = self.change, lambda store: None
        change(self)
        return names


def save(store: CheckpointStore, *names: str) -> None:
    for name in names:
        store.save_tensors(name, {"weights": torch.ones(2)}, {**METADATA, "name": name})


def found(directory: Path, change: Callable[[CheckpointStore], None]) -> SavedTraining:
    save(CheckpointStore(str(directory), "search"), "training-000006", "training-000007")
    return load_saved_training(RacedStore(directory, change), "supernet", "d")


def test_the_other_worker_finishes(tmp_path: Path) -> None:
    def finish(store: CheckpointStore) -> None:
        save(store, "supernet")
        for name in ("training-000006", "training-000007"):
            store.delete(name)

    saved = found(tmp_path, finish)
    assert (saved.checkpoint, saved.warnings) == (None, ())
    assert saved.results is not None
    assert len(saved.results) == 1


def test_the_other_worker_goes_on(tmp_path: Path) -> None:
    def go_on(store: CheckpointStore) -> None:
        save(store, "training-000008", "training-000009")
        for name in ("training-000006", "training-000007"):
            store.delete(name)

    saved = found(tmp_path, go_on)
    assert saved.checkpoint is not None
    assert saved.checkpoint.metadata["name"] == "training-000009"
    assert (saved.results, saved.warnings) == (None, ())


def test_a_search_whose_checkpoints_are_gone_begins_again(tmp_path: Path) -> None:
    assert found(tmp_path, lambda store: store.delete_all()) == (None, None, ())


def test_damage_is_still_an_error(tmp_path: Path) -> None:
    def damage(store: CheckpointStore) -> None:
        for path in (tmp_path / "search").iterdir():
            path.write_bytes(b"x")

    with pytest.raises(CheckpointError, match="no checkpoint of this training can be read"):
        found(tmp_path, damage)
