"""A 25 MB attachment by HTTP, to the web server as operators run it: stored whole, in little memory."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from mail import api_keys, outbox, outbox_content
from mail.audit import SYSTEM
from mail.equipment import Equipment
from mail.intake import TOTAL_BYTES_MAX
from models import Store
from tests.fakes.installation import BIN, ROOT, free_port

MIB = 1024 * 1024
PARTS = 25


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture
def key(store: Store, db: Any) -> str:
    _, secret = api_keys.create(store, "Web shop", actor=SYSTEM)
    db.session.commit()
    return secret.reveal()


class Server:
    """gunicorn with one worker process, whose memory is looked at."""

    def __init__(self, app: Flask) -> None:
        self.port = free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "STOREPOST_PUBLIC_URL": f"http://localhost:{self.port}",
            "STOREPOST_SECRET_KEY": app.config["SECRET_KEY"],
            "STOREPOST_KEYRING": app.config["KEYRING"],
            "STOREPOST_DATABASE_URL": app.config["SQLALCHEMY_DATABASE_URI"].replace("+psycopg", ""),
        }
        command = [str(BIN / "gunicorn"), "--bind", f"127.0.0.1:{self.port}", "--workers", "1", "app:create_app()"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                return self._ask()
            except OSError:
                assert self.process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def _ask(self) -> None:
        with closing(http.client.HTTPConnection("localhost", self.port, timeout=30)) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200

    def send(self, key: str, body: Any, size: int) -> str:
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "Content-Length": str(size),
            "Idempotency-Key": hashlib.sha256(str(size).encode()).hexdigest(),
        }
        with closing(http.client.HTTPConnection("localhost", self.port, timeout=60)) as connection:
            connection.request("POST", "/api/v1/messages", body=body, headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status == 202, text
        return str(json.loads(text)["id"])

    @property
    def _worker(self) -> str:
        pid = self.process.pid
        (worker,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return worker

    def memory(self, which: str) -> int:
        for line in Path(f"/proc/{self._worker}/status").read_text().splitlines():
            if line.startswith(f"{which}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(which)

    def forget_peak(self) -> None:
        Path(f"/proc/{self._worker}/clear_refs").write_text("5")


@pytest.fixture
def server(app: Flask, key: str) -> Iterator[Server]:
    found = Server(app)
    yield found
    found.process.terminate()
    found.process.wait(30)


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_accepting_25_mb_takes_less_than_twice_that_in_memory(
    server: Server, key: str, app: Flask, db: Any, equipment: Equipment
) -> None:
    small = json.dumps({"to": ["lena@shop.example"], "text": "Hi.", "expires_in": 1}).encode()
    for _ in range(3):  # what the first requests load stays
        server.send(key, small, len(small))
    dice = random.Random(25)
    # 25 MB are what text and attachments may have together.
    parts = [dice.randbytes(MIB - (MIB % 3)) for _ in range(PARTS - 1)] + [dice.randbytes(700_000)]
    whole = hashlib.sha256(b"".join(parts))
    encoded = [base64.b64encode(part) for part in parts]
    head = b'{"to":["lena@shop.example"],"text":"%s","attachments":[{"filename":"a.bin","content":"'
    body = [head % b"", *encoded, b'"}]}']
    before = server.memory("VmRSS")
    server.forget_peak()
    uid = server.send(key, iter(body), sum(len(one) for one in body))
    size = sum(len(part) for part in parts)
    used = server.memory("VmHWM") - before
    assert 24 * MIB < size < TOTAL_BYTES_MAX
    assert used < 2 * size, f"{used / MIB:.0f} MiB for {size / MIB:.0f}"
    # The next ones come to other threads of the same process, which take up the same memory again.
    for text in (b"x", b"xx", b"xxx"):
        another = [head % text, *encoded, b'"}]}']
        server.send(key, iter(another), sum(len(one) for one in another))
    used = server.memory("VmHWM") - before
    assert used < 2 * size, f"{used / MIB:.0f} MiB for four of {size / MIB:.0f} in turn"
    (claimed,) = (one for one in outbox.claim(limit=9) if one.uid == uid)
    (file,) = outbox_content.load(claimed, equipment=equipment).attachments
    assert hashlib.sha256(file.content).digest() == whole.digest()
