"""One message of the minute for each permit, taken by stamping the one stamped longest ago; recipients of the day."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Integer, bindparam, func, select, update

from mail.pace.limits import LANE, Limits, Upsert, hours, moment, ms, permits, this_hour, transaction
from models import clock
from models.types import EPOCH

_c = permits.c

# A rate of many thousands must not make as many rows before its first message.
ROWS_AT_ONCE: Final = 200


def take_permit(limits: Limits, per_minute: int, connection: Connection) -> bool:
    """Take the right to send one message now, in the caller's transaction; False when none is free.

    Args:
        per_minute: how many there are for this message: `LaneState.per_minute`, for mail of low priority its
            `low_priority_share`.

    A limit that was lowered applies to what is sent from now on; what was sent before is not counted against it, so
    the minute after the change stays within the old limit.
    """
    values = {"lane": limits.lane, "at_most": per_minute, "window_ms": -ms(limits.window + limits.margin)}
    if connection.execute(_TAKE, values).rowcount == 1:
        return True
    return _add_missing(limits.lane, per_minute, connection) and connection.execute(_TAKE, values).rowcount == 1


_FREE: Final = (
    select(_c.id)
    .where(
        _c.lane_key == LANE,
        _c.number < bindparam("at_most", type_=Integer),
        _c.stamped_at <= moment(plus_ms="window_ms"),
    )
    .order_by(_c.stamped_at)
    .limit(1)
    .with_for_update(skip_locked=True)
    .scalar_subquery()
)
# Stamped now, not when the choice was made: after a wait for the database the later time is the true one.
_TAKE: Final = update(permits).where(_c.id == _FREE).values(stamped_at=clock.now())


def _add_missing(lane: str, per_minute: int, connection: Connection) -> bool:
    """Make permits that the limit asks for and that are not there; whether any was made. They are made in order."""
    first: int = connection.scalar(_NEXT_NUMBER, {"lane": lane}) or 0
    missing = range(first, min(per_minute, first + ROWS_AT_ONCE))
    if missing:
        _ADD.run(connection, [{"lane": lane, "place": number} for number in missing])
    return bool(missing)


_NEXT_NUMBER: Final = select(func.max(_c.number) + 1).where(_c.lane_key == LANE)
_ADD: Final = Upsert(
    lambda insert: (
        insert(permits)
        .values(lane_key=LANE, number=bindparam("place"), stamped_at=EPOCH)
        .on_conflict_do_nothing(index_elements=["lane_key", "number"])
    )
)


def mend_clock(lane: str) -> None:
    """Stamp with the present what is stamped in the future: the clock was put back since. Commits.

    When it was really taken nobody knows; so each is free after a full window, and the limit holds.
    """
    with transaction() as connection:
        connection.execute(_MEND, {"lane": lane})


_MEND: Final = update(permits).where(_c.lane_key == LANE, _c.stamped_at > moment()).values(stamped_at=clock.now())


def add_recipients(lane: str, count: int, connection: Connection) -> None:
    """Count recipients that the provider was given, in the caller's transaction."""
    if count > 0:
        _COUNT.run(connection, {"lane": lane, "more": count})


def _count(insert: Any) -> Any:
    added = insert(hours).values(lane_key=LANE, hour=this_hour(), recipients=bindparam("more", type_=BigInteger))
    return added.on_conflict_do_update(
        index_elements=["lane_key", "hour"], set_={"recipients": hours.c.recipients + added.excluded.recipients}
    )


_COUNT: Final = Upsert(_count)
