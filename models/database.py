"""How we talk to SQLite: durable, patient, and honest about who writes.

WAL with `synchronous=FULL` (a 202 must survive a power cut), foreign keys on, a busy timeout. Writers start with
BEGIN IMMEDIATE, because a deferred transaction that turns into a writer fails at once when another one is writing
(73,000 busy errors in our measurement); readers stay deferred, so that a GET never waits for a writer.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event, exc

BUSY_TIMEOUT_MS = 20_000
# A connection used this lately is taken for alive: asking it each time would be a round trip for each transaction.
_TRUSTED_S = 5.0
# Between two looks whether somebody still writes, longer after every twenty.
_PAUSES_S = (0.0003, 0.001, 0.005)

_reads_only: ContextVar[bool] = ContextVar("storepost_reads_only", default=False)


def set_reads_only(value: bool) -> None:
    """Say whether transactions begun from here on (in this thread or task) only read."""
    _reads_only.set(value)


@contextmanager
def reading() -> Iterator[None]:
    """Transactions begun inside the block only read."""
    token = _reads_only.set(True)
    try:
        yield
    finally:
        _reads_only.reset(token)


@contextmanager
def writing() -> Iterator[None]:
    """Transactions begun inside the block may write, whatever the request's method says."""
    token = _reads_only.set(False)
    try:
        yield
    finally:
        _reads_only.reset(token)


def is_postgres(bind: Connection | Engine) -> bool:
    """Whether it leads to PostgreSQL, and so over a network to where several statements are better one."""
    return bind.dialect.name == "postgresql"


def prepare_engine(engine: Engine) -> None:
    """Install our habits on an engine: those above for SQLite, and for PostgreSQL a look at connections that were idle
    and a planner that fetches rows by their index.
    """
    if engine.dialect.name != "sqlite":
        _ask_idle_connections(engine)
        _prefer_indexes(engine)
        return

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, record: Any) -> None:
        # The driver's own implicit BEGIN would be a deferred one: we begin ourselves.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_MS}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    line = _Line()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        # On the driver's cursor: every transaction begins here, and SQLAlchemy's own way costs more than a statement.
        words, cursor = "BEGIN" if _reads_only.get() else "BEGIN IMMEDIATE", connection.connection.cursor()
        try:
            if _reads_only.get():
                cursor.execute(words)
            else:
                line.enter(connection.connection.driver_connection)
                _take_pen(cursor)
        except sqlite3.Error as error:
            line.leave(connection.connection.driver_connection)
            connection._handle_dbapi_exception(error, words, (), cursor, None)

    # The events of a commit and a rollback come before them, and whoever waits would find the file busy.
    dialect: Any = engine.dialect
    dialect.do_commit = _then(line, dialect.do_commit)
    dialect.do_rollback = _then(line, dialect.do_rollback)
    # A connection that is lost, or thrown away, sees no end.
    event.listen(engine, "checkin", lambda lost, _: line.leave(lost))
    event.listen(engine, "invalidate", lambda lost, *_: line.leave(lost))


def _then(line: _Line, end: Callable[[PoolProxiedConnection], None]) -> Callable[[PoolProxiedConnection], None]:
    """What ends a transaction, and leaves the line after it."""

    def end_and_leave(connection: PoolProxiedConnection) -> None:
        try:
            end(connection)
        finally:
            line.leave(connection.driver_connection)

    return end_and_leave


class _Line:
    """The writers of this process, one behind the other: of a hundred threads, one asks SQLite for the pen.

    Where all of them ask, the asking takes the time that the one who writes needs.
    """

    def __init__(self) -> None:
        self._first = threading.Lock()
        self._writer: object | None = None

    def enter(self, connection: object) -> None:
        """Wait for our turn, as long as SQLite itself may be waited for; it is then SQLite that says it is busy."""
        if self._writer is not connection and self._first.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            self._writer = connection

    def leave(self, connection: object) -> None:
        """Let the next one ask: the file is free."""
        if connection is not None and self._writer is connection:
            self._writer = None
            self._first.release()


def _take_pen(cursor: Any) -> None:
    """Begin to write as soon as nobody else does.

    SQLite itself looks again after 1, 2, 5, 10 ms and so on up to 100, while most writers are done within 2: with two
    processes that accept mail, more time went by asleep than at work.
    """
    ends = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    cursor.execute("PRAGMA busy_timeout=0")
    try:
        for tries in itertools.count():
            try:
                cursor.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                    raise
                time.sleep(_PAUSES_S[min(tries // 20, len(_PAUSES_S) - 1)])
            else:
                return
    finally:
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")


def _ask_idle_connections(engine: Engine) -> None:
    """Replace connections that died in the pool before anybody uses them: all of them after a database restart."""

    @event.listens_for(engine, "checkin")
    def on_checkin(connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: Any, proxy: Any) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at < _TRUSTED_S:
            return
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
            connection.rollback()
        except Exception as error:
            # The pool takes this as its word to connect anew and ask again.
            raise exc.DisconnectionError from error


def _prefer_indexes(engine: Engine) -> None:
    """Tell each session's planner that a page at random costs hardly more than the next one.

    That is so in memory and on today's disks, where our statements fetch a few rows by their keys. With the usual
    setting, made for disks that turn, it looks at a whole table of some thousand rows for four of them.
    """

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET random_page_cost = 1.1")
        connection.commit()
