"""How messages come into the outbox: one or many in a handful of statements, all of them built once.

Everything joins the caller's transaction, so that a message is born with the order that caused it; only after the
commit may anybody say that it was accepted, and only then is a worker told. Source: performance.md 4, security.md 61
and 62.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import bindparam, insert, select

from extensions import db
from mail import nudges, outbox_blobs, outbox_content
from mail.equipment import Equipment
from mail.outbox_content import NewMessage, contents
from mail.outbox_work import messages, recipients
from mail.relayed import Relayed
from mail.terms import Terms, terms_of
from models.outbox import HoldReason, MessageStatus, RecipientKind
from models.types import new_uid, utcnow

# Sealed contents go to the database in groups of about this size: a batch may be as large as a request.
GROUP_CHARS: Final = 4 * 1024 * 1024


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


_handed_in_before = select(
    messages.c.idempotency_key,
    messages.c.idempotency_hash,
    messages.c.uid,
    messages.c.status,
    messages.c.hold_reason,
).where(
    messages.c.store_id == bindparam("store"),
    messages.c.idempotency_key.in_(bindparam("keys", expanding=True)),
)
_insert_messages = insert(messages).returning(messages.c.id, messages.c.uid)
_insert_contents = insert(contents)
_insert_recipients = insert(recipients)


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
    """Add messages to the current transaction and return what became of each, in their order. The caller commits, and
    only then may say that they were accepted; workers are told after that commit.

    While emails are off, or while the store's queue is held for trouble with its settings, they are held too. A
    conflict of keys concerns its own message only.

    Raises:
        sqlalchemy.exc.IntegrityError: one of the keys is being used at this very moment by somebody else.
    """
    if not handed:
        return []
    terms = terms_of(store_id, equipment=equipment)
    answers = _Answers(_earlier(store_id, handed))
    entries = []
    for one in handed:
        uid = new_uid()
        if answers.add(one, Enqueued(uid, terms.status, terms.hold_reason)):
            origin = {"api_key_id": api_key_id, "source": source}
            entries.append(_Entry(uid, one.new, {**origin, **_row_of(one, uid, terms)}))
    if entries:
        _insert(entries, equipment)
        if terms.status is MessageStatus.QUEUED and any(entry.row["due_at"] <= terms.now for entry in entries):
            nudges.after_commit(store_id, equipment.nudges)
    return answers.found


def find_replay(store_id: int, key: str, body_hash: str) -> Enqueued | None:
    """Return the message that was accepted under this Idempotency-Key, or None.

    Raises:
        IdempotencyConflict: it was another message.
    """
    row = db.session.connection().execute(_handed_in_before, {"store": store_id, "keys": [key]}).first()
    if row is None:
        return None
    if row.idempotency_hash != body_hash:
        raise IdempotencyConflict
    return Enqueued(row.uid, row.status, row.hold_reason, replayed=True)


# Keys ---------------------------------------------------------------------------------------------------------------


class _Answers:
    """The answers in order, and what each Idempotency-Key stands for: from earlier calls, then from this one."""

    def __init__(self, earlier: dict[str, tuple[str, Enqueued]]) -> None:
        self.found: list[Answer] = []
        self._known = earlier

    def add(self, one: HandedIn, new: Enqueued) -> bool:
        """Note the answer and return whether the message is a new one."""
        key, body_hash = one.idempotency_key, one.idempotency_hash or ""
        if key is None or key not in self._known:
            if key is not None:
                replay = Enqueued(new.uid, new.status, new.hold_reason, replayed=True)
                self._known[key] = body_hash, replay
            self.found.append(new)
            return True
        known_hash, replay = self._known[key]
        self.found.append(replay if known_hash == body_hash else IdempotencyConflict())
        return False


def _earlier(store_id: int, handed: Sequence[HandedIn]) -> dict[str, tuple[str, Enqueued]]:
    keys = {one.idempotency_key for one in handed if one.idempotency_key is not None}
    if not keys:
        return {}
    rows = db.session.connection().execute(_handed_in_before, {"store": store_id, "keys": sorted(keys)})
    return {
        row.idempotency_key: (
            row.idempotency_hash or "",
            Enqueued(row.uid, row.status, row.hold_reason, replayed=True),
        )
        for row in rows
    }


# Rows ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """A message about to be inserted, and its row, which still lacks its size."""

    uid: str
    new: NewMessage
    row: dict[str, Any]


def _row_of(one: HandedIn, uid: str, terms: Terms) -> dict[str, Any]:
    new, at = one.new, utcnow()
    due_at = new.send_at or terms.now
    return {
        **terms.row(uid),
        "priority": int(new.priority),
        "due_at": due_at,
        "expires_at": None if new.expires_in_s is None else due_at + timedelta(seconds=new.expires_in_s),
        "subject": new.subject,
        "date": max(new.send_at or at, at),
        "idempotency_key": one.idempotency_key,
        "idempotency_hash": one.idempotency_hash,
        **(_own_identity(new.relayed) if new.relayed else {}),
    }


def _own_identity(relayed: Relayed) -> dict[str, Any]:
    """Message-ID and Date of the application, where it has usable ones: it knows answers and bounces by them."""
    own: dict[str, Any] = {"message_id": relayed.message_id, "date": relayed.date}
    return {name: value for name, value in own.items() if value}


def _insert(entries: Sequence[_Entry], equipment: Equipment) -> None:
    planned = [tuple(outbox_blobs.plan(len(content)) for content in entry.new.files) for entry in entries]
    plain = [outbox_content.as_json(e.new, stored) for e, stored in zip(entries, planned, strict=True)]
    for entry, text, stored in zip(entries, plain, planned, strict=True):
        entry.row["size_bytes"] = len(text.encode("utf-8")) + sum(one.size_bytes for one in stored)
    ids = insert_messages([entry.row for entry in entries])
    insert_contents(((ids[e.uid], e.uid, text) for e, text in zip(entries, plain, strict=True)), equipment=equipment)
    insert_recipients([row for entry in entries for row in _recipient_rows(ids[entry.uid], entry.new)])
    outbox_blobs.write(
        (
            (ids[entry.uid], part, one, content)
            for entry, stored in zip(entries, planned, strict=True)
            for part, (one, content) in enumerate(zip(stored, entry.new.files, strict=True))
        ),
        equipment=equipment,
    )


def insert_messages(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Insert rows and return their ids by uid: nothing says in which order a database gives several back."""
    inserted = db.session.connection().execute(_insert_messages, rows[0] if len(rows) == 1 else rows)
    return {row.uid: row.id for row in inserted}


def insert_contents(plain: Iterable[tuple[int, str, str]], *, equipment: Equipment) -> None:
    """Seal and insert contents, (message id, uid, JSON) each, in groups that stay small."""
    connection = db.session.connection()
    group: list[dict[str, Any]] = []
    chars = 0
    for message_id, uid, text in plain:
        sealed = outbox_content.seal(text, uid, equipment=equipment)
        group.append({"message_id": message_id, "sealed": sealed})
        chars += len(sealed)
        if chars >= GROUP_CHARS:
            connection.execute(_insert_contents, group)
            group, chars = [], 0
    if group:
        connection.execute(_insert_contents, group)


def insert_recipients(rows: list[dict[str, Any]]) -> None:
    """Insert recipients: message id, kind and address each."""
    db.session.connection().execute(_insert_recipients, rows)


def _recipient_rows(message_id: int, new: NewMessage) -> list[dict[str, Any]]:
    """One row per mailbox: named twice, it counts once, where it is named most openly."""
    rows: dict[str, dict[str, Any]] = {}
    lists = ((RecipientKind.TO, new.to), (RecipientKind.CC, new.cc), (RecipientKind.BCC, new.bcc))
    for kind, addresses in lists:
        for address in addresses:
            row = {"message_id": message_id, "kind": kind, "address": address}
            rows.setdefault(address.casefold(), row)
    return list(rows.values())
