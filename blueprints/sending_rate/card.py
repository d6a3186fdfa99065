"""The card "Sending rate": what is used of a mailbox's limits, and what holds it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from blueprints.web import equipment
from mail import pace
from mail.pace import Meter
from models import Store
from models.email_settings import EmailSettings, Method
from models.types import utcnow

# trouble -> words on the badge, its colour, its icon
_BADGES = {
    "failing": ("Not usable", "bad", "circle-alert"),
    "day": ("Daily limit reached", "warn", "circle-pause"),
    "paused": ("Paused", "warn", "circle-pause"),
    "slow": ("Slowed down", "warn", "timer"),
    "used_up": ("Daily limit reached", "warn", "circle-pause"),
}
# From here on a limit of the day is worth a glance.
_NEARLY = 0.9


@dataclass(frozen=True)
class Bar:
    """One limit: `used` of `limit` (None: there is none) and what is counted, in words; kind colours the bar."""

    used: int
    limit: int | None
    words: str
    kind: str = ""

    @property
    def percent(self) -> float:
        """How much of the limit is used."""
        return min(100.0, round(100 * self.used / self.limit, 1)) if self.limit else 0.0


@dataclass(frozen=True)
class RateCard:
    """What the card shows.

    Attributes:
        who: keeps the limits, as a sentence begins with it.
        server: its SMTP server.
        trouble: the worst of what holds mail back, a key of the badges; empty when nothing does.
    """

    meter: Meter
    bars: tuple[Bar, ...]
    who: str
    server: str
    trouble: str

    @property
    def badge(self) -> tuple[str, str, str]:
        return _BADGES[self.trouble]

    @property
    def pace(self) -> str:
        """What is tried instead of the usual, in words; empty when nothing else is."""
        m, parts = self.meter, []
        if m.per_minute is not None and m.per_minute != m.per_minute_usual:
            parts.append(f"{m.per_minute:,} a minute")
        if m.connections < m.connections_usual and not m.failing_since:
            parts.append(f"{m.connections} connection{'' if m.connections == 1 else 's'} at a time")
        return " and ".join(parts) if m.slow_until else ""


def card_of(store: Store) -> RateCard | None:
    """The card of a store's active method, from what is stored; None while it cannot send."""
    settings = store.email_settings
    limits = pace.stored_limits(settings, equipment())
    if limits is None:
        return None
    meter = pace.meter(limits)
    who, server = _names(settings)
    return RateCard(meter, _bars(meter), who, server, _trouble(meter))


def clock_time(at: datetime) -> str:
    """A moment soon before or after now: "14:05 UTC", with the day when that is not today."""
    return f"{at:%H:%M} UTC" if at.date() == utcnow().date() else f"{at.day} {at:%b}, {at:%H:%M} UTC"


def soon(at: datetime) -> str:
    """When something is tried next: "within a minute", or "at 14:05 UTC"."""
    return "within a minute" if at - utcnow() < timedelta(minutes=1) else f"at {clock_time(at)}"


def _names(settings: EmailSettings) -> tuple[str, str]:
    if settings.method is Method.SMTP or settings.connection is None:
        return settings.smtp_host, settings.smtp_host
    provider = equipment().providers.get(settings.connection.provider)
    return provider.short_name if provider else "The provider", settings.advanced_smtp_host


def _bars(m: Meter) -> tuple[Bar, ...]:
    is_slower, is_fewer = m.per_minute != m.per_minute_usual, m.connections < m.connections_usual
    # In the minute after a rate was lowered, more was sent than it allows; what was sent kept to the usual one.
    keeps_to_it = m.per_minute is None or m.sent_last_minute <= m.per_minute
    per_minute = m.per_minute if keeps_to_it else m.per_minute_usual
    return (
        _bar(m.sent_last_minute, per_minute, "message", "in the last minute", "warn" if is_slower else ""),
        _bar(m.connections_in_use, m.connections, "connection", "in use", "warn" if is_fewer else ""),
        _bar(m.recipients_today, m.recipients_per_day, "recipient", "in the last 24 hours", _day_kind(m)),
    )


def _bar(used: int, limit: int | None, noun: str, rest: str, kind: str) -> Bar:
    number = used if limit is None else limit
    return Bar(used, limit, f"{noun if number == 1 else f'{noun}s'} {rest}", kind)


def _day_kind(m: Meter) -> str:
    if not m.recipients_per_day:
        return ""
    share = m.recipients_today / m.recipients_per_day
    return "bad" if share >= 1 else "warn" if share >= _NEARLY else ""


def _trouble(m: Meter) -> str:
    if m.failing_since:
        return "failing"
    if m.pause_until:
        return "day" if m.is_daily_limit else "paused"
    if m.recipients_per_day is not None and m.recipients_today >= m.recipients_per_day:
        return "used_up"
    return "slow" if m.slow_until else ""
