"""The SMTP ports: STARTTLS and implicit TLS over aiosmtpd, on one event loop in a thread of its own."""

import asyncio
import socket
import ssl
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiosmtpd.smtp import SMTP, TLSSetupException

from sandbox.certificates import Certificates
from sandbox.faults import Faults
from sandbox.submission import SILENCE_S, Handler

GREETING_NAME: Final = "localhost"
IDENT: Final = "ESMTP Storepost sandbox"
SIZE_LIMIT_BYTES: Final = 36_700_160  # 35 MiB, Exchange Online's default
COMMAND_LIMIT: Final = 512
# Tokens make sign-in lines longer than a command may be; this much is what Postfix takes as an answer to 334.
AUTH_LIMIT: Final = 12_288
LINE_LIMIT: Final = 1001
STOP_WITHIN_S: Final = 1.0


class Connection(SMTP):
    """One SMTP connection; mends what aiosmtpd 1.4 does not do for us."""

    # Read by aiosmtpd's __init__ for its stream: sign-in payloads come on one line far longer than mail lines.
    line_length_limit = AUTH_LIMIT * 2
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(
        self, handler: Handler, open_transports: set[Any], *, tls_context: Any, implicit_tls: bool, loop: Any
    ) -> None:
        super().__init__(
            handler,
            data_size_limit=SIZE_LIMIT_BYTES,
            enable_SMTPUTF8=True,
            hostname=GREETING_NAME,
            ident=IDENT,
            tls_context=None if implicit_tls else tls_context,
            require_starttls=not implicit_tls,
            timeout=SILENCE_S,
            auth_required=True,
            auth_require_tls=True,
            authenticator=handler.authenticate_password,
            loop=loop,
        )
        # Lines of a message keep the limit of RFC 5321 4.5.3.1.6; only the stream under them is wider.
        self.line_length_limit = LINE_LIMIT
        # aiosmtpd shares this table between all connections and clears it with each new one.
        self.command_size_limits = defaultdict(lambda: COMMAND_LIMIT, {"AUTH": AUTH_LIMIT})
        if implicit_tls:
            # aiosmtpd looks for its own STARTTLS layer, which a connection encrypted from the first byte never has.
            self._auth_require_tls = False
        self._open_transports = open_transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._open_transports.add(transport)
        # asyncio does it only for sockets that name their protocol. Two answers in a row would wait 40 ms otherwise.
        wire = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        for transport in (self.transport, self._original_transport):
            self._open_transports.discard(transport)
        super().connection_lost(error)

    async def smtp_AUTH(self, arg: str) -> None:
        # Mechanism names are case-insensitive (RFC 4422 3.1 has them upper case; servers take both).
        if arg:
            mechanism, space, rest = arg.partition(" ")
            arg = mechanism.upper() + space + rest
        await super().smtp_AUTH(arg)

    async def smtp_STARTTLS(self, arg: str) -> None:
        try:
            await super().smtp_STARTTLS(arg)
        except TLSSetupException:
            # The client did not like our certificate. aiosmtpd would now close a transport that Python 3.11 has not
            # made yet, and leave its timer running.
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            self._open_transports.discard(self._original_transport)
            if isinstance(self._original_transport, asyncio.WriteTransport):
                self._original_transport.abort()
            raise asyncio.CancelledError from None


class SMTPPorts:
    """Both SMTP listeners. `sockets` are bound and listening: a taken port fails before anything starts."""

    def __init__(
        self, handler: Handler, context: ssl.SSLContext, *, starttls: socket.socket, implicit: socket.socket
    ) -> None:
        self._handler = handler
        self._context = context
        self._sockets = (starttls, implicit)
        self._open_transports: set[Any] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-smtp", daemon=True)

    def start(self) -> None:
        """Start serving; returns when both ports answer."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """End all conversations, answered or not, and free both ports."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        servers = [
            self._loop.run_until_complete(
                self._loop.create_server(
                    lambda implicit=implicit: self._connection(implicit),
                    sock=listening,
                    ssl=self._context if implicit else None,
                )
            )
            for implicit, listening in zip((False, True), self._sockets, strict=True)
        ]
        self._loop.call_soon(self._started.set)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._end(servers))
            self._loop.close()
            asyncio.set_event_loop(None)

    def _connection(self, implicit_tls: bool) -> Connection:
        return Connection(
            self._handler,
            self._open_transports,
            tls_context=self._context,
            implicit_tls=implicit_tls,
            loop=self._loop,
        )

    async def _end(self, servers: Sequence[asyncio.AbstractServer]) -> None:
        for server in servers:
            server.close()
        for transport in list(self._open_transports):
            transport.abort()
        conversations = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in conversations:
            task.cancel()
        if conversations:
            await asyncio.wait(conversations, timeout=STOP_WITHIN_S)
        # One more round lets the transports report their end and close their sockets.
        await asyncio.sleep(0)


def server_context(certificates: Certificates, faults: Faults) -> ssl.SSLContext:
    """Return the context of the SMTP ports; at each handshake the fault decides which certificate is shown."""
    usual = _context(certificates.cert_file, certificates.key_file)
    expired = _context(certificates.expired_cert_file, certificates.expired_key_file)

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        if faults.is_on("expired_certificate"):
            connection.context = expired

    # OpenSSL calls this at every ClientHello, whether or not the client names a server.
    usual.sni_callback = choose
    return usual


def _context(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file)
    # A resumed session would skip the certificate, and with it the fault.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    return context
