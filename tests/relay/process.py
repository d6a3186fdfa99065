"""`flask relay` as a process of its own, on the database of the test's application."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from flask import Flask

from tests.fakes.installation import BIN, ROOT, free_port


class RelayProcess:
    """Started on entering, ended on leaving; `log` holds all it printed."""

    def __init__(self, app: Flask, directory: Path, **settings: str) -> None:
        self.port = free_port()
        self.log_file = directory / f"relay-{self.port}.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "FLASK_APP": "app",
            "STOREPOST_PUBLIC_URL": app.config["PUBLIC_URL"],
            "STOREPOST_SECRET_KEY": app.config["SECRET_KEY"],
            "STOREPOST_KEYRING": app.config["KEYRING"],
            "STOREPOST_DATABASE_URL": app.config["SQLALCHEMY_DATABASE_URI"].replace("postgresql+psycopg", "postgresql"),
            "STOREPOST_QUEUE_URL": f"sqlite:///{directory / 'queue.sqlite3'}",
            "STOREPOST_RELAY_PORT": str(self.port),
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def start(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(BIN / "flask"), "relay"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        ends = time.monotonic() + 60
        while True:
            assert self._process.poll() is None, self.log
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < ends, self.log
                time.sleep(0.05)

    def kill(self) -> None:
        """Without a warning, as a crash does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """As a process manager does; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(40)
