"""The data sets that a caller may name: built in, under the operator's data root, and the caller's uploads."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.orm import Session

from app.db import uploads as uploads_db
from app.domain.data_set_preview import DataSetPreview, class_samples, preview
from app.domain.data_sets import DataSetError, LocalSource, available, open_source, root_of_upload
from app.errors import DataSetNotFoundError, FieldError, InvalidRequestError
from app.schemas.data_set import (
    BrokenImage,
    ClassCount,
    ClassImages,
    DataSetList,
    DataSetSamples,
    DataSetSummary,
    DataSetView,
    ImageSize,
)
from app.services.callers import Caller
from app.settings import Settings

BUILT_IN = ("digits", "fashion-mnist")


def list_data_sets(session: Session, caller: Caller, settings: Settings) -> DataSetList:
    """Return all data sets that the caller may name; of two of one name the upload is what a search reads."""
    found = {name: DataSetSummary(name=name, origin=_origin(name)) for name in available(settings.data_root)}
    for row in uploads_db.list_of(session, caller.owner):
        found[row.name] = DataSetSummary(
            name=row.name, origin="upload", num_bytes=row.num_bytes, created_at=row.created_at
        )
    return DataSetList(items=[found[name] for name in sorted(found)])


def locate(session: Session, caller: Caller, name: str, settings: Settings) -> tuple[DataSetSummary, Path | None]:
    """Return what is known of a data set without reading it, and the data root that it lies under.

    Raises:
        DataSetNotFoundError: If there is none of that name.
    """
    summary = next((item for item in list_data_sets(session, caller, settings).items if item.name == name), None)
    if summary is None:
        raise no_data_set(session, caller, name, settings)
    if summary.origin != "upload":
        return summary, settings.data_root
    row = uploads_db.find(session, caller.owner, name)
    assert row is not None, "it was listed in this transaction"
    with as_request_error("path", "name"):
        return summary, root_of_upload(settings.uploads(), str(row.id))


def no_data_set(session: Session, caller: Caller, name: str, settings: Settings) -> DataSetNotFoundError:
    """Return what to say about a name that the caller has no data set of."""
    names = ", ".join(item.name for item in list_data_sets(session, caller, settings).items)
    return DataSetNotFoundError(
        detail=f"there is no data set {name!r} for you; there are {names}. Upload one with PUT /datasets/NAME"
    )


def view(summary: DataSetSummary, root: Path | None, num_decoded: int | None = None) -> DataSetView:
    """Look at every image of a data set and say what it holds.

    Args:
        summary: The data set.
        root: The data root that it lies under.
        num_decoded: Images to decode in full; None: as many as before a search.

    Raises:
        InvalidRequestError: If it is damaged beyond listing what is broken.
    """
    with as_request_error("path", "name"):
        source = open_source(summary.name, root)
        return DataSetView(**figures(summary, preview(source, num_decoded)))


def figures(summary: DataSetSummary, found: DataSetPreview) -> Mapping[str, Any]:
    """Return the fields of a :class:`DataSetView`."""
    return {
        **summary.model_dump(),
        "num_images": found.num_images,
        "num_classes": len(found.class_names),
        "classes": [
            ClassCount(name=name, num_images=count)
            for name, count in zip(found.class_names, found.class_counts, strict=True)
        ],
        "num_examined": found.num_examined,
        "num_decoded": found.num_decoded,
        "num_sizes": found.num_sizes,
        "sizes": [ImageSize(width=s.width, height=s.height, num_images=s.num_images) for s in found.sizes],
        "modes": found.modes,
        "num_broken": found.num_broken,
        "broken": [
            BrokenImage(file=facts.origin.removeprefix("the file "), problem=facts.problem or "")
            for facts in found.broken
        ],
    }


@dataclass(frozen=True)
class Shown:
    """Which images of a data set are shown, and how.

    Attributes:
        per_class: How many of each class, at most.
        resolution: Their height and width, in pixels.
        first_class: Label of the first class.
        num_classes: How many classes, at most.
    """

    per_class: int
    resolution: int
    first_class: int
    num_classes: int


def samples(name: str, root: Path | None, shown: Shown) -> DataSetSamples:
    """Return a few images of some classes.

    Raises:
        InvalidRequestError: If the data set is damaged.
    """
    with as_request_error("path", "name"):
        return _samples(open_source(name, root), shown)


def view_with_samples(summary: DataSetSummary, root: Path | None, shown: Shown) -> tuple[DataSetView, DataSetSamples]:
    """Return what :func:`view` and :func:`samples` do, with the files listed once.

    Raises:
        InvalidRequestError: If the data set is damaged beyond listing what is broken.
    """
    with as_request_error("path", "name"):
        source = open_source(summary.name, root)
        return DataSetView(**figures(summary, preview(source))), _samples(source, shown)


def _samples(source: LocalSource, shown: Shown) -> DataSetSamples:
    labels = range(len(source.class_names))[shown.first_class : shown.first_class + shown.num_classes]
    found = class_samples(source, per_class=shown.per_class, resolution=shown.resolution, labels=labels)
    items = [ClassImages(class_name=one.class_name, images=[_data_uri(png) for png in one.pngs]) for one in found]
    return DataSetSamples(items=items, num_classes=len(source.class_names))


@contextmanager
def as_request_error(*loc: str) -> Iterator[None]:
    """Say that what is wrong with a data set is wrong with the request.

    Raises:
        InvalidRequestError: In the place of a ``DataSetError``.
    """
    try:
        yield
    except DataSetError as error:
        errors = [FieldError(loc=list(loc), msg=str(error))]
        raise InvalidRequestError(detail=str(error), errors=errors) from None


def _origin(name: str) -> Literal["built-in", "data-root"]:
    return "built-in" if name in BUILT_IN else "data-root"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
