"""A message as an application hands it in: plain JSON values in, a checked `NewMessage` out, or every fault by field.

All faults are found in one pass, each with a sentence that says what to send. Whatever is handed in comes through
here. `mail/intake_schema.py` says the same as JSON Schema. Source: product.md 6 and 13.12, security.md 5, 20, 21, 23,
28.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from mail import text_rules
from mail.compose import Attachment, is_settable_header
from mail.outbox_content import NewMessage
from models.outbox import SUBJECT_MAX, Priority
from models.types import utcnow

TOTAL_BYTES_MAX = 25 * 1024 * 1024
BATCH_MAX = 500
HEADERS_MAX = 50
HEADER_NAME_MAX = 76
HEADER_VALUE_MAX = 900  # leaves room for the name within the 998 octets of a line
ATTACHMENTS_MAX = 100
FAULTS_MAX = 100  # nobody reads more, and the answer must not outgrow the question
FILENAME_MAX = 255
EXPIRES_IN_MAX_S = 30 * 24 * 3600
SEND_AT_MAX = timedelta(days=366)
HEADER_NAME = r"[A-Za-z0-9][A-Za-z0-9-]*"
_RESTRICTED_NAME = r"[A-Za-z0-9!#$&^_.+-]{1,127}"  # RFC 6838 4.2
CONTENT_TYPE = rf"{_RESTRICTED_NAME}/{_RESTRICTED_NAME}(?:; ?charset=[A-Za-z0-9_.:-]{{1,40}})?"
CONTENT_TYPE_DEFAULT = "application/octet-stream"
# Bodies may have lines and any script's direction marks; what no mail program shows may not go in.
BAD_IN_BODY = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"

# Only `mail/templates/handing_in` knows what to do with these; it puts the texts in their place.
TEMPLATE_FIELDS = ("template", "data", "locale")
FIELDS = frozenset(
    {"to", "cc", "bcc", "reply_to", "subject", "text", "html"}
    | {"headers", "attachments", "priority", "expires_in", "send_at"}
    | set(TEMPLATE_FIELDS)
)
ATTACHMENT_FIELDS = frozenset({"filename", "content_type", "content"})
PRIORITIES = {"high": Priority.HIGH, "normal": Priority.NORMAL, "low": Priority.LOW}

# Written by servers on the way, or saying who vouches for the message: not an application's to set.
_TRACE_PREFIXES = ("resent-", "arc-", "x-storepost-")
_TRACE_NAMES = frozenset({"received", "authentication-results", "return-path"})
_HEADER_NAME = re.compile(HEADER_NAME)
_CONTENT_TYPE = re.compile(CONTENT_TYPE)
_BAD_IN_BODY = re.compile(f"[{BAD_IN_BODY}{text_rules.SURROGATES}]")
_BAD_ASCII = bytes(code for code in range(128) if _BAD_IN_BODY.match(chr(code)))

# How much of a long value is looked at at a time; whole groups of base64.
_SLICE = 48 * 1024

T = TypeVar("T")


@dataclass(frozen=True)
class FieldError:
    """One fault: the field as a path ("attachments[0].content") and what to do about it."""

    field: str
    message: str


class Rejected(Exception):
    """The message cannot be accepted as it is; `errors` names every fault found."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__(f"{len(errors)} fields")
        self.errors = errors


def fingerprint(document: Mapping[str, Any]) -> str:
    """Return the same for the same message, however its JSON was laid out: 64 hexadecimal digits.

    Nothing is written down anew for it: a message may be large.
    """
    digest = hashlib.sha256()
    _digest(digest, document)
    return digest.hexdigest()


def _digest(digest: hashlib._Hash, value: Any) -> None:
    """Add a value: its kind, its length, then itself, so that no two documents read alike."""
    if isinstance(value, str):
        digest.update(b"text %d " % len(value))
        for start in range(0, len(value), _SLICE):
            digest.update(value[start : start + _SLICE].encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):  # a file that was decoded meanwhile counts as the text that it was
        digest.update(b"text %d " % (-(-len(value) // 3) * 4))
        for start in range(0, len(value), _SLICE):
            digest.update(binascii.b2a_base64(value[start : start + _SLICE], newline=False))
    elif isinstance(value, Mapping):
        digest.update(b"object %d " % len(value))
        for name in sorted(value):
            _digest(digest, name)
            _digest(digest, value[name])
    elif isinstance(value, list):
        digest.update(b"list %d " % len(value))
        for one in value:
            _digest(digest, one)
    else:
        digest.update(f"{json.dumps(value)} ".encode("ascii"))


def read_message(document: dict[str, Any]) -> NewMessage:
    """Return the message that this document describes.

    The document then has files as bytes where it had base64, so that nobody keeps them twice.

    Raises:
        Rejected: with one entry for each fault, unknown fields included.
    """
    return _Reader(document).read()


def items_of_batch(document: Mapping[str, Any]) -> list[Any]:
    """Return what stands where the batch's messages should be, in order.

    Raises:
        Rejected: the batch itself is none.
    """
    errors = [FieldError(_printable(name[:100]), "There is no such field") for name in document if name != "messages"]
    items = document.get("messages")
    if not isinstance(items, list) or not 1 <= len(items) <= BATCH_MAX:
        errors.append(FieldError("messages", f"Send a list of 1 to {BATCH_MAX} messages"))
    if errors or not isinstance(items, list):
        raise Rejected(errors[:FAULTS_MAX])
    return items


def read_item(item: Any) -> NewMessage:
    """Return what an item of a batch describes; otherwise as `read_message`."""
    if not isinstance(item, dict):
        raise Rejected([FieldError("", "Send an object, like the one that a single message is")])
    return read_message(item)


class _Reader:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document
        self._errors: list[FieldError] = []

    def read(self) -> NewMessage:
        self._refuse_unknown(self._document, FIELDS, "")
        for name in TEMPLATE_FIELDS:
            if self._document.get(name) is not None:
                self._fault(name, "Send template and data together, without subject, text and html")
        to, cc, bcc, reply_to = (self._addresses(name) for name in ("to", "cc", "bcc", "reply_to"))
        if not (to or cc or bcc or self._errors):
            self._fault("to", "Name at least one recipient in to, cc or bcc")
        message = NewMessage(
            to=to,
            cc=cc,
            bcc=bcc,
            reply_to=reply_to,
            subject=self._subject(),
            text=self._body("text"),
            html=self._body("html"),
            headers=self._headers(),
            attachments=self._attachments(),
            priority=self._priority(),
            expires_in_s=self._whole_number("expires_in", EXPIRES_IN_MAX_S),
            send_at=self._send_at(),
        )
        if message.text is None and message.html is None and not self._has_errors_at("text", "html"):
            self._fault("text", "Send text, html or both")
        self._check_size(message)
        if self._errors:
            raise Rejected(self._errors)
        return message

    # Fields ------------------------------------------------------------------------------------------------------

    def _addresses(self, name: str) -> tuple[str, ...]:
        values = self._value(name, list, 'a list of addresses, like ["lena@shop.example"]')
        if values is None:
            return ()
        if len(values) > text_rules.ADDRESSES_MAX:
            self._fault(name, f"Use {text_rules.ADDRESSES_MAX} addresses or fewer")
            return ()
        found: dict[str, str] = {}
        for index, value in enumerate(values):
            try:
                if not isinstance(value, str):
                    raise ValueError(text_rules.ADDRESS_WORDS)
                text = text_rules.clean(value)
                if fault := text_rules.hidden_character(text):
                    raise ValueError(fault)
                address = text_rules.parse_address(text)
            except ValueError as error:
                self._fault(f"{name}[{index}]", str(error))
            else:
                found.setdefault(address.casefold(), address)
        return tuple(found.values())

    def _subject(self) -> str:
        value = self._value("subject", str, "a text")
        return self._line("subject", value, SUBJECT_MAX) if value is not None else ""

    def _body(self, name: str) -> str | None:
        value = self._value(name, str, "a text")
        if value is None:
            return None
        if fault := bad_body_character(value):
            self._fault(name, fault)
        return value

    def _headers(self) -> tuple[tuple[str, str], ...]:
        values = self._value("headers", dict, 'an object, like {"X-Order": "1001"}') or {}
        if len(values) > HEADERS_MAX:
            self._fault("headers", f"Use {HEADERS_MAX} headers or fewer")
            return ()
        seen: set[str] = set()
        found = []
        for name, value in values.items():
            field = f"headers.{name[:HEADER_NAME_MAX]}"
            if fault := _bad_header_name(name, seen):
                self._fault(field, fault)
            elif not isinstance(value, str):
                self._fault(field, "Send a text")
            else:
                found.append((name, self._line(field, value, HEADER_VALUE_MAX)))
            seen.add(name.lower())
        return tuple(found)

    def _attachments(self) -> tuple[Attachment, ...]:
        values = self._value("attachments", list, "a list of objects with filename, content_type and content") or []
        if len(values) > ATTACHMENTS_MAX:
            self._fault("attachments", f"Use {ATTACHMENTS_MAX} attachments or fewer")
            return ()
        found = (self._attachment(f"attachments[{index}]", value) for index, value in enumerate(values))
        return tuple(one for one in found if one is not None)

    def _attachment(self, path: str, value: Any) -> Attachment | None:
        if not isinstance(value, dict):
            self._fault(path, "Send an object with filename, content_type and content")
            return None
        before = len(self._errors)
        self._refuse_unknown(value, ATTACHMENT_FIELDS, f"{path}.")
        filename = value.get("filename")
        if not isinstance(filename, str) or not filename.strip():
            self._fault(f"{path}.filename", "Send the file’s name, like invoice.pdf")
        elif "/" in filename or "\\" in filename:
            self._fault(f"{path}.filename", "Send the file’s name without a path")
        else:
            filename = self._line(f"{path}.filename", filename, FILENAME_MAX)
        content_type = value.get("content_type", CONTENT_TYPE_DEFAULT)
        if not isinstance(content_type, str) or not _CONTENT_TYPE.fullmatch(content_type):
            self._fault(f"{path}.content_type", "Send a media type, like application/pdf")
        content = value["content"] = _decoded(value.get("content"))
        if content is None:
            self._fault(f"{path}.content", "Send the file in base64, with padding and without line breaks")
        if len(self._errors) > before or content is None:
            return None
        return Attachment(filename=str(filename), content_type=content_type, content=content)

    def _priority(self) -> Priority:
        value = self._value("priority", str, "high, normal or low")
        if value is not None and value not in PRIORITIES:
            self._fault("priority", "Use high, normal or low")
        return PRIORITIES.get(value or "normal", Priority.NORMAL)

    def _whole_number(self, name: str, limit: int) -> int | None:
        if isinstance(found := self._document.get(name), float) and found.is_integer():
            value: int | None = int(found)  # JSON knows one kind of number: 60.0 is 60
        else:
            value = self._value(name, int, "a whole number of seconds")
        if value is not None and not 1 <= value <= limit:
            self._fault(name, f"Use a whole number of seconds from 1 to {limit}")
            return None
        return value

    def _send_at(self) -> datetime | None:
        words = "a time with its zone, like 2027-01-31T09:00:00Z"
        value = self._value("send_at", str, words)
        if value is None:
            return None
        try:
            if not re.fullmatch(r"[0-9]{4}-.*T.*(?:Z|[+-][0-9]{2}:[0-9]{2})", value):
                raise ValueError
            at = datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            self._fault("send_at", f"Send {words}")
            return None
        if at > utcnow() + SEND_AT_MAX:
            self._fault("send_at", f"Use a time within {SEND_AT_MAX.days} days")
        # Later than asked is all that a past time can mean.
        return at if at > utcnow() else None

    # Parts -------------------------------------------------------------------------------------------------------

    def _value(self, name: str, kind: type[T], words: str) -> T | None:
        """The value when it has exactly this type; absent and null are None. True is no number here."""
        value = self._document.get(name)
        if value is None:
            return None
        if type(value) is not kind:
            self._fault(name, f"Send {words}")
            return None
        return value

    def _line(self, field: str, value: str, limit: int) -> str:
        text = text_rules.clean(value)
        if fault := text_rules.hidden_character(text):
            self._fault(field, fault)
        elif len(text) > limit:
            self._fault(field, f"Use {limit} characters or fewer")
        return text

    def _refuse_unknown(self, document: Mapping[str, Any], known: frozenset[str], prefix: str) -> None:
        for name in document:
            if name not in known:
                self._fault(f"{prefix}{name[:100]}", "There is no such field")

    def _check_size(self, message: NewMessage) -> None:
        bodies = sum(len((body or "").encode("utf-8", "replace")) for body in (message.text, message.html))
        if bodies + sum(len(one.content) for one in message.attachments) > TOTAL_BYTES_MAX:
            self._fault("attachments", "Text, HTML and attachments may have 25 MB together")

    def _fault(self, field: str, message: str) -> None:
        if len(self._errors) >= FAULTS_MAX:
            return
        self._errors.append(FieldError(_printable(field), message))

    def _has_errors_at(self, *fields: str) -> bool:
        return any(error.field in fields for error in self._errors)


def _printable(name: str) -> str:
    """A name comes from the caller and goes back to it: half a character would not survive the way."""
    return name.encode("utf-8", "replace").decode("utf-8")


def _bad_header_name(name: str, seen: set[str]) -> str | None:
    lowered = name.lower()
    if not _HEADER_NAME.fullmatch(name) or len(name) > HEADER_NAME_MAX:
        return "Use letters, digits and hyphens in the name of a header"
    if not is_settable_header(name) or lowered.startswith(_TRACE_PREFIXES) or lowered in _TRACE_NAMES:
        return f"{name} cannot be set here"
    return "This header is named twice" if lowered in seen else None


def bad_body_character(text: str) -> str | None:
    """Return what to take out of a body, or None when all of it may stand in a mail."""
    # Most mail is ASCII, or says so by entities: taking out what is bad is then six times as fast as a search.
    if text.isascii() and len(text.encode("ascii").translate(None, _BAD_ASCII)) == len(text):
        return None
    if found := _BAD_IN_BODY.search(text):
        return f"Take out the control or broken character at position {found.start() + 1}"
    return None


def _decoded(value: Any) -> bytes | None:
    """The file: decoded while it arrived, or still in base64."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return None
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except ValueError:  # binascii.Error is one; so is a character beyond ASCII
        return None
