"""Whether anything about a search has changed, in one short query: what hundreds of clients ask every second."""

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, text

# xmin is the transaction that wrote a row last. Rounds, pairs and tables are written in transactions that write the
# search's row or one of its steps as well.
_VERSION = text("""
    select s.owner, concat_ws(',', s.xmin::text, t.stamp)
    from searches s, (
        select string_agg(id || ':' || xmin, ',' order by id) as stamp from steps where search_id = :search_id
    ) t
    where s.id = :search_id
""")


@dataclass(frozen=True)
class Version:
    """Which state a search is in.

    Attributes:
        owner: Whose the search is.
        stamp: Another one for every state of its rows.
    """

    owner: str | None
    stamp: str


def read_version(connection: Connection, search_id: uuid.UUID) -> Version | None:
    """Return the version of a search; None if there is none of that id."""
    row = connection.execute(_VERSION, {"search_id": search_id}).one_or_none()
    return None if row is None else Version(row[0], row[1])
