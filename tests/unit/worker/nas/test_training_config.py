"""How a supernet is trained: the paper's values, what cannot be, and what is told of a training."""

import pytest

from worker.nas.training_config import SupernetTrainingConfig, TrainingReport, training_curve
from worker.nas.training_state import EpochResult


@pytest.mark.parametrize(("num_epochs", "num_points"), [(0, 0), (1, 1), (100, 100), (101, 51), (1000, 100)])
def test_a_long_curve_is_thinned_out_and_keeps_its_end(num_epochs, num_points):
    curve = training_curve([EpochResult(float(epoch), 0.5) for epoch in range(num_epochs)])
    assert len(curve) == num_points
    assert all(loss == epoch - 1 for epoch, loss, _ in curve)
    assert [epoch for epoch, *_ in curve[-1:]] == [num_epochs][: num_points and 1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1e-4),
        ("weight_decay", float("nan")),
        ("augmentation", "flip"),
        ("label_smoothing", 1.0),
        ("warmup_fraction", 1.0),
        ("max_gradient_norm", 0.0),
        ("max_gradient_norm", float("nan")),
        ("initialisation", "random"),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        SupernetTrainingConfig(**{field: value})


def test_the_defaults_are_the_papers() -> None:
    """Section 4.1: 150 epochs of SGD with 1024 images, momentum 0.9 and a cosine from 0.18; one random path."""
    config = SupernetTrainingConfig()
    assert (config.epochs, config.batch_size, config.learning_rate, config.momentum) == (150, 1024, 0.18, 0.9)
    assert (config.weight_decay, config.fairness, config.warmup_fraction) == (4e-5, "uniform", 0.0)
    assert config.max_gradient_norm is None


def test_a_training_that_was_done_already_has_no_speed() -> None:
    assert TrainingReport((), first_epoch=3, num_images=0, duration_s=0.0, input_share=0.0).images_per_s == 0.0
    assert TrainingReport((), first_epoch=0, num_images=500, duration_s=2.0, input_share=0.0).images_per_s == 250.0
