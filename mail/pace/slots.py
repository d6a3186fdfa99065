"""One connection to the server at a time for each slot: leases, free again when they ran out."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from sqlalchemy import BigInteger, Connection, Integer, String, bindparam, or_, select, update

from mail.pace.limits import AT_MOST, LANE, USABLE_SLOTS, Limits, Upsert, moment, ms, slots, transaction
from models import clock

_c = slots.c


@dataclass(frozen=True)
class Slot:
    """The right to one connection, until it is freed or its lease ends."""

    lane: str
    number: int
    lease: str = field(repr=False)


def take_slot(limits: Limits, store_id: int, *, lease: timedelta, connection: Connection | None = None) -> Slot | None:
    """Return a slot that is ours now, None when all are taken.

    A lane in trouble has fewer; a pause is not asked for here. Commits, unless it joins the transaction of a
    connection: then it is ours when the caller has committed.
    """
    token = secrets.token_hex(16)
    values = {
        "lane": limits.lane,
        "at_most": limits.connections,
        "taker": store_id,
        "token": token,
        "lease_ms": ms(lease),
    }
    with transaction() if connection is None else nullcontext(connection) as ours:
        number = ours.scalar(_TAKE, values)
        if number is None and _add_missing(ours, limits):
            number = ours.scalar(_TAKE, values)
        if number is None:
            _mend_clock(ours, limits, lease)
    return None if number is None else Slot(limits.lane, number, token)


# Others that are choosing at this moment look past the row that we chose, instead of waiting for us.
_FREE: Final = (
    select(_c.id)
    .where(*USABLE_SLOTS, or_(_c.lease.is_(None), _c.lease_until <= moment()))
    .order_by(_c.number)
    .limit(1)
    .with_for_update(skip_locked=True, of=slots)
    .scalar_subquery()
)
_TAKE: Final = (
    update(slots)
    .where(_c.id == _FREE)
    .values(
        store_id=bindparam("taker", type_=Integer),
        lease=bindparam("token", type_=String),
        lease_until=clock.now_plus_ms(bindparam("lease_ms", type_=BigInteger)),
    )
    .returning(_c.number)
)


def _add_missing(connection: Connection, limits: Limits) -> bool:
    """Make the rows that the limit asks for and that are not there; whether any was made."""
    there = set(connection.scalars(_NUMBERS, {"lane": limits.lane, "at_most": limits.connections}))
    missing = [number for number in range(limits.connections) if number not in there]
    if missing:
        _ADD.run(connection, [{"lane": limits.lane, "place": number} for number in missing])
    return bool(missing)


_NUMBERS: Final = select(_c.number).where(_c.lane_key == LANE, _c.number < AT_MOST)
_ADD: Final = Upsert(
    lambda insert: insert(slots).values(lane_key=LANE, number=bindparam("place")).on_conflict_do_nothing()
)


def _mend_clock(connection: Connection, limits: Limits, lease: timedelta) -> None:
    """Shorten leases that no renewal can have written: the clock was put back since, and they would last for hours.

    They begin anew instead of ending, because who holds them may be alive.
    """
    connection.execute(_SHORTEN, {"lane": limits.lane, "lease_ms": ms(lease), "beyond_ms": 2 * ms(lease)})


_SHORTEN: Final = (
    update(slots)
    .where(_c.lane_key == LANE, _c.lease_until > moment(plus_ms="beyond_ms"))
    .values(lease_until=clock.now_plus_ms(bindparam("lease_ms", type_=BigInteger)))
)


def free_slot(slot: Slot) -> None:
    """Give a slot back, if it is still ours. Commits."""
    with transaction() as connection:
        connection.execute(_GIVE_BACK, {"lane": slot.lane, "place": slot.number, "token": slot.lease})


_GIVE_BACK: Final = (
    update(slots)
    .where(_c.lane_key == LANE, _c.number == bindparam("place"), _c.lease == bindparam("token"))
    .values(lease=None, lease_until=None, store_id=None)
)


def renew_slots(leases: Collection[str], *, lease: timedelta) -> int:
    """Prolong the slots that are still ours, commit, and return how many they are."""
    if not leases:
        return 0
    with transaction() as connection:
        return connection.execute(_RENEW, {"tokens": list(leases), "lease_ms": ms(lease)}).rowcount


_RENEW: Final = (
    update(slots)
    .where(_c.lease.in_(bindparam("tokens", expanding=True)))
    .values(lease_until=clock.now_plus_ms(bindparam("lease_ms", type_=BigInteger)))
)
