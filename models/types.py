"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import enum
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Dialect, Enum, Integer
from sqlalchemy.types import TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# SQLite gives automatic ids to INTEGER primary keys only.
BigId = BigInteger().with_variant(Integer, "sqlite")


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime, stored as whole milliseconds since 1970.

    One integer compares and adds alike in both databases, and fits `models.clock`; SQLite has no type with a zone.
    """

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        return round((value - EPOCH) / timedelta(milliseconds=1))

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else from_ms(value)


def from_ms(value: int) -> datetime:
    """An `Instant` as the database has it, as a datetime."""
    return EPOCH + timedelta(milliseconds=int(value))


def enum_column(kind: type[enum.StrEnum]) -> Enum:
    """A text column that holds the values (not the names) of a StrEnum, with room for later ones."""
    return Enum(
        kind, native_enum=False, create_constraint=False, length=32, values_callable=lambda k: [m.value for m in k]
    )


def new_uid() -> str:
    """A 128-bit random name for a row, made before the insert so that sealed values can be bound to it."""
    return secrets.token_hex(16)


def utcnow() -> datetime:
    """Now by this process's clock: for what people read. Leases and due times use `models.clock`."""
    return datetime.now(UTC)
