"""What a person may do about a message in its present state: which buttons its page has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from blueprints.messages import words
from models import Message
from models.outbox import END_STATES, HoldReason, MessageStatus
from models.types import utcnow

# A message that comes up sooner than this is worth looking at every other second.
_SOON = timedelta(seconds=30)
_WAITING = (MessageStatus.QUEUED, MessageStatus.DEFERRED, MessageStatus.UNCERTAIN)


@dataclass(frozen=True)
class Deeds:
    """Attributes:
    release: words of the button that lets a held message go; empty when there is none.
    resend_doubt: what to say before a message is sent again that somebody has, or may have; empty otherwise.
    decides: a person says whether it arrived.
    follows: something is about to happen to it, so that its page looks again by itself.
    """

    release: str = ""
    cancels: str = ""
    sends_now: bool = False
    resends: bool = False
    resend_doubt: str = ""
    decides: bool = False
    follows: bool = False


def of(message: Message, *, emails_off: bool, now: datetime | None = None) -> Deeds:
    """Return what there is to do about a message."""
    now = now or utcnow()
    if message.status in END_STATES:
        return Deeds(resends=message.purged_at is None, resend_doubt=_doubt(message))
    if message.status is MessageStatus.HELD:
        asks = message.hold_reason is HoldReason.UNCERTAIN
        return Deeds(release="" if asks else _release(message, emails_off), cancels="Discard", decides=asks)
    if message.status in _WAITING:
        is_later = message.due_at > now
        return Deeds(cancels="Cancel message", sends_now=is_later, follows=message.due_at <= now + _SOON)
    return Deeds(follows=True)


def _release(message: Message, emails_off: bool) -> str:
    if message.hold_reason is None or (emails_off and message.hold_reason is HoldReason.EMAILS_OFF):
        return ""
    return "Send it" if message.hold_reason is HoldReason.EMAILS_OFF else words.HOLDS[message.hold_reason].release


def _doubt(message: Message) -> str:
    if message.status is MessageStatus.SENT:
        return "It was accepted once already; recipients get it twice."
    if message.committing_at is not None or message.maybe_sent_twice:
        return "An earlier attempt may have got through; recipients may get it twice."
    return ""
