"""The messages that every client of the benchmark sends and the sink compares with, byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

SENDER = "orders@shop.example"
RECIPIENT = "customer@mail.example"
USER = "orders@shop.example"
# As long as those of Microsoft 365 usually are.
TOKEN = "bench-only." + "t0k3n" * 300
MESSAGE_BYTES = 5 * 1024
DIFFERENT = 64


def make() -> list[bytes]:
    """Return `DIFFERENT` messages of 5 KB each, with lines that begin with a dot."""
    return [_message(number) for number in range(DIFFERENT)]


def write(path: Path) -> None:
    """Put the messages into `path` as a JSON list, which node reads as well."""
    path.write_text(json.dumps([message.decode("ascii") for message in make()]), encoding="ascii")


def read(path: str | Path) -> list[bytes]:
    return [str(text).encode("ascii") for text in json.loads(Path(path).read_text(encoding="ascii"))]


def _message(number: int) -> bytes:
    head = (
        f"From: Shop <{SENDER}>\r\n"
        f"To: Customer <{RECIPIENT}>\r\n"
        f"Subject: Your order {number:06}\r\n"
        "Date: Sun, 22 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <bench-{number:06}@shop.example>\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: text/plain; charset="us-ascii"\r\n'
        "\r\n"
        ".A line that begins with a dot\r\n"
        "..and one that begins with two\r\n"
    ).encode("ascii")
    line = b"A line of an order that says what was bought, how many and for how much.\r\n"
    tail = b"The end.\r\n"
    room = MESSAGE_BYTES - len(head) - len(tail)
    full, rest = divmod(room, len(line))
    # A rest of one octet could hold no line end; it goes into the line before.
    last = b"." * (rest - 2) + b"\r\n" if rest >= 2 else b""
    return head + line * full + last + tail
