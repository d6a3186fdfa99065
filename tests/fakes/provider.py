"""A token endpoint over real https on loopback that answers what a test says, or behaves like a rotating provider.

    with FakeProvider(cert) as provider:
        provider.answer = reply(400, {"error": "invalid_grant"})     # the same to everybody
        provider.answer = lambda request: ...                        # or by request
        provider.requests                                            # what came in, in order

Without an answer of its own it rotates: each refresh token works once, gives a new one, and using an old one again
ends the grant, as strict providers do.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes.certs import ServerCert


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    fields: list[tuple[str, str]]

    @property
    def form(self) -> dict[str, str]:
        assert len(dict(self.fields)) == len(self.fields), "a parameter was sent twice"
        return dict(self.fields)


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pause_s: float = 0.0  # before the answer, and between its bytes when they drip
    drips: bool = False


def reply(status: int = 200, body: Any = None, *, pause_s: float = 0.0, **headers: str) -> Reply:
    """An answer with a JSON body (or bytes, as they are)."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, content, {"Content-Type": "application/json", **names}, pause_s)


def granted(access_token: str = "fake-access-token", **members: Any) -> Reply:
    """A good answer; a member given as None is left out."""
    body = {"access_token": access_token, "token_type": "Bearer", "expires_in": 3600, **members}
    return reply(200, {name: value for name, value in body.items() if value is not None})


class FakeProvider:
    def __init__(self, cert: ServerCert) -> None:
        self.requests: list[Request] = []
        self.answer: Reply | Callable[[Request], Reply] | None = None
        self.refresh_token = "fake-refresh-0"
        self.is_ended = False
        self.pause_s = 0.0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        # The handshake happens in the connection's own thread, so that one silent client stops nobody else.
        context: ssl.SSLContext = cert.server_context()
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are the point
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def token_url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}/token"

    @property
    def revoke_url(self) -> str:
        return f"https://localhost:{self._server.server_address[1]}/revoke"

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _judge(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            if isinstance(self.answer, Reply):
                return self.answer
            if self.answer is None:
                return self._rotate(request, number)
        return self.answer(request)

    def _rotate(self, request: Request, number: int) -> Reply:
        if self.is_ended or request.form.get("refresh_token") != self.refresh_token:
            self.is_ended = True  # somebody holds a copy: the whole grant ends
            return reply(400, {"error": "invalid_grant", "error_description": "Token has been used before."})
        self.refresh_token = f"fake-refresh-{number}"
        answer = granted(f"fake-access-{number}", refresh_token=self.refresh_token)
        return Reply(answer.status, answer.body, answer.headers, self.pause_s)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(length).decode()
                fields = parse_qsl(body, keep_blank_values=True)
                answer = provider._judge(Request(self.path, dict(self.headers.items()), fields))
                time.sleep(answer.pause_s)
                self.send_response_only(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if not answer.drips:
                    self.wfile.write(answer.body)
                    return
                for byte in answer.body:
                    self.wfile.write(bytes((byte,)))
                    time.sleep(answer.pause_s)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, format: str, *args: Any) -> None:
                """Stay quiet."""

        return Handler
