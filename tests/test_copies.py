"""A copied store sends like its original, on each method, with a provider that rotates refresh tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

import worker
from app import create_app
from extensions import db
from mail import outbox
from mail import settings as email_settings
from mail.equipment import Equipment
from mail.outbox_content import NewMessage
from models import Connection, Store
from models.email_settings import Method
from sandbox import Sandbox
from tests import factories
from tests.conftest import settings_for
from tests.fakes.sandboxed import ACTOR, advanced_draft, configuration, smtp_draft


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    # Tokens that end at once: every message needs a refresh, and every refresh rotates.
    with Sandbox(tmp_path / "sandbox", access_lifetime_s=1) as running:
        running.faults.set(rotation=True)
        yield running


@pytest.fixture
def app(tmp_path: Path, sandbox: Sandbox) -> Iterator[Flask]:
    application = create_app(settings_for(f"sqlite:///{tmp_path / 'copies.sqlite3'}", **configuration(sandbox)))
    with application.app_context():
        factories.make_tables()
        yield application
        db.session.remove()
        db.engine.dispose()


def copy_of(store: Store, equipment: Equipment) -> Store:
    target = Store(name="Copy", code="copy")
    db.session.add(target)
    db.session.flush()
    email_settings.copy_to(store.email_settings, target, emails_off=False, actor=ACTOR, equipment=equipment)
    db.session.commit()
    return target


def send(app: Flask, store: Store, subject: str) -> None:
    outbox.enqueue(
        store.id,
        NewMessage(to=("lena@inbox.example",), subject=subject, text="Hello"),
        equipment=app.extensions["storepost"],
    )
    db.session.commit()
    worker.run(app, threads=1, once=True)


@pytest.mark.parametrize("method", list(Method))
def test_a_copy_keeps_everything_and_delivers(app: Flask, sandbox: Sandbox, method: Method) -> None:
    equipment = app.extensions["storepost"]
    store = factories.make_store("Acme")
    settings = store.email_settings
    custom = (("header.X-Shop", "acme"), ("kept", "for later"))
    for draft in (smtp_draft(sandbox), advanced_draft(sandbox, custom_fields=custom)):
        email_settings.save(settings, draft, expected_version=settings.version, actor=ACTOR, equipment=equipment)
        db.session.commit()
    if settings.method != method:
        email_settings.switch_method(settings, method, expected_version=settings.version, actor=ACTOR)
        db.session.commit()

    copy = copy_of(store, equipment)
    assert copy.email_settings.method == method
    assert copy.email_settings.connection_id == store.email_settings.connection_id
    assert copy.email_settings.uid != store.email_settings.uid
    assert email_settings.current_smtp(copy.email_settings, equipment) == email_settings.current_smtp(
        store.email_settings, equipment
    )
    assert email_settings.current_advanced(copy.email_settings, equipment).custom_fields == custom

    # In turn, so that each would hold a used-up refresh token if they did not share the connection.
    for number in range(3):
        send(app, store, f"original {number}")
        send(app, copy, f"copy {number}")
    subjects = [message.header("Subject") for message in sandbox.messages()]
    assert subjects == [f"{who} {number}" for number in range(3) for who in ("original", "copy")]
    expected = {"XOAUTH2"} if method == Method.ADVANCED_SMTP else {"PLAIN", "LOGIN"}
    assert {message.mechanism for message in sandbox.messages()} <= expected
    assert db.session.query(Connection).count() == 1


def test_connecting_anew_gives_the_copy_a_connection_of_its_own(app: Flask, sandbox: Sandbox) -> None:
    equipment = app.extensions["storepost"]
    store = factories.make_store("Acme")
    settings = store.email_settings
    email_settings.save(settings, advanced_draft(sandbox), expected_version=1, actor=ACTOR, equipment=equipment)
    db.session.commit()
    copy = copy_of(store, equipment)
    email_settings.save(
        copy.email_settings,
        advanced_draft(sandbox),
        expected_version=copy.email_settings.version,
        actor=ACTOR,
        equipment=equipment,
    )
    db.session.commit()
    assert copy.email_settings.connection_id != store.email_settings.connection_id
    send(app, store, "original")
    send(app, copy, "copy")
    assert [message.header("Subject") for message in sandbox.messages()] == ["original", "copy"]
