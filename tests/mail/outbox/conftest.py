"""A store whose outbox lies in SQLite and in PostgreSQL; every test here runs on both."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text

from extensions import db as database
from mail import outbox
from mail.equipment import Equipment
from mail.outbox import NewMessage
from models import Message, Store
from models.database import reading


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@dataclass
class ToldNudges:
    """Keeps which stores workers were told of."""

    stores: list[int] = field(default_factory=list)

    def send(self, store_id: int) -> None:
        self.stores.append(store_id)


@pytest.fixture
def told(equipment: Equipment) -> list[int]:
    assert isinstance(equipment.nudges, ToldNudges)
    return equipment.nudges.stores


@pytest.fixture
def equipment(app: Any) -> Equipment:
    found: Equipment = app.extensions["storepost"]
    return replace(found, nudges=ToldNudges())


@pytest.fixture
def shop(store: Store, db: Any) -> Store:
    store.email_settings.from_email = "orders@acme.example"
    db.session.commit()
    return store


def a_message(**fields: Any) -> NewMessage:
    return NewMessage(**{"to": ("lena@shop.example",), "subject": "Hello", "text": "Hi.", **fields})


@pytest.fixture
def put(shop: Store, equipment: Equipment, db: Any) -> Callable[..., str]:
    """Hand a message in and commit; the answer is its id."""
    store_id = shop.id

    def put(**fields: Any) -> str:
        uid = outbox.enqueue(store_id, a_message(**fields), equipment=equipment).uid
        db.session.commit()
        return uid

    return put


@pytest.fixture
def row(db: Any) -> Callable[[str], Message]:
    def row(uid: str) -> Message:
        db.session.rollback()
        with reading():  # as a writer it would keep the next claim waiting
            message = db.session.scalar(select(Message).where(Message.uid == uid))
        assert message is not None
        return message

    return row


# What a plan says when rows are read one after another, or sorted.
WALKS = re.compile(r"Seq Scan|Sort|SCAN messages(?! USING)|B-TREE")


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Everything that is sent to the database inside the block, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def see(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if not statement.startswith(("BEGIN", "SAVEPOINT", "RELEASE", "ROLLBACK")):
            seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", see)
    try:
        yield seen
    finally:
        event.remove(database.engine, "before_cursor_execute", see)


def plan_of(statement: str, parameters: Any) -> str:
    """How the database goes about a statement, in its own words."""
    explain = "EXPLAIN QUERY PLAN " if database.engine.dialect.name == "sqlite" else "EXPLAIN "
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(explain + statement, parameters).all()
    return "\n".join(str(row[-1]) for row in rows)


@pytest.fixture
def many(shop: Store, db: Any) -> Callable[..., None]:
    """Fill the outbox with messages of one state, fast; columns are SQL in which n is the number of the row."""
    store_id = shop.id

    def many(count: int, status: str, **columns: str) -> None:
        numbers = (
            f"generate_series(1, {count}) AS n(n)"
            if db.engine.dialect.name == "postgresql"
            else f"(WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {count}) SELECT n FROM n)"
        )
        values = {
            "uid": "'" + status[:4] + "' || n",
            "store_id": str(store_id),
            "source": "'api'",
            "status": f"'{status}'",
            "reason_code": "''", "reason_detail": "''", "reason_stage": "''", "reason_family": "''",
            "priority": "1", "due_at": "1700000000000 + n", "created_at": "1700000000000 + n",
            "attempts": "0", "claims": "0", "last_attempt": "0", "maybe_sent_twice": "false",
            "subject": "'Hello'", "message_id": "'<x@acme.example>'", "date": "1700000000000",
            "sender_name": "''", "sender_address": "''", "method": "''", "remote_id": "''",
            "size_bytes": "100", "resent_from": "''",
            **columns,
        }  # fmt: skip
        db.session.execute(
            text(f"INSERT INTO messages ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {numbers}")
        )
        db.session.commit()
        db.session.execute(text("ANALYZE"))
        db.session.commit()

    return many
