"""What a message says: as handed in, as sealed JSON in a row of its own, and opened again for an attempt.

Sealed for the message's uid, so that a content moved to another message does not open. Attachments, and the body of a
message from the relay, lie beside it in pieces (`mail/outbox_blobs.py`), which the JSON names. Reading here has
short transactions of its own.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, exists, select, update

from extensions import db
from mail import outbox_blobs
from mail.compose import Attachment
from mail.equipment import Equipment
from mail.outbox_blobs import StoredFile
from mail.outbox_work import ClaimedMessage, messages
from mail.relayed import Relayed
from models.among import is_among
from models.database import reading, writing
from models.outbox import MessageContent, Priority
from models.prepared import Prepared
from security.vault import Place, Unreadable

Pair = tuple[str, str]

# Why a message ends as it comes in: the store does not send mails of its kind.
TEMPLATE_OFF = "template_off"

contents = cast(Table, MessageContent.__table__)

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_contents_of = Prepared(select(contents.c.message_id, contents.c.sealed).where(is_among(contents.c.message_id, "ids")))


@dataclass(frozen=True)
class NewMessage:
    """A message as handed in: checked, normalised, without duplicates inside a list.

    Attributes:
        relayed: the message as another program composed it; then to, cc and bcc are the envelope, and bodies, headers
            and attachments are its own.
        cancelled_because: a code when it is kept for people to see and not sent; cancelled_detail is its sentence.
    """

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
    relayed: Relayed | None = None
    cancelled_because: str = ""
    cancelled_detail: str = ""

    @property
    def files(self) -> tuple[bytes, ...]:
        """What is stored in pieces, by number of the part."""
        body = () if self.relayed is None else (self.relayed.body,)
        return (*body, *(one.content for one in self.attachments))


@dataclass(frozen=True)
class Content:
    """The sealed part of a message, opened.

    Attributes:
        sent_headers: those that custom fields added on the last attempt.
        stored: what still lies in the database, by number of the part; until `with_attachments` fetches it,
            attachments and a relayed body are empty.
    """

    to: tuple[str, ...]
    cc: tuple[str, ...]
    reply_to: tuple[str, ...]
    text: str | None
    html: str | None
    headers: tuple[Pair, ...]
    attachments: tuple[Attachment, ...]
    sent_headers: tuple[Pair, ...] = ()
    relayed: Relayed | None = None
    stored: tuple[StoredFile, ...] = field(default=(), repr=False)

    @property
    def is_complete(self) -> bool:
        """Whether all of it is here."""
        return not self.stored


# In ---------------------------------------------------------------------------------------------------------------


def as_json(new: NewMessage, stored: Sequence[StoredFile] = ()) -> str:
    """Return the part of a message that is sealed; recipients and subject have columns of their own.

    Args:
        stored: where each of `new.files` will be.
    """
    document: dict[str, Any] = {
        "to": new.to,
        "cc": new.cc,
        "reply_to": new.reply_to,
        "text": new.text,
        "html": new.html,
        "headers": new.headers,
    }
    if new.relayed is not None:
        document["relayed"] = {**_header_of(new.relayed), **_whereabouts(stored[0])}
    document["attachments"] = [
        {"filename": one.filename, "content_type": one.content_type, **_whereabouts(where)}
        for one, where in zip(new.attachments, stored[len(stored) - len(new.attachments) :], strict=True)
    ]
    return dumps(document)


def seal(plain: str, uid: str, *, equipment: Equipment) -> str:
    """Return the sealed part of the message of this uid."""
    return equipment.vault.seal(plain, _place(uid))


def _header_of(relayed: Relayed) -> dict[str, Any]:
    header = {one.name: getattr(relayed, one.name) for one in fields(relayed) if one.name != "body"}
    return {**header, "date": relayed.date.isoformat() if relayed.date else None}


def _whereabouts(stored: StoredFile) -> dict[str, Any]:
    return {"size": stored.size_bytes, "pieces": stored.pieces}


# Out --------------------------------------------------------------------------------------------------------------


def load(message: ClaimedMessage, *, equipment: Equipment) -> Content:
    """Return what the message says, opened, attachments included.

    Raises:
        security.vault.Unreadable: a key is missing, or a row was damaged or removed.
    """
    found = load_all([message], equipment=equipment)[message.id]
    if isinstance(found, Content):
        found = with_attachments(message, found, equipment=equipment)
    if isinstance(found, Unreadable):
        raise found
    return found


def load_all(claimed: Sequence[ClaimedMessage], *, equipment: Equipment) -> dict[int, Content | Unreadable]:
    """Return what each of these messages says, by message id, or why it does not open: one query for all of them.

    What lies in pieces is left where it is; see `Content.is_complete`.
    """
    with reading():
        rows = _contents_of.fetch_alone(db.engine, {"ids": [one.id for one in claimed]})
    sealed: dict[int, str] = {row[0]: row[1] for row in rows}
    return {one.id: _opened(one.uid, sealed.get(one.id), equipment) for one in claimed}


def with_attachments(message: ClaimedMessage, content: Content, *, equipment: Equipment) -> Content | Unreadable:
    """Return the content with everything that lies in pieces, or why one of them does not open."""
    if content.is_complete:
        return content
    try:
        with reading(), db.engine.begin() as connection:
            files = outbox_blobs.read(connection, message.id, content.stored, equipment=equipment)
    except Unreadable as trouble:
        return trouble
    relayed = replace(content.relayed, body=files.pop(0)) if content.relayed is not None else None
    attachments = tuple(replace(one, content=file) for one, file in zip(content.attachments, files, strict=True))
    return replace(content, relayed=relayed, attachments=attachments, stored=())


def _opened(uid: str, sealed: str | None, equipment: Equipment) -> Content | Unreadable:
    try:
        return content_from(open_json(uid, sealed, equipment=equipment))
    except Unreadable as trouble:
        return trouble


def open_json(uid: str, sealed: str | None, *, equipment: Equipment) -> dict[str, Any]:
    """Return the sealed part of the message of this uid as `as_json` wrote it.

    Raises:
        security.vault.Unreadable: it does not open, or there is none.
    """
    if sealed is None:
        raise Unreadable(f"The value message_contents.sealed of row {uid} is missing.")
    found: dict[str, Any] = json.loads(equipment.vault.open(sealed, _place(uid)))
    return found


def content_from(found: Mapping[str, Any]) -> Content:
    """Return what the JSON says."""
    relayed = found.get("relayed")
    return Content(
        to=tuple(found["to"]),
        cc=tuple(found["cc"]),
        reply_to=tuple(found["reply_to"]),
        text=found["text"],
        html=found["html"],
        headers=_pairs(found["headers"]),
        attachments=tuple(_attachment(one) for one in found["attachments"]),
        sent_headers=_pairs(found.get("sent_headers", [])),
        relayed=None if relayed is None else _relayed(relayed),
        stored=stored_in(found),
    )


def stored_in(found: Mapping[str, Any]) -> tuple[StoredFile, ...]:
    """Return what the JSON says of pieces, by number of the part."""
    parts = [*([found["relayed"]] if found.get("relayed") else []), *found["attachments"]]
    return tuple(StoredFile(one["size"], tuple(one["pieces"])) for one in parts if "pieces" in one)


def with_stored(found: Mapping[str, Any], stored: Sequence[StoredFile]) -> dict[str, Any]:
    """Return the JSON with these pieces in place of those that it names, and a relayed message without its identity.

    It is for a copy, which has a Message-ID and a Date of its own.
    """
    places = iter(stored)
    changed = dict(found)
    if found.get("relayed"):
        changed["relayed"] = {**found["relayed"], "message_id": "", "date": None, **_whereabouts(next(places))}
    changed["attachments"] = [
        {**one, **_whereabouts(next(places))} if "pieces" in one else one for one in found["attachments"]
    ]
    return changed


def _attachment(found: Mapping[str, Any]) -> Attachment:
    # Messages accepted by the first version have the file itself in the JSON.
    content = b64decode(found["content"]) if "content" in found else b""
    return Attachment(filename=found["filename"], content_type=found["content_type"], content=content)


def _relayed(found: Mapping[str, Any]) -> Relayed:
    header = {one.name: _tuples(found[one.name]) for one in fields(Relayed) if one.name in found}
    date = found["date"]
    return Relayed(**{**header, "date": datetime.fromisoformat(date) if date else None, "body": b""})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def keep_sent_headers(message: ClaimedMessage, headers: tuple[Pair, ...], *, equipment: Equipment) -> None:
    """Note the headers that custom fields add to this attempt, and commit.

    They are part of the bytes: a repetition after an uncertain end needs them although the custom fields may have
    changed since. Only stores that have such fields pay for this.
    """
    c = contents.c
    mine = exists().where(messages.c.id == message.id, messages.c.lease == message.lease)
    with writing(), db.engine.begin() as connection:
        row = _contents_of.fetch_one(connection, {"ids": [message.id]})
        sealed = None if row is None else row[1]
        found = {**open_json(message.uid, sealed, equipment=equipment), "sent_headers": headers}
        again = seal(dumps(found), message.uid, equipment=equipment)
        connection.execute(update(contents).where(c.message_id == message.id, mine).values(sealed=again))


def dumps(plain: Mapping[str, Any]) -> str:
    """Return the JSON as it is sealed."""
    return _ENCODER.encode(plain)


def _pairs(found: list[list[str]]) -> tuple[Pair, ...]:
    return tuple((name, value) for name, value in found)


def _place(uid: str) -> Place:
    return Place("message_contents", uid, "sealed")
