"""Workers look after connections: an idle grant is used once, however many of them run, and ends are announced."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask

from extensions import db
from models import Connection, Notice
from models.types import utcnow
from tests.conftest import running, settings_for
from tests.fakes.certs import CA, make_ca, make_server_cert
from tests.fakes.oauth import make_oauth_store
from tests.fakes.provider import FakeProvider
from worker import Worker


@pytest.fixture
def ca(tmp_path: Path) -> CA:
    return make_ca(tmp_path)


@pytest.fixture
def provider(ca: CA) -> Iterator[FakeProvider]:
    with FakeProvider(make_server_cert(ca)) as running:
        yield running


@pytest.fixture
def app(database_url: str, ca: CA) -> Iterator[Flask]:
    with running(settings_for(database_url, CA_FILE=ca.cert_file)) as application:
        yield application


@contextmanager
def working(app: Flask, count: int) -> Iterator[None]:
    crew = [Worker(app, threads=1) for _ in range(count)]
    threads = [threading.Thread(target=one.run) for one in crew]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for one in crew:
            one.stopping.set()
        for thread in threads:
            thread.join(30)


def test_of_three_workers_one_keeps_an_idle_grant_alive_and_one_announces_what_ends(
    app: Flask, provider: FakeProvider
) -> None:
    long_ago = utcnow() - timedelta(days=8)
    soon = utcnow().date() + timedelta(days=5)
    columns = {"refreshed_at": long_ago, "refresh_token_set_at": long_ago, "client_secret_expires_on": soon}
    make_oauth_store(app.extensions["storepost"], provider.token_url, **columns)
    db.session.rollback()
    with working(app, 3):
        ends = time.monotonic() + 20
        while time.monotonic() < ends:
            kept = db.session.query(Connection.refreshed_at).scalar() > long_ago
            announced = db.session.query(Notice.kind).count()
            db.session.rollback()
            if kept and announced:
                break
            time.sleep(0.1)
        time.sleep(0.3)  # whoever would do it twice does it now
    assert len(provider.requests) == 1
    assert [kind.value for (kind,) in db.session.query(Notice.kind)] == ["secret_ends"]
