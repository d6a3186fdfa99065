"""What goes into an SMTP conversation and what comes out of it: plain records, no I/O.

`mail/smtp/conversation.py` offers all of these under its own name; the other files of the family take them from here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mail.errors import MailError, Stage
from security.secret import Secret

# Told of every step as it begins and as it succeeds: (stage, "started" | "done", facts). Facts are plain JSON values.
# A step that fails is not "done": its error carries the stage.
Observer = Callable[[Stage, str, dict[str, Any]], None]


class Encryption(StrEnum):
    """How a connection is encrypted (product.md 3: "Enable SSL For SMTP")."""

    IMPLICIT = "implicit"  # TLS from the first byte
    STARTTLS = "starttls"  # encrypted by STARTTLS or not at all
    OPPORTUNISTIC = "opportunistic"  # by STARTTLS if it is offered, else in clear


@dataclass(frozen=True)
class Endpoint:
    """Where to connect and how to behave there.

    Attributes:
        provider: key of our catalogue; it picks the rows an error text is compared with.
        ehlo_hostname: the name we introduce ourselves with; Google delays invalid ones (providers.md 14).
        plaintext_auth: the operator listed this host in PLAINTEXT_AUTH_HOSTS: credentials may travel in clear.
    """

    host: str
    port: int
    encryption: Encryption
    provider: str = "other"
    ehlo_hostname: str = "localhost"
    plaintext_auth: bool = False


@dataclass(frozen=True)
class Timeouts:
    """Seconds allowed per command, not per read (security.md 53).

    `data_s` is for each block of the message handed to the network (RFC 5321 4.5.3.2.5), `final_s` for the answer
    to the final dot. `attempt_s` bounds everything from dialling to that answer, or from one message to the next
    one's answer on a kept connection.
    """

    connect_s: float = 30
    command_s: float = 60
    data_s: float = 180
    final_s: float = 600
    attempt_s: float = 900

    @classmethod
    def for_test(cls) -> "Timeouts":
        """Return the short limits of a test that a person waits for: 30 seconds in all."""
        return cls(connect_s=10, command_s=15, data_s=30, final_s=30, attempt_s=30)


@dataclass(frozen=True)
class PasswordLogin:
    """A classic sign-in, by PLAIN or LOGIN."""

    username: str
    password: Secret


@dataclass(frozen=True)
class BearerLogin:
    """A sign-in with an OAuth access token.

    `mechanism` None means: XOAUTH2 where it is offered, else OAUTHBEARER (providers.md 11).
    """

    user: str
    token: Secret
    mechanism: str | None = None


@dataclass(frozen=True)
class SMTPReply:
    """One reply, its lines without code and separator, control characters made visible."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines on one line, as people and the signature catalogue read them."""
        return self.lines[0] if len(self.lines) == 1 else " ".join(line for line in self.lines if line)

    @property
    def enhanced(self) -> str:
        """The enhanced status code such as "5.7.139", or an empty string (RFC 2034 4)."""
        first = self.lines[0].split(" ", 1)[0] if self.lines else ""
        parts = first.split(".")
        is_code = len(parts) == 3 and all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts)
        return first if is_code and parts[0] in {"2", "4", "5"} else ""

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_temporary(self) -> bool:
        return 400 <= self.code < 500


@dataclass(frozen=True)
class RecipientResult:
    """What became of one recipient. The reply is the server's, or ours for an address it could not even be asked."""

    address: str
    accepted: bool
    reply: SMTPReply

    @property
    def temporary(self) -> bool:
        """True when this recipient may pass later.

        "Too many recipients" counts too, whatever its first digit: the rest goes in the next transaction
        (RFC 5321 4.5.3.1.10).
        """
        return not self.accepted and (self.reply.is_temporary or self.reply.enhanced == "5.5.3")


@dataclass(frozen=True)
class SendResult:
    """An accepted message: every recipient's own result, the final reply, and the id the server filed it under."""

    recipients: tuple[RecipientResult, ...]
    reply: SMTPReply
    queue_id: str


@dataclass(frozen=True)
class Envelope:
    """One message as it is handed over.

    Attributes:
        content: with CRLF line ends only.
        before_commit: asked right before the bytes after which the server may deliver; False withdraws the message.
        envelope_id: our name for it, which a bounce repeats where the server can (DSN, RFC 3461 4.4).
    """

    sender: str
    recipients: tuple[str, ...]
    content: bytes = field(repr=False)
    before_commit: Callable[[], bool] | None = None
    envelope_id: str = ""


@dataclass(frozen=True)
class Sent:
    """What became of one of several messages: a result or an error, never both."""

    envelope: Envelope
    result: SendResult | None = None
    error: MailError | None = None
