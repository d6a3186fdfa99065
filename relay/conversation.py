"""One SMTP conversation, from the greeting to the end: what may be said when, and how much of it.

aiosmtpd brings the connection, STARTTLS and the plain commands. What decides about acceptance is ours: it ends a
command at any LF, cancels a conversation in the middle of an answer when the client has sent its last byte, writes the
names of our exceptions into replies, and keeps the whole message line by line. Source: RFC 5321, 2034, 2920, 4954.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiosmtpd.smtp import MISSING, SMTP, Session, TLSSetupException

from relay import sign_in
from relay.connections import CLOSING, client_of
from relay.data import Incoming, begin_message
from relay.grammar import Refusal, parse_command, parse_recipient, parse_sender
from relay.writing import Answer, HandedOver

if TYPE_CHECKING:
    from mail.api_keys import KeyHolder
    from relay.server import Relay

logger = logging.getLogger(__name__)

BUSY = "451 4.3.0 Too much mail is waiting to be written; send it again later"
TIMEOUT = "421 4.4.2 Too slow; connect again"
CLOSE_WITHIN_S = 10.0
# aiosmtpd answers some commands by itself, without the enhanced codes that we promise (RFC 2034).
_ENHANCED = {
    "221": "2.0.0", "250": "2.0.0", "454": "4.7.0", "500": "5.5.2", "501": "5.5.4", "502": "5.5.1", "503": "5.5.1",
}  # fmt: skip
_HAS_ENHANCED = re.compile(r"[245][0-9]{2} [245]\.[0-9]{1,3}\.[0-9]{1,3} ")
_BEFORE_TLS = frozenset({"EHLO", "HELO", "STARTTLS", "NOOP", "RSET", "QUIT"})
# What only a lost or hostile client says.
_MISTAKES = ("500", "501", "502", "504")


class _Over(Exception):
    """The conversation ends here; the text is the last reply, if there is one."""


class Conversation(SMTP):
    """The server's side of one connection."""

    # Read by aiosmtpd's __init__ for its stream: messages are read in pieces of this size.
    line_length_limit = 64 * 1024
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    session: Session  # from the first moment on: aiosmtpd makes one when the connection is made

    def __init__(self, relay: Relay) -> None:
        super().__init__(
            object(),
            data_size_limit=relay.limits.message_bytes,
            enable_SMTPUTF8=True,
            hostname=relay.name,
            ident="ESMTP Storepost",
            tls_context=relay.tls_context,
            loop=asyncio.get_running_loop(),
        )
        self.client = "unknown"
        self.holder: KeyHolder | None = None
        self._relay = relay
        self._limits = relay.limits
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "EHLO": self.smtp_EHLO, "HELO": self.smtp_HELO, "STARTTLS": self.smtp_STARTTLS, "AUTH": self.smtp_AUTH,
            "MAIL": self.smtp_MAIL, "RCPT": self.smtp_RCPT, "DATA": self.smtp_DATA, "RSET": self.smtp_RSET,
            "NOOP": self.smtp_NOOP, "QUIT": self.smtp_QUIT, "VRFY": self.smtp_VRFY, "HELP": self.smtp_HELP,
        }  # fmt: skip
        self._recipients: dict[str, str] = {}
        self._is_open = False  # a sender was named: there is a message in hand
        self._is_international = False
        self._is_leaving = self._is_waiting = self._is_being_written = False
        self._sign_in_by = 0.0
        self._accepted = self._since_accepted = self._mistakes = self._failures = 0

    # The connection ----------------------------------------------------------------------------------------------

    @property
    def is_encrypted(self) -> bool:
        return self.session.ssl is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client = client_of(self.session.peer)
        self._forget_message()
        # What was said in clear counts for nothing after STARTTLS (RFC 3207 4.2).
        self.holder = None

    def connection_lost(self, error: Exception | None) -> None:
        self._relay.connections.forget(self)
        super().connection_lost(error)

    def eof_received(self) -> bool | None:
        # The client may have sent its last byte and still wait for answers to what it said before.
        asyncio.StreamReaderProtocol.eof_received(self)
        return not self.is_encrypted

    def _timeout_cb(self) -> None:
        """The library's one clock ends a connection without a word; ours run for each command, message and reply."""

    def leave(self) -> None:
        """End it as soon as no message is in hand; at once, when it waits for a command."""
        self._is_leaving = True
        if self._is_waiting and not self._is_open and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def cut(self) -> None:
        """End it now. A message that is being written gets no answer rather than a wrong one."""
        if self._is_open and not self._is_being_written:
            self._writer.write(f"{CLOSING}\r\n".encode("ascii"))
            self._writer.close()
        else:
            self._abort()

    def _abort(self) -> None:
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()

    async def push(self, status: str | bytes) -> None:
        """Send a reply; a client that takes nothing off us is cut."""
        reply = status if isinstance(status, str) else status.decode("utf-8", "replace")
        if reply[:3] in _ENHANCED and not _HAS_ENHANCED.match(reply):
            reply = f"{reply[:3]} {_ENHANCED[reply[:3]]}{reply[3:]}"
        if reply[:3] in _MISTAKES:
            self._mistakes += 1
        await self._send(reply)

    async def _send(self, text: str) -> None:
        self._writer.write(text.encode("utf-8", "replace") + b"\r\n")
        async with asyncio.timeout(self._limits.idle_s):
            await self._writer.drain()

    # The loop ----------------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """aiosmtpd's task for a connection; the library's own loop is not used (see the top of this file)."""
        try:
            try:
                if refusal := self._relay.connections.admit(self):
                    raise _Over(refusal)
                await self._converse()
            except _Over as end:
                if end.args:
                    await self.push(end.args[0])
            except asyncio.CancelledError:
                if not self._is_leaving or self.transport is None:
                    raise
                await self.push(CLOSING)
        except TimeoutError:
            self._abort()  # what it does not take off us would keep the connection open
        except (OSError, asyncio.IncompleteReadError):
            pass  # there is nobody to tell
        except Exception:
            logger.exception("a relay conversation broke", extra={"client": self.client})
            if self.transport is not None:
                self._writer.write(b"421 4.3.0 Something went wrong here; try again later\r\n")
        finally:
            self._writer.close()
            if self.transport is not None and self._writer.transport.get_write_buffer_size():
                self.loop.call_later(CLOSE_WITHIN_S, self._abort)

    async def _converse(self) -> None:
        self._start_sign_in_clock()
        await self.push(f"220 {self.hostname} {self.__ident__}")
        while True:
            if self._is_leaving and not self._is_open:
                raise _Over(CLOSING)
            line = await self._next_line()
            self._since_accepted += 1
            if self._since_accepted > self._limits.commands_per_message:
                raise _Over("421 4.7.0 Too many commands without a message")
            try:
                await self._obey(line)
            except Refusal as refusal:
                if refusal.reply:
                    await self.push(refusal.reply)
            if self._mistakes >= self._limits.mistakes:
                raise _Over("421 4.7.0 Too many commands that are none")

    def _start_sign_in_clock(self) -> None:
        """Whoever is not signed in has so much time for it from now on."""
        self._sign_in_by = self.loop.time() + self._limits.sign_in_s

    async def _next_line(self) -> bytes:
        deadline = self.loop.time() + self._limits.idle_s
        if self.holder is None:
            deadline = min(deadline, self._sign_in_by)
        self._is_waiting = True
        try:
            async with asyncio.timeout_at(deadline):
                return await self._reader.readuntil(b"\n")
        except TimeoutError:
            raise _Over(TIMEOUT) from None
        except asyncio.LimitOverrunError:
            raise _Over("500 5.5.2 This line never ends") from None
        finally:
            self._is_waiting = False

    async def _obey(self, line: bytes) -> None:
        command = parse_command(line)
        limit = self._limits.sign_in_bytes if command.verb == "AUTH" else self._limits.command_bytes
        if len(line) > limit:
            raise Refusal("500 5.5.2 The command is too long")
        follow = self._commands.get(command.verb)
        if follow is None:
            raise Refusal("500 5.5.1 There is no such command here")
        if self._relay.needs_tls and not self.is_encrypted and command.verb not in _BEFORE_TLS:
            raise Refusal("530 5.7.0 Say STARTTLS first")
        await follow(command.argument)

    # Greeting, encryption, signing in ----------------------------------------------------------------------------

    async def smtp_EHLO(self, hostname: str) -> None:
        if not hostname:
            raise Refusal("501 5.5.4 Write EHLO and your name")
        self._greeted(hostname, is_extended=True)
        words = [
            self.hostname, f"SIZE {self._limits.message_bytes}", "8BITMIME", "SMTPUTF8", "PIPELINING",
            "ENHANCEDSTATUSCODES",
        ]  # fmt: skip
        if self.tls_context and not self.is_encrypted:
            words.append("STARTTLS")
        if self.is_encrypted or not self._relay.needs_tls:
            words.append("AUTH PLAIN LOGIN")
        await self._send("\r\n".join([f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]))

    async def smtp_HELO(self, hostname: str) -> None:
        if not hostname:
            raise Refusal("501 5.5.4 Write HELO and your name")
        self._greeted(hostname, is_extended=False)
        await self._send(f"250 {self.hostname}")

    def _greeted(self, hostname: str, *, is_extended: bool) -> None:
        self._forget_message()
        self.session.host_name = hostname
        self.session.extended_smtp = is_extended

    async def smtp_STARTTLS(self, arg: str) -> None:
        if arg:
            raise Refusal("501 5.5.4 STARTTLS stands alone")
        if self.is_encrypted:
            raise Refusal("503 5.5.1 This connection is encrypted already")
        if not self.tls_context:
            raise Refusal("502 5.5.1 There is no STARTTLS here")
        try:
            await super().smtp_STARTTLS("")
        except TLSSetupException:
            # The client did not like our certificate. aiosmtpd would now close a transport that Python has not made
            # yet, and leave its timer running.
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            self._relay.connections.forget(self)
            self._abort()
            raise asyncio.CancelledError from None

    async def smtp_AUTH(self, arg: str) -> None:
        mechanism, _, initial = arg.partition(" ")
        if not self.session.host_name or not self.session.extended_smtp:
            raise Refusal("503 5.5.1 Say EHLO first")
        if self.holder or self._is_open:
            raise Refusal("503 5.5.1 You cannot sign in now")
        if mechanism.upper() == "PLAIN":
            payload = sign_in.decode(initial) if initial not in ("", "=") else await self._asked("")
            user, password = sign_in.read_plain(payload)
        elif mechanism.upper() == "LOGIN":
            name = sign_in.decode(initial) if initial else await self._asked(self.AuthLoginUsernameChallenge)
            user = sign_in.read_text(name)
            password = sign_in.read_text(await self._asked(self.AuthLoginPasswordChallenge))
        else:
            raise Refusal("504 5.5.4 Sign in with PLAIN or LOGIN")
        await self._sign_in(user, password)

    async def _asked(self, challenge: str) -> bytes:
        try:
            async with asyncio.timeout(self._limits.sign_in_s):
                answer = await self.challenge_auth(challenge)
        except TimeoutError:
            raise _Over(TIMEOUT) from None
        except ValueError:
            raise _Over("500 5.5.6 This line never ends") from None
        if answer is MISSING:
            # Aborted, or no base64: the library has said so.
            raise Refusal("")
        assert isinstance(answer, bytes)
        return answer

    async def _sign_in(self, user: str, password: str) -> None:
        verdict = await self._relay.sign_ins.judge(user, password, self.client)
        if verdict.holder:
            self.holder = verdict.holder
            await self.push(verdict.reply)
            return
        await asyncio.sleep(verdict.delay_s)
        self._failures += 1
        await self.push(verdict.reply)
        if verdict.is_last or self._failures >= self._limits.sign_in_failures:
            raise _Over("421 4.7.0 Too many failed sign-ins")

    # The envelope ------------------------------------------------------------------------------------------------

    async def smtp_MAIL(self, arg: str) -> None:
        self._signed_in()
        if not self.session.host_name:
            raise Refusal("503 5.5.1 Say EHLO first")
        if self._is_open:
            raise Refusal("503 5.5.1 There is a message in hand; send it or say RSET")
        sender = parse_sender(arg)
        if sender.size_bytes > self._limits.message_bytes:
            raise Refusal(f"552 5.3.4 A message may have {self._limits.message_bytes} bytes")
        if self._accepted >= self._limits.messages_per_connection:
            raise _Over("421 4.7.0 Enough for one connection; connect again")
        self._is_open = True
        self._is_international = sender.is_international
        await self.push("250 2.1.0 Sender OK")

    async def smtp_RCPT(self, arg: str) -> None:
        self._signed_in()
        if not self._is_open:
            raise Refusal("503 5.5.1 Say MAIL first")
        if len(self._recipients) >= self._limits.recipients:
            raise Refusal("452 4.5.3 Too many recipients; send the rest in another message")
        address = parse_recipient(arg, is_international=self._is_international)
        self._recipients.setdefault(address.casefold(), address)
        await self.push("250 2.1.5 Recipient OK")

    async def smtp_RSET(self, arg: str) -> None:
        self._forget_message()
        await self.push("250 2.0.0 OK")

    def _signed_in(self) -> KeyHolder:
        if self.holder is None:
            raise Refusal("530 5.7.0 Sign in first")
        return self.holder

    def _forget_message(self) -> None:
        self._is_open = self._is_international = False
        self._recipients = {}

    # The message -------------------------------------------------------------------------------------------------

    async def smtp_DATA(self, arg: str) -> None:
        holder = self._signed_in()
        if arg:
            raise Refusal("501 5.5.4 DATA stands alone")
        if not self._recipients:
            raise Refusal("503 5.5.1 There is no valid recipient")
        incoming = Incoming(self._relay.memory, limit_bytes=self._limits.message_bytes)
        begin_message(self._reader)
        await self.push("354 End the message with CR LF . CR LF")
        try:
            try:
                async with asyncio.timeout(self._limits.data_s):
                    await incoming.read(self._reader)
            except TimeoutError:
                raise _Over(TIMEOUT) from None
            answer = await self._written(HandedOver(holder, tuple(self._recipients.values()), incoming.content))
        finally:
            incoming.let_go()
            recipients = len(self._recipients)
            self._forget_message()
        self._note(answer, holder, recipients)
        await self.push(answer.reply)

    async def _written(self, handed: HandedOver) -> Answer:
        """Wait until it is written. What takes too long is taken back, unless a writer has begun with it."""
        promise = asyncio.wrap_future(handed.answer)
        self._is_being_written = True
        self._relay.writers.hand_over(handed)
        try:
            async with asyncio.timeout(self._limits.wait_s):
                return await asyncio.shield(promise)
        except TimeoutError:
            if handed.answer.cancel():
                return Answer(BUSY)
            # Only the outcome may be told now: "later" for a message that is then stored would double it.
            return await promise
        except asyncio.CancelledError:
            handed.answer.cancel()
            raise
        finally:
            self._is_being_written = False

    def _note(self, answer: Answer, holder: KeyHolder, recipients: int) -> None:
        facts = {"client": self.client, "store_id": holder.store_id, "key_id": holder.key_id}
        self._since_accepted = 0
        if answer.uid:
            self._accepted += 1
            self._mistakes = 0
            logger.info("accepted %s", answer.uid, extra=facts | {"message_uid": answer.uid, "recipients": recipients})
            return
        if answer.is_signed_out:
            self.holder = None
            self._start_sign_in_clock()
        logger.warning("a relayed message was not accepted", extra=facts | {"reply": answer.reply})

    # The rest ----------------------------------------------------------------------------------------------------

    async def smtp_NOOP(self, arg: str) -> None:
        await self.push("250 2.0.0 OK")

    async def smtp_VRFY(self, arg: str) -> None:
        self._signed_in()
        await self.push("252 2.5.0 Send the message to find out")

    async def smtp_HELP(self, arg: str) -> None:
        await self.push("214 2.0.0 Sign in with the store’s code and an API key, then send")

    async def smtp_QUIT(self, arg: str) -> None:
        raise _Over("221 2.0.0 Bye")


def quiet_library() -> None:
    """At DEBUG aiosmtpd logs whole messages, at INFO every command, at WARNING what clients mistype."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)
