"""A second look at a server that did not answer as the settings expect: does it answer another way?

A port that wants TLS from the first byte is silent towards a client that waits for a greeting, and one that greets
breaks the handshake of a client that starts with TLS; both look like a network fault. One more connection tells. It is
made for a person who tests and never by delivery, says EHLO and QUIT at most, and keeps nothing of what is said to
it: only which way of talking it was (security.md 49).

Source: providers.md 14, RFC 8314 3.3, RFC 3207.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from mail.errors import Family, MailError, Stage
from mail.smtp.lines import UnreadableReply, Wire
from mail.smtp.records import Encryption, Endpoint
from mail.wire_names import ascii_domain
from security.outbound import Blocked, Door

TIMEOUT_S = 5.0

Result = TypeVar("Result")

# The port where the same server usually offers the other way (RFC 8314 7.3; SES repeats them at 2465 and 2587).
_NEIGHBOURS = {25: 587, 465: 587, 587: 465, 2465: 2587, 2587: 2465}
_IMPLICIT_PORTS = frozenset({465, 2465})
# Faults that no other way of talking would change.
_SETTLED = frozenset({"blocked", "certificate_refused", "starttls_injection", "host_unknown", "not_connected"})
_TLS_RECORD = (0x15, 0x16)  # alert, handshake: RFC 8446 5.1
_RECEIVE_BYTES = 4096
_REPLY = re.compile(rb"[2-5][0-9][0-9][ \-\r\n]")


class Speaks(StrEnum):
    """How a port talks."""

    IMPLICIT_TLS = "implicit_tls"
    STARTTLS = "starttls"
    CLEAR_SMTP = "clear_smtp"
    OTHER = "other"
    NOTHING = "nothing"


def probe(endpoint: Endpoint, error: MailError, *, door: Door, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Return which way the server can be talked to after all, as plain facts; empty when that is no question.

    Facts are `speaks`, of the port that was tried, and, when that does not settle it, `other_port` and `other_speaks`
    of the usual neighbour port; each a word of `Speaks`. Takes at most `timeout_s` in all, opens at most two
    connections, and never raises. What the guard blocks is left out as if it had not been looked at.
    """
    if not _is_open_question(endpoint, error):
        return {}
    ends = time.monotonic() + timeout_s
    try:
        host = ascii_domain(endpoint.host)
    except ValueError:
        return {}
    found: dict[str, Any] = {}
    # Half of the time is the neighbour's, who is asked second.
    speaks = _same_port(host, endpoint, error, door, ends - timeout_s / 2)
    if speaks is not None:
        found["speaks"] = speaks.value
    if speaks is Speaks.STARTTLS:
        return found
    is_implicit = endpoint.encryption is Encryption.IMPLICIT
    port = _NEIGHBOURS.get(endpoint.port, 587 if is_implicit else 465)
    other = _look(host, port, endpoint, door, ends, tls_first=port in _IMPLICIT_PORTS)
    if other is not None:
        found |= {"other_port": port, "other_speaks": other.value}
    return found


def _is_open_question(endpoint: Endpoint, error: MailError) -> bool:
    if error.family is not Family.SMTP or error.reply_code is not None or error.code in _SETTLED:
        return False
    if error.stage is Stage.TLS and endpoint.encryption is not Encryption.IMPLICIT:
        # A handshake after STARTTLS failed by itself: the way of talking was the right one.
        return error.code == "starttls_missing"
    return error.stage in (Stage.CONNECT, Stage.TLS, Stage.GREET)


def _same_port(host: str, endpoint: Endpoint, error: MailError, door: Door, ends: float) -> Speaks | None:
    """Try the other way on the same port; where nothing could be reached, or clear text was heard, it is known."""
    if error.stage is Stage.CONNECT:
        return Speaks.NOTHING
    if error.code == "starttls_missing":
        return Speaks.CLEAR_SMTP
    tried_tls = endpoint.encryption is Encryption.IMPLICIT
    if tried_tls and error.stage is Stage.GREET:
        # It shook hands, so TLS at once was right; what it said then, or did not, is its own.
        return Speaks.OTHER if error.code == "not_smtp" else None
    return _look(host, endpoint.port, endpoint, door, ends, tls_first=not tried_tls)


def _look(host: str, port: int, endpoint: Endpoint, door: Door, ends: float, *, tls_first: bool) -> Speaks | None:
    """Open one connection and return how it talks; None when the guard refuses it."""
    try:
        sock = door.connect(host, port, timeout_s=max(ends - time.monotonic(), 0.001))
    except Blocked:
        return None
    except (OSError, UnicodeError):
        return Speaks.NOTHING
    with contextlib.closing(sock):
        return _by_tls(sock, host, port, door, ends) if tls_first else _in_clear(sock, endpoint, ends)


def _in_clear(sock: socket.socket, endpoint: Endpoint, ends: float) -> Speaks:
    """Wait for a greeting, and ask whether encryption is offered."""
    wire = Wire(sock)
    try:
        if wire.read_reply(ends).code != 220:
            return Speaks.OTHER
        wire.write(f"EHLO {_ehlo_name(endpoint)}\r\n".encode("ascii"), ends)
        reply = wire.read_reply(ends)
    except UnreadableReply:
        return Speaks.OTHER
    except OSError:
        return Speaks.NOTHING
    with contextlib.suppress(OSError):
        wire.write(b"QUIT\r\n", ends)
    if not reply.is_positive:
        # An FTP server greets with 220 too, and knows no EHLO.
        return Speaks.OTHER
    offers = {line.partition(" ")[0].upper() for line in reply.lines[1:]}
    return Speaks.STARTTLS if "STARTTLS" in offers else Speaks.CLEAR_SMTP


def _by_tls(sock: socket.socket, host: str, port: int, door: Door, ends: float) -> Speaks:
    """Start TLS at once, and wait for a greeting inside."""
    try:
        tls = _Tunnel(sock, door.tls_context, host, ends)
    except ValueError:  # a name that no certificate can have
        return Speaks.NOTHING
    try:
        first = tls.first_answer()
        if first and first[0] not in _TLS_RECORD:
            # A greeting that comes late and in clear: slow, but no other protocol.
            return Speaks.NOTHING if _REPLY.match(first) else Speaks.OTHER
        tls.shake_hands()
    except ssl.SSLCertVerificationError:
        # It spoke TLS. Its name or date is the next thing to mend, and the next test says so.
        return Speaks.IMPLICIT_TLS
    except OSError:
        return Speaks.NOTHING
    try:
        greeting = tls.read()
    except OSError:
        # TLS and then silence is how web servers wait for a request. At a mail port it is a slow greeting.
        return Speaks.IMPLICIT_TLS if port in _IMPLICIT_PORTS else Speaks.OTHER
    if not _REPLY.match(greeting):
        return Speaks.OTHER
    with contextlib.suppress(OSError):
        tls.write(b"QUIT\r\n")
    return Speaks.IMPLICIT_TLS


class _Tunnel:
    """TLS whose bytes pass through our hands: a TLS socket eats the first answer, and that one is to be looked at."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str, ends: float) -> None:
        self._sock, self._ends = sock, ends
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    def first_answer(self) -> bytes:
        """Send the hello of a handshake and return the first bytes that come; they stay in the way they came."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        self._flush()
        first = self._receive()
        self._incoming.write(first)
        return first

    def shake_hands(self) -> None:
        self._pump(self._tls.do_handshake)

    def read(self) -> bytes:
        """Return the next bytes, decrypted; empty when the other side has ended it."""
        return self._pump(lambda: self._tls.read(_RECEIVE_BYTES))

    def write(self, data: bytes) -> None:
        self._pump(lambda: self._tls.write(data))

    def _pump(self, act: Callable[[], Result]) -> Result:
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self._receive())
                continue
            self._flush()
            return result

    def _flush(self) -> None:
        if data := self._outgoing.read():
            self._sock.settimeout(_left(self._ends))
            self._sock.sendall(data)

    def _receive(self) -> bytes:
        self._sock.settimeout(_left(self._ends))
        data = self._sock.recv(_RECEIVE_BYTES)
        if not data:
            raise ConnectionAbortedError("the other side hung up")
        return data


def _ehlo_name(endpoint: Endpoint) -> str:
    try:
        name = ascii_domain(endpoint.ehlo_hostname)
    except ValueError:
        return "localhost"
    return name if name.isprintable() and name and " " not in name else "localhost"


def _left(ends: float) -> float:
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
