"""The body of ``POST /search``: a data set, a search space, a preset, and any field of the configuration by name."""

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Discriminator, Field, Tag, create_model, field_validator, model_validator

from app.domain.search_config import PresetName, SearchConfig
from app.domain.search_space import PRESETS, SearchSpace
from app.schemas.strict_numbers import refuse_boolean
from app.schemas.webhook import WebhookRequest


def _space_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "name"
    return "space" if isinstance(value, dict | SearchSpace) else None


SpaceReference = Annotated[
    Annotated[str, Tag("name")] | Annotated[SearchSpace, Tag("space")],
    Discriminator(
        _space_kind,
        custom_error_type="search_space",
        custom_error_message=f"give the name of a search space ({', '.join(sorted(PRESETS))}) or an object that is one",
    ),
]


class _Request(WebhookRequest):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"dataset": "digits", "search_space": "fairnas", "preset": "quick", "seed": 0},
                {"dataset": "digits", "search_space": "nas-bench-macro", "epochs": 10, "num_sampled": 200},
            ]
        },
    )

    dataset: str = Field(min_length=1, max_length=200, description="Name of the data set, e.g. `digits`.")
    search_space: SpaceReference = Field(
        default="fairnas", description="A preset's name, or a search space of your own."
    )
    preset: PresetName = Field(default="quick", description="Whose values hold for every field that you do not give.")

    _numbers_are_numbers = field_validator("*", mode="before")(refuse_boolean)


class SearchRequest(
    create_model(  # type: ignore[misc]
        "SearchRequest",
        __base__=_Request,
        **{name: (field.rebuild_annotation(), field) for name, field in SearchConfig.model_fields.items()},
    )
):
    """A search to be run. Fields that you leave out take the preset's value (the documented default is the paper's)."""

    @model_validator(mode="after")
    def _no_null_bytes(self) -> Self:
        # PostgreSQL's text and JSON cannot hold them
        if "\0" in self.dataset or (isinstance(self.search_space, str) and "\0" in self.search_space):
            raise ValueError("names must not contain null characters")
        return self

    @property
    def overrides(self) -> dict[str, Any]:
        """The configuration's fields that the request gives."""
        return {name: getattr(self, name) for name in self.model_fields_set & SearchConfig.model_fields.keys()}

    def as_json(self) -> dict[str, Any]:
        """The request as it was made, without what it left out."""
        request: dict[str, Any] = self.model_dump(mode="json", exclude_unset=True)
        return request
