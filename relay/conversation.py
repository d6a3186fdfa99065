"""One SMTP conversation, from the greeting to the end: what may be said when, and how much of it.

aiosmtpd brings the connection and the sign-in challenges. The conversation itself is ours: the library's ends a command
at any LF, writes the names of exceptions into replies, and keeps a message line by line. Source: RFC 5321, 2920, 4954.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiosmtpd.smtp import MISSING

from relay import sign_in
from relay.connection import TIMEOUT, Connection, Over
from relay.connections import CLOSING
from relay.data import Incoming, begin_message
from relay.grammar import Refusal, parse_command, parse_recipient, parse_sender
from relay.writing import Answer, HandedOver

if TYPE_CHECKING:
    from mail.api_keys import KeyHolder
    from relay.server import Relay

logger = logging.getLogger(__name__)

BUSY = "451 4.3.0 Too much mail is waiting to be written; send it again later"
_BEFORE_TLS = frozenset({"EHLO", "HELO", "STARTTLS", "NOOP", "RSET", "QUIT"})


class Conversation(Connection):
    """The server's side of one connection."""

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.holder: KeyHolder | None = None
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
        self._accepted = self._since_accepted = self._failures = 0

    # The connection ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Once more after STARTTLS: what was said in clear counts for nothing (RFC 3207 4.2).
        self._forget_message()
        self.holder = None

    def leave(self) -> None:
        """End it as soon as no message is in hand; at once, when it waits for a command."""
        self._is_leaving = True
        if self._is_waiting and not self._is_open and self._handler_coroutine is not None:
            self._handler_coroutine.cancel()

    def cut(self) -> None:
        """End it now. A message that is being written gets no answer rather than a wrong one."""
        if self._is_open and not self._is_being_written:
            self.say_last(CLOSING)
        else:
            self.abort()

    # The loop ----------------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        """aiosmtpd's task for a connection; the library's own loop is not used (see the top of this file)."""
        try:
            try:
                if refusal := self._relay.connections.admit(self):
                    raise Over(refusal)
                await self._converse()
            except Over as end:
                await self.push(end.args[0])
            except asyncio.CancelledError:
                if not self._is_leaving or self.transport is None:
                    raise
                await self.push(CLOSING)
        except TimeoutError:
            self.abort()  # what it does not take off us would keep the connection open
        except (OSError, asyncio.IncompleteReadError):
            pass  # there is nobody to tell
        except Exception:
            logger.exception("a relay conversation broke", extra={"client": self.client})
            if self.transport is not None:
                self.say_last("421 4.3.0 Something went wrong here; try again later")
        finally:
            # Not in connection_lost: after a handshake that failed nobody calls it.
            self._relay.connections.forget(self)
            self.close()

    async def _converse(self) -> None:
        self._start_sign_in_clock()
        await self.push(f"220 {self.hostname} {self.__ident__}")
        while True:
            if self._is_leaving and not self._is_open:
                raise Over(CLOSING)
            line = await self._next_command()
            self._since_accepted += 1
            if self._since_accepted > self._limits.commands_per_message:
                raise Over("421 4.7.0 Too many commands without a message")
            try:
                await self._obey(line)
            except Refusal as refusal:
                if refusal.reply:
                    await self.push(refusal.reply)
            if self.mistakes >= self._limits.mistakes:
                raise Over("421 4.7.0 Too many commands that are none")

    def _start_sign_in_clock(self) -> None:
        """Whoever is not signed in has so much time for it from now on."""
        self._sign_in_by = self.loop.time() + self._limits.sign_in_s

    async def _next_command(self) -> bytes:
        deadline = self.loop.time() + self._limits.idle_s
        self._is_waiting = True
        try:
            return await self.read_line(deadline if self.holder else min(deadline, self._sign_in_by))
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
        await self.send("\r\n".join([f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]))

    async def smtp_HELO(self, hostname: str) -> None:
        if not hostname:
            raise Refusal("501 5.5.4 Write HELO and your name")
        self._greeted(hostname, is_extended=False)
        await self.send(f"250 {self.hostname}")

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
        await self.start_tls()

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
            raise Over(TIMEOUT) from None
        except ValueError:
            raise Over("500 5.5.6 This line never ends") from None
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
            raise Over("421 4.7.0 Too many failed sign-ins")

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
            raise Over("421 4.7.0 Enough for one connection; connect again")
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
                raise Over(TIMEOUT) from None
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
            self.mistakes = 0
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
        raise Over("221 2.0.0 Bye")


def quiet_library() -> None:
    """At DEBUG aiosmtpd logs whole messages, at INFO every command, at WARNING what clients mistype."""
    logging.getLogger("mail.log").setLevel(logging.ERROR)
