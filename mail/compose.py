"""A message as bytes: RFC 5322 and MIME, the same bytes on every attempt. No database, no clock, no dice.

Everything that usually differs between two runs is given (date, message id) or derived from what is given
(boundaries): a message whose fate is uncertain is sent again byte for byte, so that the receiving side can tell a
repeat from a new one (security.md 56, product.md 6).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache
from io import BytesIO

from mail import headers, mime, wire
from mail.errors import Refused, Stage
from mail.relayed import Relayed, is_mime_field

# A custom header of one of these names is left out (product.md 13.12). Subject stands beside them because a message
# has exactly one, and it has a field of its own.
HEADER_NAMES_WITHOUT_EFFECT = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "return-path", "date", "message-id", "subject"}
)
HEADER_PREFIXES_WITHOUT_EFFECT = ("mime-", "content-", "dkim-")

_ONCE = ("from", "to", "subject", "date", "message-id")
_LONG_WORD = 900  # leaves room for the name of a field within the 998 octets of a line
_UNDISCLOSED = "undisclosed-recipients:;"
_MIME_VERSION = "MIME-Version: 1.0\r\n"
_PART_NAMES = frozenset({"content-type", "content-transfer-encoding", "content-disposition"})
_DELIMITER_START = f"\r\n--{mime.BOUNDARY_START}".encode("ascii")


@dataclass(frozen=True)
class Attachment:
    """A file to go along. A content type that is none becomes application/octet-stream."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True)
class Draft:
    """What a message says and to whom its header speaks. Who gets it is the envelope's matter.

    Attributes:
        message_id: unique, with or without angle brackets; never changed afterwards.
        date: aware; the instant of acceptance, not of sending.
        to, cc, reply_to: "a@example.com" or "A Name <a@example.com>" each.
        headers: further fields in order; those without effect are left out (`is_settable_header`).
        auto_submitted: RFC 3834 word such as "auto-generated", or an empty string for no such field.
    """

    message_id: str
    date: datetime
    subject: str
    text: str | None = None
    html: str | None = None
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    reply_to: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    auto_submitted: str = ""


@dataclass(frozen=True)
class Sender:
    """The store's sender identity; the name may be empty."""

    name: str
    address: str


def is_settable_header(name: str) -> bool:
    """True when a field of this name may be added to a message by settings or by an application."""
    lowered = name.lower()
    return (
        headers.is_field_name(name)
        and lowered not in HEADER_NAMES_WITHOUT_EFFECT
        and not lowered.startswith(HEADER_PREFIXES_WITHOUT_EFFECT)
    )


def compose(draft: Draft, sender: Sender, *, extra_headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the message as bytes: CRLF only, lines of at most 998 octets, no Bcc, equal on every call.

    `extra_headers` come from the store's settings; a field that the draft brings itself wins over them. Bytes beyond
    ASCII occur only in a header with an international local part (RFC 6532); the transport must then offer SMTPUTF8.

    Raises:
        Refused: "unsendable": an address that is none, a line break in a header, a line too long. Nothing will mend
            it but another message.

    Source: RFC 5322, 2045-2047, 2231, 6532; security.md 56; product.md 13.12.
    """
    try:
        fields = _draft_header(draft, sender) + _further_fields(draft, extra_headers)
        body = _body(draft)
        # Unlike a list that is joined, it hands out what was written without a copy.
        out = BytesIO()
        out.write("".join([f"{field}\r\n" for field in fields]).encode())
        mime.write_part(out, body, draft.message_id, further=_MIME_VERSION)
    except (ValueError, LookupError) as error:
        # A UnicodeError is a ValueError whose text quotes part of the message; our own texts are chosen.
        reason = "text that has no UTF-8 form" if isinstance(error, UnicodeError) else str(error)
        raise _unsendable(reason) from None
    content = out.getvalue()
    encoding = [] if isinstance(body, mime.Multipart) else ["content-transfer-encoding"]
    _verify(content, [*_names(fields), "content-type", *encoding, "mime-version"])
    _verify_parts(content, body)
    return content


def compose_relayed(
    message: Relayed,
    sender: Sender,
    *,
    message_id: str,
    date: datetime,
    extra_headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """Return a message that an application handed in finished, as the store sends it; equal on every call.

    It goes out as the store's sender; another address that the application wrote in From becomes Reply-To unless it
    named one. `message_id` and `date` (aware) count when the message brought none of its own. `extra_headers` come
    from the store's settings; a field that the message brings itself wins over them. The body stays as it is.

    Raises:
        Refused: "unsendable", as for `compose`.

    Source: product.md 6 and 13.12; security.md 56.
    """
    try:
        fields = _relayed_header(message, sender, message.message_id or message_id, message.date or date)
        fields += [headers.kept_field(name, value) for name, value in message.fields]
        own_names = {name.lower() for name, _ in message.fields}
        further = [(name, value) for name, value in extra_headers if name.lower() not in own_names]
        fields += [headers.text_field(name, value) for name, value in further if is_settable_header(name)]
        content = b"".join(["".join([f"{field}\r\n" for field in fields]).encode(), message.body])
    except ValueError as error:
        reason = "text that has no UTF-8 form" if isinstance(error, UnicodeError) else str(error)
        raise _unsendable(reason) from None
    mime_names = wire.header_names(message.body)
    if not all(is_mime_field(name) for name in mime_names):
        raise _unsendable("header fields other than the intended ones")
    _verify(content, [*_names(fields), *mime_names])
    return content


def _draft_header(draft: Draft, sender: Sender) -> list[str]:
    return _header(
        sender,
        date=draft.date,
        to=draft.to,
        cc=draft.cc,
        reply_to=draft.reply_to,
        subject=headers.text_field("Subject", draft.subject),
        message_id=draft.message_id,
    )


def _relayed_header(message: Relayed, sender: Sender, message_id: str, date: datetime) -> list[str]:
    has_reply_to = any(name.lower() == "reply-to" for name, _ in message.fields)
    authors = {headers.parse_mailbox(author).addr_spec.lower() for author in message.from_}
    is_own = authors <= {headers.parse_mailbox(sender.address).addr_spec.lower()}
    # A subject that was encoded may hold a word that is longer than a line, and goes out encoded again.
    has_long_word = max(map(len, message.subject.split(" "))) > _LONG_WORD
    write = headers.encoded_field if has_long_word else headers.text_field
    return _header(
        sender,
        date=date,
        to=message.to,
        cc=message.cc,
        reply_to=() if has_reply_to or is_own else message.from_,
        subject=write("Subject", message.subject),
        message_id=message_id,
    )


def _header(
    sender: Sender,
    *,
    date: datetime,
    to: Sequence[str],
    cc: Sequence[str],
    reply_to: Sequence[str],
    subject: str,
    message_id: str,
) -> list[str]:
    """The fields that every message begins with; `subject` is a whole field already."""
    if date.tzinfo is None:
        raise ValueError("a date without time zone")
    message_id = f"<{message_id.strip('<>')}>"
    if not headers.is_message_id(message_id):
        raise ValueError("a message id that is none")
    return [
        _date_field(date.replace(microsecond=0), date.utcoffset()),
        _from_field(sender),
        _mailboxes("To", to) if to else f"To: {_UNDISCLOSED}",
        *([_mailboxes("Cc", cc)] if cc else []),
        *([_mailboxes("Reply-To", reply_to)] if reply_to else []),
        subject,
        f"Message-ID: {message_id}",
    ]


# Neighbours in a queue were often handed in within the same second, and are of the same sender.
@lru_cache(64)
def _date_field(date: datetime, offset: timedelta | None) -> str:
    # The offset only to tell dates apart: the same moment in another zone is an equal one.
    return f"Date: {format_datetime(date)}"


@lru_cache(256)
def _from_field(sender: Sender) -> str:
    return headers.mailbox_field("From", [headers.parse_mailbox(sender.address, name=sender.name)])


def _mailboxes(name: str, texts: Sequence[str]) -> str:
    return headers.mailbox_field(name, [headers.parse_mailbox(text) for text in texts])


def _further_fields(draft: Draft, extra_headers: Sequence[tuple[str, str]]) -> list[str]:
    if not draft.headers and not extra_headers and not draft.auto_submitted:
        return []
    fields = [field for field in draft.headers if is_settable_header(field[0])]
    own_names = {name.lower() for name, _ in fields}
    fields += [field for field in extra_headers if field[0].lower() not in own_names and is_settable_header(field[0])]
    if draft.auto_submitted and all(name.lower() != "auto-submitted" for name, _ in fields):
        fields.append(("Auto-Submitted", draft.auto_submitted))
    return [headers.text_field(name, value) for name, value in fields]


def _body(draft: Draft) -> mime.Leaf | mime.Multipart:
    """The text, the HTML as its alternative, and the files around them."""
    bodies = []
    if draft.text is not None or draft.html is None:
        bodies.append(mime.text_leaf(draft.text or ""))
    if draft.html is not None:
        bodies.append(mime.text_leaf(draft.html, "html"))
    body = bodies[0] if len(bodies) == 1 else mime.Multipart("alternative", bodies)
    if not draft.attachments:
        return body
    files = [mime.file_leaf(one.filename, one.content_type, one.content) for one in draft.attachments]
    return mime.Multipart("mixed", [body, *files])


def _names(fields: Sequence[str]) -> list[str]:
    return [field.partition(":")[0].lower() for field in fields]


def _verify(content: bytes, intended: Sequence[str]) -> None:
    """Read the bytes back with other eyes than those that wrote them: lines, field names and their counts."""
    if fault := wire.line_fault(content):
        raise _unsendable(fault)
    names = wire.header_names(content)
    if names != intended or "bcc" in names or any(names.count(name) != 1 for name in _ONCE):
        raise _unsendable("header fields other than the intended ones")


def _verify_parts(content: bytes, body: mime.Leaf | mime.Multipart) -> None:
    """Find the delimiters in the bytes: as many as were meant, and after each the fields of a part and no others."""
    found = 0
    position = content.find(_DELIMITER_START)
    while position >= 0:
        found += 1
        end = content.find(b"\r\n", position + len(_DELIMITER_START))
        if not content.endswith(b"--", position, end):
            names = wire.header_names(content, end + 2)
            if len(set(names)) != len(names) or not _PART_NAMES.issuperset(names):
                raise _unsendable("fields of a part other than the intended ones")
        position = content.find(_DELIMITER_START, end)
    if found != body.delimiters:
        raise _unsendable("parts other than the intended ones")


def _unsendable(reason: str) -> Refused:
    return Refused("unsendable", f"The message cannot be written down: {reason}.", stage=Stage.MESSAGE)
