"""The ground of a conversation: a wire with its deadlines, what the server offers, and the border for faults.

`mail/smtp/conversation.py` opens it and signs in on it, `mail/smtp/transfer.py` sends messages over it.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mail.errors import MailError, Stage, TryLater
from mail.smtp import faults as smtp_faults
from mail.smtp.lines import Wire
from mail.smtp.records import Endpoint, Observer, SMTPReply, Timeouts
from security.redact import Redactor


class Session:
    """State shared by the parts of one conversation.

    Attributes:
        wire: the connection, or None before it is open and after it is gone.
        capabilities: what the last EHLO offered: upper-case keyword to its parameters.
        secrets: strings never to appear in an error; grows with each sign-in.
        by_token: whether the sign-in used a grant.
        farewell: the 421 with which the server ended the connection, None while it has not.
        refusals: lasting refusals (5xx) so far; servers hang up on clients that collect them.
        has_others_out: whether answers to other transactions are still to come after the current one's.
    """

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts, observe: Observer | None) -> None:
        self.endpoint = endpoint
        self.timeouts = timeouts
        self.wire: Wire | None = None
        self.capabilities: dict[str, str] = {}
        self.secrets: tuple[str, ...] = ()
        self.by_token = True
        self.farewell: SMTPReply | None = None
        self.refusals = 0
        self.has_others_out = False
        self.last_used_at = time.monotonic()
        self._redactor: Redactor | None = None
        self._redacts: tuple[str, ...] = ()
        self._observe = observe
        self._attempt_ends = 0.0

    def begin_attempt(self) -> None:
        """Start the clock that bounds a whole attempt."""
        self._attempt_ends = time.monotonic() + self.timeouts.attempt_s

    def deadline(self, wait_s: float) -> float:
        """Return the instant `wait_s` from now, or the end of the attempt when that comes first."""
        return min(time.monotonic() + wait_s, self._attempt_ends)

    def remaining_s(self, wait_s: float) -> float:
        """Return the seconds until that instant, for those who take a timeout; never zero, which would mean none."""
        return max(self.deadline(wait_s) - time.monotonic(), 0.001)

    @property
    def is_watched(self) -> bool:
        return self._observe is not None

    def tell(self, stage: Stage, event: str, **facts: Any) -> None:
        """Pass a step on to whoever watches."""
        if self._observe is not None:
            self._observe(stage, event, facts)

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """Turn any fault inside into the error family. After a fault nobody knows what comes next: the wire goes."""
        try:
            yield
        except smtp_faults.FAULTS as fault:
            self.abort()
            raise smtp_faults.from_fault(fault, stage=stage, secrets=self.secrets) from fault

    def live_wire(self, stage: Stage) -> Wire:
        """Return the open wire.

        Raises:
            TryLater: there is none; a new conversation is needed.
        """
        if self.wire is None:
            raise TryLater("not_connected", "please run connect() first", stage=stage)
        return self.wire

    def command(self, line: bytes, *, stage: Stage) -> SMTPReply:
        """Send one command line and return its reply, both within the time of one command."""
        with self.during(stage):
            wire = self.live_wire(stage)
            deadline = self.deadline(self.timeouts.command_s)
            wire.write(line + b"\r\n", deadline)
            return self.heed(wire.read_reply(deadline))

    def next_reply(self, stage: Stage, wait_s: float | None = None) -> SMTPReply:
        """Return the reply to the oldest command that has none yet, within `wait_s` or the time of one command."""
        wire = self.live_wire(stage)
        try:
            return self.heed(wire.read_reply(self.deadline(self.timeouts.command_s if wait_s is None else wait_s)))
        except smtp_faults.FAULTS as fault:  # as `during` does, without its price for every reply
            self.abort()
            raise smtp_faults.from_fault(fault, stage=stage, secrets=self.secrets) from fault

    def heed(self, reply: SMTPReply) -> SMTPReply:
        """Return the reply; after a 421 the server hangs up, so we do first (RFC 5321 3.8)."""
        self.last_used_at = time.monotonic()
        self.refusals += reply.code >= 500
        if reply.code == 421:
            self.farewell = reply
            self.abort()
        return reply

    def error(self, reply: SMTPReply, *, stage: Stage, code: str, challenge: str = "") -> MailError:
        """Return the error that this refusing reply amounts to.

        A reply that neither refuses nor fits means that the two sides no longer speak of the same command.
        """
        if reply.code < 400:
            self.abort()
        return smtp_faults.from_reply(
            reply,
            stage=stage,
            code=code,
            provider=self.endpoint.provider,
            secrets=self.secrets,
            challenge=challenge,
            by_token=self.by_token,
        )

    def cleaned(self, reply: SMTPReply) -> SMTPReply:
        """Return the reply as it may be kept: a server can repeat what it was told, a credential included.

        Of what it says in agreement, which is most of what it says, only this conversation's own secrets are looked
        for: nothing else was told to it.
        """
        if self._redactor is None or self._redacts != self.secrets:
            self._redactor, self._redacts = Redactor(self.secrets), self.secrets
        clean = self._redactor.known if reply.is_positive else self._redactor
        if len(reply.lines) == 1:
            line = reply.lines[0]
            cleaned = smtp_faults.cut(clean(line))
            return reply if cleaned == line else SMTPReply(reply.code, (cleaned,))
        return SMTPReply(reply.code, tuple(smtp_faults.cut(clean(line)) for line in reply.lines))

    def abort(self) -> None:
        """Drop the connection without a word; nothing half sent can be committed any more."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None
