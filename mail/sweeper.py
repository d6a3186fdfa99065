"""When a claim whose lease ran out may be freed: not before those who are alive had the chance to renew theirs.

A lease runs out when its worker dies. It also seems to when the database was away or locked for so long that nobody
could renew anything, and when its clock jumped ahead. What is freed then is sent a second time by somebody else, so
after such a time everybody gets the length of a lease to renew what he holds. Source: security.md 63, 66, 73.
"""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import Final

from mail import outbox_finish, outbox_mending

# Renewed several times in its length, a lease cannot run out in less than this.
_SAFE_SHARE: Final = 0.75
_CLOCK_SLACK_S: Final = 2.0

# After a clock was put back it is mended in so many looks: each leaves out what somebody is writing down just then.
_MENDS = 3


class Sweeper:
    """One process's share of sweeping up; to be called every second or so, by one thread."""

    def __init__(self, lease: timedelta) -> None:
        self._lease = lease
        self._clock = _ClockWatch()
        self._frees_from = 0.0
        self._mends_left = 0
        self._was_here_at = time.monotonic()

    def sweep(self) -> int:
        """Mend what a clock put back leaves behind, free claims of the dead, end what expired; return how many rows.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away; tell `put_off` of it.
        """
        count, jumped_s = 0, self._clock.look()
        if jumped_s < 0:
            self._mends_left = _MENDS
        elif jumped_s > 0:
            self.put_off()
        if self._mends_left:
            count = outbox_mending.mend_clock(lease=self._lease)
            self._mends_left -= 1
        if time.monotonic() >= self._frees_from:
            freed = outbox_finish.sweep(until=self._was_here_at + _SAFE_SHARE * self._lease.total_seconds())
            if freed is None:
                self.put_off()
            count += freed or 0
        self._was_here_at = time.monotonic()
        return count

    def put_off(self) -> None:
        """Free nothing for the time of a lease: others could not renew theirs."""
        self._frees_from = time.monotonic() + self._lease.total_seconds()


class _ClockWatch:
    """Notices when the database's clock jumps against ours, which only ever goes on."""

    def __init__(self) -> None:
        self._seen: tuple[float, float, float] | None = None

    def look(self) -> float:
        """Return by how many seconds it jumped since the last look; at first, that it was put back.

        The answer may come late: what the wait for it explains is no jump.
        """
        asked = time.monotonic()
        now = outbox_mending.database_now().timestamp()
        answered = time.monotonic()
        before, self._seen = self._seen, (now, asked, answered)
        if before is None:
            return -math.inf
        passed = now - before[0]
        at_least, at_most = asked - before[2], answered - before[1]
        jumped = passed - min(max(passed, at_least), at_most)
        return jumped if abs(jumped) > _CLOCK_SLACK_S else 0.0
