"""`flask relay`: the port, the loop and the end. Applications that speak only SMTP hand in mail here."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mail.equipment import Equipment
from relay.certificate import LOOK_EVERY_S, Certificate
from relay.connections import Connections
from relay.conversation import Conversation, quiet_library
from relay.data import Memory
from relay.limits import Limits
from relay.sign_in import SignIns
from relay.writing import Writers

if TYPE_CHECKING:
    import ssl

    from flask import Flask

logger = logging.getLogger(__name__)

BACKLOG = 512
_SOON_S = 0.05


class CannotStart(Exception):
    """One sentence for the operator."""


def run(app: Flask) -> None:
    """Take mail until SIGTERM or SIGINT; then messages in hand get up to 25 seconds. Main thread only.

    Raises:
        CannotStart: the port is taken, or it is off loopback without a certificate.
    """
    relay = Relay(app)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: relay.stop())
    relay.run()


class Relay:
    """The listener of one process. Made, it has its port; `run` serves until `stop`, which any thread may call.

    Raises:
        CannotStart: see `run`.
    """

    def __init__(self, app: Flask, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        equipment: Equipment = app.extensions["storepost"]
        self.name = urlsplit(equipment.public_url).hostname or "localhost"
        self._certificate = _certificate(app)
        self._socket = _listen(app.config.get("RELAY_HOST", "127.0.0.1"), app.config.get("RELAY_PORT", 2525))
        self.host, self.port = self._socket.getsockname()[:2]
        # Off this machine, credentials and mail travel encrypted or not at all.
        self.needs_tls = not ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        if self.needs_tls and self._certificate is None:
            self._socket.close()
            raise CannotStart(
                f"The relay listens on {self.host}, beyond this machine, so it needs a certificate: set "
                "STOREPOST_RELAY_CERT_FILE and STOREPOST_RELAY_KEY_FILE, or STOREPOST_RELAY_HOST to 127.0.0.1."
            )
        self.connections = Connections(self.limits)
        self.memory = Memory(self.limits.held_bytes, wait_s=self.limits.wait_s)
        self.writers = Writers(app, self.limits)
        self.sign_ins = SignIns(app)
        self.is_ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()

    @property
    def tls_context(self) -> ssl.SSLContext | None:
        return self._certificate.context if self._certificate else None

    def stop(self) -> None:
        """Ask it to stop; `run` returns when it has."""
        with suppress(RuntimeError):  # it has stopped already
            self._loop.call_soon_threadsafe(self._stopping.set)

    def run(self) -> None:
        """Serve until told to stop."""
        quiet_library()
        self.writers.start()
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            self.sign_ins.stop()
            self.writers.stop(1.0)
            logger.info("relay stopped")

    async def _serve(self) -> None:
        server = await self._loop.create_server(lambda: Conversation(self), sock=self._socket, backlog=BACKLOG)
        watch = asyncio.create_task(self._watch_certificate())
        logger.info("relay listens on %s port %d", self.host, self.port)
        self.is_ready.set()
        try:
            await self._stopping.wait()
        finally:
            server.close()
            watch.cancel()
            await self._end()

    async def _end(self) -> None:
        ends = time.monotonic() + self.limits.stop_within_s
        self.connections.close()
        while len(self.connections) and time.monotonic() < ends:
            await asyncio.sleep(_SOON_S)
        left = len(self.connections)
        self.connections.cut()
        await asyncio.sleep(_SOON_S)
        if left:
            logger.warning("%d relay conversations were cut", left)

    async def _watch_certificate(self) -> None:
        while self._certificate is not None:
            await asyncio.sleep(LOOK_EVERY_S)
            self._certificate.look_again()


def _certificate(app: Flask) -> Certificate | None:
    cert_file, key_file = (app.config.get(name) or "" for name in ("RELAY_CERT_FILE", "RELAY_KEY_FILE"))
    if not cert_file:
        return None
    try:
        return Certificate(cert_file, key_file)
    except ValueError as error:
        raise CannotStart(str(error)) from None


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name may have both; applications that are told localhost or 127.0.0.1 try IPv4.
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server(
            address[:2], family=family, backlog=BACKLOG, dualstack_ipv6=family == socket.AF_INET6 and host == "::"
        )
    except OSError as error:
        raise CannotStart(
            f"The relay cannot listen on {host} port {port} ({error.strerror or type(error).__name__}): set "
            "STOREPOST_RELAY_HOST and STOREPOST_RELAY_PORT to a free port of this machine."
        ) from None


__all__ = ["CannotStart", "Relay", "run"]
