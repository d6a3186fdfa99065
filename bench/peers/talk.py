"""How a peer talks with the benchmark: a line in, a line of JSON out; and counting what was done."""

import json
import sys
import threading
import time


def say(**answer):
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def questions():
    """Each line of the input as its first word and the others as numbers."""
    for line in sys.stdin:
        verb, *values = line.split()
        yield verb, [float(value) for value in values]


class Done:
    """How many tasks were done since `begin`, and when the first and the last one were (CLOCK_MONOTONIC)."""

    def __init__(self):
        self._lock = threading.Lock()
        self.begin()

    def begin(self):
        self.number, self.first_at, self.last_at = 0, 0.0, 0.0

    def one(self):
        with self._lock:
            self.last_at = time.monotonic()
            self.number += 1
            if self.number == 1:
                self.first_at = self.last_at

    def facts(self):
        return {"number": self.number, "first_at": self.first_at, "last_at": self.last_at}

    def wait(self, number, seconds):
        ends = time.monotonic() + seconds
        while self.number < number and time.monotonic() < ends:
            time.sleep(0.02)
