"""One message over an open session: envelope, content, and the one moment that commits it.

Three forms of transmission, the best one that the server offers:

- `_in_one_write`: MAIL, RCPTs and BDAT LAST leave together, so that a message costs one round trip (RFC 2920, 3030).
- `_in_groups`: the envelope in one write, then the content by DATA, or in chunks when it is long.
- `_by_turns`: one command, one reply (RFC 5321 3.3). Works everywhere.

Whatever the form, `before_commit` is asked right before the bytes after which a server may deliver, and from the first
of these on, silence or a cut leaves open whether the message went out.
"""

from collections.abc import Sequence

from mail.errors import MailError, Refused, Stage, TryLater, Uncertain, Withdrawn
from mail.smtp import envelope as smtp_envelope
from mail.smtp import faults as smtp_faults
from mail.smtp.lines import BLOCK_BYTES
from mail.smtp.records import Envelope, RecipientResult, SendResult, SMTPReply
from mail.smtp.replies import queue_id
from mail.smtp.session import Session

# Longer contents wait for the envelope to be accepted, and recipients beyond these for earlier ones to be answered:
# a server that is stuck writing replies reads no commands, and two that wait for each other wait for ever
# (RFC 2920 3.1).
ONE_WRITE_BYTES = 262_144
GROUP_RECIPIENTS = 100

_RSET = b"RSET\r\n"


class Transfer:
    """The transaction of one envelope on one session; used once.

    Either `run`; or `prepare`, `in_one_piece` and `conclude`, with others written in between (`mail/smtp/window.py`).
    """

    def __init__(self, session: Session, envelope: Envelope) -> None:
        self._session = session
        self._envelope = envelope
        self._mail = b""
        self._recipients: list[bytes | SMTPReply] = []
        self._results: list[RecipientResult] = []
        self._has_reset = False
        self._fault: Exception | None = None

    def run(self) -> SendResult:
        """Hand the message over and return what became of it; errors as in `Conversation.send`."""
        self.prepare()
        if "PIPELINING" not in self._session.capabilities:
            return self._by_turns()
        if self.fits_one_write:
            return self._in_one_write()
        return self._in_groups()

    def prepare(self) -> None:
        """Make the commands; nothing is said yet.

        Raises:
            Refused, SettingsWrong: this message cannot go to this server.
        """
        offered = self._session.capabilities
        smtp_envelope.check_content(self._envelope.content, offered)
        self._mail = smtp_envelope.sender_command(self._envelope, offered)
        self._recipients = [smtp_envelope.recipient_command(one, offered) for one in self._envelope.recipients]

    @property
    def fits_one_write(self) -> bool:
        """Whether this message can go out in one write, its answers to be read later. Free to call once prepared."""
        offered = self._session.capabilities
        return (
            "PIPELINING" in offered
            and "CHUNKING" in offered
            and len(self._envelope.content) <= ONE_WRITE_BYTES
            and 0 < len(self._recipients) <= GROUP_RECIPIENTS
            and not all(isinstance(one, SMTPReply) for one in self._recipients)
        )

    # Everything in one write -----------------------------------------------------------------------------------------

    def in_one_piece(self, *, after_another: bool = False) -> bytes:
        """Return the whole transaction as it goes out in one write; its answers are read by `conclude`.

        Args:
            after_another: another transaction's answers are still out. A transaction that failed may still be open
                then, and would take our recipients for its own, so this one is begun by RSET.
        """
        self._session.tell(Stage.SENDER, "started")
        self._has_reset = after_another
        content = self._envelope.content
        parts = [_RSET] if after_another else []
        parts += [self._mail, *(one for one in self._recipients if isinstance(one, bytes))]
        parts += [smtp_envelope.chunk_command(len(content), is_last=True), content]
        return b"".join(parts)

    def lose(self, fault: Exception) -> None:
        """Note that the connection ended amid the write, for `conclude` to tell: nobody knows what arrived of it."""
        self._fault = fault

    def conclude(self) -> SendResult:
        """Read the answers to what went out in one piece, and return what became of the message.

        Errors are those of `Conversation.send`.

        A server may keep its answers back until it has seen the whole group (RFC 2920 3.2), so each of them may take
        as long as the last one.
        """
        session = self._session
        if session.farewell is not None:
            # It hung up over an earlier transaction, and answers in order: this one was not looked at.
            raise session.error(session.farewell, stage=Stage.SENDER, code="sender_refused")
        if self._fault is not None or session.wire is None:
            raise self._uncertain(self._fault or ConnectionAbortedError("the connection ended before the answer"))
        try:
            refusal, reply = self._hear_all(session.timeouts.final_s)
        except TryLater as fault:
            if fault.reply_code is None:
                raise Uncertain("cut_after_dot", fault.detail, stage=Stage.MESSAGE) from fault
            raise
        if refusal is None:
            return self._conclude(reply)
        if reply.is_positive and refusal.stage is Stage.SENDER:
            # The two sides do not speak of the same command any more.
            session.abort()
            raise self._unclear(reply)
        raise self._given_up(refusal)

    def _hear_all(self, wait_s: float) -> tuple[MailError | None, SMTPReply]:
        """Read every answer to the group, in order; return the refusal before the content, and the last answer.

        Raises:
            TryLater: the connection ended, or another answer than the last was a 421; its reply_code tells.
        """
        session = self._session
        if self._has_reset:
            reset = session.next_reply(Stage.SENDER, wait_s)
            if reset.code == 421:
                raise session.error(reset, stage=Stage.SENDER, code="sender_refused")
        reply = session.next_reply(Stage.SENDER, wait_s)
        self._require_in_step(reply)
        refusal = self._heed_sender(reply)
        try:
            self._hear_recipients(self._envelope.recipients, self._recipients, wait_s, is_void=refusal is not None)
            for result in self._results:
                self._require_in_step(result.reply)
            refusal = refusal or self._nobody_left()
            if refusal is None:
                session.tell(Stage.MESSAGE, "started")
            return refusal, session.next_reply(Stage.MESSAGE, wait_s)
        except TryLater as fault:
            # A server may hang up over a refusal; the refusal is what counts then.
            raise refusal or fault from None

    def _require_in_step(self, reply: SMTPReply) -> None:
        """An answer that neither takes nor refuses belongs to another command, so nobody knows what was taken."""
        if reply.code < 400 and not reply.is_positive:
            self._session.abort()
            raise self._unclear(reply)

    def _in_one_write(self) -> SendResult:
        session = self._session
        wire = session.live_wire(Stage.SENDER)
        self._ask_before_commit(aborts=False)
        try:
            wire.write(self.in_one_piece(), session.deadline(session.timeouts.data_s))
        except smtp_faults.FAULTS as fault:
            session.abort()
            raise self._uncertain(fault) from fault
        return self.conclude()

    # The envelope in one write, then the content ---------------------------------------------------------------------

    def _in_groups(self) -> SendResult:
        session = self._session
        content, chunks = self._envelope.content, "CHUNKING" in self._session.capabilities
        session.tell(Stage.SENDER, "started")
        step = GROUP_RECIPIENTS
        last = max(0, (len(self._recipients) - 1) // step * step)
        refusal: MailError | None = None
        go_ahead: SMTPReply | None = None
        for start in range(0, last + 1, step):
            group = self._recipients[start : start + step]
            has_data = start == last and not chunks and any(isinstance(one, bytes) for one in self._recipients)
            self._write_group(self._mail if start == 0 else b"", group, b"DATA\r\n" if has_data else b"")
            try:
                if start == 0:
                    refusal = self._heed_sender(session.next_reply(Stage.SENDER))
                addresses = self._envelope.recipients[start : start + step]
                self._hear_recipients(addresses, group, session.timeouts.command_s, is_void=refusal is not None)
                go_ahead = session.next_reply(Stage.MESSAGE) if has_data else None
            except MailError as fault:
                raise refusal or fault from None
            if refusal is not None:
                break
        refusal = refusal or self._nobody_left()
        if refusal is not None:
            if go_ahead is not None and go_ahead.code == 354:
                self._send_nothing()
            raise self._given_up(refusal)
        session.tell(Stage.MESSAGE, "started")
        return self._in_chunks(content) if chunks else self._as_data(go_ahead)

    def _write_group(self, before: bytes, group: Sequence[bytes | SMTPReply], after: bytes) -> None:
        session = self._session
        lines = b"".join((before, *(one for one in group if isinstance(one, bytes)), after))
        with session.during(Stage.SENDER):
            wire = session.live_wire(Stage.SENDER)
            wire.write(lines, session.deadline(session.timeouts.command_s))

    def _send_nothing(self) -> None:
        """End a DATA that the server began although it has nobody to deliver to (RFC 2920 3.1)."""
        try:
            self._session.command(b".", stage=Stage.MESSAGE)
        except MailError:
            self._session.abort()

    def _in_chunks(self, content: bytes) -> SendResult:
        """BDAT for all but the last piece, and that one with the question before it (RFC 3030)."""
        session = self._session
        cut = max(len(content) - BLOCK_BYTES, 0)
        if cut:
            with session.during(Stage.MESSAGE):
                wire = session.live_wire(Stage.MESSAGE)
                wire.write(smtp_envelope.chunk_command(cut, is_last=False), session.deadline(session.timeouts.data_s))
            self._send_block(memoryview(content)[:cut])
            reply = session.next_reply(Stage.MESSAGE, session.timeouts.data_s)
            if not reply.is_positive:
                raise self._given_up(session.error(reply, stage=Stage.MESSAGE, code="message_refused"))
        last = content[cut:]
        return self._conclude(self._commit(smtp_envelope.chunk_command(len(last), is_last=True) + last))

    # One command, one reply ------------------------------------------------------------------------------------------

    def _by_turns(self) -> SendResult:
        session = self._session
        session.tell(Stage.SENDER, "started")
        refusal = self._heed_sender(session.command(self._mail[:-2], stage=Stage.SENDER))
        if refusal is not None:
            raise self._given_up(refusal)
        for address, command in zip(self._envelope.recipients, self._recipients, strict=True):
            session.tell(Stage.RECIPIENT, "started")
            asked = isinstance(command, bytes)
            reply = session.command(command[:-2], stage=Stage.RECIPIENT) if isinstance(command, bytes) else command
            self._note_recipient(address, reply, asked=asked)
        refusal = self._nobody_left()
        if refusal is not None:
            raise self._given_up(refusal)
        session.tell(Stage.MESSAGE, "started")
        return self._as_data(session.command(b"DATA", stage=Stage.MESSAGE))

    def _as_data(self, go_ahead: SMTPReply | None) -> SendResult:
        session = self._session
        if go_ahead is None or go_ahead.code != 354:
            reply = go_ahead or SMTPReply(503, ("5.5.1 DATA was not asked for.",))
            raise self._given_up(session.error(reply, stage=Stage.MESSAGE, code="message_refused"))
        block = smtp_envelope.dot_stuffed(self._envelope.content)
        # The last piece is held back and leaves together with the dot: fewer packets, and the check comes last.
        cut = max(len(block) - BLOCK_BYTES, 0)
        self._send_block(memoryview(block)[:cut])
        return self._conclude(self._commit(block[cut:] + b".\r\n"))

    # Their steps -----------------------------------------------------------------------------------------------------

    def _heed_sender(self, reply: SMTPReply) -> MailError | None:
        """Note the answer to MAIL; a refusal is returned, because in a group more answers follow."""
        if not reply.is_positive:
            return self._session.error(reply, stage=Stage.SENDER, code="sender_refused")
        self._session.tell(Stage.SENDER, "done", address=self._envelope.sender)
        return None

    def _hear_recipients(
        self, addresses: Sequence[str], commands: Sequence[bytes | SMTPReply], wait_s: float, *, is_void: bool
    ) -> None:
        """Read the answers to a group of RCPTs. Void ones, behind a refused MAIL, say nothing about the recipients."""
        for address, command in zip(addresses, commands, strict=True):
            if not is_void:
                self._session.tell(Stage.RECIPIENT, "started")
            asked = isinstance(command, bytes)
            reply = command if isinstance(command, SMTPReply) else self._session.next_reply(Stage.RECIPIENT, wait_s)
            if not is_void:
                self._note_recipient(address, reply, asked=asked)

    def _note_recipient(self, address: str, reply: SMTPReply, *, asked: bool) -> None:
        if reply.code == 421 and asked:
            raise self._session.error(reply, stage=Stage.RECIPIENT, code="recipients_refused")
        reply = self._session.cleaned(reply)
        self._results.append(RecipientResult(address, reply.is_positive, reply))
        if self._session.is_watched and reply.is_positive:
            self._session.tell(Stage.RECIPIENT, "done", address=address, code=reply.code, text=reply.text)

    def _nobody_left(self) -> MailError | None:
        """Return the error that ends a message nobody is left to get, None when somebody is.

        The gravest reason speaks for all: what a person must mend, else what time may mend, else a refusal for good.
        The results go along, because each recipient has one of its own.
        """
        results = tuple(self._results)
        if any(result.accepted for result in results):
            return None
        errors = [
            self._session.error(result.reply, stage=Stage.RECIPIENT, code="recipients_refused") for result in results
        ]
        errors.sort(key=lambda error: 2 if isinstance(error, Refused) else 1 if isinstance(error, TryLater) else 0)
        error = errors[0] if errors else Refused("no_recipients", "There is no recipient.", stage=Stage.RECIPIENT)
        error.results = results
        return error

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
        """Ask one last time, send the bytes that commit, and return the server's answer."""
        session = self._session
        wire = session.live_wire(Stage.MESSAGE)
        self._ask_before_commit(aborts=True)
        try:
            wire.write(last_bytes, session.deadline(session.timeouts.data_s))
            return session.heed(wire.read_reply(session.deadline(session.timeouts.final_s)))
        except smtp_faults.FAULTS as fault:
            session.abort()
            raise self._uncertain(fault) from fault

    def _ask_before_commit(self, *, aborts: bool) -> None:
        """Ask whether the message may still go.

        Inside the data there is no other way back than to hang up: a server drops what has no end.
        """
        if self._envelope.before_commit is None:
            return
        may_commit = False
        try:
            may_commit = self._envelope.before_commit()
        finally:
            if aborts and not may_commit:
                self._session.abort()
        if not may_commit:
            raise withdrawn()

    def _conclude(self, reply: SMTPReply) -> SendResult:
        session = self._session
        if reply.code >= 400:
            raise self._cleared(session.error(reply, stage=Stage.MESSAGE, code="message_refused"))
        if not reply.is_positive:
            session.abort()
            raise self._unclear(reply)
        found = queue_id(reply)
        reply = session.cleaned(reply)
        if session.is_watched:
            size = len(self._envelope.content)
            session.tell(Stage.MESSAGE, "done", code=reply.code, text=reply.text, queue_id=found, size_bytes=size)
        return SendResult(tuple(self._results), reply, found)

    # Shared ----------------------------------------------------------------------------------------------------------

    def _uncertain(self, fault: Exception) -> Uncertain:
        error = smtp_faults.from_fault(fault, stage=Stage.MESSAGE, secrets=self._session.secrets)
        return Uncertain("cut_after_dot", error.detail, stage=Stage.MESSAGE)

    def _unclear(self, reply: SMTPReply) -> Uncertain:
        detail = f"{reply.code} {self._session.cleaned(reply).text}"
        return Uncertain("answer_unclear", detail, stage=Stage.MESSAGE, reply_code=reply.code)

    def _cleared(self, error: MailError) -> MailError:
        """Return the error of a refused content. After DATA nothing is left; after BDAT it may be (RFC 3030 3)."""
        if "CHUNKING" in self._session.capabilities and "PIPELINING" in self._session.capabilities:
            return self._given_up(error)
        return error

    def _given_up(self, error: MailError) -> MailError:
        """Return the error, with the transaction cleared so that the next message finds a clean session.

        While answers to others are still out, theirs would be read as the answer to RSET; they are begun by one.
        """
        if self._session.wire is not None and not self._session.has_others_out:
            try:
                self._session.command(b"RSET", stage=error.stage)
            except MailError:
                self._session.abort()
        return error


def withdrawn() -> Withdrawn:
    """What becomes of a message that may not go any more at the last moment."""
    return Withdrawn("withdrawn", "The message was withdrawn before it was committed.", stage=Stage.MESSAGE)
