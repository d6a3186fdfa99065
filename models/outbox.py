"""The outbox: what stores handed in, where each message stands, what each attempt brought."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from extensions import Model
from models.types import BigId, Instant, enum_column, new_uid

SUBJECT_MAX = 998


class MessageStatus(enum.StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    HELD = "held"
    SENT = "sent"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    UNCERTAIN = "uncertain"


# Nothing more happens to a message in one of these without a person.
END_STATES = (MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.EXPIRED, MessageStatus.CANCELLED)


# What a worker may take up, what it has in hand, what is held, and what repeats another message, word for word as the
# partial indexes below have it: a database uses such an index only where it finds the same words (SQLite does not look
# behind a bound parameter).
WAITING_SQL = "status IN ('queued', 'deferred', 'uncertain')"
SENDING_SQL = "status = 'sending'"
SENT_SQL = "status = 'sent'"
HELD_SQL = "status = 'held'"
_EXPIRING_SQL = "expires_at IS NOT NULL AND ended_at IS NULL"
_UNPURGED_SQL = "ended_at IS NOT NULL AND purged_at IS NULL"
RESENT_SQL = "resent_from <> ''"
_PURGED_SQL = "purged_at IS NOT NULL"


class HoldReason(enum.StrEnum):
    EMAILS_OFF = "emails_off"
    NOT_COMPLETE = "not_complete"  # settings lack something that sending needs
    NEEDS_REAUTHORIZATION = "needs_reauthorization"
    SETTINGS_WRONG = "settings_wrong"
    UNREADABLE = "unreadable"  # a stored secret does not open
    UNCERTAIN = "uncertain"  # may have been sent; a person decides
    POISON = "poison"  # took its worker down too often


class Priority(enum.IntEnum):
    HIGH = 0
    NORMAL = 1
    LOW = 2


class RecipientKind(enum.StrEnum):
    TO = "to"
    CC = "cc"
    BCC = "bcc"
    STORE_BCC = "store_bcc"  # the store's Bcc Email Address, added when the message is sent


class RecipientStatus(enum.StrEnum):
    WAITING = "waiting"
    ACCEPTED = "accepted"
    REFUSED = "refused"


def _partial(name: str, *columns: str, where: str) -> Index:
    return Index(name, *columns, postgresql_where=text(where), sqlite_where=text(where))


class Message(Model):
    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("store_id", "idempotency_key"),
        # The list of a store's messages, all of them and those of one state
        Index("ix_messages_store_id_id", "store_id", "id"),
        Index("ix_messages_store_id_status_id", "store_id", "status", "id"),
        # The last delivery of a store, for the list of stores, and how many lately, for the meter of its rate
        _partial("ix_messages_sent", "store_id", "ended_at", where=SENT_SQL),
        # The queues: as small as what waits, however much was sent before
        _partial("ix_messages_waiting", "store_id", "priority", "due_at", "id", where=WAITING_SQL),
        _partial("ix_messages_waiting_due", "store_id", "due_at", where=WAITING_SQL),
        _partial("ix_messages_sending", "lease_until", where=SENDING_SQL),
        # The last that is held, looked for whenever mail comes in: mostly there is none, and a planner that knows
        # nothing of the table yet would go through all of the store's messages to see that
        _partial("ix_messages_held", "store_id", "id", where=HELD_SQL),
        _partial("ix_messages_expiring", "expires_at", where=_EXPIRING_SQL),
        _partial("ix_messages_unpurged", "ended_at", where=_UNPURGED_SQL),
        _partial("ix_messages_purged", "purged_at", where=_PURGED_SQL),
        # The copies of a message, which are few
        _partial("ix_messages_resent_from", "store_id", "resent_from", "id", where=RESENT_SQL),
        # Room in each page for the mark before a message commits: it changes no index, so the row stays where it is.
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"))
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id", ondelete="SET NULL"))
    source: Mapped[str] = mapped_column(String(16), default="api")

    status: Mapped[MessageStatus] = mapped_column(enum_column(MessageStatus), default=MessageStatus.QUEUED)
    hold_reason: Mapped[HoldReason | None] = mapped_column(enum_column(HoldReason))
    reason_code: Mapped[str] = mapped_column(String(80), default="")
    reason_detail: Mapped[str] = mapped_column(Text, default="")  # the server's words, secrets masked
    reason_stage: Mapped[str] = mapped_column(String(16), default="")
    reason_family: Mapped[str] = mapped_column(String(8), default="")
    priority: Mapped[int] = mapped_column(Integer, default=Priority.NORMAL)
    due_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime | None] = mapped_column(Instant)
    created_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    attempts: Mapped[int] = mapped_column(Integer, default=0)  # that count against the retry limit
    claims: Mapped[int] = mapped_column(Integer, default=0)  # every time a worker took it; parks poison
    last_attempt: Mapped[int] = mapped_column(Integer, default=0)  # number of the newest row in message_attempts
    purged_at: Mapped[datetime | None] = mapped_column(Instant)  # when subject and content were removed

    # Who delivers it now, until when (database clock), and since when its bytes may be with the server
    lease: Mapped[str | None] = mapped_column(String(32))
    lease_until: Mapped[datetime | None] = mapped_column(Instant)
    committing_at: Mapped[datetime | None] = mapped_column(Instant)
    maybe_sent_twice: Mapped[bool] = mapped_column(Boolean, default=False)

    # Fixed when accepted, so that every attempt sends the same bytes
    subject: Mapped[str] = mapped_column(String(SUBJECT_MAX), default="")
    message_id: Mapped[str] = mapped_column(String(255))
    date: Mapped[datetime] = mapped_column(Instant)
    # Who it was sent as on the last attempt that may have got through; used again after an uncertain end
    sender_name: Mapped[str] = mapped_column(String(150), default="")
    sender_address: Mapped[str] = mapped_column(String(320), default="")
    method: Mapped[str] = mapped_column(String(32), default="")
    remote_id: Mapped[str] = mapped_column(String(255), default="")  # the server's queue id
    size_bytes: Mapped[int] = mapped_column(Integer, default=0)

    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    idempotency_hash: Mapped[str | None] = mapped_column(String(64))
    resent_from: Mapped[str] = mapped_column(String(32), default="")  # uid of the message this one repeats

    recipients: Mapped[list[Recipient]] = relationship(order_by="Recipient.id", passive_deletes=True)
    attempt_rows: Mapped[list[Attempt]] = relationship(order_by="Attempt.id.desc()", passive_deletes=True)


class MessageContent(Model):
    """Bodies, attachments and headers of a message as sealed JSON, apart so that status updates stay small."""

    __tablename__ = "message_contents"

    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    sealed: Mapped[str] = mapped_column(Text)


class MessageBlob(Model):
    """Attachments, or a whole message from the relay, in sealed pieces, so that nobody needs all of it at once."""

    __tablename__ = "message_blobs"
    __table_args__ = (UniqueConstraint("message_id", "part", "piece"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    part: Mapped[int] = mapped_column(Integer)  # which attachment, from 0
    piece: Mapped[int] = mapped_column(Integer)
    sealed: Mapped[str] = mapped_column(Text)


class Recipient(Model):
    __tablename__ = "message_recipients"
    __table_args__ = (UniqueConstraint("message_id", "address"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    kind: Mapped[RecipientKind] = mapped_column(enum_column(RecipientKind))
    address: Mapped[str] = mapped_column(String(320))
    status: Mapped[RecipientStatus] = mapped_column(enum_column(RecipientStatus), default=RecipientStatus.WAITING)
    reply_code: Mapped[int | None] = mapped_column(Integer)
    reply: Mapped[str] = mapped_column(Text, default="")


class Attempt(Model):
    __tablename__ = "message_attempts"
    __table_args__ = (UniqueConstraint("message_id", "number"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(Instant)
    finished_at: Mapped[datetime | None] = mapped_column(Instant)
    method: Mapped[str] = mapped_column(String(32), default="")
    host: Mapped[str] = mapped_column(String(253), default="")
    outcome: Mapped[str] = mapped_column(String(32), default="")  # a MessageStatus value once finished
    stage: Mapped[str] = mapped_column(String(16), default="")
    code: Mapped[str] = mapped_column(String(80), default="")
    reply_code: Mapped[int | None] = mapped_column(Integer)
    reply: Mapped[str] = mapped_column(Text, default="")
    remote_id: Mapped[str] = mapped_column(String(255), default="")
