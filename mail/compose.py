"""A message as bytes: RFC 5322 and MIME, the same bytes on every attempt. No database, no clock, no dice.

Everything that usually differs between two runs is given (date, message id) or derived from what is given
(boundaries): a message whose fate is uncertain is sent again byte for byte, so that the receiving side can tell a
repeat from a new one (security.md 56, product.md 6).
"""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import ContentTypeHeader, HeaderRegistry
from email.message import EmailMessage
from email.policy import EmailPolicy
from email.utils import format_datetime
from typing import Any

from mail import headers
from mail.errors import Refused, Stage

MAX_LINE_BYTES = 998  # RFC 5322 2.1.1, without the line end

# A custom header of one of these names is left out (product.md 13.12). Subject stands beside them because a message
# has exactly one, and it has a field of its own.
HEADER_NAMES_WITHOUT_EFFECT = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "return-path", "date", "message-id", "subject"}
)
HEADER_PREFIXES_WITHOUT_EFFECT = ("mime-", "content-", "dkim-")

_ONCE = ("from", "to", "subject", "date", "message-id", "mime-version")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>\Z")
_UNDISCLOSED = "undisclosed-recipients:;"
# Types that may not be base64 (RFC 2046 5.1 and 5.2.1); as a file they are just bytes.
_NEVER_ENCODED = frozenset({"message", "multipart"})


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
    message = EmailMessage(policy=_POLICY)
    try:
        _set_header(message, draft, sender)
        _set_further_fields(message, draft, extra_headers)
        _set_body(message, draft)
        _set_boundaries(message, draft.message_id)
        content = message.as_bytes()
    except (ValueError, LookupError) as error:
        # A UnicodeError is a ValueError whose text quotes part of the message; our own texts are chosen.
        reason = "text that has no UTF-8 form" if isinstance(error, UnicodeError) else str(error)
        raise _unsendable(reason) from None
    _verify(content, message)
    return content


class _WirePolicy(EmailPolicy):
    """The SMTP policy, with the header fields of a mail written by `mail/headers.py`; MIME's own stay with `email`."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        if _is_mime_field(name):
            return super().header_store_parse(name, value)
        if isinstance(value, str):
            return name, _Folded(headers.text_field(name, value))
        return name, _Folded(headers.mailbox_field(name, value))

    def fold_binary(self, name: str, value: Any) -> bytes:
        if isinstance(value, _Folded):
            return f"{value}\r\n".encode()
        return super().fold_binary(name, value)


class _Folded(str):
    """A whole field, name included, as it goes on the wire."""

    __slots__ = ()


_POLICY = _WirePolicy(linesep="\r\n", cte_type="7bit", raise_on_defect=False)


def _is_mime_field(name: str) -> bool:
    return name.lower().startswith(("content-", "mime-"))


def _set_header(message: EmailMessage, draft: Draft, sender: Sender) -> None:
    if draft.date.tzinfo is None:
        raise ValueError("a date without time zone")
    message["Date"] = format_datetime(draft.date)
    message["From"] = [headers.parse_mailbox(sender.address, name=sender.name)]
    message["To"] = [headers.parse_mailbox(one) for one in draft.to] if draft.to else _UNDISCLOSED
    for name, mailboxes in (("Cc", draft.cc), ("Reply-To", draft.reply_to)):
        if mailboxes:
            message[name] = [headers.parse_mailbox(one) for one in mailboxes]
    message["Subject"] = draft.subject
    message_id = f"<{draft.message_id.strip('<>')}>"
    if not _MESSAGE_ID.match(message_id):
        raise ValueError("a message id that is none")
    message["Message-ID"] = message_id


def _set_further_fields(message: EmailMessage, draft: Draft, extra_headers: Sequence[tuple[str, str]]) -> None:
    own = [field for field in draft.headers if is_settable_header(field[0])]
    own_names = {name.lower() for name, _ in own}
    further = [(name, value) for name, value in extra_headers if is_settable_header(name)]
    fields = own + [(name, value) for name, value in further if name.lower() not in own_names]
    if draft.auto_submitted and all(name.lower() != "auto-submitted" for name, _ in fields):
        fields.append(("Auto-Submitted", draft.auto_submitted))
    for name, value in fields:
        message[name] = value


def _set_body(message: EmailMessage, draft: Draft) -> None:
    """Set the text, the HTML as its alternative, and the files around them.

    Always encoded: quoted-printable and base64 keep line ends, blanks at line ends and long lines from being changed
    on the way, and no body can then contain a boundary, which begins with "=_" (RFC 2045 6.7).
    """
    if draft.text is not None or draft.html is None:
        text = draft.text or ""
        message.set_content(text, cte=_encoding_for(text))
        if draft.html is not None:
            message.add_alternative(draft.html, subtype="html", cte=_encoding_for(draft.html))
    else:
        message.set_content(draft.html, subtype="html", cte=_encoding_for(draft.html))
    for attachment in draft.attachments:
        maintype, subtype, params = _content_type(attachment.content_type)
        filename = headers.check_value(attachment.filename) or "attachment"
        message.add_attachment(
            attachment.content, maintype=maintype, subtype=subtype, params=params, filename=filename, cte="base64"
        )


def _encoding_for(text: str) -> str:
    """Quoted-printable while most of it stays readable, else base64, which is shorter then."""
    beyond_ascii = sum(1 for character in text if character > "\x7f")
    return "quoted-printable" if beyond_ascii * 6 < len(text) or not text else "base64"


def _content_type(content_type: str) -> tuple[str, str, dict[str, str]]:
    """Return main type, subtype and the charset if any; a type that is none becomes application/octet-stream."""
    parsed = HeaderRegistry()("content-type", " ".join(content_type.split()))
    if not isinstance(parsed, ContentTypeHeader) or parsed.defects or not content_type.isascii():
        return "application", "octet-stream", {}
    if parsed.maintype in _NEVER_ENCODED:
        return "application", "octet-stream", {}
    charset = parsed.params.get("charset", "")
    return parsed.maintype, parsed.subtype, {"charset": charset} if re.fullmatch(r"[\w.:-]+", charset) else {}


def _set_boundaries(message: EmailMessage, message_id: str) -> None:
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            digest = hashlib.sha256(f"{number} {message_id}".encode()).hexdigest()
            part.set_boundary(f"=_{digest[:32]}")


def _verify(content: bytes, message: EmailMessage) -> None:
    """Read the bytes back with other eyes than those that wrote them: lines, field names and their counts."""
    lines = content.split(b"\r\n")
    if any(len(line) > MAX_LINE_BYTES for line in lines):
        raise _unsendable(f"a line longer than {MAX_LINE_BYTES} octets")
    if any(b"\n" in line or b"\r" in line for line in lines):
        raise _unsendable("a line end other than CRLF")
    header, _, _ = content.partition(b"\r\n\r\n")
    starts = [line for line in header.split(b"\r\n") if not line.startswith((b" ", b"\t"))]
    names = Counter(start.partition(b":")[0].decode("ascii", "replace").lower() for start in starts)
    intended = Counter(name.lower() for name, _ in message.raw_items())
    if names != intended or names["bcc"] or any(names[name] != 1 for name in _ONCE):
        raise _unsendable("header fields other than the intended ones")


def _unsendable(reason: str) -> Refused:
    return Refused("unsendable", f"The message cannot be written down: {reason}.", stage=Stage.MESSAGE)
