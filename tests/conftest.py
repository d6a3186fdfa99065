"""People, stores and applications for all tests. Real database files, real sockets; only clock and dice are mocked."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from extensions import db as database
from mail.equipment import Equipment
from models import Store, User
from security.vault import Keyring
from tests import factories, thrift
from tests.fakes import tools
from tests.fakes.postgres import Postgres

PUBLIC_URL = "http://localhost:8025"
PASSWORD = "correct horse battery staple 9"
TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


def settings_for(database_url: str, **more: Any) -> dict[str, Any]:
    """The configuration of a test application: as config.load() gives it, for loopback only."""
    return {
        "TESTING": True,
        "SMTP_WINDOW": 8,
        "DNS_SERVERS": (("127.0.0.1", 9),),  # nobody answers there
        "PUBLIC_URL": PUBLIC_URL,
        "SECRET_KEY": "test-only-secret-key-0123456789abcdefghij",
        "SQLALCHEMY_DATABASE_URI": database_url,
        "KEYRING": Keyring.generate("k1"),
        "TRUSTED_HOSTS": ["localhost"],
        "EGRESS_ALLOW": "127.0.0.1:* localhost:*",
        "PLAINTEXT_AUTH_HOSTS": frozenset(),
        "SANDBOX_SMTP_PORT": 8587,
        # Argon2's usual cost, a hundred times a run, would be most of the run.
        "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": {"argon2__time_cost": 1, "argon2__memory_cost": 64},
        **more,
    }


thrift.begin()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", default="", help="a folder for a picture of every page")
    parser.addoption("--soak", action="store_true", help="tests/crash: the long runs instead of the short ones")


_JOURNEYS = Path(__file__).parent / "journeys"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: begun last, they would keep one worker busy when the others have nothing left.

    With pytest-xdist it also keeps most journeys in one worker, which starts one installation for each file then.
    """
    items.sort(key=lambda item: (not item.path.is_relative_to(_JOURNEYS), item.path.name != "test_every_page.py"))


def pytest_collection_finish() -> None:
    thrift.collected()


@pytest.fixture(autouse=True)
def no_outside_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection beyond loopback fails the test that tries it."""
    real_connect = socket.socket.connect

    def connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(("127.", "::1")):
            raise AssertionError(f"a test tried to reach {address[0]}")
        real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    if tools.postgres_bin() is None:
        assert not os.environ.get("CI"), "PostgreSQL must be there in CI"
        pytest.skip("PostgreSQL is not installed")
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres_tables(postgres_server: Postgres) -> str:
    """The URL of a PostgreSQL database with our tables, for others to be made like it."""
    url = postgres_server.new_database()
    with running(settings_for(url)):
        return url


@pytest.fixture
def postgres_url(postgres_server: Postgres, postgres_tables: str) -> str:
    """The URL of a PostgreSQL database with our tables, in which nothing happened yet."""
    return postgres_server.new_database(like=postgres_tables)


@pytest.fixture
def empty_postgres_url(postgres_server: Postgres) -> str:
    """The URL of a PostgreSQL database without any table."""
    return postgres_server.new_database()


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@contextmanager
def running(settings: dict[str, Any]) -> Iterator[Flask]:
    """An application with these settings, its tables and roles, inside its context."""
    application = create_app(settings)
    with application.app_context():
        factories.make_tables()
        yield application
        database.session.remove()
        database.engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def application(request: pytest.FixtureRequest, database_url: str) -> Iterator[Flask]:
    """An application on each kind of database in turn."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else database_url
    with running(settings_for(url)) as found:
        yield found


@pytest.fixture
def app(database_url: str) -> Iterator[Flask]:
    with running(settings_for(database_url)) as application:
        yield application


@pytest.fixture
def db(app: Flask) -> Any:
    return database


@pytest.fixture
def equipment(app: Flask) -> Equipment:
    found: Equipment = app.extensions["storepost"]
    return found


@pytest.fixture
def client(app: Flask) -> Browser:
    """Somebody who has not signed in."""
    return Browser(app.test_client())


@pytest.fixture
def admin(app: Flask) -> User:
    return factories.make_admin("alice@shop.example", name="Alice Adams", password=PASSWORD)


@pytest.fixture
def alice(client: Browser, admin: User) -> Browser:
    """A platform administrator, signed in by the front door."""
    answer = client.post("/sign-in", {"email": admin.email, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


@pytest.fixture
def store(app: Flask) -> Store:
    return factories.make_store("Acme Store")


class Browser:
    """A test client that behaves like a browser: base URL, CSRF token of the last page, htmx headers on request."""

    def __init__(self, client: FlaskClient):
        self.client = client
        self._token = ""

    def open(self, method: str, url: str, **kw: Any) -> TestResponse:
        kw.setdefault("base_url", PUBLIC_URL)
        # The test's own session lets go of the database and forgets what it knew; the request gets a context of its
        # own, as on a server, so that nothing one request left behind is seen by the next.
        database.session.rollback()
        with self.client.application.app_context():
            response = self.client.open(url, method=method, **kw)
        if response.mimetype == "text/html" and (found := TOKEN.search(response.text)):
            self._token = found.group(1)
        return response

    def get(self, url: str, **kw: Any) -> TestResponse:
        return self.open("GET", url, **kw)

    @property
    def csrf(self) -> str:
        """The token of this session, as any page carries it."""
        if not self._token and self.get("/sign-in").status_code != 200:
            self.get("/stores")  # whoever is signed in is sent on
        assert self._token
        return self._token

    def post(self, url: str, data: dict[str, Any] | None = None, **kw: Any) -> TestResponse:
        token = self.csrf
        if url.startswith(("/sign-in", "/sign-out", "/welcome")):
            self._token = ""  # a new session has a new token
        return self.open("POST", url, data={"csrf_token": token, **(data or {})}, **kw)

    def htmx_post(self, url: str, data: dict[str, Any] | None = None, **kw: Any) -> TestResponse:
        headers = {"HX-Request": "true", "HX-Request-Type": "partial", **kw.pop("headers", {})}
        return self.post(url, data, headers=headers, **kw)

    def htmx_get(self, url: str, **kw: Any) -> TestResponse:
        headers = {"HX-Request": "true", "HX-Request-Type": "partial", **kw.pop("headers", {})}
        return self.get(url, headers=headers, **kw)
