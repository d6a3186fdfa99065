"""What tests of connections look at and change: rows, notices, messages."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from extensions import db
from mail import outbox, token_lease
from mail.equipment import Equipment
from mail.outbox import NewMessage
from models import Message, Notice
from models.connection import Connection

both_databases = pytest.mark.parametrize(
    "settings", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


def row(connection_id: int) -> Connection:
    return token_lease.read(connection_id).connection


def change(connection_id: int, **values: Any) -> None:
    db.session.execute(update(Connection).where(Connection.id == connection_id).values(values))
    db.session.commit()


def notices(connection_id: int) -> list[Notice]:
    found = list(db.session.scalars(select(Notice).where(Notice.connection_id == connection_id).order_by(Notice.id)))
    db.session.expunge_all()
    db.session.rollback()
    return found


def told(connection_id: int) -> list[tuple[str, bool]]:
    """The kinds of the notices, oldest first, and whether each has ended."""
    return [(notice.kind.value, notice.ended_at is not None) for notice in notices(connection_id)]


def hand_in(store_id: int, equipment: Equipment, count: int = 1, **more: Any) -> None:
    for number in range(count):
        new = NewMessage(to=("lena@shop.example",), subject=f"Order {number}", text="Thank you.\n", **more)
        outbox.enqueue(store_id, new, equipment=equipment)
    db.session.commit()


def messages_of(store_id: int) -> list[Message]:
    found = list(db.session.scalars(select(Message).where(Message.store_id == store_id).order_by(Message.id)))
    db.session.expunge_all()
    db.session.rollback()
    return found
