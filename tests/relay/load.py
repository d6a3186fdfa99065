"""Many applications at once: asyncio clients that hand in messages as fast as the relay takes them."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field

from tests.relay.peer import CODE


@dataclass
class Load:
    """Hands in `messages` over `connections`; `accepted` grows with each 250, by the id that the relay named."""

    port: int
    key: str
    messages: int
    connections: int
    size_bytes: int = 5000
    accepted: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    is_lost: bool = False

    async def run(self) -> None:
        """Hand in all of them, or as many as the relay lives for."""
        numbers = iter(range(self.messages))
        async with asyncio.TaskGroup() as group:
            for _ in range(self.connections):
                group.create_task(self._talk(numbers))

    async def _talk(self, numbers: object) -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            self.is_lost = True
            return
        try:
            await _reply(reader)
            token = base64.b64encode(f"\0{CODE}\0{self.key}".encode())
            await _say(reader, writer, b"EHLO app.example", b"AUTH PLAIN " + token)
            for number in numbers:  # type: ignore[attr-defined]
                await self._hand_in(reader, writer, number)
            await _say(reader, writer, b"QUIT")
        except (OSError, EOFError, asyncio.IncompleteReadError):
            self.is_lost = True
        finally:
            writer.close()

    async def _hand_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await _say(reader, writer, b"MAIL FROM:<app@shop.example>", b"RCPT TO:<lena@shop.example>", b"DATA")
        writer.write(self.message(number))
        answer = await _reply(reader)
        if answer.startswith("250 2.0.0 Queued as "):
            self.accepted[answer.rpartition(" ")[2]] = number
        else:
            self.refused.append(answer)

    def message(self, number: int) -> bytes:
        """The message with this number, ready for the wire."""
        head = f"From: app@shop.example\r\nTo: lena@shop.example\r\nSubject: Number {number}\r\n\r\n".encode("ascii")
        line = b"All work and no play makes a dull test of seventy-four octets to a line.\r\n"
        return head + line * (self.size_bytes // len(line)) + b".\r\n"


async def _say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *commands: bytes) -> None:
    """Say them in one piece, as PIPELINING allows, and read every reply."""
    writer.write(b"".join(command + b"\r\n" for command in commands))
    for _ in commands:
        answer = await _reply(reader)
        if answer[:1] not in "23":
            raise EOFError(answer)


async def _reply(reader: asyncio.StreamReader) -> str:
    while True:
        line = (await reader.readuntil(b"\n")).decode("utf-8")
        if line[3:4] != "-":
            return line.rstrip("\r\n")
