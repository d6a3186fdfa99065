"""What a message says: as handed in, as sealed JSON in a row of its own, and opened again for an attempt.

Sealed for the message's uid, so that a content moved to another message does not open. Nothing here commits but
`keep_sent_headers`.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, exists, insert, select, update

from extensions import db
from mail.compose import Attachment
from mail.equipment import Equipment
from mail.outbox_work import ClaimedMessage, messages
from models.outbox import MessageContent, Priority
from security.vault import Place

Pair = tuple[str, str]

contents = cast(Table, MessageContent.__table__)


@dataclass(frozen=True)
class NewMessage:
    """A message as handed in: checked, normalised, without duplicates inside a list."""

    to: tuple[str, ...]
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: tuple[Pair, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    priority: Priority = Priority.NORMAL
    expires_in_s: int | None = None
    send_at: datetime | None = None


@dataclass(frozen=True)
class Content:
    """The sealed part of a message, opened. `sent_headers` are those that custom fields added on the last attempt."""

    to: tuple[str, ...]
    cc: tuple[str, ...]
    reply_to: tuple[str, ...]
    text: str | None
    html: str | None
    headers: tuple[Pair, ...]
    attachments: tuple[Attachment, ...]
    sent_headers: tuple[Pair, ...] = ()


def as_json(new: NewMessage) -> str:
    """Return the part of a message that is sealed; recipients and subject have columns of their own."""
    return _dumps(
        {
            "to": new.to,
            "cc": new.cc,
            "reply_to": new.reply_to,
            "text": new.text,
            "html": new.html,
            "headers": new.headers,
            "attachments": [
                {
                    "filename": one.filename,
                    "content_type": one.content_type,
                    "content": b64encode(one.content).decode("ascii"),
                }
                for one in new.attachments
            ],
        }
    )


def add(message_id: int, uid: str, plain: str, *, equipment: Equipment) -> None:
    """Add the sealed content of a message to the current transaction."""
    sealed = equipment.vault.seal(plain, _place(uid))
    db.session.execute(insert(contents).values(message_id=message_id, sealed=sealed))


def load(message: ClaimedMessage, *, equipment: Equipment) -> Content:
    """Return what the message says, opened.

    Raises:
        security.vault.Unreadable: the key is missing, or the row was damaged.
    """
    found = _load_json(message, equipment)
    return Content(
        to=tuple(found["to"]),
        cc=tuple(found["cc"]),
        reply_to=tuple(found["reply_to"]),
        text=found["text"],
        html=found["html"],
        headers=_pairs(found["headers"]),
        attachments=tuple(
            Attachment(filename=one["filename"], content_type=one["content_type"], content=b64decode(one["content"]))
            for one in found["attachments"]
        ),
        sent_headers=_pairs(found.get("sent_headers", [])),
    )


def keep_sent_headers(message: ClaimedMessage, headers: tuple[Pair, ...], *, equipment: Equipment) -> None:
    """Note the headers that custom fields add to this attempt, and commit.

    They are part of the bytes: a repetition after an uncertain end needs them although the custom fields may have
    changed since. Only stores that have such fields pay for this.
    """
    found = {**_load_json(message, equipment), "sent_headers": headers}
    sealed = equipment.vault.seal(_dumps(found), _place(message.uid))
    mine = exists().where(messages.c.id == message.id, messages.c.lease == message.lease)
    db.session.execute(update(contents).where(contents.c.message_id == message.id, mine).values(sealed=sealed))
    db.session.commit()


def _load_json(message: ClaimedMessage, equipment: Equipment) -> dict[str, Any]:
    sealed = db.session.execute(select(contents.c.sealed).where(contents.c.message_id == message.id)).scalar_one()
    found: dict[str, Any] = json.loads(equipment.vault.open(sealed, _place(message.uid)))
    return found


def _dumps(plain: Mapping[str, Any]) -> str:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def _pairs(found: list[list[str]]) -> tuple[Pair, ...]:
    return tuple((name, value) for name, value in found)


def _place(uid: str) -> Place:
    return Place("message_contents", uid, "sealed")


def load_all(claimed, *, equipment):  # STUB
    from security.vault import Unreadable

    found = {}
    for one in claimed:
        try:
            found[one.id] = load(one, equipment=equipment)
        except Unreadable as e:
            found[one.id] = e
    db.session.remove()
    return found


def with_attachments(message, content, *, equipment):  # STUB
    return content
