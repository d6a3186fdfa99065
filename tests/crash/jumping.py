"""A worker under libfaketime, whose own sleep fails when only the time of day is changed.

It calls each time.sleep() a wrong argument then. Waiting for an event takes the same time in another way.

    python -m tests.crash.jumping THREADS
"""

from __future__ import annotations

import sys
import threading
import time

import start_worker


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


if __name__ == "__main__":
    time.sleep = _sleep
    start_worker.main(int(sys.argv[1]))
