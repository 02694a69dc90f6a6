"""Whether anything about a search has changed, in one short query: what hundreds of clients ask every second."""

import uuid
from dataclasses import dataclass

from sqlalchemy import Connection, text

# xmin is the transaction that wrote a row last. Rounds, pairs and tables are written in transactions that write the
# search's row or one of its steps as well; deliveries of its webhook, and what jobs about it find, are not.
_VERSION = text("""
    select s.owner, concat_ws(',', s.xmin::text, t.stamp, d.stamp, a.stamp)
    from searches s, (
        select string_agg(id || ':' || xmin, ',' order by id) as stamp from steps where search_id = :search_id
    ) t, (
        select string_agg(id || ':' || xmin, ',' order by id) as stamp from webhook_deliveries
        where search_id = :search_id
    ) d, (
        select string_agg(job_id || ':' || xmin, ',' order by job_id, code) as stamp from standalone_accuracies
        where search_id = :search_id
    ) a
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
