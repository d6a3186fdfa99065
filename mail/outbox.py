"""The outbox: messages come in, wait, are held and let go. Every change of a message's state is offered here.

`enqueue` (`mail/accepting.py`), `resend` and what people do (release, discard, cancel) join the caller's transaction,
so that a message is born with the order that caused it. What workers do (`claim`, `mark_committing`, `finish`,
`sweep`) lives in `mail/outbox_work.py` and commits by itself.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_, func, select, update

from extensions import db
from mail import nudges
from mail.accepting import (
    Enqueued,
    HandedIn,
    IdempotencyConflict,
    enqueue,
    enqueue_many,
    find_replay,
)
from mail.equipment import Equipment
from mail.health import doubt_the_loss
from mail.outbox_content import TEMPLATE_OFF, Content, NewMessage
from mail.outbox_decisions import MARKED_SENT, mark_sent, retry_now
from mail.outbox_finish import Leave, finish, hold_queue, mark_committing, row_count, sweep
from mail.outbox_work import (
    LEASE,
    OPEN_STATES,
    QUEUED_AGAIN,
    ClaimedMessage,
    backlog,
    claim,
    due_stores,
    give_back,
    has_due,
    messages,
    renew,
)
from mail.outcomes import Outcome
from mail.pace.mended import forget_failures
from mail.resending import resend
from mail.terms import CONTENT_UNREADABLE, LOCK_SETTINGS, MENDABLE, is_held_for_the_store
from models import clock
from models.outbox import HoldReason, MessageStatus

__all__ = [
    "CONTENT_UNREADABLE",
    "LEASE",
    "MARKED_SENT",
    "MENDABLE",
    "TEMPLATE_OFF",
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

# What people do -----------------------------------------------------------------------------------------------------


def release(store_id: int, reason: HoldReason, *, uid: str | None = None, equipment: Equipment) -> int:
    """Put what is held for this reason back in the queue and return how many messages that is; the caller commits.

    Their due times stay as they were, so they go oldest first; what expired meanwhile expires.
    """
    _lock_settings(store_id)
    if reason is HoldReason.NEEDS_REAUTHORIZATION:
        doubt_the_loss(store_id)
    c = messages.c
    held = [c.store_id == store_id, c.status == MessageStatus.HELD, c.hold_reason == reason]
    return _requeue(store_id, and_(*held, *([c.uid == uid] if uid else [])), equipment)


def release_mended(store_id: int, *, equipment: Equipment) -> int:
    """Put back everything that waited for the store's settings or its connection to be mended; the caller commits.

    Called after a reconnect and after a save. If the trouble lasts, the first message finds out and the rest is held
    again.
    """
    _lock_settings(store_id)
    forget_failures(store_id)
    return _requeue(store_id, is_held_for_the_store(store_id), equipment)


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


def held_count(store_id: int, reason: HoldReason | None = None) -> int:
    """Return how many messages of the store are held, for one reason or for any."""
    c = messages.c
    query = select(func.count()).where(c.store_id == store_id, c.status == MessageStatus.HELD)
    return db.session.scalar(query.where(c.hold_reason == reason) if reason else query) or 0


def _requeue(store_id: int, condition: ColumnElement[bool], equipment: Equipment) -> int:
    count = row_count(update(messages).where(condition).values(QUEUED_AGAIN))
    if count:
        nudges.after_commit(store_id, equipment.nudges)
    return count


def _cancel(condition: ColumnElement[bool]) -> int:
    return row_count(
        update(messages)
        .where(condition)
        .values(status=MessageStatus.CANCELLED, ended_at=clock.now(), lease=None, lease_until=None)
    )


def _lock_settings(store_id: int) -> None:
    """Wait for messages that are just being accepted under the old state; see `mail/terms`."""
    db.session.execute(LOCK_SETTINGS, {"store": store_id})
