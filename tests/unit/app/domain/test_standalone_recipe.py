"""Recipes of a stand-alone training: the paper's values, the small one, and what is refused."""

from typing import Any

import pytest

from app.domain.search_config import from_preset
from app.domain.search_space import preset
from app.domain.standalone_recipe import Retraining, StandaloneRecipe, TrainingImages, from_recipe, label_retraining


def test_the_papers_values() -> None:
    paper = from_recipe("paper", {})
    assert (paper.optimizer, paper.learning_rate, paper.batch_size, paper.weight_decay) == (
        "rmsprop",
        0.128,
        2048,
        1e-5,
    )
    assert (paper.schedule, paper.decay, paper.decay_epochs, paper.warmup_epochs) == ("exponential", 0.963, 3.0, 5.0)
    assert paper.dropout == 0.2


def test_the_small_recipe_and_fine_tuning() -> None:
    small, tuned = from_recipe("small", {}), from_recipe("small", {}, from_supernet=True)
    assert (small.optimizer, small.schedule, small.ema_decay) == ("sgd", "cosine", 0.0)
    assert tuned.epochs < small.epochs
    assert tuned.learning_rate < small.learning_rate
    assert tuned.warmup_epochs == 0.0


def test_what_is_given_holds() -> None:
    recipe = from_recipe("small", {"epochs": 7, "learning_rate": 0.3}, from_supernet=True)
    assert (recipe.epochs, recipe.learning_rate) == (7, 0.3)


@pytest.mark.parametrize("name", ["small", "paper"])
def test_the_warm_up_shrinks_with_a_short_schedule_unless_it_is_given(name: str) -> None:
    assert from_recipe(name, {"epochs": 2}).warmup_epochs == pytest.approx(0.4)
    assert from_recipe(name, {"epochs": 2, "warmup_epochs": 1}).warmup_epochs == 1.0
    with pytest.raises(ValueError, match="lower warmup_epochs"):
        from_recipe(name, {"epochs": 2, "warmup_epochs": 3})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("optimizer", "adam"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("schedule", "linear"),
        ("decay", 0.0),
        ("decay_epochs", 0.0),
        ("warmup_epochs", -1),
        ("dropout", 1.0),
        ("label_smoothing", 1.0),
        ("ema_decay", 1.0),
        ("augmentation", "flip"),
        ("max_gradient_norm", 0.0),
        ("nesterov", True),
    ],
)
def test_impossible_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        from_recipe("small", {field: value})


def test_an_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="there are paper, small"):
        from_recipe("large", {})


def test_which_network_is_trained() -> None:
    space = preset("fairnas")
    proxy = space.proxy(resolution=32, width=0.25, num_classes=10)
    retraining = Retraining(
        code="3" * 19, recipe_name="small", network="target", from_supernet=False, seed=0, recipe=StandaloneRecipe()
    )
    target = retraining.space_of(space, proxy)
    assert (target.input_resolution, target.num_classes, target.stem) == (224, 10, space.stem)
    assert retraining.model_copy(update={"network": "proxy"}).space_of(space, proxy) == proxy


@pytest.mark.parametrize(
    ("changes", "from_supernet", "epochs", "batch_size"),
    [
        ({}, False, 20, 32),
        ({"standalone_start": "supernet"}, True, 5, 32),
        ({"standalone_epochs": 7, "batch_size": 4096}, False, 7, 64),
        ({"standalone_epochs": 2, "batch_size": 8, "standalone_start": "supernet"}, True, 2, 8),
    ],
)
def test_how_a_search_trains_its_true_labels(
    changes: dict[str, Any], epochs: int, batch_size: int, *, from_supernet: bool
) -> None:
    config = from_preset("quick", {"seed": 5, "augmentation": "none", **changes})
    retraining = label_retraining(config, "0123")
    recipe = retraining.recipe
    assert (retraining.code, retraining.network, retraining.seed, retraining.recipe_name) == (
        "0123",
        "proxy",
        5,
        "small",
    )
    assert (retraining.from_supernet, recipe.epochs, recipe.batch_size) == (from_supernet, epochs, batch_size)
    assert recipe.augmentation == "none"


def test_images_of_its_own_decide_the_classes_and_the_way() -> None:
    space = preset("fairnas")
    config = from_preset("quick", {"num_classes": 5, "validation_fraction": 0.2})
    proxy = space.proxy(resolution=32, width=0.25, num_classes=5)
    on_all = TrainingImages(num_classes=37, num_images=None, validation_fraction=0.2)
    retraining = label_retraining(config, "3" * 19)
    other = retraining.model_copy(update={"images": on_all})
    assert retraining.config_of(config) == config
    changed = other.config_of(config)
    assert (changed.num_classes, changed.num_images, changed.validation_fraction) == (37, None, 0.2)
    assert changed.augmentation == config.augmentation
    assert other.space_of(space, proxy) == space.proxy(resolution=32, width=0.25, num_classes=37)
    assert other.model_copy(update={"network": "target"}).space_of(space, proxy).num_classes == 37
    assert other.way() != retraining.way()
    assert retraining.way() == retraining.model_copy(update={"code": "0" * 19, "seed": 4}).way()


def test_a_retraining_stored_before_there_were_images_is_on_the_searchs() -> None:
    retraining = label_retraining(from_preset("quick", {}), "3" * 19)
    stored = {name: value for name, value in retraining.model_dump(mode="json").items() if name != "images"}
    assert Retraining.model_validate(stored) == retraining
