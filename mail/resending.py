"""Sending once more what was accepted before: a new message with the same content for the same people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select

from extensions import db
from mail import nudges, outbox_blobs, outbox_content, outbox_rows
from mail.accepting import Enqueued
from mail.equipment import Equipment
from mail.outbox_blobs import StoredFile
from mail.outbox_content import contents
from mail.outbox_work import messages, recipients
from mail.terms import Terms, terms_of
from models.outbox import END_STATES, MessageStatus, RecipientKind
from models.types import new_uid, utcnow

_KEPT = ("source", "subject", "priority", "size_bytes")

# Locked, so that it is not purged while it is being copied.
_original = (
    select(messages.c.id, *(messages.c[name] for name in _KEPT))
    .where(
        messages.c.store_id == bindparam("store"),
        messages.c.uid == bindparam("uid"),
        messages.c.status.in_(END_STATES),
        messages.c.purged_at.is_(None),
    )
    .with_for_update(read=True)
)
_content = select(contents.c.sealed).where(contents.c.message_id == bindparam("message"))
# The store's own Bcc is added at each attempt, by the settings of that day.
_people = (
    select(recipients.c.kind, recipients.c.address)
    .where(recipients.c.message_id == bindparam("message"), recipients.c.kind != RecipientKind.STORE_BCC)
    .order_by(recipients.c.id)
)


def resend(store_id: int, uid: str, *, equipment: Equipment) -> Enqueued | None:
    """Add a new message with the content and the recipients of this one, due now, and return its id and state.

    None when the store has no such message, when it has not ended and may still go by itself, or when its content was
    removed. Joins the caller's transaction; otherwise as `enqueue`.

    Raises:
        security.vault.Unreadable: the content does not open; nothing useful was added, so the caller rolls back.
    """
    connection = db.session.connection()
    terms = terms_of(connection, store_id, equipment=equipment)
    original = connection.execute(_original, {"store": store_id, "uid": uid}).first()
    sealed = connection.scalar(_content, {"message": original.id}) if original is not None else None
    if original is None or sealed is None:
        return None
    again = _Again(terms, outbox_content.open_json(uid, sealed, equipment=equipment))
    row = {**again.row, "resent_from": uid, **{name: original._mapping[name] for name in _KEPT}}
    (message_id,) = outbox_rows.insert_messages(connection, [row])
    content = outbox_content.seal(outbox_content.dumps(again.document), again.uid, equipment=equipment)
    outbox_rows.insert_contents(connection, [(message_id, content)])
    people = connection.execute(_people, {"message": original.id})
    outbox_rows.insert_recipients(connection, [{"message_id": message_id, **one._mapping} for one in people])
    pieces = again.pieces(connection, original.id, message_id, equipment)
    outbox_blobs.write_pieces(connection, pieces, equipment=equipment)
    if terms.status is MessageStatus.QUEUED:
        nudges.after_commit(store_id, equipment.nudges)
    return Enqueued(again.uid, terms.status, terms.hold_reason)


class _Again:
    """The copy: a row and a JSON with an identity and pieces of its own."""

    def __init__(self, terms: Terms, document: dict[str, Any]) -> None:
        self.uid = new_uid()
        self.row = {**terms.row(self.uid), "date": utcnow()}
        self._old = outbox_content.stored_in(document)
        self._new = tuple(outbox_blobs.plan(one.size_bytes) for one in self._old)
        self.document = outbox_content.with_stored(document, self._new)
        # What custom fields added belongs to the attempts of the original.
        self.document.pop("sent_headers", None)

    def pieces(
        self, connection: Connection, original_id: int, message_id: int, equipment: Equipment
    ) -> Iterator[dict[str, Any]]:
        """Give the rows of the new pieces, opening the old ones one at a time."""
        old = outbox_blobs.read_pieces(connection, original_id, _uids(self._old), equipment=equipment)
        for part, stored in enumerate(self._new):
            for piece, uid in enumerate(stored.pieces):
                yield {"message_id": message_id, "part": part, "piece": piece, "uid": uid, "plain": next(old)}


def _uids(stored: Sequence[StoredFile]) -> list[str]:
    return [uid for one in stored for uid in one.pieces]
