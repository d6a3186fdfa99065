"""How often domain checks may be asked for: each one keeps a thread of the web server for seconds.

Counted in memory, for each process by itself: nothing secret is guarded, and a check must not write (it changes
nothing).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PER_MINUTE = 6
AT_ONCE = 2
_WINDOW_S = 60.0
_PEOPLE_MAX = 1000


class TooManyChecks(Exception):
    """Checks are asked for faster than they are read; `wait_s` until the next may begin."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"wait {wait_s} seconds")
        self.wait_s = wait_s


class Turnstile:
    """Lets a person through a few times a minute, and a few checks in at the same time."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._passed: dict[int, deque[float]] = {}
        self._inside = 0

    @contextmanager
    def turn(self, person: int) -> Iterator[None]:
        """Be inside for the length of the block.

        Raises:
            TooManyChecks: over the limit of this person, or as many as may are inside.
        """
        self._enter(person)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def _enter(self, person: int) -> None:
        with self._lock:
            now = self._now()
            if len(self._passed) > _PEOPLE_MAX:
                self._passed = {who: times for who, times in self._passed.items() if now - times[-1] < _WINDOW_S}
            times = self._passed.setdefault(person, deque())
            while times and now - times[0] >= _WINDOW_S:
                times.popleft()
            if len(times) >= PER_MINUTE:
                raise TooManyChecks(max(1, int(_WINDOW_S - (now - times[0])) + 1))
            if self._inside >= AT_ONCE:
                if not times:
                    del self._passed[person]
                raise TooManyChecks(10)
            times.append(now)
            self._inside += 1
