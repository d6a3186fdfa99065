"""A PostgreSQL of our own: in a folder that goes away, on a free port of loopback, stopped at the end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from tests.fakes import tools


class Postgres:
    """Start it once a test session; `new_database()` gives each test an empty one.

    `also_on` is an address beside loopback where it listens, for workers in networks of their own; `more` are variables
    of its environment; `durable` makes a commit wait for the disk, as it does outside of tests.
    """

    def __init__(self, *, also_on: str = "", more: Mapping[str, str] | None = None, durable: bool = False) -> None:
        self._fsync = "on" if durable else "off"
        # Given after the change of user: what changes a program's libraries must not meet setpriv.
        self._setting = ["env", *(f"{name}={value}" for name, value in (more or {}).items())]
        folder = tools.postgres_bin()
        assert folder is not None
        self._bin = folder
        self._directory = Path(tempfile.mkdtemp(prefix="storepost-pg-"))
        self._count = 0
        # Of every server that was started on this data, the running one last.
        self.pids: list[int] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        # The server refuses to run as root; as anybody else it runs as that person.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(self._directory, "postgres")
        data = self._directory / "data"
        self._run("initdb", "-D", str(data), "-U", "storepost", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        if also_on:
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write("host all all all trust\n")
        self._addresses = ",".join(filter(None, ("127.0.0.1", also_on)))
        self.start()

    def start(self) -> None:
        """Start the server and wait until it answers; what was committed before is there again."""
        settings = {
            "listen_addresses": self._addresses,
            "fsync": self._fsync,
            "shared_buffers": "64MB",
            "max_connections": "200",
            # In its own folder, which goes away with it, and not in what the whole machine shares.
            "dynamic_shared_memory_type": "mmap",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        place = ["-D", str(self._directory / "data"), "-p", str(self.port), "-k", str(self._directory)]
        self._process = subprocess.Popen(
            self._as_user(*self._setting, str(self._bin / "postgres"), *place, *options),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pids.append(self._process.pid)
        self._wait()

    def crash(self) -> None:
        """End it at once, as a power cut would for its clients: no farewell, recovery at the next start."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

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
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready = subprocess.run(
                [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError("PostgreSQL did not start")

    def new_database(self, *, like: str = "") -> str:
        """The URL of a fresh database: empty, or with the tables and rows of the one at the URL `like`."""
        self._count += 1
        name = f"test_{os.getpid()}_{self._count}"
        template = ["-T", like.rpartition("/")[2]] if like else []
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "storepost", *template, name)
        return f"postgresql+psycopg://storepost@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """End it without waiting for its clients, and remove all that it had.

        Only when nothing else helps it is killed: the memory that it shares would stay behind.
        """
        for how, within_s in ((signal.SIGINT, 30), (signal.SIGQUIT, 20), (signal.SIGKILL, None)):
            self._process.send_signal(how)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(within_s)
                break
        shutil.rmtree(self._directory, ignore_errors=True)
