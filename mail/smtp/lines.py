"""Bytes in, replies out: one socket, read in bounded lines against one deadline per reply.

`smtplib` gives each read a fresh timeout, so a server that sends one byte a minute holds a worker for ever, and it
sets no limit on the lines of a reply. Here the clock starts with the command and everything is counted
(security.md 53).
"""

import contextlib
import re
import select
import socket
import ssl
import time
from datetime import UTC, datetime
from typing import Any

from mail.smtp.records import SMTPReply

# RFC 5321 4.5.3.1.5 says 512 octets a line; a challenge may have 12,288 (RFC 4954 4).
MAX_LINE_BYTES = 12_288 + 6
MAX_LINES = 128
MAX_REPLY_BYTES = 65_536

BLOCK_BYTES = 65_536
_RECEIVE_BYTES = 16_384

_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?\Z", re.DOTALL)


class PeerClosed(ConnectionError):
    """The other side ended the connection where a reply was due."""


class UnreadableReply(Exception):
    """What came is not an SMTP reply, or exceeds the limits. Its words are the peer's and are not kept."""


class Wire:
    """A connected socket, in clear or encrypted, that belongs to one conversation.

    Deadlines are instants of `time.monotonic`. Every method may raise OSError (TimeoutError and ssl.SSLError
    included); reading also raises UnreadableReply.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._buffer = bytearray()
        self._take(sock)

    def _take(self, sock: socket.socket) -> None:
        # A socket with a timeout costs two more system calls for each read and write; this one waits by itself.
        sock.setblocking(False)
        self._sock = sock
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable.register(sock, select.POLLOUT)

    @property
    def is_encrypted(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket)

    @property
    def peer_address(self) -> str:
        """The address in use, such as "192.0.2.1", or an empty string once the peer is gone."""
        try:
            return str(self._sock.getpeername()[0])
        except OSError:
            return ""

    def start_tls(self, context: ssl.SSLContext, host: str, deadline: float) -> None:
        """Encrypt from here on; certificate and SNI are checked against `host`, never an address."""
        self._sock.settimeout(_remaining(deadline))
        self._buffer.clear()
        # In a handshake, Python's timeout is for all of its reads together.
        self._take(context.wrap_socket(self._sock, server_hostname=host))

    def tls_facts(self) -> dict[str, Any]:
        """Return version, cipher, certificate subject and issuer, and its end as ISO 8601; empty when in clear."""
        facts = dict.fromkeys(("version", "cipher", "subject", "issuer", "not_after"), "")
        if isinstance(self._sock, ssl.SSLSocket):
            certificate = self._sock.getpeercert() or {}
            cipher = self._sock.cipher()
            facts["version"] = self._sock.version() or ""
            facts["cipher"] = cipher[0] if cipher else ""
            facts["subject"] = _distinguished_name(certificate.get("subject"))
            facts["issuer"] = _distinguished_name(certificate.get("issuer"))
            facts["not_after"] = _iso_instant(certificate.get("notAfter"))
        return facts

    def has_waiting(self) -> bool:
        """True when bytes wait that nobody asked for. Only meaningful before TLS."""
        if self._buffer:
            return True
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            return False

    def is_disturbed(self) -> bool:
        """True when something came in, or the other side hung up, while nothing was asked."""
        if self._buffer or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
            return True
        return bool(self._readable.poll(0))

    def write(self, data: bytes, deadline: float) -> None:
        """Hand all of `data` to the network before `deadline`.

        `sendall` of a TLS socket starts its timeout anew for every part, hence the loop.
        """
        view = memoryview(data)
        _remaining(deadline)
        while view:
            try:
                view = view[self._sock.send(view[:BLOCK_BYTES]) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                _wait(self._writable, deadline)
            except ssl.SSLWantReadError:
                _wait(self._readable, deadline)

    def read_reply(self, deadline: float) -> SMTPReply:
        """Return the next reply, all of its lines, read before `deadline`."""
        lines: list[str] = []
        code, total = 0, 0
        while True:
            raw = self._read_line(deadline)
            total += len(raw)
            match = _REPLY_LINE.match(raw)
            if match is None or (lines and int(match[1]) != code):
                raise UnreadableReply("a line that is no part of an SMTP reply")
            code = int(match[1])
            lines.append(_visible(match[3] or b""))
            if match[2] != b"-":
                return SMTPReply(code, tuple(lines))
            if len(lines) >= MAX_LINES or total > MAX_REPLY_BYTES:
                raise UnreadableReply("a reply with too many lines")

    def close(self) -> None:
        """Drop the connection at once, without a word."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def _receive(self, deadline: float) -> bytes:
        # What TLS has decrypted already no poll() tells of, so there the question comes second.
        if not self.is_encrypted:
            _wait(self._readable, deadline)
        while True:
            _remaining(deadline)
            try:
                return self._sock.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                _wait(self._readable, deadline)
            except ssl.SSLWantWriteError:
                _wait(self._writable, deadline)

    def _read_line(self, deadline: float) -> bytes:
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_LINE_BYTES:
                raise UnreadableReply("a line without end")
            received = self._receive(deadline)
            if not received:
                raise PeerClosed("Connection unexpectedly closed")
            self._buffer += received
        if end > MAX_LINE_BYTES:
            raise UnreadableReply("a line without end")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")


def _wait(poll: select.poll, deadline: float) -> None:
    if not poll.poll(_remaining(deadline) * 1000):
        raise TimeoutError("timed out")


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _visible(raw: bytes) -> str:
    """Text of a reply line: UTF-8 where it is, and nothing that could steer a terminal, a log or a page."""
    text = raw.decode("utf-8", "backslashreplace").replace("\t", " ")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _distinguished_name(name: object) -> str:
    """Write the nested pairs of `getpeercert()` as "CN=mail.example, O=Example"."""
    short = {"commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C"}
    if not isinstance(name, tuple):
        return ""
    pairs = [pair for part in name for pair in part if pair[0] in short]
    return ", ".join(f"{short[key]}={value}" for key, value in pairs)


def _iso_instant(not_after: object) -> str:
    if not isinstance(not_after, str):
        return ""
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(not_after), UTC).isoformat().replace("+00:00", "Z")
