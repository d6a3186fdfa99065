"""A dump and the keyring make a working Storepost again; a dump alone does not even start."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import MetaData, create_engine, select

import worker
from app import create_app
from extensions import db
from mail import keys, outbox
from mail.outbox_content import NewMessage
from models import Message
from models.email_settings import Method
from models.outbox import MessageStatus
from sandbox import Sandbox
from security.vault import Keyring
from tests.conftest import settings_for
from tests.fakes import tools
from tests.fakes.postgres import Postgres
from tests.fakes.sandboxed import configuration, make_store

ROOT = Path(__file__).resolve().parents[1]
KEYRING = Keyring.generate("k1")


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox", access_lifetime_s=1) as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """Where the installation was, and where its dump is restored to."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'before.sqlite3'}", f"sqlite:///{tmp_path / 'after.sqlite3'}"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.new_database(), server.new_database()


@pytest.fixture
def restored(urls: tuple[str, str], sandbox: Sandbox) -> str:
    """The URL of a restored dump: two stores, one on each method, each with a message that waits."""
    before, after = urls
    application = create_app(settings_for(before, KEYRING=KEYRING, **configuration(sandbox)))
    with application.app_context():
        upgrade()
        _check_in(application)
        equipment = application.extensions["storepost"]
        for method in Method:
            store = make_store(sandbox, equipment, method=method)
            store.code = f"shop-{method}".replace("_", "-")
            new = NewMessage(to=("lena@inbox.example",), subject=f"by {method}", text="Still here.")
            outbox.enqueue(store.id, new, equipment=equipment)
            db.session.commit()
        db.session.remove()
        db.engine.dispose()
    _dump_and_restore(before, after)
    return after


def _check_in(application: Flask) -> None:
    """As the first start after the migration does."""
    keys.check(application.extensions["storepost"].vault)


def _dump_and_restore(before: str, after: str) -> None:
    if before.startswith("sqlite"):
        paths = [url.removeprefix("sqlite:///") for url in (before, after)]
        with closing(sqlite3.connect(paths[0])) as old, closing(sqlite3.connect(paths[1])) as new:
            new.executescript("\n".join(old.iterdump()))
        return
    folder = tools.postgres_bin()
    assert folder is not None
    old, new = (url.replace("postgresql+psycopg://", "postgresql://") for url in (before, after))
    dump = subprocess.run([str(folder / "pg_dump"), old], capture_output=True, check=True)
    subprocess.run(
        [str(folder / "psql"), "-q", "-v", "ON_ERROR_STOP=1", new], input=dump.stdout, capture_output=True, check=True
    )


def test_a_dump_with_its_keyring_sends(restored: str, sandbox: Sandbox) -> None:
    application = create_app(settings_for(restored, KEYRING=KEYRING, **configuration(sandbox)))
    with application.app_context():
        worker.run(application, threads=1, once=True)
        subjects = sorted(message.header("Subject") for message in sandbox.messages())
        facts = [(row.status, row.hold_reason, row.reason_code, row.reason_detail) for row in db.session.query(Message)]
        assert subjects == ["by advanced_smtp", "by smtp"], facts
        assert {row.status for row in db.session.query(Message)} == {MessageStatus.SENT}
        db.session.remove()
        db.engine.dispose()


@pytest.mark.parametrize("kept", ["none", "a new one", "a new one of that name"])
def test_a_dump_without_its_keyring_starts_neither_web_nor_workers(
    restored: str, kept: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    before = _everything(restored)
    if kept != "none":
        (tmp_path / "keyring").write_text(Keyring.generate("k1" if "name" in kept else "k2"))
    for command in (["-m", "flask", "worker"], ["-m", "gunicorn", "--bind", "127.0.0.1:0", "app:create_app()"]):
        ended = _start(command, restored, tmp_path / "keyring" if kept != "none" else None)
        said = ended.stdout + ended.stderr
        assert ended.returncode != 0, said
        assert ("The keyring is missing" if kept == "none" else "this database was encrypted with") in said
        assert "k1:" not in said
    assert _everything(restored) == before
    assert not sandbox.messages()


def _start(command: list[str], url: str, keyring: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "FLASK_APP": "app",
        "STOREPOST_DATABASE_URL": url.replace("postgresql+psycopg://", "postgresql://"),
        "STOREPOST_SECRET_KEY": "0f3b9a7c1d5e8f2a4b6c0d9e8f7a6b5c-test",
        "STOREPOST_PUBLIC_URL": "http://localhost:8025",
        **({"STOREPOST_KEYRING_FILE": str(keyring)} if keyring else {}),
    }
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )


def _everything(url: str) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table."""
    engine = create_engine(url)
    tables = MetaData()
    tables.reflect(engine)
    with engine.connect() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in tables.sorted_tables
        }
    engine.dispose()
    return found
