"""A finished message as an application hands it to our SMTP listener: checked, taken apart, fit to be sent on. No I/O.

What the store decides is taken out (the sender, who gets it, who vouched for it on the way); all else stays as the
application wrote it. `compose.compose_relayed` puts it together again. Source: RFC 5322, RFC 6409 8; product.md 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mail import header_blocks, headers, seven_bit, wire
from mail.header_blocks import RawField
from mail.wire import NotWireSafe

__all__ = ["NotWireSafe", "Relayed", "normalise"]

SUBJECT_MAX = 998
MESSAGE_ID_MAX = 255
_DATE_MAX = 100

# Read into fields of their own, or ours to write.
_OURS = frozenset({"from", "to", "cc", "bcc", "subject", "date", "message-id", "sender"})
# Written on the way, or vouching for what we change.
_TRACE = frozenset({"return-path", "received", "received-spf", "authentication-results", "domainkey-signature"})
_TRACE_PREFIXES = ("resent-", "dkim-", "arc-", "x-storepost-")
# RFC 5322 3.6 allows one of each; with two, every reader picks another one.
_ONCE = frozenset({"reply-to", "in-reply-to", "references"})


@dataclass(frozen=True)
class Relayed:
    """A message from an application, apart from its envelope.

    Attributes:
        subject: decoded, on one line, at most 998 characters.
        to, cc, from_: mailboxes of the header fields, as `headers.parse_mailbox` reads them; what is none is left out.
        message_id: with its angle brackets, or an empty string when there is none that is valid.
        date: aware, or None when there is none that can be read.
        fields: the other fields to keep, in order: name and unfolded value, its encoded words as they were.
        body: the MIME fields, an empty line and the content: CRLF only, lines of at most 998 octets, ASCII.
    """

    subject: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    message_id: str
    date: datetime | None
    from_: tuple[str, ...]
    fields: tuple[tuple[str, str], ...]
    body: bytes


def normalise(raw: bytes) -> Relayed:
    """Return the message taken apart, its body unchanged when any server would take it, else re-encoded.

    Without any header, everything is body.

    Raises:
        NotWireSafe: a ValueError whose text is a sentence for a 5xx reply; the message must change before it can
            be sent.
    """
    if b"\0" in raw:
        raise NotWireSafe("The message contains a NUL character.")
    found, start = header_blocks.read(raw, strictly=True)
    return Relayed(
        subject=header_blocks.decoded(header_blocks.first(found, "subject"))[:SUBJECT_MAX].strip(),
        to=_mailboxes(found, "to"),
        cc=_mailboxes(found, "cc"),
        message_id=_message_id(found),
        date=_date(header_blocks.first(found, "date")),
        from_=_mailboxes(found, "from"),
        fields=_kept(found),
        body=_body(found, raw[start:]),
    )


def is_mime_field(name: str) -> bool:
    """True for a field that describes the content (RFC 2045 9)."""
    return name.lower().startswith(("content-", "mime-"))


def _mailboxes(found: Sequence[RawField], name: str) -> tuple[str, ...]:
    """All fields of this name together: some programs write one for each recipient."""
    values = [field.value for field in found if field.lowered == name]
    return tuple(dict.fromkeys(mailbox for value in values for mailbox in header_blocks.mailboxes(value)))


def _message_id(found: Sequence[RawField]) -> str:
    value = header_blocks.first(found, "message-id")
    return value if len(value) <= MESSAGE_ID_MAX and headers.is_message_id(value) else ""


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value[:_DATE_MAX])
        # -0000 says that the zone is not known, and the time is UTC (RFC 5322 3.3).
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        date.astimezone(UTC)  # a year that no zone may shift
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date


def _kept(found: Sequence[RawField]) -> tuple[tuple[str, str], ...]:
    kept: list[tuple[str, str]] = []
    seen: set[str] = set()
    for field in found:
        name, value = field.lowered, field.value
        if name in _OURS or name in _TRACE or name.startswith(_TRACE_PREFIXES) or is_mime_field(name):
            continue
        if name in _ONCE and (name in seen or not value):
            continue
        seen.add(name)
        if wire.line_fault(headers.kept_field(field.name, value).encode("ascii")):
            raise NotWireSafe("A header field has a word that is longer than a line may be.")
        kept.append((field.name, value))
    return tuple(kept)


def _body(found: Sequence[RawField], content: bytes) -> bytes:
    """The MIME fields, each once because readers differ about which of two counts, and the content."""
    fields: dict[str, RawField] = {}
    for field in found:
        # A length is wrong as soon as anything is encoded anew, and no standard of mail knows it.
        if is_mime_field(field.name) and field.lowered != "content-length":
            fields.setdefault(field.lowered, field)
    body = seven_bit.fit(list(fields.values()), content)
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    if body.startswith(b"\r\n") or "mime-version" in fields:
        return body
    return b"MIME-Version: 1.0\r\n" + body
