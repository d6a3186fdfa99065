"""Peers on loopback for the outbound tests: each plays a script, over TLS or in clear, and is stopped at the end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from security.outbound import AllowRule, Door
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert


@dataclass
class Peer:
    """A listening server: `requests` is what it was sent, `stopping` ends the loops of its script."""

    host: str
    port: int
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)


Script = Callable[[socket.socket, Peer], None]


def answer(status: str = "200 OK", body: bytes = b'{"ok": true}', *headers: str) -> Script:
    """Return a script that reads one request and answers it."""

    def play(connection: socket.socket, peer: Peer) -> None:
        peer.requests.append(read_request(connection))
        lines = [f"HTTP/1.1 {status}", *headers]
        if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
            lines.append(f"Content-Length: {len(body)}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return play


def drip(start: bytes, again: bytes, every_s: float = 0.05) -> Script:
    """Return a script that reads one request, sends `start`, then `again` and again until somebody has had enough."""

    def play(connection: socket.socket, peer: Peer) -> None:
        peer.requests.append(read_request(connection))
        connection.sendall(start)
        for _ in range(1000):
            if peer.stopping.wait(every_s):
                return
            connection.sendall(again)

    return play


def read_request(connection: socket.socket) -> bytes:
    """Return one HTTP request with its body, as far as the client sends it."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < 100_000:
        piece = connection.recv(4096)
        if not piece:
            return data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    wanted = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < wanted:
        piece = connection.recv(4096)
        if not piece:
            break
        body += piece
    return head + b"\r\n\r\n" + body


@contextlib.contextmanager
def serving(script: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Peer]:
    """Run a peer that plays `script` on each connection, one after the other."""
    listener = socket.create_server((host, 0))
    listener.settimeout(0.05)
    peer = Peer(host, listener.getsockname()[1])

    def run() -> None:
        while not peer.stopping.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            peer.connections += 1
            connection.settimeout(30)
            with contextlib.ExitStack() as stack:
                stack.callback(connection.close)
                # The client hangs up in many of these tests; that is not the server's trouble.
                with contextlib.suppress(OSError):
                    if context is not None:
                        connection = context.wrap_socket(connection, server_side=True)
                        stack.callback(connection.close)
                    script(connection, peer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        peer.stopping.set()
        thread.join(30)
        listener.close()
        assert not thread.is_alive()


FIELDS = [("grant_type", "refresh_token"), ("refresh_token", "FAKE-refresh+&= ä")]


def failure_of(call: Callable[[], object]) -> str:
    """Return the text under which a failed call is looked up in errors.csv; it never holds what was sent."""
    with pytest.raises(requests.exceptions.RequestException) as caught:
        call()
    assert caught.value.request is None
    text = f"{type(caught.value).__name__}: {caught.value}"
    assert "FAKE" not in text
    return text


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    """An authority for all tests of this folder."""
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def certificate(ca: CA) -> ServerCert:
    """A good certificate for localhost and token.example."""
    return make_server_cert(ca, ["localhost", "token.example"])


@pytest.fixture
def serve(certificate: ServerCert) -> Iterator[Callable[..., Peer]]:
    """Start https peers: `serve(script)`; `cert=` another certificate, `tls=False` none."""
    with contextlib.ExitStack() as stack:

        def start(script: Script, *, cert: ServerCert = certificate, tls: bool = True, host: str = "127.0.0.1") -> Peer:
            return stack.enter_context(serving(script, cert.server_context() if tls else None, host))

        yield start


@pytest.fixture
def door_to(ca: CA) -> Callable[..., Door]:
    """Make a door that trusts the test authority and lets token.example, at 127.0.0.1, through on the peer's port."""

    def make(peer: Peer, **options: object) -> Door:
        options.setdefault("resolve", resolve_to(peer.host))
        options.setdefault("ca_file", ca.cert_file)
        return Door([AllowRule.parse(f"token.example:{peer.port}")], **options)  # type: ignore[arg-type]  # of Door

    return make


def resolve_to(*answers: str) -> Callable[..., list[object]]:
    """Return a stand-in for getaddrinfo that gives these addresses for every name."""

    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (text, port, 0, 0))
            if ":" in text
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
            for text in answers
        ]

    return resolve


@pytest.fixture
def closed_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def empty_file(tmp_path: Path) -> str:
    """A file that holds no certificate."""
    path = tmp_path / "empty.pem"
    path.write_text("nothing here\n")
    return str(path)
