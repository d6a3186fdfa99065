"""What will end a connection although it works now, announced before it does: client secret, trial grant, idleness.

Any number of processes may look, as often as they like: each announcement is one row, whoever writes it first.
Source: product.md 4, providers.md 2 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from extensions import db
from mail import health, lifetimes
from mail.health import ANNOUNCEMENTS, Announcement
from models import clock
from models.connection import Connection
from models.database import reading
from models.notice import Notice, NoticeKind

# Announced when no more than so many days are left
DAYS: Final = {
    NoticeKind.SECRET_ENDS: (30, 7, 1),
    NoticeKind.TESTING_ENDS: (7, 1),
    NoticeKind.IDLE_ENDS: (14, 7, 1),
}
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Foreseen:
    """One end that is near enough to tell. `days_left`: whole days, 0 on the last one, negative when it is over."""

    kind: NoticeKind
    at: datetime
    days_left: int

    @property
    def beginning(self) -> str:
        """What the occasions of all announcements of this end begin with."""
        return f"{self.at.date().isoformat()}:{self.kind.value}:"

    @property
    def announcement(self) -> Announcement:
        """The announcement that is due now: the latest of its countdown."""
        threshold = min(days for days in DAYS[self.kind] if self.days_left <= days)
        return Announcement(self.kind, f"{self.beginning}{threshold}", self.at)


def foreseen(connection: Connection, now: datetime) -> list[Foreseen]:
    """Return the ends that are near, the nearest first."""
    found = [*_secret(connection, now), *_testing(connection, now), *_idle(connection, now)]
    near = [one for one in found if one.days_left <= max(DAYS[one.kind])]
    return sorted(near, key=lambda one: one.at)


def announce_all() -> int:
    """Announce what is near for all connections, take back what is not true any more; return how many are new.

    Commits, connection by connection.
    """
    count = 0
    for connection, now in _candidates():
        ends = foreseen(connection, now)
        announcements = [end.announcement for end in ends]
        count += health.announce(connection.id, announcements, foreseen=[end.beginning for end in ends])
    return count


def _candidates() -> Sequence[tuple[Connection, datetime]]:
    """Connections for which something may be near, or was announced."""
    announced = select(Notice.connection_id).where(Notice.kind.in_(ANNOUNCEMENTS), Notice.ended_at.is_(None))
    with reading(), Session(db.engine) as session:
        now = session.execute(select(clock.now())).scalar_one()
        last_day = (now + max(DAYS[NoticeKind.SECRET_ENDS]) * _DAY).date()
        query = select(Connection).where(
            or_(
                Connection.client_secret_expires_on <= last_day,
                Connection.grant_ends_at.is_not(None),
                # Used weekly, a grant never lies idle for so long.
                Connection.refreshed_at <= now - 14 * _DAY,
                Connection.refreshed_at.is_(None) & (Connection.refresh_token_set_at <= now - 14 * _DAY),
                Connection.id.in_(announced),
            )
        )
        found = session.scalars(query).all()
        session.expunge_all()
    return [(connection, now) for connection in found]


def _secret(connection: Connection, now: datetime) -> list[Foreseen]:
    on = connection.client_secret_expires_on
    if on is None or not connection.has_client_secret:
        return []
    return [Foreseen(NoticeKind.SECRET_ENDS, datetime.combine(on, time(), UTC), (on - now.date()).days)]


def _testing(connection: Connection, now: datetime) -> list[Foreseen]:
    at = connection.grant_ends_at
    if at is None or not connection.has_refresh_token:
        return []
    return [Foreseen(NoticeKind.TESTING_ENDS, at, _days_until(at, now))]


def _idle(connection: Connection, now: datetime) -> list[Foreseen]:
    limit, used_at = lifetimes.idle_limit(connection), lifetimes.last_used_at(connection)
    if limit is None or used_at is None or limit <= max(DAYS[NoticeKind.IDLE_ENDS]) * _DAY:
        return []
    return [Foreseen(NoticeKind.IDLE_ENDS, used_at + limit, _days_until(used_at + limit, now))]


def _days_until(at: datetime, now: datetime) -> int:
    return math.ceil((at - now) / _DAY)
