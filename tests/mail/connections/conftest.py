"""A store with a connection whose token endpoint counts, on SQLite or on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from extensions import db
from mail.equipment import Equipment
from tests.conftest import running, settings_for
from tests.fakes.certs import CA, ServerCert
from tests.fakes.oauth import make_oauth_store
from tests.fakes.provider import FakeProvider


@pytest.fixture
def settings(request: pytest.FixtureRequest, database_url: str, ca: CA) -> dict[str, Any]:
    """The configuration; a test's parameter "postgresql" asks for that database."""
    on_postgresql = getattr(request, "param", "") == "postgresql"
    url = str(request.getfixturevalue("postgres_url")) if on_postgresql else database_url
    return settings_for(url, CA_FILE=ca.cert_file)


@pytest.fixture
def app(settings: dict[str, Any]) -> Iterator[Flask]:
    with running(settings) as application:
        yield application


@pytest.fixture
def provider(cert: ServerCert) -> Iterator[FakeProvider]:
    with FakeProvider(cert) as running:
        yield running


@pytest.fixture
def connect(equipment: Equipment, provider: FakeProvider) -> Callable[..., int]:
    """Make one more store with a connection, and return the connection's id; columns of it as arguments."""

    def connect(**columns: Any) -> int:
        connection = make_oauth_store(equipment, provider.token_url, **columns).email_settings.connection
        assert connection is not None
        found = connection.id
        db.session.rollback()  # SQLite has one writer, and it must not be this fixture
        return found

    return connect


@pytest.fixture
def connection_id(connect: Callable[..., int]) -> int:
    return connect()
