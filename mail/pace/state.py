"""How a lane stands: for the engine before it sends, and for people who want to know why it does not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Row,
    ScalarSelect,
    and_,
    bindparam,
    func,
    literal,
    select,
    text,
)

from extensions import db
from mail.pace import permits as permit_rows
from mail.pace.limits import (
    CLOCK_SLACK,
    DAY_BUCKETS,
    LANE,
    LONGEST_SLOW,
    LOW_PERMITS,
    USABLE_PERMITS,
    Limits,
    at_most,
    hours,
    lanes,
    low_priority_share,
    moment,
    ms,
    permits,
    slots,
    this_hour,
)
from mail.pace.replies import is_daily_limit
from models import clock
from models.database import reading
from models.email_settings import EmailSettings, Method
from models.outbox import SENT_SQL, Message

_NONE = timedelta()


@dataclass(frozen=True)
class LaneState:
    """What a lane allows at this moment.

    Attributes:
        pause: how long it is to be left alone; zero when it is not.
        pause_code: why.
        is_failing: its server could not be used the last time, so `note_success` is to be told of a success.
        connections: at the same time; one while it is failing.
        per_minute: how many permits there are for `take_permit`; None without a rate.
        next_permit_in: zero when one is free now, or when there is no rate; `next_low_permit_in`: for low priority.
        recipients_left: of the day's limit; None without one.
    """

    pause: timedelta
    pause_code: str
    is_failing: bool
    connections: int
    per_minute: int | None
    next_permit_in: timedelta
    next_low_permit_in: timedelta
    recipients_left: int | None


@dataclass(frozen=True)
class Meter:
    """What is used of a lane's limits, and what holds it back. Times are of the database's clock.

    Attributes:
        sent_last_minute: messages, of all stores that share the lane.
        per_minute, connections: what applies now; `_usual`: what the provider or the custom fields say.
        recipients_today: in the last 24 hours and what the running hour adds.
        pause_until: None while it is not paused.
        pause_code, pause_detail: why it is paused, slower or failing, and the server's words; else empty.
        slow_until: until when less than usual is tried; None when it is not.
        failing_since: since when the server cannot be used; None when it can.
        is_daily_limit: the pause is for a limit of the day.
    """

    sent_last_minute: int
    per_minute: int | None
    per_minute_usual: int | None
    connections_in_use: int
    connections: int
    connections_usual: int
    recipients_today: int
    recipients_per_day: int | None
    pause_until: datetime | None
    pause_code: str
    slow_until: datetime | None
    failing_since: datetime | None
    pause_detail: str = ""
    is_daily_limit: bool = False


class Trouble(NamedTuple):
    """What a lane's row says at `now`; without a row, that nothing is wrong."""

    now: datetime
    failures: int
    failing_since: datetime | None
    paused_at: datetime | None
    paused_until: datetime | None
    pause_code: str
    pause_detail: str
    slow_until: datetime | None
    slow_per_minute: int | None
    slow_connections: int | None

    @classmethod
    def of(cls, row: Row[Any]) -> Trouble:
        """Read the columns of `TROUBLE_COLUMNS`."""
        values = row._mapping
        return cls(**{name: values[name] for name in cls._fields})

    @property
    def pause(self) -> timedelta:
        """How long the lane is still left alone."""
        if self.paused_until is None or self.paused_at is None or self.paused_at > self.now + CLOCK_SLACK:
            return _NONE
        return max(self.paused_until - self.now, _NONE)

    @property
    def is_slow(self) -> bool:
        """Whether less than usual is tried."""
        until = self.slow_until
        return until is not None and self.now < until <= self.now + LONGEST_SLOW + CLOCK_SLACK

    def connections(self, usual: int) -> int:
        """Return how many connections apply now."""
        if self.failures > 0:
            return 1
        return min(usual, self.slow_connections) if self.is_slow and self.slow_connections else usual

    def per_minute(self, usual: int | None) -> int | None:
        """Return the rate that applies now."""
        slow = self.slow_per_minute if self.is_slow else None
        return min(usual, slow) if usual and slow else slow or usual


# A lane without a row has no trouble, so there is always one row to read.
_ONE: Final = select(literal(1).label("one")).subquery()
_FROM: Final = _ONE.outerjoin(lanes, lanes.c.key == LANE)
_RECIPIENTS: Final = (
    select(func.coalesce(func.sum(hours.c.recipients), 0))
    .where(hours.c.lane_key == LANE, hours.c.hour > this_hour() - DAY_BUCKETS, hours.c.hour <= this_hour())
    .scalar_subquery()
)
TROUBLE_COLUMNS: Final = (
    clock.now().label("now"),
    func.coalesce(lanes.c.failures, 0).label("failures"),
    lanes.c.failing_since,
    lanes.c.paused_at,
    lanes.c.paused_until,
    func.coalesce(lanes.c.pause_code, "").label("pause_code"),
    func.coalesce(lanes.c.pause_detail, "").label("pause_detail"),
    lanes.c.slow_until,
    lanes.c.slow_per_minute,
    lanes.c.slow_connections,
)


def look(limits: Limits) -> LaneState:
    """Return what the lane allows now: one round trip that leaves no transaction open.

    It writes nothing, but once after the clock was put back.
    """
    values = {"lane": limits.lane, "at_most": at_most(limits.per_minute)}
    with reading(), db.engine.connect() as connection:
        row = connection.execute(_LOOK, values).one()
    trouble = Trouble.of(row)
    if row.newest is not None and row.newest > trouble.now + CLOCK_SLACK:
        permit_rows.mend_clock(limits.lane)
    per_minute, allowed = trouble.per_minute(limits.per_minute), limits.recipients_per_day
    return LaneState(
        pause=trouble.pause,
        pause_code=trouble.pause_code if trouble.pause else "",
        is_failing=trouble.failures > 0,
        connections=trouble.connections(limits.connections),
        per_minute=per_minute,
        next_permit_in=_permit_in(row.oldest, row, per_minute, limits),
        next_low_permit_in=_permit_in(row.oldest_low, row, per_minute and low_priority_share(per_minute), limits),
        recipients_left=None if allowed is None else max(allowed - row.recipients, 0),
    )


def _permit_in(oldest: datetime | None, row: Row[Any], permitted: int | None, limits: Limits) -> timedelta:
    if permitted is None or oldest is None or row.highest < permitted - 1:
        return _NONE  # permits that nobody ever used have no row yet
    whole = limits.window + limits.margin
    wait: timedelta = oldest + whole - row.now
    return min(max(wait, _NONE), whole)


def _oldest(*among: ColumnElement[bool]) -> ScalarSelect[Any]:
    return select(permits.c.stamped_at).where(*among).order_by(permits.c.stamped_at).limit(1).scalar_subquery()


_LOOK: Final = select(
    *TROUBLE_COLUMNS,
    _RECIPIENTS.label("recipients"),
    # Each is one step at the end of an index, however many permits there are.
    _oldest(*USABLE_PERMITS).label("oldest"),
    _oldest(*LOW_PERMITS).label("oldest_low"),
    select(func.max(permits.c.number)).where(permits.c.lane_key == LANE).scalar_subquery().label("highest"),
    select(func.max(permits.c.stamped_at)).where(permits.c.lane_key == LANE).scalar_subquery().label("newest"),
).select_from(_FROM)


def meter(limits: Limits) -> Meter:
    """Return what is used of the limits, for people; reads only and leaves no transaction open."""
    with reading(), db.engine.connect() as connection:
        row = connection.execute(_METER, _values(limits)).one()
        trouble = Trouble.of(row)
        per_minute = trouble.per_minute(limits.per_minute)
        # Permits count what was tried, messages what was accepted: only without a rate there are no permits.
        sent = row.stamped if per_minute is not None else messages_sent(limits, connection)
    paused, failing = bool(trouble.pause), trouble.failures > 0
    held_back = paused or failing or trouble.is_slow
    return Meter(
        sent_last_minute=sent,
        per_minute=per_minute,
        per_minute_usual=limits.per_minute,
        connections_in_use=row.in_use,
        connections=trouble.connections(limits.connections),
        connections_usual=limits.connections,
        recipients_today=row.recipients,
        recipients_per_day=limits.recipients_per_day,
        pause_until=trouble.paused_until if paused else None,
        pause_code=trouble.pause_code if held_back else "",
        slow_until=trouble.slow_until if trouble.is_slow else None,
        failing_since=trouble.failing_since if failing else None,
        pause_detail=trouble.pause_detail if held_back else "",
        is_daily_limit=paused and not failing and is_daily_limit(trouble.pause_detail),
    )


def slots_in_use(limits: Limits, connection: Connection) -> int:
    """Return how many connections of the lane are open."""
    return connection.scalar(_IN_USE, {"lane": limits.lane}) or 0


def permits_used(limits: Limits, connection: Connection) -> int:
    """Return how many permits were taken within the window."""
    return connection.scalar(_STAMPED, _values(limits)) or 0


def messages_sent(limits: Limits, connection: Connection) -> int:
    """Return how many messages of the lane's stores were accepted within the window."""
    kind, _, number = limits.lane.partition(":")
    statement = _SENT_BY_CONNECTION if kind == "connection" else _SENT_BY_STORE
    return connection.scalar(statement, {"number": int(number), "window_ms": -ms(limits.window)}) or 0


def _values(limits: Limits) -> dict[str, Any]:
    return {"lane": limits.lane, "window_ms": -ms(limits.window)}


_IN_USE: Final = select(func.count()).where(slots.c.lane_key == LANE, slots.c.lease_until > moment())
_STAMPED: Final = select(func.count()).where(
    permits.c.lane_key == LANE, permits.c.stamped_at > moment(plus_ms="window_ms")
)
_METER: Final = select(
    *TROUBLE_COLUMNS,
    _RECIPIENTS.label("recipients"),
    _IN_USE.scalar_subquery().label("in_use"),
    _STAMPED.scalar_subquery().label("stamped"),
).select_from(_FROM)


def _sent_by(of_lane: ColumnElement[bool]) -> Any:
    stores = select(EmailSettings.store_id).where(of_lane)
    return select(func.count()).where(
        Message.store_id.in_(stores),
        text(SENT_SQL),
        Message.ended_at > moment(plus_ms="window_ms"),
    )


_NUMBER: Final[BindParameter[int]] = bindparam("number", type_=Integer)
_SENT_BY_STORE: Final = _sent_by(EmailSettings.store_id == _NUMBER)
_SENT_BY_CONNECTION: Final = _sent_by(
    and_(EmailSettings.connection_id == _NUMBER, EmailSettings.method == Method.ADVANCED_SMTP)
)
