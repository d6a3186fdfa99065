"""Requests as fast as they are answered, over a few kept connections; for a benchmark of a web server.

    python -m bench.http_load --port PORT --host NAME --key API_KEY [--connections N]

Each line on the input, `alive SECONDS`, `single SECONDS`, `batch SECONDS` (50 messages a request), makes it ask for
so long and answer with what came back; `template` and `written` hand in an order confirmation. `large BYTES` hands in
one message with an attachment of that size.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import sys
import threading
import time
from collections import Counter

from bench.peers import content
from bench.processes import say

BATCH = 50
MESSAGE = {"to": [content.RECIPIENT], "subject": content.SUBJECT, "text": content.TEXT}


class Load:
    """The requests of one run; each connection has a thread."""

    def __init__(self, port: int, host: str, key: str, connections: int) -> None:
        self._port = port
        self._host = host
        self._key = key
        self._connections = connections

    def ask_for(self, kind: str, seconds: float) -> dict[str, object]:
        """Ask all the time; requests a second, and how often each status came."""
        request = self._request(kind)
        statuses: Counter[int] = Counter()
        lock = threading.Lock()
        began = time.perf_counter()
        ends = began + seconds

        def one_connection() -> None:
            own: Counter[int] = Counter()
            with self._connect() as sock:
                while time.perf_counter() < ends:
                    own[exchange(sock, request)] += 1
            with lock:
                statuses.update(own)

        crew = [threading.Thread(target=one_connection) for _ in range(self._connections)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        return {"per_s": sum(statuses.values()) / (time.perf_counter() - began), "statuses": dict(statuses)}

    def large(self, size_bytes: int) -> dict[str, object]:
        """Hand in one message with an attachment of this size."""
        attachment = {"filename": "report.bin", "content_type": "application/octet-stream"}
        attachment["content"] = base64.b64encode(os.urandom(size_bytes)).decode("ascii")
        request = self._post("/api/v1/messages", {**MESSAGE, "attachments": [attachment]})
        began = time.perf_counter()
        with self._connect() as sock:
            return {"statuses": {exchange(sock, request): 1}, "seconds": time.perf_counter() - began}

    def _request(self, kind: str) -> bytes:
        if kind == "alive":
            return f"GET /healthz HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode("ascii")
        if kind == "single":
            return self._post("/api/v1/messages", MESSAGE)
        if kind in ("template", "written"):
            return self._post("/api/v1/messages", _order(kind))
        return self._post("/api/v1/messages/batch", {"messages": [MESSAGE] * BATCH})

    def _post(self, path: str, document: object) -> bytes:
        body = json.dumps(document).encode("ascii")
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body

    def _connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


def _order(kind: str) -> dict[str, object]:
    """An order confirmation of 5 lines: by template, or as that template writes it."""
    from bench import templates  # only this kind needs what it imports
    from mail.templates import rendering

    data = templates.order_of(5)
    if kind == "template":
        return {"to": MESSAGE["to"], "template": templates.KIND.key, "data": data}
    mail = rendering.render(templates.KIND, templates.SOURCE, data, templates.LOOK, "en")
    return {"to": MESSAGE["to"], "subject": mail.subject, "text": mail.text, "html": mail.html}


def exchange(sock: socket.socket, request: bytes) -> int:
    """Send a request and return the status, once the whole answer is here."""
    sock.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _received(sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    start = head.lower().find(b"content-length:")
    missing = int(head[start + 15 :].split(b"\r\n", 1)[0]) - len(body) if start >= 0 else 0
    while missing > 0:
        missing -= len(_received(sock))
    return int(head.split(b" ", 2)[1])


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65_536)
    if not data:
        raise ConnectionError("the server hung up")
    return data


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--connections", type=int, default=8)
    arguments = parser.parse_args()
    load = Load(arguments.port, arguments.host, arguments.key, arguments.connections)
    say(ready="load")
    for line in sys.stdin:
        kind, value = line.split()
        say(**(load.large(int(value)) if kind == "large" else load.ask_for(kind, float(value))))


if __name__ == "__main__":
    main()
