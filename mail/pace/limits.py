"""What a lane may do, and the expressions that the statements about lanes share.

Statements are built once, when a module is loaded: building one costs more than running it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    String,
    Table,
    and_,
    bindparam,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.dialects import postgresql, sqlite

from extensions import db
from mail.equipment import Equipment
from mail.routes import Route, SettingsIncomplete, route_for
from models import clock
from models.database import writing
from models.email_settings import EmailSettings
from models.pace import Lane, LanePermit, LaneRecipients, LaneSlot
from security.vault import Unreadable

WINDOW: Final = timedelta(seconds=60)
# What a message that left early may arrive late, and one that left late early: the provider counts arrivals.
MARGIN: Final = timedelta(milliseconds=250)
# Where neither the provider nor a custom field says more: what the strictest provider we know allows.
CONNECTIONS: Final = 3
# The longest that a lane is driven slower than it may be; a time further ahead is from a clock that was put back.
LONGEST_SLOW: Final = timedelta(minutes=15)
# Differences of a clock that a computer corrects while it runs.
CLOCK_SLACK: Final = timedelta(seconds=1)
HOUR_MS: Final = 3_600_000
# An hour of buckets more than the day: the oldest one reaches back beyond 24 hours, so none is forgotten too early.
DAY_BUCKETS: Final = 25
NO_LIMIT: Final = 2**31 - 1

lanes: Final = cast(Table, Lane.__table__)
slots: Final = cast(Table, LaneSlot.__table__)
permits: Final = cast(Table, LanePermit.__table__)
hours: Final = cast(Table, LaneRecipients.__table__)


@dataclass(frozen=True)
class Limits:
    """What a lane may do when nothing is wrong with it.

    Attributes:
        lane: key of the lane.
        connections: at the same time.
        per_minute: messages in any `window`; None without a limit.
        recipients_per_day: in any 24 hours; None without a limit.
        margin: added to the window, because what leaves evenly need not arrive so.
    """

    lane: str
    connections: int
    per_minute: int | None
    recipients_per_day: int | None
    window: timedelta = field(default_factory=lambda: WINDOW)
    margin: timedelta = field(default_factory=lambda: MARGIN)


def limits_of(route: Route) -> Limits:
    """Return the limits of the mailbox that a route leads to."""
    shared = route.connection_id is not None
    return Limits(
        lane=f"connection:{route.connection_id}" if shared else f"store:{route.store_id}",
        connections=route.max_connections or CONNECTIONS,
        per_minute=route.messages_per_minute,
        recipients_per_day=route.recipients_per_day,
    )


def stored_limits(settings: EmailSettings, equipment: Equipment) -> Limits | None:
    """Return the limits by the stored settings of the active method; None while nothing can go out by them."""
    try:
        return limits_of(route_for(settings, equipment))
    except (SettingsIncomplete, Unreadable):
        return None


# Expressions --------------------------------------------------------------------------------------------------------

LANE: Final[BindParameter[str]] = bindparam("lane", type_=String)
AT_MOST: Final[BindParameter[int]] = bindparam("at_most", type_=Integer)


def moment(plus: timedelta = timedelta(), plus_ms: str = "") -> ColumnElement[Any]:
    """SQL for the database's clock, read once in a statement, so that it can be looked up in an index.

    Args:
        plus_ms: name of a bound parameter, in milliseconds, instead of `plus`.
    """
    at = clock.now_plus_ms(bindparam(plus_ms, type_=BigInteger)) if plus_ms else clock.now(plus)
    return select(at).scalar_subquery()


def this_hour() -> ColumnElement[int]:
    """SQL for the hours since 1970, the current one begun."""
    return type_coerce(clock.now(), BigInteger()) // HOUR_MS


# By another name, because the statements that read the row itself contain these.
_lane = lanes.alias("lane_now")
_IS_SLOW: Final = and_(_lane.c.slow_until > moment(), _lane.c.slow_until <= moment(LONGEST_SLOW + CLOCK_SLACK))
# A lane whose server fails gets one connection until one succeeds: a server that hangs must not hang all of them.
_SLOW_CONNECTIONS: Final = func.coalesce(
    select(literal(1)).where(_lane.c.key == LANE, _lane.c.failures > 0).scalar_subquery(),
    select(_lane.c.slow_connections).where(_lane.c.key == LANE, _IS_SLOW).scalar_subquery(),
    NO_LIMIT,
)
_SLOW_PER_MINUTE: Final = func.coalesce(
    select(_lane.c.slow_per_minute).where(_lane.c.key == LANE, _IS_SLOW).scalar_subquery(), NO_LIMIT
)
# Slots and permits that count now: of the usual ones (:at_most), those that trouble leaves.
USABLE_SLOTS: Final = (slots.c.lane_key == LANE, slots.c.number < AT_MOST, slots.c.number < _SLOW_CONNECTIONS)
USABLE_PERMITS: Final = (permits.c.lane_key == LANE, permits.c.number < AT_MOST, permits.c.number < _SLOW_PER_MINUTE)
LOW_PERMITS: Final = (
    permits.c.lane_key == LANE,
    permits.c.number < AT_MOST - AT_MOST // 10,
    permits.c.number < _SLOW_PER_MINUTE - _SLOW_PER_MINUTE // 10,
)


def low_priority_share(per_minute: int) -> int:
    """Return how many of the permits mail of low priority may use: what is left lets a sign-in code go at once."""
    return per_minute - per_minute // 10


def ms(duration: timedelta) -> int:
    """Return whole milliseconds, as the database counts time."""
    return round(duration / timedelta(milliseconds=1))


def at_most(limit: int | None) -> int:
    """Return the limit as a number to compare with."""
    return NO_LIMIT if limit is None else limit


@contextmanager
def transaction() -> Iterator[Connection]:
    """Give a connection with a short transaction of its own, which may write and commits."""
    with writing(), db.engine.begin() as connection:
        yield connection


class Upsert:
    """An insert that minds rows which are there already, in the words of the database in use."""

    def __init__(self, build: Any) -> None:
        self._build = {"sqlite": build(sqlite.insert), "postgresql": build(postgresql.insert)}

    def run(self, connection: Connection, values: Any) -> None:
        """Execute it for one row, or for a list of them."""
        connection.execute(self._build[connection.dialect.name], values)
