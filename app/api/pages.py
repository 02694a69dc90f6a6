"""Cursor pages: where a page ends is said by the last row's sort key, so rows that come meanwhile shift nothing."""

import datetime as dt
import uuid
from typing import Annotated, ClassVar, TypeVar

from fastapi import Query
from fastapi_pagination.bases import CursorRawParams
from fastapi_pagination.cursor import CursorPage, CursorParams, decode_cursor
from fastapi_pagination.customization import CustomizedPage, UseIncludeTotal, UseName
from sqlakeyset import InvalidPage, unserialize_bookmark
from starlette.exceptions import HTTPException

from app.db.searches import PAIR_KEY, SEARCH_KEY
from app.errors import FieldError, InvalidRequestError

T = TypeVar("T")

Page = CustomizedPage[CursorPage[T], UseName("Page"), UseIncludeTotal(include_total=False)]
"""A page of a list; its total is null, since it would be a count of the whole list each time."""

KeyTypes = tuple[type[int] | type[str] | type[dt.datetime] | type[uuid.UUID], ...]


class _PageParams(CursorParams):
    """Page size and cursor; a cursor that is not ours is refused here, before it reaches the database."""

    key_types: ClassVar[KeyTypes]
    size: Annotated[int, Query(ge=1, le=100, description="Items on a page.")] = 50
    cursor: Annotated[
        str | None, Query(max_length=1000, description="`next_page` or `previous_page` of an earlier answer.")
    ] = None

    def to_raw_params(self) -> CursorRawParams:
        """Return what the query needs."""
        raw = super().to_raw_params()
        raw.include_total = False
        return raw

    def decode_cursor(self, cursor: str | None) -> str | None:
        """Return the bookmark of a cursor.

        Raises:
            InvalidRequestError: If it is no cursor of this list.
        """
        if not cursor:
            return None
        try:
            bookmark = decode_cursor(cursor, quoted=self.quoted_cursor) or ""
            place, _ = unserialize_bookmark(bookmark)
            fits = place is None or tuple(map(type, place)) == self.key_types
            if bookmark and fits and "\0" not in bookmark:
                return bookmark
        except (InvalidPage, HTTPException, ValueError, ArithmeticError, NotImplementedError, LookupError):
            pass
        msg = "this is no cursor of this list; take next_page or previous_page of an earlier answer, or leave it out"
        raise InvalidRequestError(detail=msg, errors=[FieldError(loc=["query", "cursor"], msg=msg)])


class SearchPageParams(_PageParams):
    """Pages of searches."""

    key_types = SEARCH_KEY


class PairPageParams(_PageParams):
    """Pages of pairs."""

    key_types = PAIR_KEY
