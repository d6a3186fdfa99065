"""What the compared programs talk to: a mail server, near and over a long road, a PostgreSQL, a Redis, a directory."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from bench.cores import free_cores, keep_on, shares
from bench.processes import Child, Failed
from bench.servers import Redis, start_postgres
from bench.smtp import ONE_WAY_MS
from tests.fakes.postgres import Postgres

NEAR, FAR = "near", "far"


class Scenery:
    """Server, road, databases and broker of one run, on the server's core; everything started later is on the other."""

    def __init__(self, *, cores: int) -> None:
        self._cores = cores
        self._stack = contextlib.ExitStack()
        self._postgres: Postgres | None = None
        self._redis: Redis | None = None

    def __enter__(self) -> Scenery:
        with contextlib.ExitStack() as stack:
            server_cores, client_cores = shares(self._cores)
            stack.callback(keep_on, free_cores())
            keep_on(server_cores)
            self.directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storepost-bench-")))
            self.sink = stack.enter_context(Child.module("bench.recording_sink"))
            self.ports = {NEAR: self.sink.greeting["ports"]}
            targets = [f"{name}={self.ports[NEAR][name]}" for name in ("open", "signed")]
            road = stack.enter_context(Child.module("bench.delay_proxy", "--one-way-ms", str(ONE_WAY_MS), *targets))
            self.ports[FAR] = road.greeting["ports"]
            with contextlib.suppress(Failed):
                self._postgres = start_postgres()
                stack.callback(self._postgres.stop)
            with contextlib.suppress(Failed):
                self._redis = Redis()
                stack.callback(self._redis.close)
            keep_on(client_cores)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def new_database(self, kind: str, name: str) -> str:
        """The URL of an empty database: a file for SQLite (as `sqlite:PATH`), or one on our PostgreSQL.

        Raises:
            Failed: there is no PostgreSQL here.
        """
        if kind == "sqlite":
            return f"sqlite:{self.directory / name}.sqlite3"
        if self._postgres is None:
            raise Failed("PostgreSQL is not installed")
        return self._postgres.new_database()

    @property
    def redis(self) -> Redis:
        if self._redis is None:
            raise Failed("Redis is not installed")
        return self._redis
