"""What heals the outbox after trouble that no single message shows: a clock that was put back, a server that is away
for days. Each step commits; none of them is needed in ordinary times. Source: security.md 68, 73.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import BigInteger, Connection, Table, bindparam, or_, select, update

from extensions import db
from mail import backoff
from mail.outbox_work import (
    IS_SENDING,
    IS_WAITING,
    email_settings,
    messages,
    milliseconds,
    recipients,
    unless_busy,
)
from models import clock
from models.database import reading, writing
from models.email_settings import Method
from models.outbox import MessageStatus, RecipientStatus
from models.pace import Lane
from models.prepared import Prepared

_c = messages.c
_lanes = cast(Table, Lane.__table__)
# Clocks of a cluster differ by less; what lies further ahead was written before the clock was put back.
_AHEAD: Final = timedelta(seconds=5)


def database_now() -> datetime:
    """Return the database's clock; leaves no transaction open."""
    row = _NOW.first(db.engine)
    assert row is not None  # there is always a time
    now: datetime = row[0]
    return now


_NOW: Final = Prepared(select(clock.now()))


def mend_clock(*, lease: timedelta) -> int:
    """After the database's clock was put back: let nothing wait for the time that was. Return how many rows changed.

    A claim that reaches further ahead than any renewal can have written begins anew: its worker may be alive. Mail
    that came in "later than now" and was due at once is due now, also when it is claimed: its worker may be dead.
    Messages that are being written down this moment are left out, so it is to be called once more a little later.
    """
    lease_ms = milliseconds(lease)
    with writing(), db.engine.begin() as connection:
        count = connection.execute(_SHORTEN, {"lease_ms": lease_ms, "beyond_ms": 2 * lease_ms}).rowcount
        return count + connection.execute(_DUE_NOW).rowcount


_SHORTEN: Final = (
    update(messages)
    .where(unless_busy(IS_SENDING, _c.lease_until > clock.now_plus_ms(bindparam("beyond_ms", type_=BigInteger))))
    .values(lease_until=clock.now_plus_ms(bindparam("lease_ms", type_=BigInteger)))
)
_DUE_NOW: Final = (
    update(messages)
    .where(unless_busy(or_(IS_WAITING, IS_SENDING), _c.created_at > clock.now(_AHEAD), _c.due_at <= _c.created_at))
    .values(due_at=clock.now(), created_at=clock.now())
)


def give_up_unreachable() -> int:
    """End the mail that has been due for three days while its server could not be used at all; return how much it is.

    While a server is left alone its messages are not tried, so their own attempts do not run out.
    """
    count = 0
    with reading(), db.engine.begin() as connection:
        lanes = connection.execute(_LONG_AWAY).all()
    for lane in lanes:
        kind, _, number = lane.key.partition(":")
        stores = _STORES_OF_CONNECTION if kind == "connection" else _THE_STORE
        with writing(), db.engine.begin() as connection:
            for store_id in connection.scalars(stores, {"number": int(number)}).all():
                count += _give_up(connection, store_id, lane.pause_code, lane.pause_detail)
    return count


def _give_up(connection: Connection, store_id: int, code: str, detail: str) -> int:
    words: dict[str, Any] = {"store": store_id, "why": code, "said": detail}
    ended = connection.scalars(_GIVE_UP, words).all()
    if ended:
        connection.execute(_REFUSE, [{"of_message": message_id, "said": detail} for message_id in ended])
    return len(ended)


_LONG_AWAY: Final = select(_lanes.c.key, _lanes.c.pause_code, _lanes.c.pause_detail).where(
    _lanes.c.failures > 0, _lanes.c.failing_since <= clock.now(-backoff.GIVE_UP_AFTER)
)
_THE_STORE: Final = select(email_settings.c.store_id).where(email_settings.c.store_id == bindparam("number"))
_STORES_OF_CONNECTION: Final = select(email_settings.c.store_id).where(
    email_settings.c.connection_id == bindparam("number"), email_settings.c.method == Method.ADVANCED_SMTP
)
_GIVE_UP: Final = (
    update(messages)
    .where(
        unless_busy(
            _c.store_id == bindparam("store"),
            IS_WAITING,
            _c.due_at <= clock.now(-backoff.GIVE_UP_AFTER),
            # What may have been sent is for a person to decide, and not ended as failed.
            _c.committing_at.is_(None),
        )
    )
    .values(
        status=MessageStatus.FAILED,
        reason_code=bindparam("why"),
        reason_detail=bindparam("said"),
        reason_stage="connect",
        reason_family="smtp",
        ended_at=clock.now(),
    )
    .returning(_c.id)
)
_REFUSE: Final = (
    update(recipients)
    .where(recipients.c.message_id == bindparam("of_message"), recipients.c.status == RecipientStatus.WAITING.value)
    .values(status=RecipientStatus.REFUSED, reply=bindparam("said"))
)
