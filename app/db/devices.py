"""Devices: latencies by owner, name and search space. Nothing here commits."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select
from sqlalchemy.orm import Session

from app.db.models import DeviceRow


def _visible(owner: str | None) -> ColumnElement[bool]:
    """An owner's own devices and everybody's."""
    return or_(DeviceRow.owner == owner, DeviceRow.owner.is_(None))


def put(
    session: Session, *, owner: str | None, name: str, layout_digests: Sequence[str], **values: Any
) -> tuple[DeviceRow, bool]:
    """Store a device's latencies in the place of those it had for the same networks.

    They are stored under the first digest; those under any of them are replaced.

    Returns:
        The new row, and whether it is the first of its kind.
    """
    # two that register the same device wait for each other, and the later one has the last word
    session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"device {owner} {name}"))))
    place = (DeviceRow.owner.is_not_distinct_from(owner), DeviceRow.name == name)
    replaced = session.execute(
        delete(DeviceRow)
        .where(*place, DeviceRow.layout_digest.in_(layout_digests))
        .returning(DeviceRow.id)
        .execution_options(synchronize_session=False)
    ).all()
    row = DeviceRow(owner=owner, name=name, layout_digest=layout_digests[0], **values)
    session.add(row)
    session.flush()
    session.refresh(row)
    return row, not replaced


def visible(session: Session, owner: str | None, name: str | None = None) -> Sequence[DeviceRow]:
    """Return the devices that an owner may use, or those of one name: by name, the own ones before everybody's."""
    query = select(DeviceRow).where(_visible(owner))
    if name is not None:
        query = query.where(DeviceRow.name == name)
    return session.scalars(query.order_by(DeviceRow.name, DeviceRow.owner.is_(None), DeviceRow.id)).all()


def remove(session: Session, owner: str | None, name: str) -> int:
    """Delete an owner's own device of a name; return how many search spaces it was known for."""
    query = delete(DeviceRow).where(DeviceRow.owner.is_not_distinct_from(owner), DeviceRow.name == name)
    return len(session.execute(query.returning(DeviceRow.id).execution_options(synchronize_session=False)).all())
