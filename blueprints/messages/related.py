"""The messages that repeat one, and the one that it repeats itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, select, text

from extensions import db
from models import Message
from models.outbox import RESENT_SQL, MessageStatus

_SHOWN = 10


@dataclass(frozen=True)
class Other:
    uid: str
    created_at: datetime
    status: MessageStatus


@dataclass(frozen=True)
class Related:
    """`original` is None when the message repeats none, or one that is not kept any more; copies newest first."""

    original: Other | None
    copies: tuple[Other, ...]


def load(message: Message) -> Related:
    """Return what belongs together with this message, in two queries at most."""
    originals = _of_store(message).where(Message.uid == message.resent_from)
    # The index of copies is found by its own words only; see models/outbox.py.
    copies = _of_store(message).where(Message.resent_from == message.uid, text(RESENT_SQL))
    original = db.session.execute(originals).first() if message.resent_from else None
    newest = db.session.execute(copies.order_by(Message.id.desc()).limit(_SHOWN))
    return Related(Other(*original) if original else None, tuple(Other(*row) for row in newest))


def _of_store(message: Message) -> Select[tuple[str, datetime, MessageStatus]]:
    return select(Message.uid, Message.created_at, Message.status).where(Message.store_id == message.store_id)
