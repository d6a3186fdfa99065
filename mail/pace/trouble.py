"""What trouble does to a lane: a breaker for a server that cannot be used, less speed after "slow down".

None of it uses up an attempt of a message. Reports of the same trouble by several connections count once: while the
lane is left alone, another report changes nothing. Source: security.md 68, 71; product.md 6.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from sqlalchemy import Connection, String, bindparam, select, update

from mail import backoff
from mail.errors import Stage
from mail.pace import state
from mail.pace.limits import LANE, LONGEST_SLOW, Limits, Upsert, lanes, transaction
from mail.pace.replies import Throttling, is_daily_limit, throttling_of
from mail.pace.state import TROUBLE_COLUMNS, Trouble

CODE_MAX: Final = 80
FIRST_PAUSE: Final = timedelta(seconds=10)
LONGEST_PAUSE: Final = timedelta(minutes=5)
# "Slow down": the window of the strictest provider we know.
THROTTLED_PAUSE: Final = timedelta(minutes=1)
SLOWER_FOR: Final = timedelta(minutes=10)
SLOWER: Final = 0.7
# Too many connections: the one that was refused is gone already.
CROWDED_PAUSE: Final = timedelta(seconds=15)
FEWER_CONNECTIONS_FOR: Final = LONGEST_SLOW
# Limits of a day count the last 24 hours, so each hour may free a part; asking costs one message's try.
DAY_PAUSE: Final = timedelta(hours=1)
LONGEST_DAY_PAUSE: Final = timedelta(hours=4)
LONGEST_WISH: Final = timedelta(seconds=backoff.LONGEST_WISH_S)


def note_failure(limits: Limits, *, code: str, detail: str) -> timedelta:
    """Leave the lane alone, because its server could not be used at all; return for how long. Commits.

    From 10 s, doubling with each failure in a row, to 5 min; spread by chance.
    """
    with transaction() as connection:
        trouble = _lock(connection, limits)
        if trouble.pause:
            return trouble.pause
        failures = trouble.failures + 1
        pause = _spread(min(FIRST_PAUSE * 2 ** min(failures - 1, 10), LONGEST_PAUSE))
        since = trouble.failing_since if trouble.failures else trouble.now
        _write(connection, limits, _pause(trouble, pause, code, detail), failures=failures, failing_since=since)
    return pause


def note_success(limits: Limits) -> None:
    """End the failures: the server could be used. A pause that the server itself asked for stays. Commits."""
    with transaction() as connection:
        connection.execute(_RECOVER, {"lane": limits.lane})


_RECOVER: Final = (
    update(lanes)
    .where(lanes.c.key == LANE, lanes.c.failures > 0)
    .values(failures=0, failing_since=None, paused_at=None, paused_until=None, pause_code="", pause_detail="")
)


def note_throttled(limits: Limits, *, stage: Stage, code: str, detail: str, wish_s: float | None) -> timedelta:
    """Slow the lane down as the server asked; return for how long it is left alone. Commits.

    Too many messages: a minute, then 70 % of what was really sent, for 10 minutes. Too many connections: a moment,
    then one fewer for 15. A limit of the day: an hour, and longer while it persists. A reply about one message or one
    recipient is none of the lane's business: zero.

    Args:
        wish_s: how long the server asked to wait; kept up to a day.
    """
    kind = throttling_of(stage, detail)
    if kind is Throttling.ONE_MESSAGE:
        return timedelta()
    with transaction() as connection:
        trouble = _lock(connection, limits)
        # A server that answers can be used: what follows a failure is judged anew.
        is_known = bool(trouble.pause) and not trouble.failures
        pause = _longest(trouble, kind, wish_s, is_known=is_known)
        values: dict[str, Any] = {"failures": 0, "failing_since": None}
        if not is_known and kind is not Throttling.DAY:
            values |= _slower(connection, limits, trouble, kind)
        if not is_known or pause > trouble.pause:
            values |= _pause(trouble, pause, code, detail)
        _write(connection, limits, values)
    return pause


def _longest(trouble: Trouble, kind: Throttling, wish_s: float | None, *, is_known: bool) -> timedelta:
    was_day = is_daily_limit(trouble.pause_detail)
    if is_known and (was_day or kind is not Throttling.DAY):
        pause = trouble.pause
    elif kind is Throttling.DAY:
        pause = _spread(_pause_of_day(trouble) if was_day else DAY_PAUSE)
    else:
        pause = _spread(CROWDED_PAUSE if kind is Throttling.CONNECTIONS else THROTTLED_PAUSE)
    return max(pause, min(timedelta(seconds=wish_s or 0), LONGEST_WISH))


def _pause_of_day(trouble: Trouble) -> timedelta:
    """Twice the last pause, if it ended so lately that the limit has been in force all the while."""
    if trouble.paused_at is None or trouble.paused_until is None:
        return DAY_PAUSE
    last = trouble.paused_until - trouble.paused_at
    lately = timedelta() <= trouble.now - trouble.paused_until < last
    return min(2 * last, LONGEST_DAY_PAUSE) if lately else DAY_PAUSE


def _slower(connection: Connection, limits: Limits, trouble: Trouble, kind: Throttling) -> dict[str, Any]:
    """What is tried from now on; less than before, never nothing."""
    per_minute = trouble.slow_per_minute if trouble.is_slow else None
    connections = trouble.slow_connections if trouble.is_slow else None
    length = SLOWER_FOR
    if kind is Throttling.CONNECTIONS:
        in_use, allowed = state.slots_in_use(limits, connection), trouble.connections(limits.connections)
        connections, length = max(1, min(in_use or allowed, allowed) - 1), FEWER_CONNECTIONS_FOR
    else:
        sent = max(state.permits_used(limits, connection), state.messages_sent(limits, connection))
        allowed = trouble.per_minute(limits.per_minute) or sent
        per_minute = max(1, int(min(sent, allowed) * SLOWER))
    until = trouble.now + length
    if trouble.is_slow and trouble.slow_until is not None:
        until = max(until, trouble.slow_until)
    return {"slow_until": until, "slow_per_minute": per_minute, "slow_connections": connections}


def _pause(trouble: Trouble, pause: timedelta, code: str, detail: str) -> dict[str, Any]:
    return {
        "paused_at": trouble.now,
        "paused_until": trouble.now + pause,
        "pause_code": code[:CODE_MAX],
        "pause_detail": detail,
    }


def _spread(pause: timedelta) -> timedelta:
    return backoff.spread(pause.total_seconds())


def _lock(connection: Connection, limits: Limits) -> Trouble:
    """Return what the lane's row says, which nobody else changes until this transaction ends."""
    _ADD.run(connection, {"lane": limits.lane})
    return Trouble.of(connection.execute(_LOCK, {"lane": limits.lane}).one())


_ADD: Final = Upsert(
    lambda insert: insert(lanes).values(key=LANE, failures=0, pause_code="", pause_detail="").on_conflict_do_nothing()
)
_LOCK: Final = select(*TROUBLE_COLUMNS).where(lanes.c.key == LANE).with_for_update(of=lanes)


def _write(connection: Connection, limits: Limits, values: dict[str, Any], **more: Any) -> None:
    which = bindparam("lane", limits.lane, type_=String)
    connection.execute(update(lanes).where(lanes.c.key == which).values(values | more))
