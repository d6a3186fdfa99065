"""The wire under a conversation: whole lines in, replies out, encryption, and an end in every case.

aiosmtpd brings the connection and STARTTLS. It also cancels a conversation in the middle of an answer when the client
has sent its last byte, and ends one without a word when its only clock runs out: that is ours here.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

from aiosmtpd.smtp import SMTP, Session, TLSSetupException

from relay.connections import client_of

if TYPE_CHECKING:
    from relay.server import Relay

TIMEOUT = "421 4.4.2 Too slow; connect again"
CLOSE_WITHIN_S = 10.0
# aiosmtpd answers some commands by itself, without the enhanced codes that we promise (RFC 2034).
_ENHANCED = {
    "221": "2.0.0", "250": "2.0.0", "454": "4.7.0", "500": "5.5.2", "501": "5.5.4", "502": "5.5.1", "503": "5.5.1",
}  # fmt: skip
_HAS_ENHANCED = re.compile(r"[245][0-9]{2} [245]\.[0-9]{1,3}\.[0-9]{1,3} ")
# What only a lost or hostile client says.
_MISTAKES = ("500", "501", "502", "504")


class Over(Exception):
    """The conversation ends here; the text is the last reply."""


class Connection(SMTP):
    """One connection of the relay. `mistakes` counts replies to commands that are none."""

    # Read by aiosmtpd's __init__ for its stream: messages are read in pieces of this size.
    line_length_limit = 64 * 1024

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
        self.mistakes = 0
        self._relay = relay
        self._limits = relay.limits

    @property
    def is_encrypted(self) -> bool:
        return self.session.ssl is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client = client_of(self.session.peer)

    def eof_received(self) -> bool | None:
        # The client may have sent its last byte and still wait for answers to what it said before.
        asyncio.StreamReaderProtocol.eof_received(self)
        return not self.is_encrypted

    def _timeout_cb(self) -> None:
        """The library's one clock; ours run for each command, message and reply."""

    async def read_line(self, deadline: float) -> bytes:
        """Return a whole line with its end.

        Raises:
            Over: it did not come in time, or has no end.
            asyncio.IncompleteReadError: the client went away.
        """
        try:
            async with asyncio.timeout_at(deadline):
                return await self._reader.readuntil(b"\n")
        except TimeoutError:
            raise Over(TIMEOUT) from None
        except asyncio.LimitOverrunError:
            raise Over("500 5.5.2 This line never ends") from None

    async def push(self, status: str | bytes) -> None:
        """Send a reply.

        Raises:
            TimeoutError: the client takes nothing off us.
        """
        reply = status if isinstance(status, str) else status.decode("utf-8", "replace")
        if reply[:3] in _ENHANCED and not _HAS_ENHANCED.match(reply):
            reply = f"{reply[:3]} {_ENHANCED[reply[:3]]}{reply[3:]}"
        if reply[:3] in _MISTAKES:
            self.mistakes += 1
        await self.send(reply)

    async def send(self, text: str) -> None:
        """Send a reply as it stands; see `push`."""
        self._writer.write(text.encode("utf-8", "replace") + b"\r\n")
        async with asyncio.timeout(self._limits.idle_s):
            await self._writer.drain()

    async def start_tls(self) -> None:
        """Encrypt from here on; what was said before, or came in behind the command, counts for nothing any more."""
        try:
            await super().smtp_STARTTLS("")
        except TLSSetupException:
            # The client did not like our certificate. aiosmtpd would now close a transport that Python has not made
            # yet, and leave its timer running.
            if self._timeout_handle is not None:
                self._timeout_handle.cancel()
            self.abort()
            raise asyncio.CancelledError from None

    def say_last(self, reply: str) -> None:
        """Send a reply without waiting, and close."""
        self._writer.write(f"{reply}\r\n".encode("ascii"))
        self.close()

    def close(self) -> None:
        """Close when everything is sent, and soon in any case."""
        self._writer.close()
        if self.transport is not None and self._writer.transport.get_write_buffer_size():
            self.loop.call_later(CLOSE_WITHIN_S, self.abort)

    def abort(self) -> None:
        """Close now, sent or not."""
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
