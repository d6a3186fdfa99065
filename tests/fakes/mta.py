"""A real SMTP server on loopback that keeps what it receives and misbehaves on request.

    with MTA(cert.server_context()) as mta:                 # STARTTLS
    with MTA(cert.server_context(), implicit=True) as mta:  # TLS from the first byte
    with MTA() as mta:                                      # clear text only

    mta.host, mta.port         where it listens: host is the certificate's name, "localhost"
    mta.received               what it took, as `Received`
    mta.sign_ins               every attempt to sign in, as `SignIn`
    mta.accounts[user] = word  from then on only these may sign in, with that token or password
    mta.faults.refuse_sender = "550 5.7.60 no send-as"      see `Faults`

Built on aiosmtpd, one thread with its own event loop; leaving the `with` block ends all connections. For peers that
break the protocol itself see `rawserver.py`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP

ALL_MECHANISMS = ("XOAUTH2", "OAUTHBEARER", "PLAIN", "LOGIN")
DEFAULT_CHALLENGE = {"status": "401", "schemes": "bearer", "scope": "https://mail.google.com/"}


@dataclass(frozen=True)
class Received:
    """One message taken, with its envelope, and how its connection stood."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    mail_options: tuple[str, ...]
    ehlo_name: str
    user: str
    is_encrypted: bool


@dataclass(frozen=True)
class SignIn:
    """One attempt to sign in, with the credential it brought."""

    mechanism: str
    user: str
    credential: str
    succeeded: bool


@dataclass
class Faults:
    """What goes wrong, until it is reset. Replies are whole lines such as "550 5.1.1 no such user"; empty: no fault.

    Attributes:
        refuse_recipients: address to reply, for those who are refused.
        refuse_auth: reply to every sign-in, in place of a look at the credential.
        cut: "data" hangs up when the message is complete, before taking it; "dot" takes it and hangs up instead of
            answering.
        answer_delay_s: wait before the answer to the final dot.
    """

    refuse_sender: str = ""
    refuse_recipients: dict[str, str] = field(default_factory=dict)
    refuse_auth: str = ""
    refuse_message: str = ""
    cut: str = ""
    answer_delay_s: float = 0.0


class MTA:
    """The server; use it as a context manager."""

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        *,
        implicit: bool = False,
        mechanisms: tuple[str, ...] = ALL_MECHANISMS,
        auth_in_clear: bool = False,
        size_limit: int = 33_554_432,
        smtputf8: bool = True,
    ) -> None:
        self.host = "localhost"
        self.port = 0
        self.mechanisms = mechanisms
        self.accounts: dict[str, str] = {}
        self.faults = Faults()
        self.accepted_reply = "250 2.0.0 Ok: queued as 4F2B1C0D3E"
        self.challenge: dict[str, str] | None = dict(DEFAULT_CHALLENGE)
        self.received: list[Received] = []
        self.sign_ins: list[SignIn] = []
        self.connections = 0
        self._context = context
        self._implicit = implicit
        self._auth_in_clear = auth_in_clear
        self._size_limit = size_limit
        self._smtputf8 = smtputf8
        self._live: set[_Protocol] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-mta", daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> MTA:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        context = self._context if self._implicit else None
        return await self._loop.create_server(self._protocol, "127.0.0.1", 0, ssl=context)

    def _protocol(self) -> _Protocol:
        self.connections += 1
        return _Protocol(self)

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for protocol in list(self._live):
            protocol.hang_up()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)


class _Protocol(SMTP):
    # A bearer token does not fit the 1,001 octets aiosmtpd allows by default.
    line_length_limit = 16_384

    def __init__(self, mta: MTA) -> None:
        self.mta = mta
        self.user = ""
        super().__init__(
            _Handler(mta),
            hostname="mta.test",
            ident="ESMTP test server",
            data_size_limit=mta._size_limit,
            enable_SMTPUTF8=mta._smtputf8,
            tls_context=None if mta._implicit else mta._context,
            auth_require_tls=False,
            loop=mta._loop,
        )

    @property
    def is_encrypted(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None

    def connection_made(self, transport: Any) -> None:
        self.mta._live.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.mta._live.discard(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    async def hang_up_for_good(self) -> None:
        """Cut the connection; the task that serves it is cancelled by the loss."""
        self.hang_up()
        await asyncio.sleep(10)

    async def smtp_AUTH(self, arg: str | None) -> None:
        mechanism, _, initial = (arg or "").partition(" ")
        mechanism = mechanism.upper()
        if mechanism not in self.mta.mechanisms:
            await self.push("504 5.5.4 Unrecognized authentication type")
            return
        if initial:
            await self.push("501 5.5.4 This server takes no initial response")
            return
        answers = await self._answers(mechanism)
        if answers is None:
            return
        user, credential = _read_credential(mechanism, answers)
        refusal = self.mta.faults.refuse_auth
        if not refusal and self.mta.accounts and self.mta.accounts.get(user) != credential:
            refusal = "535 5.7.8 Authentication credentials invalid"
        self.mta.sign_ins.append(SignIn(mechanism, user, credential, not refusal))
        if not refusal:
            assert self.session is not None
            self.session.authenticated = True
            self.user = user
            await self.push("235 2.7.0 Accepted")
            return
        tells_first = refusal.startswith("535") and mechanism in ("XOAUTH2", "OAUTHBEARER") and self.mta.challenge
        # The failure is told first and has to be answered; what the client answers changes nothing, but "*" ends it.
        if not tells_first or await self.challenge_auth(json.dumps(self.mta.challenge)) is not MISSING:
            await self.push(refusal)

    async def _answers(self, mechanism: str) -> list[bytes] | None:
        answers = []
        for question in ("Username:", "Password:") if mechanism == "LOGIN" else ("",):
            answer = await self.challenge_auth(question)
            if answer is MISSING:
                return None
            answers.append(answer)
        return answers


class _Handler:
    """The hooks of aiosmtpd: recipients, message, and the faults."""

    def __init__(self, mta: MTA) -> None:
        self._mta = mta

    async def handle_EHLO(
        self, server: _Protocol, session: Any, envelope: Any, name: str, lines: list[str]
    ) -> list[str]:
        session.host_name = name
        kept = [line for line in lines if not line[4:].startswith("AUTH")]
        if self._mta.mechanisms and (server.is_encrypted or self._mta._auth_in_clear):
            kept.insert(1, "250-AUTH " + " ".join(self._mta.mechanisms))
        return kept

    async def handle_MAIL(
        self, server: _Protocol, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if self._mta.faults.refuse_sender:
            return self._mta.faults.refuse_sender
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender ok"

    async def handle_RCPT(
        self, server: _Protocol, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        refusal = self._mta.faults.refuse_recipients.get(address)
        if refusal:
            return refusal
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Recipient ok"

    async def handle_DATA(self, server: _Protocol, session: Any, envelope: Any) -> str:
        faults = self._mta.faults
        if faults.cut == "data":
            await server.hang_up_for_good()
        if faults.refuse_message:
            return faults.refuse_message
        self._mta.received.append(
            Received(
                sender=envelope.mail_from,
                recipients=tuple(envelope.rcpt_tos),
                content=envelope.original_content,
                mail_options=tuple(envelope.mail_options),
                ehlo_name=session.host_name,
                user=server.user,
                is_encrypted=server.is_encrypted,
            )
        )
        if faults.cut == "dot":
            await server.hang_up_for_good()
        await asyncio.sleep(faults.answer_delay_s)
        return self._mta.accepted_reply


def _read_credential(mechanism: str, answers: list[bytes]) -> tuple[str, str]:
    if mechanism == "LOGIN":
        return answers[0].decode(), answers[1].decode()
    if mechanism == "PLAIN":
        _, user, password = answers[0].decode().split("\0")
        return user, password
    pairs = dict(part.partition("=")[::2] for part in answers[0].decode().split("\x01") if "=" in part)
    user = pairs.get("user", "") or pairs.get("n,a", "").rstrip(",").replace("=2C", ",").replace("=3D", "=")
    return user, pairs.get("auth", "").removeprefix("Bearer ")
