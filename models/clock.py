"""The one source of database time, in milliseconds: leases and due times never trust a worker's own clock.

`julianday` on SQLite because `unixepoch('subsec')` is NULL there before 3.42; `clock_timestamp()` on PostgreSQL because
`now()` stands still inside a transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, type_coerce
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from models.types import Instant

_test_offset_ms = 0


class _DatabaseMilliseconds(FunctionElement[int]):
    type = BigInteger()
    name = "database_milliseconds"
    inherit_cache = True


@compiles(_DatabaseMilliseconds, "sqlite")
def _on_sqlite(element: _DatabaseMilliseconds, compiler: Any, **kw: Any) -> str:
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(_DatabaseMilliseconds, "postgresql")
def _on_postgresql(element: _DatabaseMilliseconds, compiler: Any, **kw: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


def now(plus: timedelta = timedelta()) -> ColumnElement[datetime]:
    """SQL for the database's clock plus a duration, comparable with and assignable to `Instant` columns."""
    shift_ms = round(plus / timedelta(milliseconds=1))
    # Asked at each execution, so that statements can be built once and tests can still move the clock.
    shift = bindparam(None, callable_=lambda: shift_ms + _test_offset_ms, type_=BigInteger(), unique=True)
    return type_coerce(_DatabaseMilliseconds() + shift, Instant())


def now_plus_ms(milliseconds: ColumnElement[int]) -> ColumnElement[datetime]:
    """The same with a duration that is SQL itself, such as a bound parameter: whole milliseconds."""
    return type_coerce(now() + type_coerce(milliseconds, BigInteger()), Instant())


@contextmanager
def shifted(by: timedelta) -> Iterator[None]:
    """Tests only: the database's clock appears moved while the block runs, in this process."""
    global _test_offset_ms
    before, _test_offset_ms = _test_offset_ms, _test_offset_ms + round(by / timedelta(milliseconds=1))
    try:
        yield
    finally:
        _test_offset_ms = before
