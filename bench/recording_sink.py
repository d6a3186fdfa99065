"""An SMTP server that remembers when each message came, and can be slow, silent or strict.

    python -m bench.recording_sink [--limit N --window-s S]

It prints its ports as one line of JSON and answers lines on its input (see `Desk`), until that ends:

    open      nobody signs in
    signed    the same after any AUTH
    brisk     like signed, but answers a message after 10 ms
    slow      like open, but answers a message after 1 s
    hanging   takes the connection and says nothing
    limited   like signed, but accepts N messages in any S seconds and answers 421 beyond

The clock is CLOCK_MONOTONIC, the same in every process of this machine.
"""

from __future__ import annotations

import argparse
import resource
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from bench.processes import say
from bench.smtp_sink import Counts, Offer, Sink, converse, listen

BRISK_S, SLOW_S = 0.01, 1.0
THROTTLED = b"421 4.4.2 Too many messages, come back later\r\n"
SIGNED, OPEN = Offer(checked=False), Offer(sign_in=False, checked=False)


@dataclass
class Log:
    """All messages that were accepted, since the last reset."""

    arrivals: list[tuple[float, str]] = field(default_factory=list)
    throttled: int = 0
    wanted: int = 0
    enough: threading.Event = field(default_factory=threading.Event)
    counts: Counts = field(default_factory=Counts)

    def note(self, content: bytes) -> None:
        self.arrivals.append((time.monotonic(), message_id(content)))
        if len(self.arrivals) >= self.wanted:
            self.enough.set()


@dataclass
class Window:
    """So many messages in so many seconds, whichever seconds one looks at."""

    limit: int
    length_s: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    accepted_at: deque[float] = field(default_factory=deque)

    def takes_one(self, now: float) -> bool:
        with self.lock:
            while self.accepted_at and self.accepted_at[0] <= now - self.length_s:
                self.accepted_at.popleft()
            if len(self.accepted_at) >= self.limit:
                return False
            self.accepted_at.append(now)
            return True


class RecordingSink(Sink):
    """One conversation. `delay_s` goes by before a message is answered; with a window, it may be refused."""

    def __init__(self, offer: Offer, log: Log, *, delay_s: float = 0, window: Window | None = None) -> None:
        super().__init__(offer, log.counts)
        self._log = log
        self._delay_s = delay_s
        self._window = window

    def _accept(self, content: bytes) -> bytes:
        self._reset()
        if self._delay_s:
            time.sleep(self._delay_s)
        if self._window is not None and not self._window.takes_one(time.monotonic()):
            self._log.throttled += 1
            self.wants = "close"
            return THROTTLED
        self._log.note(content)
        return b"250 2.0.0 Ok: queued as %X\r\n" % len(self._log.arrivals)


class Desk:
    """Answers the lines of whoever started the sink."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def answer(self, line: str) -> dict[str, Any]:
        """`reset`, `wait N SECONDS` (until N came since the reset), `counts`, or `arrivals` (time and Message-ID)."""
        log = self._log
        verb, *words = line.split()
        if verb == "reset":
            log.wanted, log.throttled = sys.maxsize, 0
            log.arrivals.clear()
        elif verb == "wait":
            log.enough.clear()
            log.wanted = int(words[0])
            if len(log.arrivals) < log.wanted:
                log.enough.wait(float(words[1]))
        elif verb == "arrivals":
            return {"arrivals": log.arrivals}
        return self._counts()

    def _counts(self) -> dict[str, Any]:
        log, used = self._log, resource.getrusage(resource.RUSAGE_SELF)
        times = [at for at, _ in log.arrivals] or [0.0]
        return {
            "messages": len(log.arrivals),
            "first_at": min(times),
            "last_at": max(times),
            "throttled": log.throttled,
            "connections": log.counts.connections,
            "violations": log.counts.violations,
            "cpu_s": used.ru_utime + used.ru_stime,
        }


def message_id(content: bytes) -> str:
    """The Message-ID without its brackets, or an empty text."""
    start = content.lower().find(b"message-id:", 0, 4096)
    if start < 0:
        return ""
    end = content.find(b">", start)
    return content[content.find(b"<", start) + 1 : end].decode("ascii", "replace")


def hang(sock: socket.socket) -> None:
    """Say nothing for as long as the other side likes."""
    with sock:
        while sock.recv(65_536):
            pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=30)
    parser.add_argument("--window-s", type=float, default=60)
    arguments = parser.parse_args()
    log = Log()
    window = Window(arguments.limit, arguments.window_s)

    def port(offer: Offer, **more: Any) -> int:
        def serve(sock: socket.socket) -> None:
            converse(sock, offer, log.counts, None, sink=RecordingSink(offer, log, **more))

        return listen(serve)

    ports = {
        "open": port(OPEN),
        "signed": port(SIGNED),
        "brisk": port(SIGNED, delay_s=BRISK_S),
        "slow": port(OPEN, delay_s=SLOW_S),
        "limited": port(SIGNED, window=window),
        "hanging": listen(hang),
    }
    say(ports=ports)
    desk = Desk(log)
    for line in sys.stdin:
        say(**desk.answer(line))


if __name__ == "__main__":
    main()
