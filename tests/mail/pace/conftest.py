"""A lane on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, event, insert

from app import create_app
from extensions import db as database
from mail import backoff
from mail.pace import Limits, take_permit
from models import Message, Store, clock
from models.database import writing
from models.outbox import MessageStatus
from models.types import new_uid
from tests import factories
from tests.conftest import settings_for


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """An application for all tests of a module: each has a lane of its own."""
    url = f"sqlite:///{tmp_path_factory.mktemp('pace') / 'storepost.sqlite3'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_server").new_database()
    application = create_app(settings_for(url))
    with application.app_context():
        factories.make_tables()
        yield application
        database.session.remove()
        database.engine.dispose()


@pytest.fixture
def app(installation: Flask) -> Iterator[Flask]:
    yield installation
    database.session.remove()


@pytest.fixture
def database_url(installation: Flask) -> str:
    return str(installation.config["SQLALCHEMY_DATABASE_URI"])


@pytest.fixture
def store(app: Flask) -> Store:
    return factories.make_store("Acme Store", code=f"acme-{new_uid()}")


@pytest.fixture
def no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff._dice, "uniform", lambda low, high: low)


@pytest.fixture
def limits(store: Store, db: Any) -> Limits:
    """Those of Microsoft 365, for a store."""
    key = f"store:{store.id}"
    db.session.rollback()
    return Limits(key, connections=3, per_minute=30, recipients_per_day=10_000)


@pytest.fixture
def write(db: Any) -> Callable[[Callable[[Connection], Any]], Any]:
    """Do something in a transaction that commits, as the engine does."""

    def write(deed: Callable[[Connection], Any]) -> Any:
        with writing(), db.engine.begin() as connection:
            return deed(connection)

    return write


@pytest.fixture
def take(write: Any) -> Callable[..., int]:
    """Take permits, each in a transaction of its own, until none is free or `tries` were made; how many were got."""

    def take(limits: Limits, per_minute: int | None = None, *, tries: int = 100) -> int:
        wanted = per_minute or limits.per_minute or 0
        for got in range(tries):
            if not write(lambda connection: take_permit(limits, wanted, connection)):
                return got
        return tries

    return take


@pytest.fixture
def statements(db: Any) -> Iterator[list[str]]:
    """What is sent to the database."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        sent.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    yield sent
    event.remove(db.engine, "before_cursor_execute", note)


@pytest.fixture
def sent(store: Store, db: Any) -> Callable[..., None]:
    """Messages of a store that were accepted that long ago."""
    first = store.id
    db.session.rollback()  # a session that a test opened would keep others from writing

    def sent(count: int, ago: timedelta, *, store_id: int = first) -> None:
        at = clock.now(-ago)
        rows = [
            {
                "uid": new_uid(),
                "store_id": store_id,
                "status": MessageStatus.SENT,
                "due_at": at,
                "created_at": at,
                "ended_at": at,
                "message_id": "m",
                "date": at,
            }
            for _ in range(count)
        ]
        with writing(), db.engine.begin() as connection:
            for row in rows:
                connection.execute(insert(Message).values(row))

    return sent
