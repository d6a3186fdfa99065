"""An SMTP server with a ledger and a script, as a process of its own, for tests that kill its clients.

    python -m tests.crash.sink --ports 3 [--host 127.0.0.1] [--certificate PEM --key PEM] [--seed 7]

It prints one line of JSON with its ports and the port of its control, and ends with its input. Each port is a server
of its own as far as clients can tell. What `tests/crash/sinks.py` says over the control is one JSON object a line, and
so is each answer.

The ledger counts a message from the moment at which the server has all of it and decides to take it, whether or not
its answer still reaches anybody. Stages, in order, each of them before the server's answer unless it says otherwise:

    connect     accepted by the network, nothing said
    greeting    half the greeting is out
    ehlo, starttls, handshake, auth, mail, rcpt, data
    content     the content has begun to arrive, and no more of it is read
    dot         all of it is here and in the ledger; a "say" here refuses it before it is written down
    answered    after the answer is out
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import re
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

STAGES = (
    "connect", "greeting", "ehlo", "starttls", "handshake", "auth",
    "mail", "rcpt", "data", "content", "dot", "answered",
)  # fmt: skip
EXTENSIONS = {
    "full": ("PIPELINING", "CHUNKING"),
    "pipelining": ("PIPELINING",),
    "plain": (),
}
# Small, so that a content that nobody reads stays with the client.
RECEIVE_BUFFER = 65_536
LINE_MAX = 16_384
DRIP_S = 0.5
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass
class Deed:
    """What happens at one stage: hold, cut, wait, drip or say.

    hold: until released; wait: by chance, up to so many seconds; drip: the answer byte by byte, so many seconds
    between two; say: this reply instead of the usual one.
    """

    kind: str
    seconds: float = 0.0
    reply: str = ""
    times: int | None = None  # then it is over; None: for ever
    chance: float = 1.0


@dataclass
class Door:
    """One port: what it offers, what goes wrong there, and what was seen."""

    offers: tuple[str, ...] = EXTENSIONS["full"]
    starttls: bool = False
    deeds: dict[str, Deed] = field(default_factory=dict)
    held: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    open: int = 0
    most_open: int = 0
    accepted: int = 0


_NOTHING = Deed("nothing")


class Gone(Exception):
    """The script ends this connection here."""


class Sink:
    """All ports together, and their ledger."""

    def __init__(self, host: str, context: ssl.SSLContext | None, seed: int) -> None:
        self.doors: dict[int, Door] = {}
        self.ledger: list[dict[str, Any]] = []
        self.dice = random.Random(seed)
        self.changed = asyncio.Condition()
        self._host = host
        self.context = context

    async def listen(self, count: int) -> None:
        for _ in range(count):
            door = Door()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, door: Door = door) -> None:
                await _Talk(self, door, reader, writer).run()

            listener = socket.create_server((self._host, 0))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            await asyncio.start_server(serve, sock=listener, limit=LINE_MAX, backlog=100)
            self.doors[listener.getsockname()[1]] = door

    def chosen(self, port: int | None) -> list[Door]:
        return list(self.doors.values()) if port is None else [self.doors[port]]

    async def tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()


class _Talk:
    """One connection."""

    def __init__(self, sink: Sink, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._sink, self._door, self._reader, self._writer = sink, door, reader, writer
        self._encrypted = False
        self._answers: dict[bytes, Callable[[bytes], Awaitable[bool]]] = {
            b"EHLO": self._ehlo,
            b"STAR": self._starttls,
            b"AUTH": self._auth,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"BDAT": self._bdat,
        }
        self._reset()

    def _reset(self) -> None:
        self._sender, self._recipients, self._chunks = "", [], []  # type: ignore[var-annotated]

    async def run(self) -> None:
        door = self._door
        door.connections += 1
        door.open += 1
        door.most_open = max(door.most_open, door.open)
        try:
            await self._talk()
        except (Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            pass  # the client died or the script says so: what this is for
        finally:
            door.open -= 1
            self._writer.transport.abort()
            await self._sink.tell()

    async def _talk(self) -> None:
        await self._at("connect")
        self._writer.write(b"220-sink.example\r\n")
        await self._answer("greeting", b"220 sink.example ESMTP\r\n")
        while True:
            line = (await self._reader.readuntil(b"\r\n"))[:-2]
            verb = line[:4].upper()
            if verb == b"QUIT":
                self._writer.write(b"221 2.0.0 Bye\r\n")
                return
            if verb in (b"RSET", b"NOOP"):
                if verb == b"RSET":
                    self._reset()
                self._writer.write(b"250 2.0.0 Ok\r\n")
                continue
            answer = self._answers.get(verb)
            if answer is None:
                self._writer.write(b"500 5.5.1 Unknown command\r\n")
            else:
                await answer(line)

    # Stages ----------------------------------------------------------------------------------------------------------

    def _deed(self, stage: str) -> Deed | None:
        deed = self._door.deeds.get(stage)
        if deed is None or deed.times == 0 or (deed.chance < 1 and self._sink.dice.random() >= deed.chance):
            return None
        if deed.times is not None:
            deed.times -= 1
        return deed

    async def _at(self, stage: str) -> Deed | None:
        """Do what the script says for this stage; what concerns the answer is left to the caller."""
        deed = self._deed(stage)
        await self._do(stage, deed)
        return deed

    async def _do(self, stage: str, deed: Deed | None) -> None:
        if deed is None:
            return
        if deed.kind == "hold":
            peer = self._writer.get_extra_info("peername")
            self._door.held.setdefault(stage, []).append({"peer": list(peer or ())})
            await self._sink.tell()
            await self._door.released.wait()
        elif deed.kind == "cut":
            raise Gone
        elif deed.kind == "wait":
            # Were it the same each time, all connections would keep step, and kills would meet the same stage always.
            await asyncio.sleep(self._sink.dice.uniform(0, deed.seconds))

    async def _answer(self, stage: str, reply: bytes, deed: Deed | None = None) -> bool:
        """Answer, unless the script says otherwise; False when it refuses. `deed` is one that has been done."""
        deed = deed or await self._at(stage)
        if deed is not None and deed.kind == "say":
            self._writer.write(deed.reply.encode() + b"\r\n")
            if deed.reply.startswith("421"):
                await self._writer.drain()
                raise Gone
            return False
        await self._write(reply, deed)
        return True

    async def _write(self, reply: bytes, deed: Deed | None) -> None:
        if deed is None or deed.kind != "drip":
            self._writer.write(reply)
            return
        for number in range(len(reply)):
            self._writer.write(reply[number : number + 1])
            await self._writer.drain()
            await asyncio.sleep(deed.seconds or DRIP_S)

    # Commands --------------------------------------------------------------------------------------------------------

    async def _ehlo(self, line: bytes) -> bool:
        self._reset()
        words = ["sink.example", "SIZE 36700160", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        words += [*self._door.offers, "AUTH PLAIN LOGIN XOAUTH2"]
        words += ["STARTTLS"] * (self._door.starttls and not self._encrypted)
        lines = [f"250-{word}\r\n" for word in words[:-1]] + [f"250 {words[-1]}\r\n"]
        return await self._answer("ehlo", "".join(lines).encode())

    async def _starttls(self, line: bytes) -> bool:
        if not await self._answer("starttls", b"220 2.0.0 Go ahead\r\n"):
            return False
        await self._writer.drain()
        await self._at("handshake")
        assert self._sink.context is not None
        await self._writer.start_tls(self._sink.context)
        self._encrypted = True
        self._reset()
        return True

    async def _auth(self, line: bytes) -> bool:
        words = line.split()
        if len(words) < 3:
            login = (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n")
            for question in login if words[1:] == [b"LOGIN"] else (b"334 \r\n",):
                self._writer.write(question)
                await self._reader.readuntil(b"\r\n")
        return await self._answer("auth", b"235 2.7.0 Accepted\r\n")

    async def _mail(self, line: bytes) -> bool:
        self._reset()
        if await self._answer("mail", b"250 2.1.0 Ok\r\n"):
            self._sender = _address(line)
        return bool(self._sender)

    async def _rcpt(self, line: bytes) -> bool:
        if not self._sender:
            self._writer.write(b"503 5.5.1 MAIL first\r\n")
            return False
        taken = await self._answer("rcpt", b"250 2.1.5 Ok\r\n")
        if taken:
            self._recipients.append(_address(line))
        return taken

    async def _data(self, line: bytes) -> bool:
        if not self._recipients:
            self._writer.write(b"503 5.5.1 RCPT first\r\n")
            return False
        if not await self._answer("data", b"354 Go ahead\r\n"):
            return False
        first = await self._reader.readuntil(b"\r\n")
        await self._at("content")
        lines = []
        while first != b".\r\n":
            lines.append(first.removeprefix(b"."))
            first = await self._reader.readuntil(b"\r\n")
        return await self._take(b"".join(lines))

    async def _bdat(self, line: bytes) -> bool:
        words = line.split()
        size, is_last = int(words[1]), len(words) == 3
        chunk = await self._reader.readexactly(min(size, 1))
        await self._at("content")
        chunk += await self._reader.readexactly(size - len(chunk))
        if not self._recipients:
            self._writer.write(b"503 5.5.1 RCPT first\r\n")
            return False
        self._chunks.append(chunk)
        if not is_last:
            self._writer.write(b"250 2.0.0 Ok\r\n")
            return True
        return await self._take(b"".join(self._chunks))

    async def _take(self, content: bytes) -> bool:
        deed = self._deed("dot")
        if deed is None or deed.kind != "say":
            found = _MESSAGE_ID.search(content)
            self._sink.ledger.append(
                {
                    "message_id": found.group(1).decode() if found else "",
                    "sender": self._sender,
                    "recipients": list(self._recipients),
                    "sha256": hashlib.sha256(content).hexdigest(),
                    "port": self._writer.get_extra_info("sockname")[1],
                    "at": time.monotonic(),
                }
            )
            self._door.accepted += 1
        self._reset()
        await self._do("dot", deed)
        reply = b"250 2.0.0 Ok: queued as %X\r\n" % len(self._sink.ledger)
        taken = await self._answer("dot", reply, deed or _NOTHING)
        await self._writer.drain()
        await self._at("answered")
        return taken


def _address(line: bytes) -> str:
    return line.partition(b"<")[2].partition(b">")[0].decode("utf-8", "replace")


# Control -------------------------------------------------------------------------------------------------------------


class _Control:
    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                order = json.loads(line)
                answer = await getattr(self, "do_" + order.pop("do"))(**order)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        writer.close()

    async def do_offer(self, port: int | None, extensions: list[str], starttls: bool) -> None:
        for door in self._sink.chosen(port):
            door.offers, door.starttls = tuple(extensions), starttls

    async def do_script(self, port: int | None, deeds: dict[str, dict[str, Any]]) -> None:
        for door in self._sink.chosen(port):
            door.deeds = {stage: Deed(**deed) for stage, deed in deeds.items()}

    async def do_release(self, port: int | None, deeds: dict[str, dict[str, Any]]) -> None:
        """Begin a new script, and let those who are held go on by it."""
        await self.do_script(port, deeds)
        for door in self._sink.chosen(port):
            door.held = {}
            door.released.set()
            door.released = asyncio.Event()

    async def do_wait_held(self, port: int, stage: str, timeout_s: float) -> list[dict[str, Any]]:
        door = self._sink.doors[port]

        def is_there() -> bool:
            return bool(door.held.get(stage))

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._sink.changed:
                await self._sink.changed.wait_for(is_there)
        return door.held.get(stage, [])

    async def do_ledger(self, since: int) -> list[dict[str, Any]]:
        return self._sink.ledger[since:]

    async def do_counts(self) -> dict[int, dict[str, int]]:
        return {
            port: {name: getattr(door, name) for name in ("connections", "open", "most_open", "accepted")}
            for port, door in self._sink.doors.items()
        }


async def run(arguments: argparse.Namespace) -> None:
    context = None
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
    sink = Sink(arguments.host, context, arguments.seed)
    await sink.listen(arguments.ports)
    control = await asyncio.start_server(_Control(sink).serve, "127.0.0.1", 0)
    print(json.dumps({"ports": list(sink.doors), "control": control.sockets[0].getsockname()[1]}), flush=True)
    # Nothing is ever said to us; the end of it is the end.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ports", type=int, default=1)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
