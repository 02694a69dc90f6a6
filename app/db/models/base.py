"""What all tables have in common."""

import datetime as dt
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, DateTime
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {dict[str, Any]: JSONB, dt.datetime: DateTime(timezone=True)}


def one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    """Return the constraint that a column holds one of some words."""
    return CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=f"{column}_known")
