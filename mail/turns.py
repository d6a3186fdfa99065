"""Which store is served next by this process: first come, first served, and nobody twice in the line.

A store is in the line once at the most, may be served by several threads at a time, and can be put off. Knows no
database. Safe to use from several threads.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque


class Turns:
    """The line of stores that want a thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[int] = deque()
        self._in_line: set[int] = set()
        self._served: Counter[int] = Counter()
        self._asked_again: set[int] = set()
        self._later: list[tuple[float, int]] = []
        self._put_off: dict[int, float] = {}
        self._idle = 0
        self._closed = False

    def offer(self, store_id: int) -> None:
        """Say that a store has mail. One that is being served gets another turn after it, one put off keeps waiting."""
        with self._changed:
            if store_id in self._put_off:
                return
            if self._served[store_id]:
                self._asked_again.add(store_id)
            else:
                self._append(store_id)

    def offer_more(self, store_id: int, *, at_most: int) -> None:
        """Ask for one more thread for a store that is being served, as long as fewer than so many serve it."""
        with self._changed:
            if self._served[store_id] + (store_id in self._in_line) < at_most:
                self._append(store_id)

    def take(self, timeout_s: float) -> int | None:
        """Return the store whose turn it is; it is being served until `done`. None after the time, or once closed."""
        ends = time.monotonic() + timeout_s
        with self._changed:
            self._idle += 1
            try:
                while True:
                    self._wake_up()
                    if self._line:
                        store_id = self._line.popleft()
                        self._in_line.discard(store_id)
                        self._served[store_id] += 1
                        return store_id
                    left = ends - time.monotonic()
                    if left <= 0 or self._closed:
                        return None
                    self._changed.wait(min(left, self._until_next()))
            finally:
                self._idle -= 1

    def done(self, store_id: int, again_in_s: float | None) -> None:
        """End a turn: the store wants another one after so many seconds (0: at the end of the line), or None."""
        with self._changed:
            self._served[store_id] -= 1
            if not self._served[store_id]:
                del self._served[store_id]
            asked_again = store_id in self._asked_again
            if again_in_s:
                self._asked_again.discard(store_id)
                self._put_off_until(store_id, time.monotonic() + again_in_s)
            elif again_in_s == 0 or (asked_again and not self._served[store_id]):
                self._asked_again.discard(store_id)
                self._append(store_id)

    def others_wait(self, store_id: int) -> bool:
        """Whether another store is in the line and no thread is free for it."""
        with self._changed:
            self._wake_up()
            return not self._idle and any(other != store_id for other in self._line)

    @property
    def waiting(self) -> int:
        """How many stores are in the line."""
        with self._changed:
            return len(self._line)

    @property
    def is_quiet(self) -> bool:
        """Whether nobody is served or in the line; those put off do not count."""
        with self._changed:
            self._wake_up()
            return not self._line and not self._served

    @property
    def idle(self) -> int:
        """How many threads wait for a turn."""
        with self._changed:
            return self._idle

    def close(self) -> None:
        """Let every `take` return: nobody is served any more."""
        with self._changed:
            self._closed = True
            self._line.clear()
            self._in_line.clear()
            self._changed.notify_all()

    def _append(self, store_id: int) -> None:
        if store_id not in self._in_line and not self._closed:
            self._line.append(store_id)
            self._in_line.add(store_id)
            self._changed.notify()

    def _put_off_until(self, store_id: int, at: float) -> None:
        known = self._put_off.get(store_id)
        if known is None or at < known:
            self._put_off[store_id] = at
            heapq.heappush(self._later, (at, store_id))
            self._changed.notify()

    def _wake_up(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            at, store_id = heapq.heappop(self._later)
            if self._put_off.get(store_id) == at:
                del self._put_off[store_id]
                self._append(store_id)

    def _until_next(self) -> float:
        return max(self._later[0][0] - time.monotonic(), 0.001) if self._later else 3600.0
