"""How long grants live: what providers say, what they are known for, and what a loss taught. No I/O.

Google ends grants of apps in "Testing" after seven days and, for them alone, says so in the token answer
(`refresh_token_expires_in`). Where it does not, a grant that was lost at that very age gives it away. Others tell how
long a refresh token may lie unused (`refresh_expires_in`). Source: providers.md 2 and 5.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from mail.providers import catalogue
from mail.token_endpoint import TokenAnswer
from models import clock
from models.connection import Connection

TESTING_ENDED: Final = "testing_ended"
TESTING_LIFETIME: Final = timedelta(days=7)
# A refresh may come a little early, and a loss is noticed when somebody asks next.
_EARLY: Final = timedelta(hours=1)
_LATE: Final = timedelta(days=1)
_IDLE_LIMITS: Final = {
    one.key: timedelta(days=one.refresh_idle_days) for one in catalogue().choices() if one.refresh_idle_days
}
_GOOGLE: Final = "google"


def idle_limit(connection: Connection) -> timedelta | None:
    """Return how long the grant may lie unused, None where nobody says."""
    if connection.idle_limit_s:
        return timedelta(seconds=connection.idle_limit_s)
    return _IDLE_LIMITS.get(connection.provider)


def last_used_at(connection: Connection) -> datetime | None:
    """Return when the grant was last used or given, None without one."""
    used = [at for at in (connection.refreshed_at, connection.refresh_token_set_at) if at is not None]
    return max(used, default=connection.created_at) if connection.has_refresh_token else None


def of_answer(connection: Connection, answer: TokenAnswer, *, is_new: bool) -> dict[str, Any]:
    """Return the columns that say what this answer tells of the grant's life.

    Args:
        is_new: it is the answer to a consent, so that a lifetime learned from earlier grants begins.
    """
    told = answer.refresh_expires_in_s
    if connection.provider != _GOOGLE:
        return {"idle_limit_s": told}
    if told is not None:
        life = {"grant_lifetime_s": told} if is_new else {}
        return {**life, "grant_ends_at": clock.now(timedelta(seconds=told))}
    if is_new:
        learned = connection.grant_lifetime_s
        return {"grant_ends_at": clock.now(timedelta(seconds=learned)) if learned else None}
    return {}


def outlived(connection: Connection, now: datetime) -> dict[str, Any]:
    """Return the columns to set when a grant works although it should have ended: the app was published since."""
    over = connection.grant_ends_at is not None and connection.grant_ends_at + _EARLY < now
    return {"grant_ends_at": None, "grant_lifetime_s": None} if over else {}


def learned_at_loss(connection: Connection, now: datetime) -> dict[str, Any]:
    """Return the columns that keep what a loss teaches, empty when it teaches nothing: Google's seven days."""
    began = connection.connected_at
    if connection.provider != _GOOGLE or began is None:
        return {}
    told = connection.grant_ends_at is not None and now >= connection.grant_ends_at - _EARLY
    age = now - began
    worked_until = (connection.refreshed_at or began) - began
    is_that_age = TESTING_LIFETIME - _EARLY <= age <= TESTING_LIFETIME + _LATE
    if not told and not (is_that_age and worked_until <= TESTING_LIFETIME + _EARLY):
        return {}
    return {"grant_lifetime_s": connection.grant_lifetime_s or round(TESTING_LIFETIME.total_seconds())}
