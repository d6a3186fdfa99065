"""The other side of a relay: a client that says whatever a test wants, byte for byte, and a look at what was stored."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from extensions import db
from mail import api_keys
from mail.audit import SYSTEM
from models import Message, Store

CODE = "acme-store"
MESSAGE = b"From: shop@elsewhere.example\r\nTo: lena@shop.example\r\nSubject: Hello\r\n\r\nGood morning.\r\n"


def make_key(store: Store, *, scopes: str = "send read") -> str:
    row, key = api_keys.create(store, "Web shop", actor=SYSTEM)
    row.scopes = scopes
    db.session.commit()
    return key.reveal()


@dataclass(frozen=True)
class Reply:
    """What the relay answered: its code, and the whole text of all lines."""

    code: int
    text: str


class Peer:
    """A raw connection. `say` sends a line and returns its reply; `send` and `reply` do each half of that."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout_s: float = 15.0) -> None:
        self.socket: socket.socket = socket.create_connection((host, port), timeout_s)
        self._file = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def reply(self) -> Reply:
        """The next reply; code 0 when the relay has closed the connection."""
        lines = []
        while True:
            try:
                line = self._file.readline().decode("utf-8")
            except ConnectionResetError:
                return Reply(0, "")
            if not line:
                return Reply(0, "")
            lines.append(line.rstrip("\r\n"))
            if line[3:4] != "-":
                return Reply(int(line[:3]), "\n".join(lines))

    def say(self, line: str) -> Reply:
        self.send(line.encode("utf-8") + b"\r\n")
        return self.reply()

    def greet(self) -> Self:
        assert self.reply().code == 220
        assert self.say("EHLO app.example").code == 250
        return self

    def sign_in(self, key: str, user: str = CODE) -> Self:
        assert self.greet().auth(key, user).code == 235
        return self

    def auth(self, key: str, user: str = CODE) -> Reply:
        return self.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{key}".encode()).decode())

    def start_tls(self, ca_file: str) -> Self:
        assert self.say("STARTTLS").code == 220
        self.wrap(ca_file)
        assert self.say("EHLO app.example").code == 250
        return self

    def wrap(self, ca_file: str) -> None:
        """Encrypt from here on."""
        self._file.close()
        context = ssl.create_default_context(cafile=ca_file)
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self._file = self.socket.makefile("rb")

    def is_closed(self) -> bool:
        """Whether the relay ends the connection, whatever it says before."""
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True

    def envelope(self, *recipients: str, sender: str = "app@shop.example") -> Self:
        assert self.say(f"MAIL FROM:<{sender}>").code == 250
        for recipient in recipients or ("lena@shop.example",):
            assert self.say(f"RCPT TO:<{recipient}>").code == 250
        return self

    def data(self, content: bytes = MESSAGE) -> Reply:
        assert self.say("DATA").code == 354
        self.send(content + b".\r\n")
        return self.reply()


def uid_of(reply: Reply) -> str:
    found = re.fullmatch(r"250 2\.0\.0 Queued as ([0-9a-f]+)", reply.text)
    assert found, reply
    return found[1]


def stored() -> list[Message]:
    """All messages with their recipients, oldest first. No transaction stays open: SQLite has one writer."""
    db.session.rollback()
    query = select(Message).options(selectinload(Message.recipients)).order_by(Message.id)
    found = list(db.session.scalars(query))
    for message in found:
        db.session.expunge(message)
    db.session.rollback()
    return found
