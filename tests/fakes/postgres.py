"""A PostgreSQL of our own: in a folder that goes away, on a free port of loopback, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.fakes import tools


class Postgres:
    """Start it once a test session; `new_database()` gives each test an empty one."""

    def __init__(self) -> None:
        folder = tools.postgres_bin()
        assert folder is not None
        self._bin = folder
        self._directory = Path(tempfile.mkdtemp(prefix="storepost-pg-"))
        self._count = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # The server refuses to run as root; as anybody else it runs as that person.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self._directory, "postgres")
        data = self._directory / "data"
        self._run("initdb", "-D", str(data), "-U", "storepost", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self._process = subprocess.Popen(
            self._as_user(
                str(self._bin / "postgres"),
                "-D",
                str(data),
                "-p",
                str(self.port),
                "-k",
                str(self._directory),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "fsync=off",
                "-c",
                "shared_buffers=64MB",
            ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _as_user(self, *command: str) -> list[str]:
        return (
            ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", *command]
            if os.geteuid() == 0
            else list(command)
        )

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._as_user(str(self._bin / program), *arguments), capture_output=True, text=True, cwd="/"
        )
        if done.returncode:
            raise RuntimeError(done.stderr)

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            ready = subprocess.run(
                [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start")

    def new_database(self) -> str:
        """The URL of a fresh, empty database."""
        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "storepost", name)
        return f"postgresql+psycopg://storepost@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
