"""Somebody else who keeps the database from writing for a while, and how to know that a worker ran into it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psycopg

from extensions import db

# SQLite does not tell who waits; a worker that writes several times a second has met the lock after this.
MET_S = 0.7


class Lock(Protocol):
    def wait_until_met(self) -> None:
        """Wait until somebody waits for the lock."""
        ...


@contextmanager
def writing_blocked() -> Iterator[Lock]:
    """Keep everybody from changing messages while the block runs; reading goes on."""
    db.session.remove()
    url = db.engine.url
    if url.get_backend_name() == "sqlite":
        with _sqlite_locked(str(url.database), "IMMEDIATE") as lock:
            yield lock
        return
    with psycopg.connect(url.set(drivername="postgresql").render_as_string(hide_password=False)) as connection:
        connection.execute("LOCK TABLE messages IN SHARE ROW EXCLUSIVE MODE")
        yield _PostgresLock(connection)
        connection.rollback()


@contextmanager
def sqlite_locked() -> Iterator[Lock]:
    """Keep everybody from writing to the SQLite database as another program's transaction would."""
    db.session.remove()
    with _sqlite_locked(str(db.engine.url.database), "EXCLUSIVE") as lock:
        yield lock


@contextmanager
def _sqlite_locked(file: str, mode: str) -> Iterator[Lock]:
    connection = sqlite3.connect(file, isolation_level=None, timeout=20)
    try:
        connection.execute(f"BEGIN {mode}")
        yield _SQLiteLock()
        connection.execute("ROLLBACK")
    finally:
        connection.close()


class _SQLiteLock:
    def wait_until_met(self) -> None:
        time.sleep(MET_S)


class _PostgresLock:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def wait_until_met(self) -> None:
        ends = time.monotonic() + 15
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'messages'::regclass"
        while True:
            (count,) = self._connection.execute(waiting).fetchone() or (0,)
            if count:
                return
            assert time.monotonic() < ends, "nobody came to the lock"
            time.sleep(0.05)
