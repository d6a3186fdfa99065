"""One message over an open session: envelope, block of data, and the one moment that commits it.

Each form of transmission is a method of `Transfer` that ends in `_conclude`: today `_by_turns`, one command at a time.
A pipelined form (RFC 2920) and a chunked one (RFC 3030) belong beside it; `run` chooses by what the server offers.
Whatever the form, `_commit` is the only place that sends the bytes after which a server may deliver.
"""

import re

from mail import smtp_faults
from mail.errors import MailError, Refused, SettingsWrong, Stage, TryLater, Uncertain, Withdrawn
from mail.smtp_lines import BLOCK_BYTES
from mail.smtp_records import Envelope, RecipientResult, SendResult, SMTPReply
from mail.smtp_session import Session
from mail.wire_names import ascii_domain

_UNSAFE_IN_PATH = re.compile(r"[\s<>\x00-\x1f\x7f]")

_QUEUE_IDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\[InternalId=(\d+)",  # Exchange, "2.6.0 <message id> [InternalId=..., Hostname=...] Queued mail for delivery"
        r"<([^<>\s]+)> \[Hostname=",  # Exchange Online, "2.0.0 OK <id> [Hostname=...]"
        r"\bqueued as ([^\s,;]+)",  # Postfix and its relatives
        r"\bid=([^\s,;]+)",  # Exim
        r"(\S+) - gsmtp\b",  # Gmail, "2.0.0 OK  1700000000 <id> - gsmtp"
        r"^(?:\d\.\d\.\d )?(\S+) Message accepted for delivery",  # Sendmail
        r"^(?:\d\.\d\.\d )?Ok ([0-9A-Za-z-]{12,})$",  # Amazon SES
    )
)


class Transfer:
    """The transaction of one envelope on one session; used once."""

    def __init__(self, session: Session, envelope: Envelope) -> None:
        self._session = session
        self._envelope = envelope
        self._results: dict[int, RecipientResult] = {}

    def run(self) -> SendResult:
        """Hand the message over and return what became of it; errors as in `Conversation.send`."""
        self._check_content()
        return self._by_turns()

    # Forms of transmission -------------------------------------------------------------------------------------------

    def _by_turns(self) -> SendResult:
        """MAIL, each RCPT, DATA: one command, one reply (RFC 5321 3.3). Works everywhere."""
        self._offer_sender()
        for number, address in enumerate(self._envelope.recipients):
            self._offer_recipient(number, address)
        self._require_one_accepted()
        self._session.tell(Stage.MESSAGE, "started")
        reply = self._session.command(b"DATA", stage=Stage.MESSAGE)
        if reply.code != 354:
            raise self._given_up(self._session.error(reply, stage=Stage.MESSAGE, code="message_refused"))
        block = dot_stuffed(self._envelope.content)
        # The last piece is held back and leaves together with the dot: fewer packets, and the check comes last.
        cut = max(len(block) - BLOCK_BYTES, 0)
        self._send_block(memoryview(block)[:cut])
        return self._conclude(self._commit(block[cut:] + b".\r\n"))

    # Their steps -----------------------------------------------------------------------------------------------------

    def _offer_sender(self) -> None:
        sender = self._envelope.sender
        self._session.tell(Stage.SENDER, "started")
        try:
            path = _path(sender)
        except ValueError:
            raise SettingsWrong(
                "sender_unusable", "501 5.1.7 The sender address is malformed.", stage=Stage.SENDER
            ) from None
        if not path.isascii() and "SMTPUTF8" not in self._session.capabilities:
            raise SettingsWrong(
                "smtputf8_missing", "SMTPUTF8 is needed for the sender address and not offered.", stage=Stage.SENDER
            )
        line = f"MAIL FROM:<{path}>{self._mail_parameters(path)}"
        reply = self._session.command(line.encode("utf-8"), stage=Stage.SENDER)
        if not reply.is_positive:
            raise self._given_up(self._session.error(reply, stage=Stage.SENDER, code="sender_refused"))
        self._session.tell(Stage.SENDER, "done", address=sender)

    def _mail_parameters(self, sender_path: str) -> str:
        """Name only what is offered, and what is needed of it (RFC 1870 6, RFC 6152 3, RFC 6531 3.4)."""
        offered, content = self._session.capabilities, self._envelope.content
        parameters = f" SIZE={len(content)}" if "SIZE" in offered else ""
        if not content.isascii() and "8BITMIME" in offered:
            parameters += " BODY=8BITMIME"
        if self._needs_smtputf8(sender_path) and "SMTPUTF8" in offered:
            parameters += " SMTPUTF8"
        return parameters

    def _needs_smtputf8(self, sender_path: str) -> bool:
        local_parts = (address.rpartition("@")[0] for address in self._envelope.recipients)
        return not (sender_path.isascii() and self._headers().isascii() and all(p.isascii() for p in local_parts))

    def _headers(self) -> bytes:
        return self._envelope.content.partition(b"\r\n\r\n")[0]

    def _offer_recipient(self, number: int, address: str) -> None:
        self._session.tell(Stage.RECIPIENT, "started")
        reply = self._own_refusal(address)
        if reply is None:
            reply = self._session.command(f"RCPT TO:<{_path(address)}>".encode(), stage=Stage.RECIPIENT)
            if reply.code == 421:
                raise self._session.error(reply, stage=Stage.RECIPIENT, code="recipients_refused")
        self._note_recipient(number, address, reply)

    def _own_refusal(self, address: str) -> SMTPReply | None:
        """Answer in the server's place for an address that cannot be put on the wire; the others go on."""
        try:
            path = _path(address)
        except ValueError:
            return SMTPReply(501, ("5.1.3 The recipient address is malformed.",))
        if not path.isascii() and "SMTPUTF8" not in self._session.capabilities:
            return SMTPReply(553, ("5.6.7 SMTPUTF8 is needed for this address and the server does not offer it.",))
        return None

    def _note_recipient(self, number: int, address: str, reply: SMTPReply) -> None:
        reply = self._session.cleaned(reply)
        self._results[number] = RecipientResult(address, reply.is_positive, reply)
        if reply.is_positive:
            self._session.tell(Stage.RECIPIENT, "done", address=address, code=reply.code, text=reply.text)

    def _require_one_accepted(self) -> None:
        """Stop when nobody is left to send to.

        The gravest reason speaks for all: what a person must mend, else what time may mend, else a refusal for good.
        The results go along, because each recipient has one of its own.
        """
        results = self._all_results()
        if any(result.accepted for result in results):
            return
        errors = [
            self._session.error(result.reply, stage=Stage.RECIPIENT, code="recipients_refused") for result in results
        ]
        errors.sort(key=lambda error: 2 if isinstance(error, Refused) else 1 if isinstance(error, TryLater) else 0)
        error = errors[0] if errors else Refused("no_recipients", "There is no recipient.", stage=Stage.RECIPIENT)
        error.results = results
        raise self._given_up(error)

    def _send_block(self, block: memoryview) -> None:
        session = self._session
        for start in range(0, len(block), BLOCK_BYTES):
            with session.during(Stage.MESSAGE):
                wire = session.live_wire(Stage.MESSAGE)
                deadline = session.deadline(session.timeouts.data_s)
                try:
                    wire.write(bytes(block[start : start + BLOCK_BYTES]), deadline)
                except (ConnectionError, BrokenPipeError):
                    # A server that has seen enough says why and hangs up; its reason beats "broken pipe".
                    reply = wire.read_reply(session.deadline(min(session.timeouts.command_s, 5)))
                    session.abort()
                    raise session.error(reply, stage=Stage.MESSAGE, code="message_refused") from None

    def _commit(self, last_bytes: bytes) -> SMTPReply:
        """Ask one last time, send the bytes that commit, and return the server's answer.

        From the first of these bytes on, silence or a cut leaves open whether the message went out.
        """
        session = self._session
        wire = session.live_wire(Stage.MESSAGE)
        self._ask_before_commit()
        try:
            wire.write(last_bytes, session.deadline(session.timeouts.data_s))
            return session.heed(wire.read_reply(session.deadline(session.timeouts.final_s)))
        except smtp_faults.FAULTS as fault:
            session.abort()
            error = smtp_faults.from_fault(fault, stage=Stage.MESSAGE, secrets=session.secrets)
            raise Uncertain("cut_after_dot", error.detail, stage=Stage.MESSAGE) from fault

    def _ask_before_commit(self) -> None:
        """Inside the data there is no other way back than to hang up: a server drops what has no final dot."""
        if self._envelope.before_commit is None:
            return
        may_commit = False
        try:
            may_commit = self._envelope.before_commit()
        finally:
            if not may_commit:
                self._session.abort()
        if not may_commit:
            raise Withdrawn("withdrawn", "The message was withdrawn before it was committed.", stage=Stage.MESSAGE)

    def _conclude(self, reply: SMTPReply) -> SendResult:
        session = self._session
        if reply.code >= 400:
            raise session.error(reply, stage=Stage.MESSAGE, code="message_refused")
        if not reply.is_positive:
            session.abort()
            detail = f"{reply.code} {session.cleaned(reply).text}"
            raise Uncertain("answer_unclear", detail, stage=Stage.MESSAGE, reply_code=reply.code)
        found = queue_id(reply)
        reply = session.cleaned(reply)
        size = len(self._envelope.content)
        session.tell(Stage.MESSAGE, "done", code=reply.code, text=reply.text, queue_id=found, size_bytes=size)
        return SendResult(self._all_results(), reply, found)

    # Shared ----------------------------------------------------------------------------------------------------------

    def _all_results(self) -> tuple[RecipientResult, ...]:
        return tuple(self._results[number] for number in sorted(self._results))

    def _check_content(self) -> None:
        """Refuse what this server could not take or would read differently, before anything is said.

        A bare line feed is read as a line end by some servers and not by others: a second message could hide behind
        one (SMTP smuggling). We refuse it rather than repair it, since the bytes must be the same on every attempt.
        """
        content, offered = self._envelope.content, self._session.capabilities
        line_ends = content.count(b"\r\n")
        if not content.endswith(b"\r\n") or content.count(b"\n") != line_ends or content.count(b"\r") != line_ends:
            raise Refused("unsendable", "The message has line ends other than CRLF.", stage=Stage.MESSAGE)
        limit = offered.get("SIZE", "")
        if limit.isascii() and limit.isdigit() and 0 < int(limit) < len(content):
            raise Refused(
                "too_large",
                f"Message size of {len(content)} bytes exceeds fixed maximum of {limit} bytes the server announced.",
                stage=Stage.MESSAGE,
            )
        if not self._headers().isascii() and "SMTPUTF8" not in offered:
            raise Refused("smtputf8_missing", "SMTPUTF8 is needed for the header and not offered.", stage=Stage.MESSAGE)
        if not content.isascii() and "8BITMIME" not in offered:
            raise Refused("eight_bit_missing", "8BITMIME is needed and not offered.", stage=Stage.MESSAGE)

    def _given_up(self, error: MailError) -> MailError:
        """Return the error, with the transaction cleared so that the next message finds a clean session."""
        if self._session.wire is not None:
            try:
                self._session.command(b"RSET", stage=error.stage)
            except MailError:
                self._session.abort()
        return error


def dot_stuffed(content: bytes) -> bytes:
    """Return the content with a dot doubled wherever it begins a line (RFC 5321 4.5.2). Expects CRLF line ends."""
    stuffed = content.replace(b"\r\n.", b"\r\n..")
    return b"." + stuffed if stuffed.startswith(b".") else stuffed


def queue_id(reply: SMTPReply) -> str:
    """Return the id in a final reply under which the provider's support finds the message, or an empty string."""
    for pattern in _QUEUE_IDS:
        if found := pattern.search(reply.text):
            return found[1]
    return ""


def _path(address: str) -> str:
    """Return the address as it goes between angle brackets, its domain in ASCII (RFC 5890 A-label).

    Raises:
        ValueError: it is no address, or would end the command early.
    """
    if not address:
        return ""
    local, at, domain = address.rpartition("@")
    if not at or not local or _UNSAFE_IN_PATH.search(address):
        raise ValueError("not an address")
    return f"{local}@{ascii_domain(domain)}"
