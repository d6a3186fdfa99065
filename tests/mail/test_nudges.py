"""Nudges: one for each store that nobody looked at yet, after the commit, and never in the way of accepting."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mail import nudges, outbox
from mail.equipment import Equipment
from mail.nudges import HueyNudges, open_queue
from mail.outbox import NewMessage
from models import Store
from tests.patience import SOON_S

NEW = NewMessage(to=("lena@shop.example",), text="Hi.")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres), "redis"])
def queue_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("empty_postgres_url")).replace("+psycopg", "")
    if request.param == "redis":
        return f"redis://127.0.0.1:{request.getfixturevalue('redis_port')}/0"
    return f"sqlite:///{tmp_path / 'queue.sqlite3'}"


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ends = time.monotonic() + 10
    while time.monotonic() < ends:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield port
    server.terminate()
    server.wait(10)


@pytest.fixture
def carrier(app: Any, queue_url: str) -> Iterator[HueyNudges]:
    carrier = HueyNudges(open_queue(queue_url))
    carrier.prepare_queue()
    yield carrier
    carrier.huey.storage.close()


def _taken(carrier: HueyNudges) -> list[int]:
    """What a worker finds in the queue."""
    found: list[int] = []
    carrier.receive_with(found.append)
    carrier.huey.storage.blocking = False
    while (task := carrier.huey.dequeue()) is not None:
        carrier.huey.execute(task)
    return found


def test_a_store_is_nudged_once_until_somebody_looks(carrier: HueyNudges, store: Store, db: Any) -> None:
    store_id = store.id
    db.session.commit()
    for _ in range(3):
        carrier.send(store_id)
    assert _taken(carrier) == [store_id]
    carrier.send(store_id)
    assert _taken(carrier) == []
    nudges.lower_flag(store_id)
    carrier.send(store_id)
    assert _taken(carrier) == [store_id]


def test_mail_nudges_when_it_is_committed_and_not_before(
    carrier: HueyNudges, store: Store, equipment: Equipment, db: Any
) -> None:
    store_id, with_queue = store.id, replace(equipment, nudges=carrier)
    db.session.commit()
    outbox.enqueue(store_id, NEW, equipment=with_queue)
    assert _taken(carrier) == []
    db.session.rollback()
    db.session.commit()
    assert _taken(carrier) == []
    outbox.enqueue(store_id, NEW, equipment=with_queue)
    db.session.commit()
    assert _taken(carrier) == [store_id]


def test_a_queue_that_is_down_keeps_no_mail_from_being_accepted(
    store: Store, equipment: Equipment, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        carrier = HueyNudges(open_queue(f"redis://127.0.0.1:{taken.getsockname()[1]}/0"))
        store_id, with_queue = store.id, replace(equipment, nudges=carrier)
        db.session.commit()
        began = time.monotonic()
        for _ in range(20):
            outbox.enqueue(store_id, NEW, equipment=with_queue)
            db.session.commit()
            nudges.lower_flag(store_id)
        assert time.monotonic() - began < SOON_S
    assert outbox.backlog(store_id, at_most=100) == 20
    assert sum("does not answer" in record.message for record in caplog.records) == 1


def test_a_store_that_is_gone_is_no_trouble(carrier: HueyNudges, db: Any) -> None:
    carrier.send(4711)
    assert _taken(carrier) == []
