"""Sending a message again that has ended, because a person asks for it."""

from __future__ import annotations

from mail import outbox
from mail.equipment import Equipment
from mail.outbox import Enqueued
from security.vault import Unreadable


def send_again(store_id: int, uid: str, *, equipment: Equipment) -> Enqueued | None:
    """Hand in a new message with the content of this one and return it; the caller commits.

    None when the message has not ended, or when its content was removed or does not open; the caller then rolls back.
    """
    try:
        return outbox.resend(store_id, uid, equipment=equipment)
    except Unreadable:
        return None
