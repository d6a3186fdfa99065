"""An SMTP server that keeps nothing: one process, one port for each set of extensions, very little work per message.

A thread for each connection, with blocking sockets: for the few connections of a benchmark that costs half of what an
event loop would, and the sink must not be what is measured.

    python -m bench.smtp_sink --messages FILE [--certificate PEM --key PEM]

It prints its ports as one line of JSON, among them "stats": whoever connects there is sent the counts so far. It ends
with its input. Each message must be one of FILE, byte for byte, or it counts as damaged.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bench import smtp_messages
from bench.processes import say

MAX_LINE_BYTES = 16_384
RECEIVE_BYTES = 65_536


@dataclass(frozen=True)
class Offer:
    """What one port offers. `sign_in` means that MAIL is refused before AUTH; `checked` that contents are compared."""

    pipelining: bool = True
    chunking: bool = True
    sign_in: bool = True
    checked: bool = True
    implicit_tls: bool = False
    starttls: bool = False

    def ehlo(self, *, encrypted: bool) -> bytes:
        words = ["sink.example", "SIZE 36700160", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        words += ["PIPELINING"] * self.pipelining + ["CHUNKING"] * self.chunking + ["AUTH XOAUTH2"] * self.sign_in
        words += ["STARTTLS"] * (self.starttls and not encrypted)
        lines = [f"250-{word}\r\n" for word in words[:-1]] + [f"250 {words[-1]}\r\n"]
        return "".join(lines).encode("ascii")


OFFERS = {
    "full": Offer(),
    "pipelining": Offer(chunking=False),
    "plain": Offer(pipelining=False, chunking=False),
    "open": Offer(sign_in=False, checked=False),
    "tls": Offer(implicit_tls=True),
    "starttls": Offer(starttls=True),
}


@dataclass
class Counts:
    """What all ports together have seen. `violations` are things no client may do, such as grouping unasked."""

    messages: int = 0
    damaged: int = 0
    violations: int = 0
    connections: int = 0
    sign_ins: int = 0
    expected: frozenset[bytes] = field(default=frozenset(), repr=False)

    def as_json(self) -> bytes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        known = {name: value for name, value in vars(self).items() if name != "expected"}
        return json.dumps({**known, "cpu_s": used.ru_utime + used.ru_stime}).encode("ascii")


class Sink:
    """One conversation: bytes in, replies out. `wants` is "close" or "encrypt" when the connection has to do that."""

    def __init__(self, offer: Offer, counts: Counts) -> None:
        self.offer = offer
        self.counts = counts
        self.wants = ""
        self.buffer = bytearray()
        self.waits_for = b""  # "DATA", "AUTH" or nothing: how the next bytes are to be read
        self.searched = 0
        self.chunks: list[bytes] = []
        self.recipients = 0
        self.has_sender = False
        self.encrypted = offer.implicit_tls
        self.signed_in = not offer.sign_in

    def feed(self, data: bytes) -> bytes:
        """Take all that came and return the replies to it, in order."""
        buffer = self.buffer
        buffer += data
        position, replies = 0, []
        while position < len(buffer) and not self.wants:
            end, reply = self._take_block(position) if self.waits_for == b"DATA" else self._take_line(position)
            if end < 0:
                break
            position = end
            replies.append(reply)
            if position < len(buffer) and not self.offer.pipelining:
                self.counts.violations += 1
        del buffer[:position]
        return b"".join(replies)

    def encrypted_now(self) -> None:
        """Forget what was said in clear (RFC 3207 4.2)."""
        self.wants, self.encrypted, self.signed_in = "", True, not self.offer.sign_in
        self.buffer.clear()
        self._reset()

    # Each returns where the next thing begins, or -1 when more bytes are needed, and the reply. -----------------------

    def _take_line(self, position: int) -> tuple[int, bytes]:
        buffer = self.buffer
        end = buffer.find(b"\r\n", position)
        if end < 0:
            if len(buffer) - position > MAX_LINE_BYTES:
                self.counts.violations += 1
                self.wants = "close"
            return -1, b""
        line = bytes(buffer[position:end])
        end += 2
        if self.waits_for == b"AUTH":
            return end, self._signed_in()
        verb = line[:4].upper()
        if verb == b"BDAT":
            return self._take_chunk(line, end)
        if verb == b"MAIL":
            return end, self._mail()
        if verb == b"RCPT":
            if not self.has_sender:
                return end, self._out_of_order()
            self.recipients += 1
            return end, b"250 2.1.5 Ok\r\n"
        if verb == b"DATA":
            if not self.recipients or self.chunks:
                return end, self._out_of_order()
            self.waits_for, self.searched = b"DATA", 0
            return end, b"354 Go ahead\r\n"
        return end, self._other(verb, line)

    def _mail(self) -> bytes:
        if not self.signed_in:
            return b"530 5.7.0 Authentication required\r\n"
        if self.has_sender:
            return self._out_of_order()
        self.has_sender = True
        return b"250 2.1.0 Ok\r\n"

    def _take_chunk(self, line: bytes, end: int) -> tuple[int, bytes]:
        """BDAT: the chunk is read in any case, also when it is refused (RFC 3030 2)."""
        words = line.split()
        if not self.offer.chunking or len(words) not in (2, 3) or not words[1].isdigit():
            self.counts.violations += 1
            return end, b"500 5.5.1 Unknown command\r\n"
        size = int(words[1])
        if len(self.buffer) - end < size:
            return -1, b""
        chunk = bytes(self.buffer[end : end + size])
        end += size
        if not self.recipients:
            return end, self._out_of_order()
        if len(words) == 2:
            self.chunks.append(chunk)
            return end, b"250 2.0.0 %d octets received\r\n" % size
        return end, self._accept(b"".join([*self.chunks, chunk]) if self.chunks else chunk)

    def _take_block(self, position: int) -> tuple[int, bytes]:
        """DATA: everything up to the line that holds a dot alone, with doubled dots undone (RFC 5321 4.5.2)."""
        buffer = self.buffer
        if buffer.startswith(b".\r\n", position):
            content, end = b"", position + 3
        else:
            found = buffer.find(b"\r\n.\r\n", max(position, self.searched))
            if found < 0:
                self.searched = max(len(buffer) - 4 - position, 0)
                return -1, b""
            content, end = bytes(buffer[position : found + 2]), found + 5
        self.waits_for, self.searched = b"", 0
        return end, self._accept(content.replace(b"\r\n.", b"\r\n").removeprefix(b"."))

    def _accept(self, content: bytes) -> bytes:
        self._reset()
        if self.offer.checked and content not in self.counts.expected:
            self.counts.damaged += 1
            return b"554 5.6.0 This is none of the expected messages\r\n"
        self.counts.messages += 1
        return b"250 2.0.0 Ok: queued as %X\r\n" % self.counts.messages

    def _other(self, verb: bytes, line: bytes) -> bytes:
        if verb == b"EHLO":
            self._reset()
            return self.offer.ehlo(encrypted=self.encrypted)
        if verb == b"HELO":
            self._reset()
            return b"250 sink.example\r\n"
        if verb == b"RSET":
            self._reset()
            return b"250 2.0.0 Ok\r\n"
        if verb == b"NOOP":
            return b"250 2.0.0 Ok\r\n"
        if verb == b"QUIT":
            self.wants = "close"
            return b"221 2.0.0 Bye\r\n"
        if verb == b"AUTH" and self.offer.sign_in:
            if len(line.split()) > 2:
                return self._signed_in()
            self.waits_for = b"AUTH"
            return b"334 \r\n"
        if verb == b"STAR" and self.offer.starttls and not self.encrypted:
            self.wants = "encrypt"
            return b"220 2.0.0 Go ahead\r\n"
        self.counts.violations += 1
        return b"500 5.5.1 Unknown command\r\n"

    def _signed_in(self) -> bytes:
        self.waits_for = b""
        self.signed_in = True
        self.counts.sign_ins += 1
        return b"235 2.7.0 Accepted\r\n"

    def _out_of_order(self) -> bytes:
        return b"503 5.5.1 Bad sequence of commands\r\n"

    def _reset(self) -> None:
        self.has_sender, self.recipients = False, 0
        if self.chunks:
            self.chunks = []


def converse(
    sock: socket.socket, offer: Offer, counts: Counts, context: ssl.SSLContext | None, *, sink: Sink | None = None
) -> None:
    """Serve one connection to its end, by this sink or by a plain one."""
    sink = sink or Sink(offer, counts)
    counts.connections += 1
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if offer.implicit_tls:
            assert context is not None
            sock = context.wrap_socket(sock, server_side=True)
        sock.sendall(b"220 sink.example ESMTP\r\n")
        while data := sock.recv(RECEIVE_BYTES):
            replies = sink.feed(data)
            if replies:
                sock.sendall(replies)
            if sink.wants == "close":
                break
            if sink.wants == "encrypt":
                assert context is not None
                sock = context.wrap_socket(sock, server_side=True)
                sink.encrypted_now()
    sock.close()


def accept_for_ever(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    while True:
        sock, _ = server.accept()
        threading.Thread(target=serve, args=(sock,), daemon=True).start()


def listen(serve: Callable[[socket.socket], None]) -> int:
    """Accept on a free port of loopback, and return it."""
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)
    threading.Thread(target=accept_for_ever, args=(server, serve), daemon=True).start()
    return int(server.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    arguments = parser.parse_args()
    context = None
    if arguments.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
    counts = Counts(expected=frozenset(smtp_messages.read(arguments.messages)))

    def tell(sock: socket.socket) -> None:
        with sock:
            sock.sendall(counts.as_json() + b"\n")

    ports = {
        name: listen(partial(converse, offer=offer, counts=counts, context=context))
        for name, offer in OFFERS.items()
        if context is not None or not (offer.implicit_tls or offer.starttls)
    }
    say(ports={**ports, "stats": listen(tell)})
    # Nothing is ever said to us; the end of it is the end, and every thread is a daemon.
    sys.stdin.read()


if __name__ == "__main__":
    main()
