"""Instants in words: "12 min ago" under a day, then "20 Nov, 16:05"."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Flask

from models.types import utcnow


def register(app: Flask) -> None:
    app.jinja_env.filters.update(ago=ago, until=until, day=day, moment=moment, full_time=full_time)


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """How long since an instant, as people say it."""
    if at is None:
        return "Never"
    passed = (now or utcnow()) - at
    if passed < timedelta(seconds=45):
        return "just now"
    if passed < timedelta(hours=1):
        return f"{max(1, round(passed / timedelta(minutes=1)))} min ago"
    if passed < timedelta(days=1):
        hours = int(passed / timedelta(hours=1))
        return f"{hours} {'hour' if hours == 1 else 'hours'} ago"
    return f"{at.day} {at:%b}, {at:%H:%M}"


def until(at: datetime | None, now: datetime | None = None) -> str:
    """How long until an instant, as people say it."""
    if at is None:
        return "Never"
    left = at - (now or utcnow())
    if left <= timedelta():
        return "expired"
    if left < timedelta(hours=1):
        return f"in {max(1, round(left / timedelta(minutes=1)))} min"
    if left < timedelta(days=2):
        hours = round(left / timedelta(hours=1))
        return f"in {hours} {'hour' if hours == 1 else 'hours'}"
    return f"in {left.days} days"


def moment(at: datetime | None, now: datetime | None = None) -> str:
    """A time to wait for, short: "14:10 UTC" on the same day, else "20 Nov, 16:05 UTC"."""
    if at is None:
        return ""
    is_today = at.date() == (now or utcnow()).date()
    return f"{at:%H:%M} UTC" if is_today else f"{at.day} {at:%b}, {at:%H:%M} UTC"


def day(at: datetime | None) -> str:
    return "" if at is None else f"{at.day} {at:%b}"


def full_time(at: datetime | None) -> str:
    return "" if at is None else f"{at.day} {at:%B %Y, %H:%M:%S} UTC"
