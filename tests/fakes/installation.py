"""A whole Storepost as operators run it: commands, gunicorn and worker as processes, beside a sandbox."""

from __future__ import annotations

import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox.serve import Sandbox

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


# What the commands made for the first installation of this process: keyring and empty database.
_ready: list[bytes] = []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Installation:
    """Started on entering, stopped on leaving; `log` holds everything its processes printed.

    `more` are settings beside and above the usual ones; `trusted` is a file of authorities that are trusted like the
    sandbox's own; `application` is what gunicorn runs.
    """

    def __init__(
        self,
        directory: Path,
        *,
        database_url: str = "",
        worker: bool = True,
        more: Mapping[str, str] | None = None,
        trusted: str = "",
        application: str = "app:create_app()",
    ):
        self.directory = directory
        self.sandbox = Sandbox(directory / "sandbox")
        self._wants_worker = worker
        self._more = dict(more or {})
        self._trusted = trusted
        self._application = application
        self._has_own_file = not database_url
        self._database_url = database_url or f"sqlite:///{directory / 'storepost.sqlite3'}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self.log_file = directory / "log.txt"

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self.port = free_port()
        self.sandbox.start()
        (self.directory / "secret_key").write_text(secrets.token_urlsafe(48))
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "FLASK_APP": "app",
            "STOREPOST_PUBLIC_URL": self.url,
            "STOREPOST_SECRET_KEY_FILE": str(self.directory / "secret_key"),
            "STOREPOST_KEYRING_FILE": str(self.directory / "keyring"),
            "STOREPOST_DATABASE_URL": self._database_url.replace("postgresql+psycopg://", "postgresql://"),
            "STOREPOST_CA_FILE": str(self._ca_file()),
            "STOREPOST_EGRESS_ALLOW": f"localhost:{self.sandbox.token_port},{self.sandbox.smtp_port},"
            f"{self.sandbox.smtps_port}",
            "STOREPOST_IMPLICIT_TLS_PORTS": f"465,2465,{self.sandbox.smtps_port}",
            "STOREPOST_SANDBOX_WEB_URL": self.sandbox.web_url,
            "STOREPOST_SANDBOX_TOKEN_URL": self.sandbox.issuer,
            "STOREPOST_SANDBOX_SMTP_PORT": str(self.sandbox.smtp_port),
            "STOREPOST_DNS_SERVERS": "127.0.0.1:9",  # nobody answers there
        } | self._more
        self._make_ready()
        self._start(str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{self.port}", "--workers", "1", self._application)
        if self._wants_worker:
            self.start_worker()
        self._wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.sandbox.stop()

    def _make_ready(self) -> None:
        """Make keys and tables by our commands; on SQLite once in each process of tests, and by copying after that."""
        files = [self.directory / name for name in ("keyring", "storepost.sqlite3")]
        if not self._has_own_file or not _ready:
            self.flask("secrets", "init", str(self.directory / "keyring"))
            self.flask("db", "upgrade")
            if self._has_own_file:
                _ready.extend(file.read_bytes() for file in files)
            return
        for file, content in zip(files, _ready, strict=True):
            file.write_bytes(content)
            file.chmod(0o600)

    def _ca_file(self) -> Path:
        if not self._trusted:
            return self.sandbox.ca_file
        both = self.directory / "trusted.pem"
        both.write_text(self.sandbox.ca_file.read_text() + Path(self._trusted).read_text())
        return both

    def flask(self, *arguments: str, given: str = "") -> str:
        """What one of our commands printed."""
        done = subprocess.run(
            [str(BIN / "flask"), *arguments],
            cwd=ROOT,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def start_worker(self) -> subprocess.Popen[bytes]:
        self._worker = self._start(str(BIN / "flask"), "worker")
        return self._worker

    def stop_worker(self) -> None:
        """Ask the worker that was started last to end, and wait until it has."""
        self._worker.terminate()
        self._worker.wait(30)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> None:
        """Write to the SQLite file behind everybody's back."""
        with closing(sqlite3.connect(self.directory / "storepost.sqlite3", timeout=20)) as connection, connection:
            connection.execute(statement, values)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._processes[0].poll() is None, self.log
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except urllib.error.HTTPError:
                return  # it answers: with the port's own host name it is somebody else's page
            except OSError:
                time.sleep(0.1)
        raise AssertionError(self.log)
