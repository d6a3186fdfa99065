"""When to try again: doubling waits, spread by chance, until three days of trying are used up."""

from __future__ import annotations

import random
from datetime import timedelta

FIRST_WAIT_S = 60.0
LONGEST_WAIT_S = 4 * 3600.0
GIVE_UP_AFTER = timedelta(hours=72)
# A server that says "slow down" names no time as a rule; a minute is the window of the strictest provider we know.
THROTTLED_WAIT_S = 60.0
# What a server may ask of us at most, so that a bad answer cannot park a message for a year.
LONGEST_WISH_S = 24 * 3600.0

_dice = random.SystemRandom()


def wait_after(attempts: int, *, wish_s: float | None = None) -> timedelta | None:
    """Return how long to wait after this many attempts that count, or None when it is time to give up.

    Counted by attempts and not by the age of the message: time spent held, waiting for a person, must not use up the
    three days. The server's own wish is honoured when it is longer than ours.
    """
    if attempts > MAX_RETRIES:
        return None
    wait_s = max(_plain_wait_s(attempts), min(wish_s or 0.0, LONGEST_WISH_S))
    return spread(wait_s)


def wait_throttled(*, wish_s: float | None = None) -> timedelta:
    """Return how long to leave a message alone that came too fast; this uses up no attempt."""
    return spread(max(THROTTLED_WAIT_S, min(wish_s or 0.0, LONGEST_WISH_S)))


def _plain_wait_s(attempts: int) -> float:
    return min(FIRST_WAIT_S * 2.0 ** (max(attempts, 1) - 1), LONGEST_WAIT_S)


def spread(wait_s: float) -> timedelta:
    """Return up to a quarter more, never less: what failed together does not come back together."""
    return timedelta(seconds=wait_s * _dice.uniform(1.0, 1.25))


def _retries_within(limit: timedelta) -> int:
    tried, spent_s = 0, 0.0
    while spent_s + _plain_wait_s(tried + 1) <= limit.total_seconds():
        tried += 1
        spent_s += _plain_wait_s(tried)
    return tried


MAX_RETRIES = _retries_within(GIVE_UP_AFTER)
