"""Once and only once, shown on gunicorn with two processes of four threads, on both databases, over a restart."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app import create_app
from extensions import db as database
from mail import api_keys
from mail.audit import SYSTEM
from models import Message
from tests import factories
from tests.blueprints.api.calls import MESSAGE
from tests.conftest import settings_for
from tests.fakes.installation import ROOT, free_port

THREADS = 20
Answer = tuple[int, dict[str, str], Any]


class Server:
    """A Storepost that can be stopped and started again, with one store and its key."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.port = free_port()
        self.log = directory / "log.txt"
        settings = settings_for(database_url, PUBLIC_URL=f"http://localhost:{self.port}")
        self.application = create_app(settings)
        with self.application.app_context():
            factories.make_tables()
            _, key = api_keys.create(factories.make_store(), "Web shop", actor=SYSTEM)
            database.session.commit()
        self.key = key.reveal()
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "STOREPOST_PUBLIC_URL": settings["PUBLIC_URL"],
            "STOREPOST_SECRET_KEY": settings["SECRET_KEY"],
            "STOREPOST_KEYRING": settings["KEYRING"],
            "STOREPOST_DATABASE_URL": database_url,
            "STOREPOST_QUEUE_URL": f"sqlite:///{directory / 'queue.sqlite3'}",
        }

    def start(self) -> None:
        gunicorn = [str(Path(sys.executable).parent / "gunicorn"), "--bind", f"127.0.0.1:{self.port}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*gunicorn, "app:create_app()"], cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log.read_text()
            try:
                if self.call("GET", "/messages")[0] == 200:
                    return
            except OSError:
                time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def call(self, method: str, path: str, document: Any = None, **headers: str) -> Answer:
        names = {"Host": f"localhost:{self.port}", "Authorization": f"Bearer {self.key}"}
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, f"/api/v1{path}", body, names | {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())
        finally:
            connection.close()

    def at_once(self, path: str, document: Any, key: str) -> list[Answer]:
        """The answers to the same request from many threads, let go together."""
        answers: list[Answer] = []
        gate = threading.Barrier(THREADS)

        def ask() -> None:
            gate.wait(30)
            answers.append(self.call("POST", path, document, Idempotency_Key=key))

        threads = [threading.Thread(target=ask) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == THREADS
        return answers

    def count(self) -> int:
        with self.application.app_context():
            found = database.session.scalar(select(func.count()).select_from(Message)) or 0
            database.session.rollback()
            return found


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    url = f"sqlite:///{directory / 'storepost.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").new_database()
    running = Server(directory, url)
    running.start()
    yield running
    running.stop()
    with running.application.app_context():
        database.session.remove()
        database.engine.dispose()


def test_one_key_makes_one_message_whatever_happens(server: Server) -> None:
    answers = server.at_once("/messages", MESSAGE, "order-1001")
    assert {status for status, _, _ in answers} <= {202, 409}
    ids = {body["id"] for status, _, body in answers if status == 202}
    assert len(ids) == 1
    assert len([1 for status, headers, _ in answers if status == 202 and "Idempotent-Replayed" not in headers]) == 1
    assert server.count() == 1

    batches = server.at_once("/messages/batch", {"messages": [MESSAGE] * 3}, "night-run-7")
    assert {status for status, _, _ in batches} <= {200, 409}
    assert len({tuple(one["id"] for one in body["results"]) for status, _, body in batches if status == 200}) == 1
    assert server.count() == 4

    server.stop()
    server.start()
    status, headers, body = server.call("POST", "/messages", MESSAGE, Idempotency_Key="order-1001")
    assert (status, {body["id"]}, headers["Idempotent-Replayed"]) == (202, ids, "true")
    status, _, _ = server.call("POST", "/messages", {**MESSAGE, "subject": "Another"}, Idempotency_Key="order-1001")
    assert status == 422
    status, headers, _ = server.call(
        "POST", "/messages/batch", {"messages": [MESSAGE] * 3}, Idempotency_Key="night-run-7"
    )
    assert (status, headers["Idempotent-Replayed"]) == (200, "true")
    assert server.count() == 4


def test_a_revoked_key_is_refused_by_every_process_at_the_next_request(server: Server) -> None:
    assert all(server.call("GET", "/messages")[0] == 200 for _ in range(10))
    before = server.count()
    with server.application.app_context():
        database.session.execute(database.text("UPDATE api_keys SET revoked_at = created_at"))
        database.session.commit()
    assert {server.call("POST", "/messages", MESSAGE)[0] for _ in range(20)} == {401}
    assert server.count() == before
