"""The body of a retraining, and what the service says about architectures trained by themselves."""

import datetime as dt
import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from app.domain.standalone_recipe import RecipeName, StandaloneRecipe, TrainingImages
from app.schemas.strict_numbers import refuse_boolean
from app.schemas.webhook import WebhookRequest


class _Request(WebhookRequest):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"recipe": "small"},
                {"recipe": "paper", "network": "target", "epochs": 100},
                {"recipe": "small", "num_classes": "all", "num_images": "all"},
            ]
        },
    )

    recipe: RecipeName = Field(default="small", description="Whose values hold for every field that you do not give.")
    network: Literal["proxy", "target"] = Field(
        default="proxy", description="The network that the search trained, or the one that limits are about."
    )
    from_supernet: bool = Field(
        default=False, description="Begin with the supernet's weights (fine-tuning) instead of fresh ones."
    )
    seed: int | None = Field(default=None, ge=0, lt=2**31, description="Null: the search's seed.")
    num_classes: Annotated[int, Field(ge=2, le=100_000)] | Literal["all"] | None = Field(
        default=None,
        description="Random class subset, or `all` classes of the data set; null: the search's classes.",
    )
    num_images: Annotated[int, Field(ge=20, lt=2**31)] | Literal["all"] | None = Field(
        default=None,
        description="Stratified cap on the images used, or `all` of them; null: the search's.",
    )
    validation_fraction: float | None = Field(
        default=None, ge=0.01, le=0.5, description="Share of the images in D_val; null: the search's."
    )

    _numbers_are_numbers = field_validator("*", mode="before")(refuse_boolean)


class RetrainingRequest(
    create_model(  # type: ignore[misc]
        "RetrainingRequest",
        __base__=_Request,
        **{name: (field.rebuild_annotation(), field) for name, field in StandaloneRecipe.model_fields.items()},
    )
):
    """How an architecture is to be trained. Fields that you leave out take the recipe's value.

    Documented are the paper's values. The augmentation is by default the search's.
    """

    @property
    def overrides(self) -> dict[str, Any]:
        """The recipe's fields that the request gives."""
        return {name: getattr(self, name) for name in self.model_fields_set & StandaloneRecipe.model_fields.keys()}

    def as_json(self) -> dict[str, Any]:
        """The request as it was made, without what it left out."""
        request: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return request


class StandaloneView(BaseModel):
    """An architecture's accuracy after training by itself."""

    job_id: uuid.UUID = Field(
        description="The retraining, whose progress, events and result are at `/search/{job_id}`; or the search "
        "itself, where it trained the architecture for a true label."
    )
    accuracy: float = Field(
        description="z*, a fraction in [0, 1]: on D_val and on images that `num_images` leaves out, up to 10,000 in "
        "all and no more than the search takes itself."
    )
    recipe: RecipeName
    network: Literal["proxy", "target"]
    from_supernet: bool
    seed: int
    epochs: int
    images: TrainingImages | None = Field(
        description="On which images, where they are not the search's: such an accuracy does not compare with "
        "predictions. Null: on the search's."
    )
    finished_at: dt.datetime


class RoundAgreement(BaseModel):
    """How far a round's table agrees with networks that were trained by themselves, all in one way.

    Predictions that such accuracies have corrected are judged by what they would be without the judged one.
    """

    num_architectures: int
    tau: float | None = Field(description="Kendall's tau of the prediction against z*; null where undefined.")
    tau_interval: tuple[float, float] | None = Field(description="Where it lies with 90 %, by the bootstrap.")


class StandaloneGroup(BaseModel):
    """Networks that were trained by themselves in one and the same way, and how far a search agrees with them."""

    num_architectures: int
    recipe: RecipeName
    network: Literal["proxy", "target"]
    from_supernet: bool
    epochs: int
    images: TrainingImages | None = Field(description="On which images, where they are not the search's.")
    num_predicted: int = Field(description="Of them, those that are in a published table.")
    tau_predicted: float | None = Field(
        description="Kendall's tau of the latest table's prediction against z*; null where undefined."
    )
    tau_predicted_interval: tuple[float, float] | None = Field(
        description="Where it lies with 90 %, by the bootstrap over the architectures; null where undefined."
    )
    num_sampled: int = Field(description="Of them, those that were evaluated with the supernet's weights.")
    tau_sampled: float | None = Field(description="Kendall's tau of z against z*; null where undefined.")


class StandaloneAgreement(StandaloneGroup):
    """How far a search agrees with the truth, as far as that is known: networks that were trained by themselves.

    Only networks trained in one and the same way are compared; of several ways, it is that of most architectures.
    """

    others: list[StandaloneGroup] = Field(
        description="The other ways, that of most architectures first; taus are null below three architectures."
    )
    num_not_counted: int = Field(description="Accuracies of the other ways: they are in none of the figures above.")
