"""PostgreSQL and Redis for a benchmark: of our own, on free ports of loopback, gone at the end."""

from __future__ import annotations

import shutil
import socket
import tempfile
from contextlib import closing

from bench.processes import Failed, Program, wait_for
from tests.fakes import tools
from tests.fakes.installation import free_port
from tests.fakes.postgres import Postgres


def start_postgres() -> Postgres:
    """A PostgreSQL whose commits are durable.

    Raises:
        Failed: it is not installed.
    """
    if tools.postgres_bin() is None:
        raise Failed("PostgreSQL is not installed")
    return Postgres(durable=True)


def plain_url(database_url: str) -> str:
    """The URL without our driver's name, as everybody but SQLAlchemy writes it."""
    return database_url.replace("postgresql+psycopg://", "postgresql://")


class Redis:
    """A Redis that keeps nothing on disk. It can be emptied, stopped and started again at the same port."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Failed("Redis is not installed")
        self._command = [program, "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        self._directory = tempfile.mkdtemp(prefix="storepost-redis-")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program: Program | None = None
        self.start()

    def start(self) -> None:
        self._program = Program([*self._command, "--port", str(self.port), "--dir", self._directory])
        wait_for(self._answers, timeout_s=10, words="Redis did not start")

    def stop(self) -> None:
        if self._program is not None:
            self._program.close()
            self._program = None

    def empty(self) -> None:
        """Forget everything."""
        self._say(b"FLUSHALL")

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            return self._say(b"PING") == b"+PONG\r\n"
        except OSError:
            return False

    def _say(self, command: bytes) -> bytes:
        with closing(socket.create_connection(("127.0.0.1", self.port), timeout=5)) as sock:
            sock.sendall(command + b"\r\n")
            return sock.recv(64)
