"""A message on its way in: read up to CR LF . CR LF and nothing else, counted while it comes; then made plain.

Source: RFC 5321 4.1.1.4 and 4.5.2; on other line ends before the dot ("SMTP smuggling") CVE-2023-51764.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque

from relay.grammar import Refusal

END = b"\r\n.\r\n"
_PROTECTED = re.compile(rb"\n\.(?=[^\r\n])")


class Memory:
    """Bytes that all messages in hand may have together; who asks first gets first. One event loop only."""

    def __init__(self, total_bytes: int, *, wait_s: float) -> None:
        self.free_bytes = total_bytes
        self._wait_s = wait_s
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, count: int) -> None:
        """Take so many bytes, as soon as there is room.

        Raises:
            TimeoutError: others kept theirs too long; nothing was taken.
        """
        if not self._waiting and count <= self.free_bytes:
            self.free_bytes -= count
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.give_back(count)  # it came in the moment when we stopped waiting
            elif (count, turn) in self._waiting:
                self._waiting.remove((count, turn))
                self._serve()
            raise

    def give_back(self, count: int) -> None:
        """Return bytes that were taken."""
        self.free_bytes += count
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            count, turn = self._waiting.popleft()
            if not turn.done():
                self.free_bytes -= count
                turn.set_result(None)


class Incoming:
    """A message being read. `size_bytes` of memory are taken until `let_go`."""

    def __init__(self, memory: Memory, *, limit_bytes: int) -> None:
        self.content = bytearray()
        self.size_bytes = 0
        self._memory = memory
        self._limit = limit_bytes
        self._refusal = ""

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Read to the end of the message, whatever happens to it.

        The reader must give the line end before the message too (`begin_message`), so that a message may be empty.

        Raises:
            Refusal: too large, or no room for it now; read to its end all the same, so that the conversation goes on.
            asyncio.IncompleteReadError: the client went away.
        """
        while True:
            try:
                piece = await reader.readuntil(END)
            except asyncio.LimitOverrunError as more:
                await self._add(await reader.readexactly(more.consumed))
                continue
            await self._add(piece[: -len(END)])
            break
        if self._refusal:
            raise Refusal(self._refusal)

    async def _add(self, piece: bytes) -> None:
        if self._refusal or not piece:
            return
        # The line end before the message counts, the one at its end is not there: it comes to the same.
        if self.size_bytes + len(piece) > self._limit:
            self._refuse(f"552 5.3.4 A message may have {self._limit} bytes")
            return
        try:
            await self._memory.take(len(piece))
        except TimeoutError:
            self._refuse("451 4.3.1 Too much mail is coming in at once; send it again later")
            return
        self.size_bytes += len(piece)
        self.content += piece

    def _refuse(self, reply: str) -> None:
        self._refusal = reply
        self.let_go()

    def let_go(self) -> None:
        """Give the memory back. Doing it twice is once."""
        self._memory.give_back(self.size_bytes)
        self.size_bytes = 0
        self.content = bytearray()


def begin_message(reader: asyncio.StreamReader) -> None:
    """Put the line end of the DATA command in front of what comes: the dot that ends a message follows a line end."""
    # StreamReader has no public way to put something back; aiosmtpd reaches for the same buffer after STARTTLS.
    reader._buffer[:0] = b"\r\n"  # type: ignore[attr-defined]


def make_plain(content: bytes | bytearray) -> bytes:
    """Return the message that was read, as it was before it was sent: without the dots that protect its lines.

    Clients that end lines with a bare LF protect those lines too. They end no message here, and a line of one dot
    behind one stays a line of one dot; `mail.relayed` gives every line a CR LF before anything is sent on.
    """
    # The content starts with the line end before its first line, and lacks that of its last.
    return _PROTECTED.sub(b"\n", content)[2:] + b"\r\n" if content else b""
