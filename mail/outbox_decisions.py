"""What people decide about one message beyond holding and letting go: not to wait, or that it has arrived.

One conditional statement each, in the caller's transaction. `mail/outbox.py` offers them under its own name.
"""

from __future__ import annotations

from sqlalchemy import and_, case, select, update

from extensions import db
from mail import nudges
from mail.equipment import Equipment
from mail.outbox_finish import row_count
from mail.outbox_work import DUE_STATES, NO_REASON, messages, recipients
from models import clock
from models.outbox import HoldReason, MessageStatus, RecipientStatus

# Why a message is sent: a person found it in the mailbox, no server said so.
MARKED_SENT = "marked_sent"


def retry_now(store_id: int, uid: str, *, equipment: Equipment) -> bool:
    """Make a message due that waits for its next attempt or for its time; the caller commits.

    False when it does not wait: it has gone, is on its way, is held, or is next in line already.
    """
    c = messages.c
    later = and_(c.store_id == store_id, c.uid == uid, c.status.in_(DUE_STATES), c.due_at > clock.now())
    # Mail for later carries the date of then. Nothing of it has left yet, so it may still be dated like other mail.
    is_dated_ahead = and_(c.committing_at.is_(None), c.date > clock.now())
    date = case((is_dated_ahead, clock.now()), else_=c.date)
    if row_count(update(messages).where(later).values(due_at=clock.now(), date=date)) != 1:
        return False
    nudges.after_commit(store_id, equipment.nudges)
    return True


def mark_sent(store_id: int, uid: str) -> bool:
    """End a held message that may have been sent as one that was; the caller commits. False when it is no such.

    Whoever had no answer counts as accepted then; refusals stay what they are.
    """
    c = messages.c
    asked = and_(
        c.store_id == store_id,
        c.uid == uid,
        c.status == MessageStatus.HELD,
        c.hold_reason == HoldReason.UNCERTAIN,
    )
    ended = update(messages).where(asked)
    if row_count(ended.values(_SENT | {"ended_at": clock.now()})) != 1:
        return False
    mine = select(c.id).where(c.store_id == store_id, c.uid == uid).scalar_subquery()
    unanswered = and_(recipients.c.message_id == mine, recipients.c.status == RecipientStatus.WAITING)
    db.session.execute(update(recipients).where(unanswered).values(status=RecipientStatus.ACCEPTED))
    return True


_SENT = {
    "status": MessageStatus.SENT,
    **NO_REASON,
    "reason_code": MARKED_SENT,
    "lease": None,
    "lease_until": None,
    "claims": 0,
}
