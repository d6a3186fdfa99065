"""The rows of new messages, whether they come in one statement, table by table, or too large to be sealed at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from mail import accepting, outbox
from mail.equipment import Equipment
from mail.outbox import HandedIn
from models import Message, Recipient, Store
from models.outbox import MessageStatus, Priority, RecipientKind, RecipientStatus
from models.types import utcnow
from tests.mail.outbox.conftest import a_message, statements

HARD = 'Grüße 😀 "an" \\ %s %(rows)s :x {"a": 1} \'; --'
OWN = {"id", "uid", "message_id", "created_at", "due_at", "expires_at", "date", "idempotency_key"}


def _columns(message: Message) -> dict[str, Any]:
    return {column.key: getattr(message, column.key) for column in Message.__table__.columns if column.key not in OWN}


def test_a_row_says_the_same_however_it_is_inserted(
    shop: Store, equipment: Equipment, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_id, later = shop.id, utcnow().replace(microsecond=0) + timedelta(hours=1)
    message = a_message(
        to=("z@shop.example", "a@shop.example"),
        cc=("m@shop.example",),
        bcc=("A@shop.example", "b@shop.example"),
        subject=HARD,
        text=HARD,
        priority=Priority.HIGH,
        expires_in_s=60,
        send_at=later,
    )
    found = []
    for number, group_chars in enumerate((accepting.GROUP_CHARS, 0)):
        monkeypatch.setattr(accepting, "GROUP_CHARS", group_chars)
        many = [HandedIn(message, f"key {number}", "hash"), HandedIn(message)]
        found += outbox.enqueue_many(store_id, many, equipment=equipment, source="relay")[:1]
        db.session.commit()
    rows = [db.session.scalars(select(Message).where(Message.uid == one.uid)).one() for one in found]
    assert _columns(rows[0]) == _columns(rows[1])
    for row in rows:
        assert (row.subject, row.source, row.status) == (HARD, "relay", MessageStatus.QUEUED)
        assert row.due_at == later
        assert row.expires_at - row.due_at == timedelta(seconds=60)
        people = db.session.scalars(select(Recipient).where(Recipient.message_id == row.id).order_by(Recipient.id))
        assert [(one.kind, one.address, one.status, one.reply, one.reply_code) for one in people] == [
            (kind, address, RecipientStatus.WAITING, "", None)
            for kind, address in (
                (RecipientKind.TO, "z@shop.example"),
                (RecipientKind.TO, "a@shop.example"),
                (RecipientKind.CC, "m@shop.example"),
                (RecipientKind.BCC, "b@shop.example"),
            )
        ]


def test_many_take_a_statement_for_each_table_and_on_postgresql_one_for_all(
    shop: Store, equipment: Equipment, db: Any
) -> None:
    store_id = shop.id
    with statements() as seen:
        outbox.enqueue_many(store_id, [HandedIn(a_message())] * 5, equipment=equipment)
        db.session.commit()
    tables = [table for sql, _ in seen for table in ("messages", "contents", "recipients") if _inserts(sql, table)]
    assert tables == ["messages", "contents", "recipients"]
    inserting = [sql for sql, _ in seen if "INSERT" in sql]
    assert len(inserting) == (1 if db.engine.dialect.name == "postgresql" else 3)


def _inserts(sql: str, table: str) -> bool:
    return f"INSERT INTO {table} " in sql or f"INSERT INTO message_{table} " in sql
