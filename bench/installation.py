"""A Storepost as operators run it, for benchmarks: its environment, its processes, and a helper that hands mail in.

Everything is driven from outside: settings by environment, delivery by `flask worker`, HTTP by gunicorn. What is done
inside (stores, messages) is done by `bench/feeder.py` in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.processes import ROOT, Child, Failed, Program, wait_for
from bench.servers import plain_url
from security.vault import Keyring
from tests.fakes.installation import free_port

BIN = Path(sys.executable).parent


class Installation:
    """A context manager: an empty database with all tables, a feeder, and whatever workers and servers are started.

    `more` are settings beside the usual ones. Without `database_url` it is SQLite, without `queue_url` what Storepost
    takes then.
    """

    def __init__(self, *, database_url: str = "", queue_url: str = "", more: Mapping[str, str] | None = None) -> None:
        self._stack = contextlib.ExitStack()
        self._database_url = database_url
        self._queue_url = queue_url
        self._more = dict(more or {})
        self.port = free_port()
        self.web_pid = 0
        self.url = f"http://localhost:{self.port}"

    def __enter__(self) -> Installation:
        with contextlib.ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storepost-bench-")))
            self.environment = self._environment(directory)
            self.feeder = stack.enter_context(Child.module("bench.feeder", environment=self.environment))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _environment(self, directory: Path) -> dict[str, str]:
        database_url = plain_url(self._database_url) or f"sqlite:///{directory / 'storepost.sqlite3'}"
        queue = {"STOREPOST_QUEUE_URL": plain_url(self._queue_url)} if self._queue_url else {}
        passed_on = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") if name in os.environ}
        return {
            **passed_on,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "FLASK_APP": "app",
            "STOREPOST_PUBLIC_URL": self.url,
            "STOREPOST_SECRET_KEY": secrets.token_urlsafe(48),
            "STOREPOST_KEYRING": Keyring.generate("bench").strip(),
            "STOREPOST_DATABASE_URL": database_url,
            "STOREPOST_EGRESS_ALLOW": "127.0.0.1:*",
            "STOREPOST_PLAINTEXT_AUTH_HOSTS": "127.0.0.1",
            **queue,
            **self._more,
        }

    # Who works here ----------------------------------------------------------------------------------------------

    def ask(self, do: str, *, timeout_s: float = 120, **values: Any) -> dict[str, Any]:
        """Let the feeder do something; see the methods of `bench.feeder.Feeder`."""
        return self.feeder.ask(json.dumps({"do": do, **values}), timeout_s=timeout_s)

    def start_worker(self, *, threads: int = 4, instant: Sequence[str] | None = None) -> Program:
        """Start `flask worker` and return once it says that it works; with `instant`, one that only pretends to send,
        and these are its further arguments.
        """
        command = [str(BIN / "flask"), "worker"]
        if instant is not None:
            command = [sys.executable, "-m", "bench.instant_worker", *instant]
        worker = Program([*command, "--threads", str(threads)], environment=self.environment)
        self._stack.callback(worker.close)
        wait_for(lambda: _has_started(worker), timeout_s=30, words="the worker did not start")
        return worker

    def start_web(self, *, workers: int = 2, threads: int = 4) -> Program:
        """Start gunicorn at `self.url` and return once it answers."""
        command = [str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{self.port}", "--workers", str(workers)]
        web = Program([*command, "--threads", str(threads), "app:create_app()"], environment=self.environment)
        self._stack.callback(web.close)
        self.web_pid = web.pid
        wait_for(self._answers, timeout_s=30, words="the web server did not start")
        return web

    def hold_still(self, worker: Program) -> None:
        """Stop a worker where it stands, at a moment when it holds no lock that others wait for.

        SIGCONT is then a starting signal that costs neither a start nor a timer.
        """
        for _ in range(20):
            worker.signal(signal.SIGSTOP)
            if self.ask("is_free")["free"]:
                return
            worker.signal(signal.SIGCONT)
            time.sleep(0.1)
        raise Failed("the worker always holds a lock")

    def wait_until_done(self, *, timeout_s: float) -> float:
        """Return when no message waits or is on its way any more (CLOCK_MONOTONIC)."""
        answer = self.ask("await_all", seconds=timeout_s, timeout_s=timeout_s + 10)
        if answer["count"]:
            raise Failed(f"{answer['count']} messages have no outcome after {timeout_s:g} s")
        return float(answer["seen_at"])

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def _has_started(worker: Program) -> bool:
    if not worker.is_running:
        lines = worker.log.strip().splitlines()
        raise Failed(f"the worker ended: {lines[-1] if lines else 'without a word'}")
    return "started" in worker.log
