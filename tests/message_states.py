"""A store with a message in every state, as the engine leaves them behind."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select, update

from extensions import db
from mail import outbox
from mail.equipment import Equipment
from mail.outbox import NewMessage
from models import Attempt, Message, Recipient
from models.outbox import HoldReason, MessageStatus, Priority, RecipientStatus
from models.types import utcnow

BUSY = "451 4.7.500 Server busy. Please try again later"
NOBODY = "550 5.1.1 <nobody@inbox.example>: no such user"
SENT_BY = {"sender_name": "Acme Store", "sender_address": "orders@acmestore.example", "method": "advanced_smtp"}


def fill(store_id: int, equipment: Equipment) -> dict[str, str]:
    """Hand the messages in, oldest first, commit, and return name → uid."""
    found: dict[str, str] = {}

    def put(name: str, subject: str, to: str = "lena.brandt@inbox.example", **more: Any) -> None:
        new = NewMessage(to=(to,), subject=subject, text="Thank you.", **more)
        found[name] = outbox.enqueue(store_id, new, equipment=equipment).uid

    put("cancelled", "Low stock: Oak side table", "warehouse@acmestore.example", priority=Priority.LOW)
    put("expired", "Your code is 424 242", "amira.haddad@inbox.example", expires_in_s=300, priority=Priority.HIGH)
    put("failed", "Your order #90118 is confirmed", "nobody@inbox.example")
    put("sent", "Your refund has been issued", "kofi.mensah@post.example")
    put("unanswered", "Invoice INV-2261", "purchasing@brightco.example")
    put("uncertain", "Thanks for signing up", "p.lindqvist@mailhost.example")
    put("retrying", "Your parcel is on its way", "s.whitfield@mailhost.example", expires_in_s=90_000)
    put("scheduled", "The spring sale starts today", send_at=utcnow() + timedelta(days=3), priority=Priority.LOW)
    put("waiting", "Reset your password", "tomas.ruiz@post.example", priority=Priority.HIGH)
    _end(found)
    _go_on(found)
    db.session.commit()
    return found


def change(uid: str, **values: Any) -> None:
    """Write columns of one message, in the current transaction."""
    db.session.execute(update(Message).where(Message.uid == uid).values(**values))


def _end(found: dict[str, str]) -> None:
    now = utcnow()
    change(found["cancelled"], status=MessageStatus.CANCELLED, ended_at=now)
    change(found["expired"], status=MessageStatus.EXPIRED, ended_at=now)
    change(
        found["failed"], status=MessageStatus.FAILED, ended_at=now, reason_code="recipients_refused", attempts=1,
        reason_detail=NOBODY, reason_stage="recipient", reason_family="smtp", **SENT_BY,
    )  # fmt: skip
    _answer(found["failed"], RecipientStatus.REFUSED, 550, NOBODY)
    _tried(found["failed"], "failed", reply_code=550, reply=NOBODY)
    change(found["sent"], status=MessageStatus.SENT, ended_at=now, committing_at=now, remote_id="4Xq1", **SENT_BY)
    _answer(found["sent"], RecipientStatus.ACCEPTED, 250, "2.0.0 OK")
    _tried(found["sent"], "sent", reply_code=250, reply="250 2.0.0 OK 4Xq1")


def _go_on(found: dict[str, str]) -> None:
    now = utcnow()
    change(
        found["unanswered"], status=MessageStatus.HELD, hold_reason=HoldReason.UNCERTAIN, committing_at=now,
        reason_code="uncertain", reason_detail="connection lost after the final dot", attempts=1, **SENT_BY,
    )  # fmt: skip
    _tried(found["unanswered"], "uncertain")
    change(
        found["uncertain"], status=MessageStatus.UNCERTAIN, committing_at=now, reason_code="uncertain", attempts=1,
        due_at=now + timedelta(minutes=7), **SENT_BY,
    )  # fmt: skip
    _tried(found["uncertain"], "uncertain")
    change(
        found["retrying"], status=MessageStatus.DEFERRED, due_at=now + timedelta(minutes=12), attempts=1,
        reason_code="temporary", reason_detail=BUSY, reason_stage="message", reason_family="smtp", **SENT_BY,
    )  # fmt: skip
    _tried(found["retrying"], "deferred", reply_code=451, reply=BUSY)


def _tried(uid: str, outcome: str, **columns: Any) -> None:
    message_id = db.session.scalars(select(Message.id).where(Message.uid == uid)).one()
    at = utcnow()
    fixed = {"message_id": message_id, "number": 1, "started_at": at, "finished_at": at, "outcome": outcome}
    db.session.execute(insert(Attempt).values(**fixed, host="smtp.office365.com", **columns))


def _answer(uid: str, status: RecipientStatus, code: int, reply: str) -> None:
    message_id = select(Message.id).where(Message.uid == uid).scalar_subquery()
    answered = update(Recipient).where(Recipient.message_id == message_id)
    db.session.execute(answered.values(status=status, reply_code=code, reply=reply))
