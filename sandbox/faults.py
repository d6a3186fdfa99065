"""The switches that make the sandbox misbehave, one by one, the way real providers do.

Every switch has a type, so that the page, the HTTP interface and a test all refuse the same wrong values.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

FaultValue = bool | float | str
MAX_SECONDS: Final = 900.0
MAX_TEXT: Final = 320


class Kind(StrEnum):
    SWITCH = "switch"  # True or False
    SECONDS = "seconds"  # a number from 0 (off) to MAX_SECONDS
    CHOICE = "choice"  # "" (off) or one of the choices
    TEXT = "text"  # "" (off) or an address, or "*"


class Group(StrEnum):
    CONSENT = "Consent"
    TOKEN = "Token endpoint"  # noqa: S105 - a heading on the page, not a secret
    SMTP = "SMTP server"


@dataclass(frozen=True)
class Fault:
    """One switch: what it is called, what it does, and what may be chosen.

    `when_true` is what plain `true` means for a switch that has more than two positions.
    """

    name: str
    group: Group
    label: str
    help: str
    kind: Kind = Kind.SWITCH
    choices: tuple[tuple[str, str], ...] = ()
    when_true: str = ""

    @property
    def off(self) -> FaultValue:
        """The value in which the sandbox behaves."""
        return {Kind.SWITCH: False, Kind.SECONDS: 0.0}.get(self.kind, "")

    def checked(self, value: object) -> FaultValue:
        """Return `value` in the type of this switch.

        Raises:
            ValueError: one sentence saying what is allowed.
        """
        if self.kind is Kind.SWITCH:
            if isinstance(value, bool):
                return value
            raise ValueError(f"{self.name} is true or false.")
        if self.kind is Kind.SECONDS:
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_SECONDS:
                return float(value)
            raise ValueError(f"{self.name} is a number of seconds from 0 to {MAX_SECONDS:.0f}.")
        if isinstance(value, bool):
            return self.when_true if value else ""
        if self.kind is Kind.CHOICE:
            allowed = [key for key, _label in self.choices]
            if isinstance(value, str) and (value == "" or value in allowed):
                return value
            raise ValueError(f"{self.name} is false, true or one of: {', '.join(allowed)}.")
        if isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable():
            return value.strip()
        raise ValueError(f"{self.name} is false, true or one line of at most {MAX_TEXT} characters.")


CATALOGUE: Final[tuple[Fault, ...]] = (
    Fault(
        "deny_consent",
        Group.CONSENT,
        "Deny consent",
        "Allow is answered as if a policy of the organization had said no (access_denied).",
    ),
    Fault(
        "other_mailbox",
        Group.CONSENT,
        "Sign in as another mailbox",
        "The person turns out to be signed in with this mailbox; the tokens belong to it.",
        Kind.TEXT,
        when_true="someone.else@sandbox.example",
    ),
    Fault(
        "no_refresh_token",
        Group.TOKEN,
        "Leave out the refresh token",
        "A finished consent yields an access token only.",
    ),
    Fault(
        "rotation",
        Group.TOKEN,
        "Rotate refresh tokens",
        "Every refresh answers with a new refresh token; using an old one again ends the whole grant.",
    ),
    Fault(
        "grant_revoked",
        Group.TOKEN,
        "Grant revoked",
        "Grants made before this was switched on are refused everywhere; a new consent mends it.",
    ),
    Fault(
        "slow_token",
        Group.TOKEN,
        "Slow answers",
        "Seconds the token endpoint waits before it answers.",
        Kind.SECONDS,
    ),
    Fault(
        "token_5xx",
        Group.TOKEN,
        "Out of order",
        "The token endpoint answers 503 to everything, with Retry-After.",
    ),
    Fault(
        "token_lifetime",
        Group.TOKEN,
        "Short-lived access tokens",
        "Seconds an access token lives; 0 is the usual lifetime.",
        Kind.SECONDS,
    ),
    Fault(
        "expired_certificate",
        Group.SMTP,
        "Expired certificate",
        "Both SMTP ports show a certificate that ran out yesterday.",
    ),
    Fault(
        "smtp_auth_disabled",
        Group.SMTP,
        "Authenticated SMTP switched off",
        "Every sign-in is refused with 535 5.7.139.",
        Kind.CHOICE,
        (("tenant", "For the organization"), ("mailbox", "For the mailbox")),
        when_true="tenant",
    ),
    Fault(
        "wrong_identity",
        Group.SMTP,
        "Wrong identity",
        "Every sign-in is refused with 535 5.7.3.",
    ),
    Fault(
        "throttled",
        Group.SMTP,
        "Throttled",
        "Sign-ins, and messages on open connections, are put off with 432 4.3.2.",
    ),
    Fault(
        "send_as_denied",
        Group.SMTP,
        "Send as denied",
        "The sender is refused as one the mailbox may not use.",
        Kind.CHOICE,
        (("sender", "At MAIL FROM (550 5.7.60)"), ("message", "After the message (554 5.2.252)")),
        when_true="sender",
    ),
    Fault(
        "recipient_refused",
        Group.SMTP,
        "Refuse a recipient",
        "This address is refused with 550 5.1.10; * refuses every recipient.",
        Kind.TEXT,
        when_true="*",
    ),
    Fault(
        "hang_after_dot",
        Group.SMTP,
        "No answer after the message",
        "The message is taken, but the answer to its final dot never arrives.",
        Kind.CHOICE,
        (("hang", "Stay silent"), ("cut", "Cut the connection")),
        when_true="hang",
    ),
)
BY_NAME: Final[Mapping[str, Fault]] = {fault.name: fault for fault in CATALOGUE}


class Faults:
    """The positions of all switches; safe to read and set from any thread."""

    def __init__(self, on_change: Callable[[Mapping[str, FaultValue]], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, FaultValue] = {fault.name: fault.off for fault in CATALOGUE}
        self._on_change = on_change

    def set(self, **values: object) -> None:
        """Change the named switches and leave the others alone; all of them or, on a wrong value, none.

        Raises:
            ValueError: a name or a value the catalogue does not know, in one sentence.
        """
        checked: dict[str, FaultValue] = {}
        for name, value in values.items():
            if name not in BY_NAME:
                raise ValueError(f"There is no fault called {name!r}. Known: {', '.join(BY_NAME)}.")
            checked[name] = BY_NAME[name].checked(value)
        with self._lock:
            turned = {name: value for name, value in checked.items() if self._values[name] != value}
            if self._on_change is not None:
                self._on_change(turned)
            self._values.update(checked)

    def reset(self) -> None:
        """Switch everything off."""
        self.set(**{fault.name: fault.off for fault in CATALOGUE})

    def as_dict(self) -> dict[str, FaultValue]:
        """A copy of all positions."""
        with self._lock:
            return dict(self._values)

    def is_on(self, name: str) -> bool:
        """Whether the switch is in any position but off."""
        return bool(self._value(name))

    def seconds(self, name: str) -> float:
        """The position of a switch that counts seconds; 0 when off."""
        return float(self._value(name))

    def word(self, name: str) -> str:
        """The position of a choice or text switch; empty when off."""
        return str(self._value(name) or "")

    def _value(self, name: str) -> FaultValue:
        with self._lock:
            return self._values[name]
