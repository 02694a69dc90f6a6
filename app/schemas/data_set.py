"""Data sets as callers see them."""

import datetime as dt
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas import examples


class DataSetSummary(BaseModel):
    """A data set that a search may name."""

    name: str = Field(description="What a search gives as `dataset`.")
    origin: Literal["built-in", "data-root", "upload"] = Field(
        description="Part of the service, put under its data root by the operator, or uploaded by you."
    )
    num_bytes: int | None = Field(default=None, description="Of an upload: its size on disk, unpacked.")
    created_at: dt.datetime | None = Field(default=None, description="Of an upload.")


class DataSetList(BaseModel):
    """Data sets, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DATA_SETS]})

    items: list[DataSetSummary]


class ClassCount(BaseModel):
    """A class and its training images."""

    name: str
    num_images: int


class ImageSize(BaseModel):
    """How many of the examined images have one size, in pixels."""

    width: int
    height: int
    num_images: int


class BrokenImage(BaseModel):
    """An image that cannot be read."""

    file: str
    problem: str


class DataSetView(DataSetSummary):
    """What a data set holds. Figures below `num_examined` are of the images that were looked at."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.DATA_SET]})

    num_images: int
    num_classes: int
    classes: list[ClassCount] = Field(description="By label.")
    num_examined: int = Field(
        description="Images that were looked at, by their headers and ends at least: all, unless 30 s did not suffice."
    )
    num_decoded: int = Field(description="How many of these were decoded in full, evenly spread.")
    num_sizes: int = Field(description="Different sizes among them.")
    sizes: list[ImageSize] = Field(description="The most frequent ones, up to 100.")
    modes: dict[str, int] = Field(description="How many are of which kind: RGB, L (grey), RGBA, P (palette), ...")
    num_broken: int
    broken: list[BrokenImage] = Field(
        description="Up to 1,000 that cannot be read; mend or remove them before a search."
    )


class UploadView(DataSetView):
    """An upload as it was stored."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.UPLOAD]})

    num_ignored: int = Field(description="Files of the archive that were left out: hidden ones, and no images.")
    ignored: list[str] = Field(description="Some of them.")


class ClassImages(BaseModel):
    """A few images of a class."""

    class_name: str
    images: list[str] = Field(description="PNG files as `data:` URIs, cropped and resized as a search would.")


class DataSetSamples(BaseModel):
    """A few images of some classes."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SAMPLES]})

    items: list[ClassImages]
    num_classes: int = Field(description="All classes of the data set.")
