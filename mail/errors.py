"""The error family of the engine. It imports nothing of ours.

Whatever goes wrong between a message and its mailbox is translated into one of these exactly once, at the border
where it happened (`smtp.py` for replies and sockets, `tokens.py` for the token endpoint). Above that border nobody
looks at reply codes or strings: the class says what to do, `code` is a stable word to branch and count on, and
`detail` keeps the raw words for `explain.py` and for support. None of the three ever holds a secret.
"""

from enum import StrEnum
from typing import Any


class Stage(StrEnum):
    """The ten steps of a test, in their order (product.md 5). An error carries the step that failed."""

    SETTINGS = "settings"
    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    TOKEN = "token"  # noqa: S105 - the name of a step, not a secret
    GREET = "greet"
    AUTH = "auth"
    SENDER = "sender"
    RECIPIENT = "recipient"
    MESSAGE = "message"


class Family(StrEnum):
    """Which half of the signature catalogue an error text is looked up in (providers.md 15)."""

    TOKEN = "token"  # noqa: S105 - the name of a family, not a secret
    SMTP = "smtp"


class MailError(Exception):
    """Something stopped a message; the subclass says what the caller does about it.

    Attributes:
        code: stable word in snake case, for counting and branching; never shown to people.
        detail: the peer's or the system's own words, cut, on one line and without secrets.
        stage: the step that failed.
        family: the half of the catalogue that knows such words.
        reply_code: three-digit SMTP reply or HTTP status, when there was one.
        results: when every recipient was refused, what each was told (`mail.smtp.RecipientResult`); else empty.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        stage: Stage,
        family: Family = Family.SMTP,
        reply_code: int | None = None,
    ) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.stage = stage
        self.family = family
        self.reply_code = reply_code
        self.results: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}"


class TryLater(MailError):
    """Temporary: the same message with the same settings may pass later.

    Attributes:
        after_s: the wait the peer asked for, in seconds, or None when it named none.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        stage: Stage,
        family: Family = Family.SMTP,
        reply_code: int | None = None,
        after_s: float | None = None,
    ) -> None:
        super().__init__(code, detail, stage=stage, family=family, reply_code=reply_code)
        self.after_s = after_s


class ConnectionLost(MailError):
    """The grant is gone; only an administrator can mend it by connecting again."""


class SettingsWrong(MailError):
    """Our form or the provider's console has to change first; it holds the store's queue."""


class Refused(MailError):
    """This message, or this recipient, is refused for good; the next one may pass."""


class Uncertain(MailError):
    """The connection ended after the bytes that commit: the message may have been sent."""


class Withdrawn(MailError):
    """The check made right before the committing bytes said no; nothing was sent."""
