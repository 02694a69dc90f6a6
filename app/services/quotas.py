"""How much one owner may have: open searches, rows of lookup tables, bytes of checkpoints."""

from dataclasses import dataclass
from typing import Self

from sqlalchemy.orm import Session

from app.db import usage as usage_db
from app.errors import TooManyRequestsError
from app.settings import Settings

_RETRY_OPEN_S = 60
"""A search may end any minute."""

_RETRY_STORED_S = 3600
"""What is stored goes by a deletion or by the retention, not by waiting a moment."""


@dataclass(frozen=True)
class Quotas:
    """The limits of each owner; None: there is none.

    Attributes:
        max_open: Searches that are not over.
        max_rows: Rows of all lookup tables, those of open searches at their largest.
        max_artifact_bytes: Size of all checkpoints, when they were last measured.
    """

    max_open: int | None = None
    max_rows: int | None = None
    max_artifact_bytes: int | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return those that are configured."""
        return cls(
            settings.max_open_searches_per_owner,
            settings.max_rows_per_owner,
            settings.max_artifact_bytes_per_owner,
        )

    def lock(self, session: Session, owner: str | None) -> None:
        """Have an owner's submissions wait for each other until the transaction ends, if there is any limit.

        Else ten that come at once would each see room for one.
        """
        if self != Quotas():
            usage_db.lock_owner(session, owner)

    def check(self, session: Session, owner: str | None, *, num_new_rows: int) -> None:
        """Check that an owner may have one more open search, whose tables will have up to so many rows.

        Raises:
            TooManyRequestsError: If a limit would be exceeded; it says which, and what to do.
        """
        if self == Quotas():
            return
        usage = usage_db.of_owner(session, owner)
        if self.max_open is not None and usage.num_open >= self.max_open:
            raise TooManyRequestsError(
                detail=f"{usage.num_open} of your searches and jobs about them are queued or running, and you may have "
                f"{self.max_open}; wait until one has ended, or cancel one with POST /search/{{id}}/cancel",
                limit=f"{self.max_open} open searches",
                retry_after_s=_RETRY_OPEN_S,
            )
        if self.max_rows is not None and usage.num_rows + num_new_rows > self.max_rows:
            raise TooManyRequestsError(
                detail=f"your lookup tables have or will have {usage.num_rows:,} rows, this search would add up to "
                f"{num_new_rows:,}, and you may have {self.max_rows:,}; delete searches that you no longer need with "
                "DELETE /search/{id}, or use shorter segments or fewer rounds",
                limit=f"{self.max_rows} rows",
                retry_after_s=_RETRY_STORED_S,
            )
        if self.max_artifact_bytes is not None and usage.artifact_bytes >= self.max_artifact_bytes:
            raise TooManyRequestsError(
                detail=f"your searches' checkpoints take {usage.artifact_bytes:,} bytes, and you may have "
                f"{self.max_artifact_bytes:,}; delete searches that you no longer need with DELETE /search/{{id}}",
                limit=f"{self.max_artifact_bytes} bytes of checkpoints",
                retry_after_s=_RETRY_STORED_S,
            )
