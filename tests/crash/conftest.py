"""Databases with all tables, queues, and installations whose workers may be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from security.vault import Keyring
from tests.crash.figures import Figures
from tests.crash.harness import Site
from tests.crash.sinks import Sinks
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.fakes.installation import BIN, ROOT
from tests.fakes.postgres import Postgres
from tests.fakes.redis import Redis


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether this is the long run."""
    return bool(request.config.getoption("--soak"))


class Ground:
    """Databases as `flask db upgrade` leaves them, made once each and copied after that."""

    def __init__(self, directory: Path) -> None:
        self.keyring = Keyring.generate("k1")
        self._directory = directory
        self._templates: dict[str, str] = {}

    def sqlite(self, directory: Path) -> str:
        """The URL of a file in this folder."""
        template = self._directory / "template.sqlite3"
        if not template.exists():
            self._upgrade(f"sqlite:///{template}")
        copy = directory / "storepost.sqlite3"
        shutil.copyfile(template, copy)
        return f"sqlite:///{copy}"

    def postgres(self, server: Postgres) -> str:
        """The URL of a database on this server."""
        key = f"{server.port}"
        if key not in self._templates:
            self._templates[key] = server.new_database()
            self._upgrade(self._templates[key])
        return server.new_database(like=self._templates[key])

    def _upgrade(self, url: str) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "FLASK_APP": "app",
            "STOREPOST_PUBLIC_URL": "http://localhost:8025",
            "STOREPOST_SECRET_KEY": "test-only-secret-key-0123456789abcdefghij",
            "STOREPOST_KEYRING": self.keyring,
            "STOREPOST_DATABASE_URL": url.replace("postgresql+psycopg://", "postgresql://"),
        }
        command = [str(BIN / "flask"), "db", "upgrade"]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def cert(ca: CA) -> ServerCert:
    return make_server_cert(ca)


@pytest.fixture
def database(request: pytest.FixtureRequest, ground: Ground, tmp_path: Path) -> str:
    """A database with all tables: SQLite, or what the test's parameter says."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return ground.sqlite(tmp_path)
    return ground.postgres(request.getfixturevalue("postgres_server"))


@pytest.fixture(scope="session")
def figures(soak: bool) -> Iterator[Figures]:
    """Where long runs leave what they measured; written down when all of them are through."""
    found = Figures()
    yield found
    if soak and (found.kills or found.faults):
        found.write()


@pytest.fixture
def queue(request: pytest.FixtureRequest, database: str) -> str:
    """How nudges travel, by the test's parameter: in a file, by the same PostgreSQL, or by Redis."""
    if request.param == "file":
        return ""
    if request.param == "postgres":
        return database.replace("postgresql+psycopg://", "postgresql://")
    server: Redis = request.getfixturevalue("redis_server")
    return server.url


@pytest.fixture
def redis_server() -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        assert not os.environ.get("CI"), "Redis must be there in CI"
        pytest.skip("Redis is not installed")
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def open_site(ground: Ground, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Make an installation on a database, ended with the test; arguments as `Site` takes them."""
    with ExitStack() as stack:

        def open_site(database: str, queue_url: str = "", *, sinks: Sinks, **how: Any) -> Site:
            site = Site(tmp_path, database, queue_url, sinks=sinks, keyring=ground.keyring, **how)
            return stack.enter_context(site)

        yield open_site


both_databases = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
