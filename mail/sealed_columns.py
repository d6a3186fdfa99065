"""Every column that holds sealed values, and how to walk them: the one list behind `flask secrets`.

A column that is missing here would be left under an old key by a rotation, and be lost when that key is dropped. So
a house test walks the models and fails on any `sealed` or `*_sealed` column that is not listed. The check values of
`mail.keys` are the one exception: each belongs to its key and goes with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import Column, ColumnElement, FromClause, Select, Table, and_, func, inspect, not_, select

from extensions import Model, db
from models.authorization_request import AuthorizationRequest
from models.connection import Connection
from models.database import reading
from models.email_settings import CustomField, EmailSettings
from models.outbox import Message, MessageBlob, MessageContent
from models.store import Store
from models.test_run import TestRun
from security.vault import VERSION, Place

BATCH_ROWS: Final = 200
# A message may be 25 MB; a batch ends with the value that takes it past this.
BATCH_BYTES: Final = 4 * 1024 * 1024
# "v1.", a name of at most 32 characters, a dot.
_LONGEST_PREFIX: Final = len(VERSION) + 1 + 32 + 1
# What `usage` counts values under that name no key at all.
NO_KEY: Final = ""


def _table(model: type[Model]) -> Table:
    return cast(Table, model.__table__)


_settings, _fields, _messages = _table(EmailSettings), _table(CustomField), _table(Message)


@dataclass(frozen=True)
class SealedColumn:
    """One column of sealed values.

    Attributes:
        uid: the column that names the row a value is bound to; of the same table unless `via` joins another.
        owners: the ids of the stores that a row (by primary key) works for.
        remedy: what to do when a value does not open, as a sentence without its full stop.
    """

    table: Table
    name: str
    uid: Column[Any]
    owners: Callable[[int], Select[Any]]
    remedy: str
    via: ColumnElement[bool] | None = None

    @property
    def label(self) -> str:
        return f"{self.table.name}.{self.name}"

    @property
    def column(self) -> Column[Any]:
        return self.table.c[self.name]

    @property
    def key(self) -> Column[Any]:
        """The primary key: what batches go by."""
        (key,) = self.table.primary_key.columns
        return key

    @property
    def source(self) -> FromClause:
        return self.table if self.via is None else self.table.join(self.uid.table, self.via)

    def place(self, uid: str) -> Place:
        return Place(self.table.name, uid, self.name)


class SealedValue(NamedTuple):
    """One stored value: primary key and uid of its row, and the value as it is stored."""

    key: int
    uid: str
    sealed: str


def _of_connection(key: int) -> Select[Any]:
    return select(_settings.c.store_id).where(_settings.c.connection_id == key)


def _of_field(key: int) -> Select[Any]:
    field = select(_fields.c.email_settings_id).where(_fields.c.id == key)
    return select(_settings.c.store_id).where(_settings.c.id.in_(field))


def _of_blob(key: int) -> Select[Any]:
    blobs = _table(MessageBlob)
    return select(_messages.c.store_id).where(_messages.c.id.in_(select(blobs.c.message_id).where(blobs.c.id == key)))


def _of(table: Table) -> Callable[[int], Select[Any]]:
    return lambda key: select(table.c.store_id).where(table.c.id == key)


def _in(model: type[Model], name: str, owners: Callable[[int], Select[Any]], remedy: str) -> SealedColumn:
    return SealedColumn(_table(model), name, _table(model).c.uid, owners, remedy)


_AGAIN = "Enter the credentials again"

SEALED_COLUMNS: Final = (
    _in(EmailSettings, "password_sealed", _of(_settings), f"{_AGAIN}: Password on the SMTP tab"),
    _in(CustomField, "value_sealed", _of_field, f"{_AGAIN}: Custom Fields on the Advanced SMTP tab"),
    _in(Connection, "client_secret_sealed", _of_connection, f"{_AGAIN}: Client Secret on the Advanced SMTP tab"),
    _in(Connection, "refresh_token_sealed", _of_connection, f"{_AGAIN}: press Connect, or paste a Refresh Token"),
    _in(Connection, "access_token_sealed", _of_connection, f"{_AGAIN}: press Connect, or type the Client Secret"),
    _in(Connection, "token_parameters_sealed", _of_connection, f"{_AGAIN}: save the Advanced SMTP tab once more"),
    _in(AuthorizationRequest, "verifier_sealed", _of(_table(AuthorizationRequest)), "Press Connect once more"),
    _in(TestRun, "settings_sealed", _of(_table(TestRun)), "Start the test once more"),
    SealedColumn(
        _table(MessageContent),
        "sealed",
        _messages.c.uid,
        _of(_messages),
        "This message cannot be sent: restore its key and press Try again, or cancel it and hand it in anew",
        via=_table(MessageContent).c.message_id == _messages.c.id,
    ),
    _in(
        MessageBlob,
        "sealed",
        _of_blob,
        "An attachment cannot be sent: restore its key and press Try again, or cancel the message and hand it in anew",
    ),
)


def existing() -> tuple[SealedColumn, ...]:
    """Return the columns that this database has; an older revision has fewer."""
    found = inspect(db.engine)
    present = {name: {column["name"] for column in found.get_columns(name)} for name in found.get_table_names()}
    return tuple(one for one in SEALED_COLUMNS if one.name in present.get(one.table.name, ()))


def under(column: SealedColumn, key_id: str) -> ColumnElement[bool]:
    """Return the condition that a value was sealed with this key. Not LIKE: SQLite's does not tell k1 from K1."""
    prefix = f"{VERSION}.{key_id}."
    return func.substr(column.column, 1, len(prefix)) == prefix


def batches(column: SealedColumn, *conditions: ColumnElement[bool]) -> Iterator[list[SealedValue]]:
    """Give the stored values in order of their rows, at most BATCH_ROWS and about BATCH_BYTES at a time.

    Each batch is read in a short transaction of its own, so the caller may write between them; what it had open ends.
    """
    last = 0
    while batch := _read(column, last, conditions):
        yield batch
        last = batch[-1].key


def _read(column: SealedColumn, after: int, conditions: Iterable[ColumnElement[bool]]) -> list[SealedValue]:
    query = select(column.key, column.uid, column.column).select_from(column.source)
    query = query.where(column.column.is_not(None), column.key > after, *conditions)
    batch, size = [], 0
    db.session.rollback()
    with reading():
        # A few at a time from the server: two hundred large messages would not fit into memory.
        rows = db.session.execute(query.order_by(column.key).limit(BATCH_ROWS).execution_options(yield_per=5))
        for row in rows:
            batch.append(SealedValue(*row))
            size += len(row[2])
            if size >= BATCH_BYTES:
                break
        rows.close()
        db.session.rollback()
    return batch


def usage(column: SealedColumn, names: Iterable[str]) -> Counter[str]:
    """Return how many values each key has sealed: the keys of these names, whatever else turns up, and NO_KEY."""
    known = {name: under(column, name) for name in names}
    counts = [func.count().filter(condition) for condition in known.values()]
    with reading():
        total, *found = db.session.execute(select(func.count(column.column), *counts).select_from(column.table)).one()
        used = Counter({name: count for name, count in zip(known, found, strict=True) if count})
        if total > used.total():
            others = and_(column.column.is_not(None), *(not_(condition) for condition in known.values()))
            heads = select(func.substr(column.column, 1, _LONGEST_PREFIX)).select_from(column.table).where(others)
            used.update(_key_in(head) for head in db.session.scalars(heads.execution_options(yield_per=500)))
        db.session.rollback()
    return used


def _key_in(head: str) -> str:
    """Return the name in the first characters of a sealed value, NO_KEY when it is none."""
    version, *rest = head.split(".")
    return rest[0] if version == VERSION and len(rest) > 1 else NO_KEY


def stores_of(column: SealedColumn, key: int) -> list[str]:
    """Return the stores that a row works for, as "name (code)", by name."""
    stores = _table(Store)
    query = select(stores.c.name, stores.c.code).where(stores.c.id.in_(column.owners(key))).order_by(stores.c.name)
    with reading():
        found = [f"{name} ({code})" for name, code in db.session.execute(query)]
        db.session.rollback()
    return found
