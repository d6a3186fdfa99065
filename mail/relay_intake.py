"""A message as an application hands it in by SMTP: envelope and bytes in, a checked `NewMessage` out.

The envelope decides who gets it; To and Cc of the header are only shown. Whoever is in the envelope and in neither of
them gets a blind copy, as everywhere in mail. Source: product.md 6, RFC 5321 D.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from email.utils import getaddresses

from sqlalchemy import func, select

from extensions import db
from mail import relayed, text_rules
from mail.outbox_content import NewMessage
from mail.outbox_work import messages
from mail.relayed import Relayed
from models.outbox import Priority

# What mail programs and shops write; everything else is normal. X-Priority counts from 1 (highest) to 5 (lowest).
_IMPORTANCE = {"high": Priority.HIGH, "low": Priority.LOW}
_X_PRIORITY = {"1": Priority.HIGH, "2": Priority.HIGH, "4": Priority.LOW, "5": Priority.LOW}
_BULK = frozenset({"bulk", "list", "junk"})


def read_message(raw: bytes, recipients: Sequence[str]) -> NewMessage:
    """Return the message for the recipients of the envelope, which are checked already.

    Raises:
        ValueError: what is wrong with the message, in a sentence.
    """
    found = relayed.normalise(raw)
    to, cc, bcc = _by_kind(found, recipients)
    return NewMessage(to=to, cc=cc, bcc=bcc, subject=found.subject, priority=_priority(found), relayed=found)


def are_stored(uids: Sequence[str]) -> bool:
    """Whether all of these messages are in the outbox."""
    count = db.session.scalar(select(func.count()).where(messages.c.uid.in_(uids)))
    return bool(uids) and count == len(set(uids))


def _by_kind(found: Relayed, recipients: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The recipients in To, in Cc, and in neither."""
    shown_to, shown_cc = _mailboxes(found.to), _mailboxes(found.cc)
    to = tuple(address for address in recipients if address.casefold() in shown_to)
    cc = tuple(address for address in recipients if address.casefold() in shown_cc - shown_to)
    return to, cc, tuple(address for address in recipients if address.casefold() not in shown_to | shown_cc)


def _mailboxes(shown: Sequence[str]) -> frozenset[str]:
    return frozenset(_one_spelling(address) for _, address in getaddresses(list(shown)) if address)


def _one_spelling(address: str) -> str:
    """The spelling that recipients have. Only what may be spelled in two ways is worth the parser."""
    if not address.isascii() or "xn--" in address.lower():
        with suppress(ValueError):  # shown and nothing else, so it may be anything
            address = text_rules.parse_address(address)
    return address.casefold()


def _priority(found: Relayed) -> Priority:
    said = {name.lower(): value.strip().lower() for name, value in found.fields}
    if said.get("precedence") in _BULK:
        return Priority.LOW
    if said.get("importance") in _IMPORTANCE:
        return _IMPORTANCE[said["importance"]]
    return _X_PRIORITY.get(said.get("x-priority", "")[:1], Priority.NORMAL)
