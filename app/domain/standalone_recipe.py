"""How one architecture is trained by itself, for its stand-alone accuracy z* (section 4.1).

``paper`` holds the paper's values, ``small`` a reduced schedule that ranks networks within minutes. The paper's
optimiser is the RMSProp of its time: squared gradients start at one, and epsilon lies inside the root.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.domain.search_config import Augmentation, Fraction, Rate, SearchConfig
from app.domain.search_space import SearchSpace

RecipeName = Literal["small", "paper"]

STANDALONE_VALIDATION_IMAGES = 10_000
"""What z* is measured on: D_val and, up to so many in all, images that ``num_images`` leaves out.

Thousands of sub-networks are compared on few images; a network that took minutes to train is not to be misjudged by
them (docs/reproduction.md).
"""


class StandaloneRecipe(BaseModel):
    """All dials of one network's training. The defaults are the paper's, where it says something."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=350, ge=1, le=100_000, description="The paper does not say; 350 is customary.")
    batch_size: int = Field(
        default=2048,
        ge=2,
        le=65_536,
        description="Images per iteration. Where the worker's memory does not hold them at once, they pass in parts "
        "whose gradients add up to the batch's; BN takes its statistics from a part (`images_at_once` of the result).",
    )
    optimizer: Literal["sgd", "rmsprop"] = "rmsprop"
    learning_rate: Rate = Field(default=0.128, description="After the warm-up.")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: Fraction = 1e-5
    schedule: Literal["cosine", "exponential"] = Field(
        default="exponential", description="To 0 along a cosine, or by a factor every few epochs."
    )
    decay: float = Field(default=0.963, gt=0, le=1, description="Factor of the exponential schedule.")
    decay_epochs: float = Field(default=3.0, gt=0, allow_inf_nan=False, description="How often it applies, in epochs.")
    warmup_epochs: float = Field(
        default=5.0, ge=0, allow_inf_nan=False, description="Epochs over which the rate rises from 0."
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Before the classifier.")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ema_decay: float = Field(
        default=0.9999,
        ge=0,
        lt=1,
        description="Of the moving average of the weights, which is then evaluated and handed out; 0: none.",
    )
    augmentation: Augmentation = "crop-flip"
    max_gradient_norm: Rate | None = Field(default=None, description="Longer gradients are scaled down.")

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs ({self.warmup_epochs:g}) must not exceed epochs ({self.epochs}): "
                "the full learning rate would never be reached; lower warmup_epochs"
            )
        return self


class TrainingImages(BaseModel):
    """Which images a network is trained and judged on, where they are others than the search's.

    Attributes:
        num_classes: A random subset of so many classes; None: all.
        num_images: At most so many images; None: all.
        validation_fraction: Share of the images in D_val.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_classes: int | None
    num_images: int | None
    validation_fraction: float

    @classmethod
    def of(cls, config: SearchConfig) -> Self:
        """Return those of a search."""
        return cls.model_validate({name: getattr(config, name) for name in cls.model_fields})


class Retraining(BaseModel):
    """One architecture of a search, and how it is to be trained by itself.

    ``proxy`` is the network that the search trained in the target's place, ``target`` the one that limits are about.
    ``images`` is None where they are the search's: accuracies on others, with a D_val of their own, compare with none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    recipe_name: RecipeName
    network: Literal["proxy", "target"]
    from_supernet: bool
    seed: int = Field(ge=0, lt=2**31)
    recipe: StandaloneRecipe
    images: TrainingImages | None = None

    def config_of(self, config: SearchConfig) -> SearchConfig:
        """Return the search's configuration with the images that are trained on."""
        return config if self.images is None else config.model_copy(update=self.images.model_dump())

    def space_of(self, space: SearchSpace, proxy: SearchSpace) -> SearchSpace:
        """Return the space of the network that is trained, given the search's target and proxy space."""
        given = None if self.images is None else self.images.num_classes
        num_classes = proxy.num_classes if given is None else given
        return (proxy if self.network == "proxy" else space).proxy(num_classes=num_classes)

    def way(self) -> "Retraining":
        """Return how it is trained, whatever the architecture and the seed: equal where accuracies compare."""
        return self.model_copy(update={"code": "", "seed": 0})


_RECIPES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {
        "epochs": 20,
        "batch_size": 64,
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 4e-5,
        "schedule": "cosine",
        "warmup_epochs": 2.0,
        "label_smoothing": 0.0,
        "ema_decay": 0.0,
        "max_gradient_norm": 1.0,
    },
}
_FINE_TUNED: dict[str, Any] = {"epochs": 5, "learning_rate": 0.02, "warmup_epochs": 0.0}
"""What ``small`` changes for weights that need not be learned from nothing."""


def from_recipe(name: str, overrides: dict[str, Any], *, from_supernet: bool = False) -> StandaloneRecipe:
    """Return a recipe with some values changed.

    Where epochs are fewer than the recipe's warm-up, and the warm-up is not given, it shrinks with them.

    Raises:
        ValueError: If there is no such recipe, or a value is invalid (pydantic's ``ValidationError``).
    """
    if name not in _RECIPES:
        raise ValueError(f"there is no recipe {name!r}; there are {', '.join(_RECIPES)}")
    values = {**_RECIPES[name], **(_FINE_TUNED if from_supernet and name == "small" else {}), **overrides}
    recipe = StandaloneRecipe.model_fields
    epochs, customary = values.get("epochs"), _RECIPES[name].get("epochs", recipe["epochs"].default)
    if isinstance(epochs, int) and 0 < epochs < customary and "warmup_epochs" not in overrides:
        warmup = values.get("warmup_epochs", recipe["warmup_epochs"].default)
        values["warmup_epochs"] = min(warmup, epochs / 5)
    return StandaloneRecipe.model_validate(values)


def label_recipe(config: SearchConfig) -> StandaloneRecipe:
    """Return how a search trains architectures for true labels: ``small``, on the search's own images.

    A batch is never larger than the supernet's, for which there are images enough.
    """
    epochs = {} if config.standalone_epochs is None else {"epochs": config.standalone_epochs}
    batch_size = min(_RECIPES["small"]["batch_size"], config.batch_size)
    overrides = {"augmentation": config.augmentation, "batch_size": batch_size, **epochs}
    return from_recipe("small", overrides, from_supernet=config.standalone_start == "supernet")


def label_retraining(config: SearchConfig, code: str) -> Retraining:
    """Return what a search trains for the true label of an architecture."""
    return Retraining(
        code=code,
        recipe_name="small",
        network="proxy",
        from_supernet=config.standalone_start == "supernet",
        seed=config.seed,
        recipe=label_recipe(config),
    )
