"""The right to call a connection's token endpoint: a lease in its row, and what the row tells of the last call.

Every statement is a short transaction of its own on its own connection. What `refresh_lease` and
`refresh_lease_until` say, by the database's clock:

    name, ahead      a refresh is under way; whoever needs a token waits for its result
    name, past       that refresh failed (or its process died); those who waited for it share the recorded failure
    pause:version    the endpoint keeps failing: nobody asks again before that time, unless the settings change
    nothing          nobody is at it
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from extensions import db
from mail import health, lifetimes
from mail.errors import ConnectionLost, Family, MailError, SettingsWrong, Stage, TryLater
from models import clock
from models.connection import Connection, Health
from models.database import reading, writing
from models.types import new_uid

# Longer than all calls one holder may make; a holder that died is waited for no longer than this.
LEASE = timedelta(seconds=60)
WAIT_S = 25.0
POLL_S = 0.05
# The breaker: after failing for this long, each pause is half as long as the trouble has lasted.
PATIENCE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=5)
# What an endpoint may ask of us (Retry-After): longer than that, a bad answer would stop mail for a day.
LONGEST_WISH = timedelta(hours=1)
_PAUSE = "pause:"

T = TypeVar("T")


class Seen(NamedTuple):
    """A connection as it was at one moment of the database's clock, detached from any session."""

    connection: Connection
    now: datetime

    @property
    def is_held(self) -> bool:
        """Whether somebody is calling the endpoint, or it is left alone."""
        until = self.connection.refresh_lease_until
        return self.connection.refresh_lease is not None and until is not None and until > self.now

    @property
    def is_paused(self) -> bool:
        """Whether the lease is a pause, running or over, and nobody's call."""
        return (self.connection.refresh_lease or "").startswith(_PAUSE)

    @property
    def pause(self) -> timedelta:
        """How long the endpoint is still left alone; zero when it is not. Changed settings end a pause."""
        until = self.connection.refresh_lease_until
        if not self.is_held or until is None or self.connection.refresh_lease != f"{_PAUSE}{self.connection.version}":
            return timedelta()
        return until - self.now


def read(connection_id: int) -> Seen:
    """Return the connection as it is now.

    Raises:
        SettingsWrong: there is none any more.
    """
    with reading(), Session(db.engine) as session:
        row = session.execute(select(Connection, clock.now()).where(Connection.id == connection_id)).one_or_none()
        session.expunge_all()
    if row is None:
        raise SettingsWrong("incomplete", "the connection is gone", stage=Stage.SETTINGS, family=Family.TOKEN)
    return Seen(row[0], row[1])


def change(connection_id: int, values: dict[str, Any], *conditions: Any) -> bool:
    """Change the row if the conditions hold, and tell whether they did. Commits."""
    statement = update(Connection).where(Connection.id == connection_id, *conditions).values(values)
    with _transaction() as session:
        result = session.execute(statement.execution_options(synchronize_session=False))
        return bool(getattr(result, "rowcount", 0) == 1)


def queue_up(
    seen: Seen, good: Callable[[Seen], T | None], *, urgent: bool = False, shares_failures: bool = True
) -> str | T:
    """Return the name of a lease that is now ours, or what `good` found in the row that somebody else renewed.

    Args:
        urgent: do not respect a pause.
        shares_failures: whether the failure of the refresh we waited for is ours too.

    Raises:
        MailError: that failure, or the one a pause is for.
        TryLater: the refresh elsewhere takes longer than `WAIT_S`.
    """
    deadline = time.monotonic() + WAIT_S
    waited_for: str | None = None
    while True:
        found = good(seen)
        if found is not None:
            return found
        if seen.pause and not urgent:
            raise recorded_failure(seen, after=seen.pause) or busy()
        if seen.is_held and not seen.is_paused:
            waited_for = seen.connection.refresh_lease
            if time.monotonic() > deadline:
                raise busy()
            time.sleep(POLL_S)
        else:
            it_failed = waited_for is not None and seen.connection.refresh_lease == waited_for
            if shares_failures and it_failed and (failure := recorded_failure(seen)):
                # Eight callers that waited for one refusal must not ask eight times more.
                raise failure
            if lease := take(seen):
                return lease
        seen = read(seen.connection.id)


def take(seen: Seen) -> str | None:
    """Return the name of the lease if it is ours now; None when somebody was faster. Commits."""
    lease = new_uid()
    free = or_(
        Connection.refresh_lease.is_(None),
        Connection.refresh_lease_until.is_(None),
        Connection.refresh_lease_until <= clock.now(),
    )
    if seen.is_paused:
        free = or_(free, Connection.refresh_lease == seen.connection.refresh_lease)
    taken = {"refresh_lease": lease, "refresh_lease_until": clock.now(LEASE)}
    return lease if change(seen.connection.id, taken, free) else None


def release(connection_id: int, lease: str) -> None:
    """Give the lease back if it is still ours. Commits."""
    change(connection_id, RELEASED, Connection.refresh_lease == lease)


RELEASED: dict[str, Any] = {"refresh_lease": None, "refresh_lease_until": None}


def note_failure(seen: Seen, lease: str, error: MailError) -> bool:
    """Write down what went wrong and end the lease, if it went wrong with the settings of now. Commits."""
    connection = seen.connection
    pause = _pause_after(seen, error)
    values: dict[str, Any] = {
        "refresh_lease": f"{_PAUSE}{connection.version}" if pause else lease,
        "refresh_lease_until": clock.now(pause),
    }
    code = error.code
    if isinstance(error, ConnectionLost) and (learned := lifetimes.learned_at_loss(connection, seen.now)):
        values, code = {**values, **learned}, lifetimes.TESTING_ENDED
    mine = (Connection.version == connection.version, Connection.refresh_lease == lease)
    return health.report(connection.id, health.of_error(error, code=code), *mine, values=values)


def recorded_failure(seen: Seen, after: timedelta | None = None) -> MailError | None:
    """Return the failure of the token endpoint that the row tells of, None when it tells of none."""
    connection = seen.connection
    kind = health.recorded(connection)
    if kind is None or connection.health_stage == Stage.AUTH:
        return None
    code = connection.health_code or "temporary"
    error = kind(code, connection.health_detail, stage=Stage.TOKEN, family=Family.TOKEN)
    if isinstance(error, TryLater) and after is not None:
        error.after_s = after.total_seconds()
    return error


def busy() -> TryLater:
    """Return the error for a refresh elsewhere that does not come to an end."""
    words = "another process is renewing this token and has not finished"
    return TryLater("refresh_busy", words, stage=Stage.TOKEN, family=Family.TOKEN, after_s=5.0)


def _pause_after(seen: Seen, error: MailError) -> timedelta:
    """Return how long to leave the endpoint alone: the longer it has failed, the longer; at first not at all."""
    if not isinstance(error, TryLater):
        return timedelta()
    wish = min(timedelta(seconds=error.after_s or 0), LONGEST_WISH)
    since = seen.connection.health_since
    failing = seen.connection.health is Health.TEMPORARILY_FAILING
    trouble = seen.now - since if failing and since is not None else timedelta()
    ours = min(trouble / 2, LONGEST_PAUSE) if trouble >= PATIENCE else timedelta()
    return max(wish, ours)


@contextmanager
def _transaction() -> Iterator[Session]:
    with writing(), Session(db.engine) as session, session.begin():
        yield session
