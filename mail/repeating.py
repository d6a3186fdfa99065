"""Sending a message again that has ended, because a person asks for it."""

from __future__ import annotations

from sqlalchemy import select

from extensions import db
from mail import outbox
from mail.equipment import Equipment
from mail.outbox import Enqueued
from mail.outbox_work import messages
from models.outbox import END_STATES
from security.vault import Unreadable


def send_again(store_id: int, uid: str, *, equipment: Equipment) -> Enqueued | None:
    """Hand in a new message with the content of this one and return it; the caller commits.

    None when the message has not ended, or when its content was removed or does not open; the caller then rolls back.
    """
    c = messages.c
    # Nothing leads out of these states, so what is ended now stays so until the copy is committed.
    ended = select(c.id).where(c.store_id == store_id, c.uid == uid, c.status.in_(END_STATES))
    if db.session.execute(ended).first() is None:
        return None
    try:
        return outbox.resend(store_id, uid, equipment=equipment)
    except Unreadable:
        return None
