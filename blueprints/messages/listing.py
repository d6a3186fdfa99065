"""The list of a store's messages: filters, search, pages by key. A constant number of queries, whatever the backlog."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlencode

from flask import url_for
from sqlalchemy import ColumnElement, Select, func, or_, select

from extensions import db
from models import Attempt, Message, Recipient, Store
from models.outbox import HoldReason, MessageStatus, RecipientKind

PAGE_ROWS = 25
SEARCH_MAX = 200

# Value in the URL → words of the link, states it shows. The order of the links.
FILTERS: dict[str, tuple[str, tuple[MessageStatus, ...]]] = {
    "": ("All", ()),
    "sent": ("Accepted", (MessageStatus.SENT,)),
    "queued": ("Waiting", (MessageStatus.QUEUED, MessageStatus.SENDING)),
    "deferred": ("Retrying", (MessageStatus.DEFERRED, MessageStatus.UNCERTAIN)),
    "held": ("Held", (MessageStatus.HELD,)),
    "failed": ("Failed", (MessageStatus.FAILED,)),
    "not-sent": ("Not sent", (MessageStatus.EXPIRED, MessageStatus.CANCELLED)),
}


@dataclass(frozen=True)
class Filters:
    """What the list is narrowed to, as it stands in the URL."""

    status: str = ""
    q: str = ""

    @classmethod
    def of(cls, status: str, q: str) -> Filters:
        return cls(status if status in FILTERS else "", q.replace("\0", "").strip()[:SEARCH_MAX])

    def __bool__(self) -> bool:
        return bool(self.status or self.q)

    def url(self, store: Store, **more: str) -> str:
        values = {"status": self.status, "q": self.q} | more
        query = urlencode({name: value for name, value in values.items() if value})
        return url_for("messages.index", store_id=store.id) + (f"?{query}" if query else "")


@dataclass(frozen=True)
class Row:
    message: Message
    recipient: str
    others: int
    attempts: int


@dataclass(frozen=True)
class Page:
    rows: list[Row]
    newer_url: str = ""
    older_url: str = ""

    @property
    def words(self) -> str:
        return f"{len(self.rows)} {'message' if len(self.rows) == 1 else 'messages'}"


@dataclass(frozen=True)
class Held:
    """How many messages of the store are held, by reason."""

    counts: dict[HoldReason, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def load_page(store: Store, filters: Filters, *, before: str, after: str) -> Page:
    """Return one page, newest first: the messages older than `before`, or those just newer than `after` (row ids)."""
    query = _narrowed(store, filters)
    newer_than, older_than = _row_id(after), _row_id(before)
    if newer_than is not None:
        found = list(db.session.scalars(query.where(Message.id > newer_than).order_by(Message.id).limit(PAGE_ROWS + 1)))
        has_newer, has_older = len(found) > PAGE_ROWS, True
        messages = found[:PAGE_ROWS][::-1]
    else:
        if older_than is not None:
            query = query.where(Message.id < older_than)
        found = list(db.session.scalars(query.order_by(Message.id.desc()).limit(PAGE_ROWS + 1)))
        has_newer, has_older = older_than is not None, len(found) > PAGE_ROWS
        messages = found[:PAGE_ROWS]
    if not messages:
        return Page([], newer_url=filters.url(store) if has_newer else "")
    return Page(
        _rows(messages),
        newer_url=filters.url(store, after=str(messages[0].id)) if has_newer else "",
        older_url=filters.url(store, before=str(messages[-1].id)) if has_older else "",
    )


def load_held(store: Store) -> Held:
    counts = (
        select(Message.hold_reason, func.count())
        .where(Message.store_id == store.id, Message.status == MessageStatus.HELD)
        .group_by(Message.hold_reason)
    )
    return Held({reason: count for reason, count in db.session.execute(counts).all() if reason})


def _narrowed(store: Store, filters: Filters) -> Select[tuple[Message]]:
    query = select(Message).where(Message.store_id == store.id)
    if states := FILTERS[filters.status][1]:
        query = query.where(Message.status.in_(states))
    if filters.q:
        query = query.where(_matches(filters.q))
    return query


def _matches(q: str) -> ColumnElement[bool]:
    addressed = select(Recipient.id).where(
        Recipient.message_id == Message.id,
        Recipient.kind != RecipientKind.STORE_BCC,
        Recipient.address.icontains(q, autoescape=True),
    )
    return or_(
        Message.subject.icontains(q, autoescape=True),
        Message.uid == q.lower(),
        Message.message_id == f"<{q.strip('<>')}>",
        addressed.exists(),
    )


def _rows(messages: list[Message]) -> list[Row]:
    ids = [message.id for message in messages]
    addresses: dict[int, list[str]] = {}
    named = (
        select(Recipient.message_id, Recipient.address)
        .where(Recipient.message_id.in_(ids), Recipient.kind != RecipientKind.STORE_BCC)
        .order_by(Recipient.id)
    )
    for message_id, address in db.session.execute(named):
        addresses.setdefault(message_id, []).append(address)
    counts = select(Attempt.message_id, func.count()).where(Attempt.message_id.in_(ids)).group_by(Attempt.message_id)
    attempts = dict(db.session.execute(counts).all())
    return [
        Row(message, found[0] if found else "", max(len(found) - 1, 0), attempts.get(message.id, 0))
        for message in messages
        for found in [addresses.get(message.id, [])]
    ]


def _row_id(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None
