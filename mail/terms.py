"""What holds for the messages that a store hands in at this moment: held or not, by which clock, under which domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Connection, and_, bindparam, literal_column, or_, select
from sqlalchemy.exc import NoResultFound

from mail.equipment import Equipment
from mail.outbox_work import NO_REASON, email_settings, messages
from mail.wire_names import ascii_domain
from models import clock
from models.outbox import HoldReason, MessageStatus
from models.prepared import Prepared, Row, fetch_together

# Trouble of the store's settings: it ends for all of the queue at once, when somebody mends them.
MENDABLE: Final = (
    HoldReason.NOT_COMPLETE,
    HoldReason.SETTINGS_WRONG,
    HoldReason.NEEDS_REAUTHORIZATION,
    HoldReason.UNREADABLE,
)
# The message's own content does not open: no change of settings helps, and no other message is concerned.
CONTENT_UNREADABLE: Final = "content_unreadable"


# As words, not as parameters: SQLite compiles a statement anew at each execution when a parameter may decide whether a
# partial index serves, and such statements took ten times as long. Nor `in_`, which SQLAlchemy writes out each time.
_IS_HELD: Final = messages.c.status == literal_column(f"'{MessageStatus.HELD}'")
_IS_MENDABLE: Final = or_(*(messages.c.hold_reason == literal_column(f"'{reason}'") for reason in MENDABLE))


def is_held_for_the_store(store_id: Any) -> ColumnElement[bool]:
    """Return the condition that a message waits for the store's settings or its connection to be mended."""
    c = messages.c
    return and_(c.store_id == store_id, _IS_HELD, _IS_MENDABLE, c.reason_code != CONTENT_UNREADABLE)


_REASON: Final = tuple(NO_REASON)

# The lock makes this wait for a save that turns emails on or mends the settings: otherwise a message held for the old
# state could appear after the release and wait for ever. SQLite has one writer at a time anyway.
_settings_of = Prepared(
    select(email_settings.c.emails_off, email_settings.c.from_email, clock.now().label("now"))
    .where(email_settings.c.store_id == bindparam("store"))
    .with_for_update(read=True)
)
# By a small index, from its end: what was sent or waits is not looked at. A statement of its own, because PostgreSQL
# would show it what was there before the wait for the lock.
_last_held = Prepared(
    select(*(messages.c[name] for name in _REASON))
    .where(is_held_for_the_store(bindparam("store")))
    .order_by(messages.c.id.desc())
    .limit(1)
)
# For those who change what new messages are judged by: waits for messages that are just being accepted, as the lock
# above makes these wait for them.
LOCK_SETTINGS: Final = (
    select(email_settings.c.id).where(email_settings.c.store_id == bindparam("store")).with_for_update()
)


@dataclass(frozen=True)
class Terms:
    """What holds for every message that a store hands in now.

    Attributes:
        now: by the database's clock.
        id_domain: the right side of a Message-ID.
        reason: the columns that say why it is held, all of them empty when it is not.
    """

    store_id: int
    now: datetime
    id_domain: str
    reason: dict[str, Any]

    @property
    def hold_reason(self) -> HoldReason | None:
        found: HoldReason | None = self.reason["hold_reason"]
        return found

    @property
    def status(self) -> MessageStatus:
        return MessageStatus.HELD if self.hold_reason else MessageStatus.QUEUED

    def row(self, uid: str) -> dict[str, Any]:
        """What the rows of all new messages have in common, and the Message-ID of this one."""
        return {
            "uid": uid,
            "store_id": self.store_id,
            "status": self.status,
            "due_at": self.now,
            "created_at": self.now,
            "message_id": f"<{uid}@{self.id_domain}>",
            **self.reason,
        }


def terms_of(connection: Connection, store_id: int, *, equipment: Equipment) -> Terms:
    """Return what holds for new messages of the store until the connection's transaction ends.

    Raises:
        sqlalchemy.exc.NoResultFound: the store is gone.
    """
    store = {"store": store_id}
    settings, held = fetch_together(connection, (_settings_of, store), (_last_held, store))
    if not settings:
        raise NoResultFound(f"there is no store {store_id}")
    ((emails_off, from_email, now),) = settings
    reason = _reason_to_hold(held, emails_off=emails_off)
    return Terms(store_id, now, _id_domain(from_email, equipment.public_url), reason)


def _reason_to_hold(held: Sequence[Row], *, emails_off: bool) -> dict[str, Any]:
    """Why new messages of this store cannot go now: they join what is held already, and keep their place behind it."""
    if emails_off:
        return {**NO_REASON, "hold_reason": HoldReason.EMAILS_OFF}
    return dict(zip(_REASON, held[0], strict=True)) if held else NO_REASON


@lru_cache(1024)
def _id_domain(from_email: str, public_url: str) -> str:
    """The right side of the Message-ID: the sender's domain, or this installation's while there is no sender yet."""
    try:
        domain = ascii_domain(from_email.rpartition("@")[2])
    except ValueError:
        domain = ""
    return domain if 0 < len(domain) < 200 else (urlsplit(public_url).hostname or "localhost")
