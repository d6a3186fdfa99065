"""What nobody needs any more: hours long past, lanes whose connection or store is gone."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BindParameter, String, bindparam, cast, delete, literal, select, union_all

from extensions import db
from mail.pace.limits import DAY_BUCKETS, hours, lanes, permits, slots, this_hour, transaction
from models.connection import Connection
from models.database import reading
from models.store import Store

LANES_AT_ONCE: Final = 100


def tidy() -> None:
    """Remove counts of recipients that no day includes, and rows of lanes that no longer exist; some at a time.

    Looks without becoming a writer; commits what it removes.
    """
    with reading(), db.engine.connect() as connection:
        past = list(connection.scalars(_PAST))
        gone = {key for statement in _GONE for key in connection.scalars(statement)}
    if not past and not gone:
        return
    with transaction() as connection:
        if past:
            connection.execute(_DROP_HOURS, {"keys": past})
        for statement in _DROP_LANES if gone else ():
            connection.execute(statement, {"keys": sorted(gone)[:LANES_AT_ONCE]})


_IS_PAST: Final = hours.c.hour <= this_hour() - DAY_BUCKETS
_PAST: Final = select(hours.c.lane_key).where(_IS_PAST).distinct().limit(LANES_AT_ONCE)
_KEYS: Final[BindParameter[str]] = bindparam("keys", expanding=True, type_=String)
_DROP_HOURS: Final = delete(hours).where(hours.c.lane_key.in_(_KEYS), _IS_PAST)
_LIVING: Final = union_all(
    select(literal("connection:") + cast(Connection.id, String)), select(literal("store:") + cast(Store.id, String))
).subquery()


def _gone(column: Any, *only: Any) -> Any:
    return select(column).where(column.not_in(select(_LIVING)), *only).distinct().limit(LANES_AT_ONCE)


# Of slots and permits the first is there whenever any is.
_GONE: Final = (
    _gone(lanes.c.key),
    _gone(slots.c.lane_key, slots.c.number == 0),
    _gone(permits.c.lane_key, permits.c.number == 0),
    _gone(hours.c.lane_key),
)
_DROP_LANES: Final = tuple(
    delete(table).where(column.in_(_KEYS))
    for table, column in (
        (lanes, lanes.c.key),
        (slots, slots.c.lane_key),
        (permits, permits.c.lane_key),
        (hours, hours.c.lane_key),
    )
)
