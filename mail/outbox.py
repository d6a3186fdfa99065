"""The outbox: messages come in, wait, are held and let go. Every change of a message's state is made here.

`enqueue` and what people do (release, discard, cancel) join the caller's transaction, so that a message is born with
the order that caused it. What workers do (`claim`, `mark_committing`, `finish`, `sweep`) lives in
`mail/outbox_work.py`, commits by itself, and is offered here under the same roof.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, and_, func, insert, select, update

from extensions import db
from mail import outbox_content
from mail.equipment import Equipment
from mail.outbox_content import Content, NewMessage
from mail.outbox_decisions import MARKED_SENT, mark_sent, retry_now
from mail.outbox_finish import Leave, finish, hold_queue, mark_committing, row_count, sweep
from mail.outbox_work import (
    LEASE,
    OPEN_STATES,
    ClaimedMessage,
    backlog,
    claim,
    due_stores,
    email_settings,
    give_back,
    has_due,
    messages,
    recipients,
    renew,
)
from mail.outcomes import Outcome
from mail.wire_names import ascii_domain
from models import clock
from models.outbox import END_STATES, HoldReason, Message, MessageStatus, Priority, RecipientKind
from models.types import new_uid, utcnow

__all__ = [
    "LEASE",
    "MARKED_SENT",
    "ClaimedMessage",
    "Content",
    "Enqueued",
    "HandedIn",
    "IdempotencyConflict",
    "Leave",
    "MessageStatus",
    "NewMessage",
    "Outcome",
    "backlog",
    "cancel",
    "claim",
    "discard",
    "due_stores",
    "enqueue",
    "enqueue_many",
    "find_replay",
    "finish",
    "give_back",
    "has_due",
    "held_count",
    "hold_queue",
    "mark_committing",
    "mark_sent",
    "release",
    "release_mended",
    "renew",
    "resend",
    "retry_now",
    "sweep",
]

# Trouble of the store's settings: it ends for all of the queue at once, when somebody mends them.
MENDABLE = (
    HoldReason.NOT_COMPLETE,
    HoldReason.SETTINGS_WRONG,
    HoldReason.NEEDS_REAUTHORIZATION,
    HoldReason.UNREADABLE,
)
# The message's own content does not open: no change of settings helps, and no other message is concerned.
CONTENT_UNREADABLE = "content_unreadable"


class IdempotencyConflict(Exception):
    """The same Idempotency-Key was used before for another message."""


@dataclass(frozen=True)
class Enqueued:
    """What became of a message handed in: its public id, and whether it waits or is held (and why)."""

    uid: str
    status: MessageStatus
    hold_reason: HoldReason | None = None
    replayed: bool = False


@dataclass(frozen=True)
class HandedIn:
    """One message of several, with the Idempotency-Key it came under and the fingerprint of what it said."""

    new: NewMessage
    idempotency_key: str | None = None
    idempotency_hash: str | None = None


# Coming in --------------------------------------------------------------------------------------------------------


def enqueue(
    store_id: int,
    new: NewMessage,
    *,
    equipment: Equipment,
    api_key_id: int | None = None,
    source: str = "api",
    idempotency_key: str | None = None,
    idempotency_hash: str | None = None,
) -> Enqueued:
    """Add a message to the current transaction and return its id and state. The caller commits, and only then may
    say that it was accepted.

    While emails are off, or while the store's queue is held for trouble with its settings, the message is held too.

    Raises:
        IdempotencyConflict: the key was used for another message.
        sqlalchemy.exc.IntegrityError: the same key is being used at this very moment by somebody else.
    """
    # The lock makes this wait for a save that turns emails on or mends the settings: otherwise a message held for
    # the old state could appear after the release and wait for ever. SQLite has one writer at a time anyway.
    c = email_settings.c
    settings = db.session.execute(
        select(c.emails_off, c.from_email).where(c.store_id == store_id).with_for_update(read=True)
    ).one()
    if idempotency_key and (earlier := find_replay(store_id, idempotency_key, idempotency_hash or "")):
        return earlier
    uid = new_uid()
    reason, words = _reason_to_hold(store_id, emails_off=settings.emails_off)
    status = MessageStatus.HELD if reason else MessageStatus.QUEUED
    plain = outbox_content.as_json(new)
    values: dict[str, Any] = {
        "uid": uid,
        "store_id": store_id,
        "api_key_id": api_key_id,
        "source": source,
        "status": status,
        "hold_reason": reason,
        "priority": int(new.priority),
        "due_at": new.send_at or clock.now(),
        "expires_at": _expiry(new),
        "created_at": clock.now(),
        "subject": new.subject,
        "message_id": f"<{uid}@{_id_domain(settings.from_email, equipment)}>",
        "date": max(new.send_at or utcnow(), utcnow()),
        "size_bytes": len(plain.encode("utf-8")),
        "idempotency_key": idempotency_key,
        "idempotency_hash": idempotency_hash,
        **words,
    }
    message_id = db.session.execute(insert(messages).values(values).returning(messages.c.id)).scalar_one()
    outbox_content.add(message_id, uid, plain, equipment=equipment)
    db.session.execute(insert(recipients), _recipient_rows(message_id, new))
    return Enqueued(uid, status, reason)


def enqueue_many(
    store_id: int,
    handed_in: Sequence[HandedIn],
    *,
    equipment: Equipment,
    api_key_id: int | None = None,
    source: str = "api",
) -> list[Enqueued | IdempotencyConflict]:
    """Add several messages to the current transaction; what became of each, in their order. The caller commits.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the keys is being used at this very moment by somebody else.
    """
    results: list[Enqueued | IdempotencyConflict] = []
    for one in handed_in:
        try:
            results.append(
                enqueue(
                    store_id,
                    one.new,
                    equipment=equipment,
                    api_key_id=api_key_id,
                    source=source,
                    idempotency_key=one.idempotency_key,
                    idempotency_hash=one.idempotency_hash,
                )
            )
        except IdempotencyConflict as conflict:
            results.append(conflict)
    return results


def find_replay(store_id: int, key: str, body_hash: str) -> Enqueued | None:
    """Return the message that was accepted under this Idempotency-Key, or None.

    Raises:
        IdempotencyConflict: it was another message.
    """
    c = messages.c
    row = db.session.execute(
        select(c.uid, c.status, c.hold_reason, c.idempotency_hash).where(
            c.store_id == store_id, c.idempotency_key == key
        )
    ).first()
    if row is None:
        return None
    if row.idempotency_hash != body_hash:
        raise IdempotencyConflict
    return Enqueued(row.uid, row.status, row.hold_reason, replayed=True)


def _reason_to_hold(store_id: int, *, emails_off: bool) -> tuple[HoldReason | None, dict[str, str]]:
    """Why a new message of this store cannot go now: it joins what is held already, and keeps its place behind it."""
    if emails_off:
        return HoldReason.EMAILS_OFF, {}
    c = messages.c
    row = db.session.execute(
        select(c.hold_reason, c.reason_code, c.reason_detail, c.reason_stage, c.reason_family)
        .where(_held_for_the_store(store_id))
        .order_by(c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        return None, {}
    return row.hold_reason, {name: row._mapping[name] for name in row._fields if name != "hold_reason"}


def _held_for_the_store(store_id: int) -> ColumnElement[bool]:
    c = messages.c
    return and_(
        c.store_id == store_id,
        c.status == MessageStatus.HELD,
        c.hold_reason.in_(MENDABLE),
        c.reason_code != CONTENT_UNREADABLE,
    )


def _expiry(new: NewMessage) -> datetime | ColumnElement[datetime] | None:
    if new.expires_in_s is None:
        return None
    worth = timedelta(seconds=new.expires_in_s)
    return new.send_at + worth if new.send_at else clock.now(worth)


def _id_domain(from_email: str, equipment: Equipment) -> str:
    """The right side of the Message-ID: the sender's domain, or this installation's while there is no sender yet."""
    try:
        domain = ascii_domain(from_email.rpartition("@")[2])
    except ValueError:
        domain = ""
    return domain if 0 < len(domain) < 200 else (urlsplit(equipment.public_url).hostname or "localhost")


def _recipient_rows(message_id: int, new: NewMessage) -> list[dict[str, Any]]:
    """One row per mailbox: named twice, it counts once, where it is named most openly."""
    rows: dict[str, dict[str, Any]] = {}
    lists = ((RecipientKind.TO, new.to), (RecipientKind.CC, new.cc), (RecipientKind.BCC, new.bcc))
    for kind, addresses in lists:
        for address in addresses:
            row = {"message_id": message_id, "kind": kind, "address": address}
            rows.setdefault(address.casefold(), row)
    return list(rows.values())


# What people do -----------------------------------------------------------------------------------------------------


def release(store_id: int, reason: HoldReason, *, uid: str | None = None) -> int:
    """Put what is held for this reason back in the queue and return how many messages that is; the caller commits.

    Their due times stay as they were, so they go oldest first; what expired meanwhile expires.
    """
    _lock_settings(store_id)
    c = messages.c
    held = [c.store_id == store_id, c.status == MessageStatus.HELD, c.hold_reason == reason]
    return _requeue(and_(*held, *([c.uid == uid] if uid else [])))


def release_mended(store_id: int) -> int:
    """Put back everything that waited for the store's settings or its connection to be mended; the caller commits.

    Called after a reconnect and after a save. If the trouble lasts, the first message finds out and the rest is held
    again.
    """
    _lock_settings(store_id)
    return _requeue(_held_for_the_store(store_id))


def discard(store_id: int, reason: HoldReason, *, uid: str | None = None) -> int:
    """Cancel what is held for this reason and return how many messages that is; the caller commits."""
    _lock_settings(store_id)
    c = messages.c
    held = [c.store_id == store_id, c.status == MessageStatus.HELD, c.hold_reason == reason]
    return _cancel(and_(*held, *([c.uid == uid] if uid else [])))


def cancel(store_id: int, uid: str) -> bool:
    """Cancel one message while it has not gone and is not on its way; the caller commits."""
    c = messages.c
    return _cancel(and_(c.store_id == store_id, c.uid == uid, c.status.in_(OPEN_STATES))) == 1


def resend(store_id: int, uid: str, *, equipment: Equipment) -> Enqueued | None:
    """Hand a message that has ended in once more, as a new one with the same content; the caller commits.

    None when it has not ended, or when its content was removed.

    Raises:
        security.vault.Unreadable: its content does not open.
    """
    c = messages.c
    row = db.session.execute(select(Message).where(c.store_id == store_id, c.uid == uid)).scalar_one_or_none()
    if row is None or row.status not in END_STATES or row.purged_at is not None:
        return None
    content = outbox_content.load(row, equipment=equipment)  # type: ignore[arg-type]  # has what it needs
    named = {kind: tuple(one.address for one in row.recipients if one.kind == kind) for kind in RecipientKind}
    again = NewMessage(
        to=content.to or named[RecipientKind.TO], cc=content.cc, bcc=named[RecipientKind.BCC],
        reply_to=content.reply_to, subject=row.subject, text=content.text, html=content.html, headers=content.headers,
        attachments=content.attachments, priority=Priority(row.priority),
    )  # fmt: skip
    copy = enqueue(store_id, again, equipment=equipment, source=row.source)
    db.session.execute(update(messages).where(c.uid == copy.uid).values(resent_from=uid))
    return copy


def held_count(store_id: int, reason: HoldReason | None = None) -> int:
    """Return how many messages of the store are held, for one reason or for any."""
    c = messages.c
    query = select(func.count()).where(c.store_id == store_id, c.status == MessageStatus.HELD)
    return db.session.scalar(query.where(c.hold_reason == reason) if reason else query) or 0


def _requeue(condition: ColumnElement[bool]) -> int:
    return row_count(
        update(messages)
        .where(condition)
        .values(
            status=MessageStatus.QUEUED, hold_reason=None, reason_code="", reason_detail="", reason_stage="",
            reason_family="", claims=0, lease=None, lease_until=None,
        )
    )  # fmt: skip


def _cancel(condition: ColumnElement[bool]) -> int:
    return row_count(
        update(messages)
        .where(condition)
        .values(status=MessageStatus.CANCELLED, ended_at=clock.now(), lease=None, lease_until=None)
    )


def _lock_settings(store_id: int) -> None:
    """Wait for messages that are just being accepted under the old state; see `enqueue`."""
    c = email_settings.c
    db.session.execute(select(c.id).where(c.store_id == store_id).with_for_update())
