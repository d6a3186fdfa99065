"""How messages come into the outbox: one or many in a handful of statements, all of them compiled once.

Everything joins the caller's transaction, so that a message is born with the order that caused it; only after the
commit may anybody say that it was accepted, and only then is a worker told. What needs no database is done before:
SQLite has one writer at a time, and others wait meanwhile. Source: performance.md 4, security.md 61 and 62.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, select

from extensions import db
from mail import nudges, outbox_blobs, outbox_content, outbox_rows
from mail.equipment import Equipment
from mail.outbox_blobs import StoredFile
from mail.outbox_content import NewMessage
from mail.outbox_rows import GROUP_CHARS
from mail.outbox_work import NO_REASON, messages
from mail.relayed import Relayed
from mail.terms import Terms, terms_of
from models.outbox import HoldReason, MessageStatus, RecipientKind
from models.prepared import Prepared
from models.types import new_uid, utcnow


class IdempotencyConflict(Exception):
    """The same Idempotency-Key was used before for another message."""


@dataclass(frozen=True)
class HandedIn:
    """A message with the key under which its sender may hand it in again, and the fingerprint of what it says."""

    new: NewMessage
    idempotency_key: str | None = None
    idempotency_hash: str | None = None


@dataclass(frozen=True)
class Enqueued:
    """What became of a message handed in: its public id, and whether it waits or is held (and why)."""

    uid: str
    status: MessageStatus
    hold_reason: HoldReason | None = None
    replayed: bool = False


Answer = Enqueued | IdempotencyConflict


@dataclass(frozen=True)
class Added:
    """What became of messages added to a transaction, in their order, and whether a worker should be told."""

    answers: list[Answer]
    is_due: bool


_handed_in_before = Prepared(
    select(
        messages.c.idempotency_key,
        messages.c.idempotency_hash,
        messages.c.uid,
        messages.c.status,
        messages.c.hold_reason,
    ).where(messages.c.store_id == bindparam("store"), messages.c.idempotency_key == bindparam("key"))
)

_stored_before = Prepared(
    select(messages.c.uid, messages.c.status, messages.c.hold_reason).where(
        messages.c.store_id == bindparam("store"), messages.c.uid == bindparam("uid")
    )
)


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
    """Add a message to the current transaction and return its id and state; see `enqueue_many`.

    Raises:
        IdempotencyConflict: the key was used for another message.
        sqlalchemy.exc.IntegrityError: the same key is being used at this very moment by somebody else.
    """
    handed = HandedIn(new, idempotency_key, idempotency_hash)
    (answer,) = enqueue_many(store_id, [handed], equipment=equipment, api_key_id=api_key_id, source=source)
    if isinstance(answer, IdempotencyConflict):
        raise answer
    return answer


def enqueue_many(
    store_id: int,
    handed: Sequence[HandedIn],
    *,
    equipment: Equipment,
    api_key_id: int | None = None,
    source: str = "api",
) -> list[Answer]:
    """Add messages to the session's transaction and return what became of each, in their order. The caller commits, and
    only then may say that they were accepted; workers are told after that commit. Otherwise as `add`.
    """
    if not handed:
        return []
    ready = get_ready(handed, equipment=equipment)
    connection = db.session.connection()
    added = add(connection, store_id, ready, equipment=equipment, api_key_id=api_key_id, source=source)
    if added.is_due:
        nudges.after_commit(store_id, equipment.nudges)
    return added.answers


def add(
    connection: Connection,
    store_id: int,
    ready: Sequence[Ready],
    *,
    equipment: Equipment,
    api_key_id: int | None = None,
    source: str = "api",
    again: bool = False,
) -> Added:
    """Add messages to the connection's transaction and return what became of each, in their order.

    While emails are off, or while the store's queue is held for trouble with its settings, they are held too. A
    conflict of keys concerns its own message only.

    Args:
        again: somebody tried before with these very messages, and nobody knows whether the commit took place: those
            that are there are not added a second time.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the keys is being used at this very moment by somebody else.
        sqlalchemy.exc.NoResultFound: the store is gone.
    """
    terms = terms_of(connection, store_id, equipment=equipment)
    stored = _stored(connection, store_id, ready) if again else {}
    answers = _Answers(_earlier(connection, store_id, ready), stored)
    new = [one for one in ready if answers.add(one, _new_answer(one, terms))]
    rows = [{"api_key_id": api_key_id, "source": source, **_row_of(one, terms)} for one in new]
    if any(one.handed.new.cancelled_because for one in new):
        rows = [{"ended_at": None, **row} for row in rows]  # all rows have the same columns
    if new:
        _insert(connection, new, rows, equipment)
    is_due = any(row["status"] is MessageStatus.QUEUED and row["due_at"] <= terms.now for row in rows)
    return Added(answers.found, is_due or bool(stored))


def _new_answer(one: Ready, terms: Terms) -> Enqueued:
    if one.handed.new.cancelled_because:
        return Enqueued(one.uid, MessageStatus.CANCELLED)
    return Enqueued(one.uid, terms.status, terms.hold_reason)


def find_replay(store_id: int, key: str, body_hash: str) -> Enqueued | None:
    """Return the message that was accepted under this Idempotency-Key, or None.

    Raises:
        IdempotencyConflict: it was another message.
    """
    row = _handed_in_before.fetch_one(db.session.connection(), {"store": store_id, "key": key})
    if row is None:
        return None
    _, idempotency_hash, uid, status, hold_reason = row
    if idempotency_hash != body_hash:
        raise IdempotencyConflict
    return Enqueued(uid, status, hold_reason, replayed=True)


# Before the transaction ---------------------------------------------------------------------------------------------


@dataclass
class Ready:
    """A message that only lacks the database: named, written down, and sealed unless it is large.

    Attributes:
        row: its columns, but for those that depend on the store.
        files: where each of the message's files will be.
        recipients: columns of their rows, but for the message's id.
    """

    handed: HandedIn
    uid: str
    row: dict[str, Any]
    plain: str
    sealed: str | None
    files: tuple[StoredFile, ...]
    recipients: list[dict[str, Any]]


def get_ready(handed: Iterable[HandedIn], *, equipment: Equipment) -> list[Ready]:
    """Return the messages as `add` takes them: everything that can be done before the transaction is done."""
    ready, chars = [], 0
    for one in handed:
        ready.append(_ready(one))
        chars += len(ready[-1].plain)
        if chars <= GROUP_CHARS:
            ready[-1].sealed = outbox_content.seal(ready[-1].plain, ready[-1].uid, equipment=equipment)
    return ready


def _ready(one: HandedIn) -> Ready:
    new, uid, at = one.new, new_uid(), utcnow()
    files = tuple(outbox_blobs.plan(len(content)) for content in new.files)
    plain = outbox_content.as_json(new, files)
    row = {
        "uid": uid,
        "priority": int(new.priority),
        "subject": new.subject,
        "date": max(new.send_at or at, at),
        "size_bytes": len(plain.encode("utf-8")) + sum(one.size_bytes for one in files),
        "idempotency_key": one.idempotency_key,
        "idempotency_hash": one.idempotency_hash,
    }
    return Ready(one, uid, row, plain, None, files, _recipient_rows(new))


def _recipient_rows(new: NewMessage) -> list[dict[str, Any]]:
    """One row per mailbox: named twice, it counts once, where it is named most openly."""
    rows: dict[str, dict[str, Any]] = {}
    lists = ((RecipientKind.TO, new.to), (RecipientKind.CC, new.cc), (RecipientKind.BCC, new.bcc))
    for kind, addresses in lists:
        for address in addresses:
            rows.setdefault(address.casefold(), {"kind": kind, "address": address})
    return list(rows.values())


# Keys ---------------------------------------------------------------------------------------------------------------


class _Answers:
    """The answers in order, and what each Idempotency-Key stands for: from earlier calls, then from this one.

    `stored` are messages that are there already, by their own uid.
    """

    def __init__(self, earlier: dict[str, tuple[str, Enqueued]], stored: dict[str, Enqueued]) -> None:
        self.found: list[Answer] = []
        self._known = earlier
        self._stored = stored

    def add(self, one: Ready, new: Enqueued) -> bool:
        """Note the answer and return whether the message is a new one."""
        if one.uid in self._stored:
            self.found.append(self._stored[one.uid])
            return False
        key, body_hash = one.handed.idempotency_key, one.handed.idempotency_hash or ""
        if key is None or key not in self._known:
            if key is not None:
                replay = Enqueued(new.uid, new.status, new.hold_reason, replayed=True)
                self._known[key] = body_hash, replay
            self.found.append(new)
            return True
        known_hash, replay = self._known[key]
        self.found.append(replay if known_hash == body_hash else IdempotencyConflict())
        return False


def _earlier(connection: Connection, store_id: int, ready: Sequence[Ready]) -> dict[str, tuple[str, Enqueued]]:
    keys = {one.handed.idempotency_key for one in ready if one.handed.idempotency_key is not None}
    rows = _handed_in_before.fetch_each(connection, [{"store": store_id, "key": key} for key in keys])
    return {
        key: (idempotency_hash or "", Enqueued(uid, status, hold_reason, replayed=True))
        for key, idempotency_hash, uid, status, hold_reason in filter(None, rows)
    }


def _stored(connection: Connection, store_id: int, ready: Sequence[Ready]) -> dict[str, Enqueued]:
    rows = _stored_before.fetch_each(connection, [{"store": store_id, "uid": one.uid} for one in ready])
    return {row[0]: Enqueued(*row) for row in rows if row is not None}


# Rows ---------------------------------------------------------------------------------------------------------------


def _row_of(one: Ready, terms: Terms) -> dict[str, Any]:
    new = one.handed.new
    due_at = new.send_at or terms.now
    row = {**terms.row(one.uid), **one.row, "due_at": due_at, "expires_at": None}
    if new.expires_in_s is not None:
        row["expires_at"] = due_at + timedelta(seconds=new.expires_in_s)
    if new.relayed is not None:
        row.update(_own_identity(new.relayed))
    if new.cancelled_because:
        row.update(_cancelled(new), ended_at=terms.now)
    return row


def _cancelled(new: NewMessage) -> dict[str, Any]:
    return {
        "status": MessageStatus.CANCELLED,
        **NO_REASON,
        "reason_code": new.cancelled_because,
        "reason_detail": new.cancelled_detail,
    }


def _own_identity(relayed: Relayed) -> dict[str, Any]:
    """Message-ID and Date of the application, where it has usable ones: it knows answers and bounces by them."""
    own: dict[str, Any] = {"message_id": relayed.message_id, "date": relayed.date}
    return {name: value for name, value in own.items() if value}


def _insert(connection: Connection, new: Sequence[Ready], rows: list[dict[str, Any]], equipment: Equipment) -> None:
    known = [one.sealed for one in new if one.sealed is not None]
    # What is large is sealed one after the other, while the one before is on its way.
    later = (one.sealed or outbox_content.seal(one.plain, one.uid, equipment=equipment) for one in new)
    sealed = known if len(known) == len(new) else later
    ids = outbox_rows.insert_all(connection, rows, sealed, [one.recipients for one in new])
    files = (
        (id, part, where, content)
        for one, id in zip(new, ids, strict=True)
        if one.files
        for part, (where, content) in enumerate(zip(one.files, one.handed.new.files, strict=True))
    )
    outbox_blobs.write(connection, files, equipment=equipment)
