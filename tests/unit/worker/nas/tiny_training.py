"""Trainings of a second or two, on the images of the ``data`` fixture: their space, and how tests stop them."""

import torch

from app.domain.search_space import Cell, Choice, Head, SearchSpace, Stem

CPU = torch.device("cpu")
CHOICES = (Choice(kernel_size=3, expansion=2), Choice(kernel_size=5, expansion=3), Choice(kind="identity"))

TINY_SPACE = SearchSpace(
    name="tiny",
    input_resolution=8,
    num_classes=10,
    activation="relu",
    stem=Stem(out_channels=8, stride=1),
    cells=(Cell(out_channels=8, choices=CHOICES), Cell(out_channels=16, stride=2, choices=CHOICES)),
    head=Head(out_channels=32, dropout=0.2),
)


def same(first, second):
    """Whether two sets of named weights are equal to the last bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StoppedError(Exception):
    pass


def stop_at(step, monkeypatch):
    """A callback that raises at a step, counted over the whole training; progress comes at every iteration then."""
    monkeypatch.setattr("worker.nas.training_loop._PROGRESS_INTERVAL_S", 0.0)
    calls = iter(range(10_000))

    def on_progress(progress):
        if next(calls) == step:
            raise StoppedError

    return on_progress
