"""The messages the SMTP server took: a bounded pile, newest kept."""

import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser, HeaderParser
from functools import cached_property
from typing import Any, Final

KEEP_MESSAGES: Final = 500
KEEP_BYTES: Final = 128 * 1024 * 1024
# A page and a JSON answer show this much of a body; the .eml has all of it.
SHOW_CHARACTERS: Final = 100_000
# The email package raises any of these on headers that no honest program writes.
_HEADER_TROUBLE: Final = (ValueError, LookupError, AttributeError)


@dataclass(frozen=True)
class Message:
    """One message as it was taken: the envelope, the bytes, and how the sender had signed in.

    `number` counts from 1 in the inbox. `recipients` are those of the envelope, so Bcc is among them; `content` has
    CRLF line ends and no dot stuffing.
    """

    number: int
    received_at: datetime
    sender: str
    recipients: tuple[str, ...]
    content: bytes
    mechanism: str
    user: str
    client_id: str
    tls: str
    queue_id: str

    @cached_property
    def parsed(self) -> EmailMessage:
        """The message as Python's modern email policy reads it."""
        return BytesParser(policy=policy.default).parsebytes(self.content)

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Names and raw values, in order, folding included."""
        return tuple((name, str(value)) for name, value in HeaderParser().parsestr(self._head).raw_items())

    def header(self, name: str) -> str:
        """One decoded header; empty when it is missing or not readable."""
        try:
            return str(self._decoded.get(name, ""))
        except _HEADER_TROUBLE:
            return ""

    def addresses(self, name: str) -> tuple[str, ...]:
        """The bare addresses in a header such as To; empty when there are none to read."""
        try:
            return tuple(entry.addr_spec for header in self._decoded.get_all(name, []) for entry in header.addresses)
        except _HEADER_TROUBLE:
            return ()

    @property
    def subject(self) -> str:
        return self.header("Subject")

    @cached_property
    def hidden_recipients(self) -> tuple[str, ...]:
        """Who got a copy without being named in To or Cc."""
        named = {address.casefold() for address in (*self.addresses("To"), *self.addresses("Cc"))}
        return tuple(address for address in self.recipients if address.casefold() not in named)

    @cached_property
    def text(self) -> str | None:
        """The plain text body, or None."""
        return self._body("plain")

    @cached_property
    def html(self) -> str | None:
        """The HTML body, as source, or None."""
        return self._body("html")

    def as_json(self) -> dict[str, Any]:
        """What `/inbox.json` says about the message."""
        return {
            "number": self.number,
            "received_at": self.received_at.isoformat(),
            "queue_id": self.queue_id,
            "mail_from": self.sender,
            "rcpt_to": list(self.recipients),
            "hidden_rcpt_to": list(self.hidden_recipients),
            "auth": {"mechanism": self.mechanism, "user": self.user, "client_id": self.client_id},
            "tls": self.tls,
            "size_bytes": len(self.content),
            "from": self.header("From"),
            "to": self.header("To"),
            "cc": self.header("Cc"),
            "subject": self.subject,
            "message_id": self.header("Message-ID"),
            "headers": [list(pair) for pair in self.headers],
            "text": self.text,
            "html": self.html,
        }

    @property
    def _head(self) -> str:
        # Headers may be UTF-8 as they stand (RFC 6532); the bytes parser would turn them into question marks.
        return self.content.partition(b"\r\n\r\n")[0].decode(errors="replace")

    @cached_property
    def _decoded(self) -> EmailMessage:
        return HeaderParser(policy=policy.default).parsestr(self._head)

    def _body(self, kind: str) -> str | None:
        part = self.parsed.get_body(preferencelist=(kind,))
        if part is None:
            return None
        try:
            text = str(part.get_content())
        except (LookupError, ValueError):
            # An unknown charset or broken encoding: better the raw payload than an error page.
            text = str(part.get_payload())
        return text[:SHOW_CHARACTERS]


class Inbox:
    """All messages taken since the start or the last clearing; safe from any thread."""

    def __init__(self) -> None:
        self._messages: dict[int, Message] = {}
        self._taken = 0
        self._bytes = 0
        self._changed = threading.Condition()

    def add(self, message: Message) -> Message:
        """Keep a message under the next number, dropping the oldest ones when there are too many or too large ones."""
        with self._changed:
            self._taken += 1
            numbered = replace(message, number=self._taken)
            self._messages[numbered.number] = numbered
            self._bytes += len(numbered.content)
            while len(self._messages) > KEEP_MESSAGES or (self._bytes > KEEP_BYTES and len(self._messages) > 1):
                oldest = self._messages.pop(next(iter(self._messages)))
                self._bytes -= len(oldest.content)
            self._changed.notify_all()
            return numbered

    def messages(self) -> tuple[Message, ...]:
        """All messages, oldest first."""
        with self._changed:
            return tuple(self._messages.values())

    def message(self, number: int) -> Message | None:
        """The message with this number, or None."""
        with self._changed:
            return self._messages.get(number)

    def clear(self) -> None:
        """Throw all messages away; numbers go on counting."""
        with self._changed:
            self._messages.clear()
            self._bytes = 0
            self._changed.notify_all()

    def wait_for(self, count: int, timeout_s: float) -> tuple[Message, ...]:
        """Return all messages as soon as there are `count` of them.

        Raises:
            TimeoutError: there were fewer after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while len(self._messages) < count:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    raise TimeoutError(f"{len(self._messages)} of {count} messages after {timeout_s} s")
            return tuple(self._messages.values())
