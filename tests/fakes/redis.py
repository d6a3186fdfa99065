"""A Redis of our own: in memory only, on a free port, gone at the end."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import redis


class Redis:
    """Running from the start; `stop`, `start` and `flush` do what operators and accidents do."""

    def __init__(self, *, also_on: str = "") -> None:
        program = shutil.which("redis-server")
        assert program is not None
        self._program = program
        self._directory = Path(tempfile.mkdtemp(prefix="storepost-redis-"))
        self._also_on = also_on
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start, with nothing remembered, and wait until it answers."""
        addresses = ["127.0.0.1", *([self._also_on] if self._also_on else [])]
        self._process = subprocess.Popen(
            [
                self._program,
                *("--port", str(self.port), "--bind", *addresses, "--save", "", "--appendonly", "no"),
                *("--protected-mode", "no", "--dir", str(self._directory)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        ends = time.monotonic() + 10
        while not self._answers():
            assert time.monotonic() < ends, "Redis did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False

    def flush(self) -> None:
        """Forget everything, as an operator's FLUSHALL does."""
        with redis.Redis(port=self.port) as client:
            client.flushall()

    def stop(self) -> None:
        """End it like an accident would: nothing is written down."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
