"""Stores that existed before Advanced SMTP: upgraded, they stay on SMTP with everything they had, and go on sending."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import MetaData, Table

import worker
from app import create_app
from extensions import db
from mail import outbox
from mail.outbox_content import NewMessage, as_json
from models import EmailSettings, Message, Store
from models.email_settings import Method
from models.outbox import MessageStatus
from models.types import EPOCH, new_uid, utcnow
from sandbox import Sandbox
from security.vault import Place
from tests import factories
from tests.conftest import settings_for
from tests.fakes.sandboxed import configuration

STORES = 3


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def old(request: pytest.FixtureRequest, tmp_path: Path, sandbox: Sandbox) -> Iterator[Flask]:
    """An installation at the first revision."""
    on_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'old.sqlite3'}" if on_sqlite else request.getfixturevalue("empty_postgres_url")
    application = create_app(settings_for(url, **configuration(sandbox)))
    with application.app_context():
        upgrade(revision="0001")
        yield application
        db.session.remove()
        db.engine.dispose()


def fill(app: Flask, sandbox: Sandbox) -> None:
    """Stores with passwords and waiting mail, written as the program of the first revision wrote them."""
    vault = app.extensions["storepost"].vault
    tables = MetaData()
    tables.reflect(db.engine)

    def insert(table_name: str, **values: object) -> int:
        table: Table = tables.tables[table_name]
        with db.engine.begin() as connection:
            return int(connection.execute(table.insert().values(values)).inserted_primary_key[0])

    now = round((utcnow() - EPOCH).total_seconds() * 1000)
    for number in range(1, STORES + 1):
        address = f"orders@shop{number}.example"
        store = insert("stores", code=f"shop-{number}", name=f"Shop {number}", domain="", created_at=now)
        settings_uid, message_uid = new_uid(), new_uid()
        password = vault.seal("sandbox-password", Place("email_settings", settings_uid, "password_sealed"))
        insert(
            "email_settings",
            uid=settings_uid, store_id=store, version=4, updated_at=now, updated_by="Old Admin",
            from_name=f"Shop {number}", from_email=address, bcc="records@shop.example", use_ssl=True,
            emails_off=number == STORES, emails_off_by="", smtp_host="localhost", smtp_port=sandbox.smtp_port,
            username=address, password_sealed=password, password_set_at=now, password_set_by="Old Admin",
        )  # fmt: skip
        new = NewMessage(to=("lena@inbox.example",), subject=f"Order {number}", text="Thank you.")
        message = insert(
            "messages",
            uid=message_uid, store_id=store, source="api", status="queued", reason_code="", reason_detail="",
            reason_stage="", reason_family="", priority=1, due_at=now, created_at=now, attempts=0, claims=0,
            maybe_sent_twice=False, subject=new.subject, message_id=f"<{message_uid}@shop.example>", date=now,
            sender_name="", sender_address="", method="", remote_id="", size_bytes=0,
        )  # fmt: skip
        insert("message_recipients", message_id=message, kind="to", address=new.to[0], status="waiting", reply="")
        sealed = vault.seal(as_json(new), Place("message_contents", message_uid, "sealed"))
        insert("message_contents", message_id=message, sealed=sealed)


def test_upgraded_stores_stay_on_smtp_and_deliver(old: Flask, sandbox: Sandbox) -> None:
    fill(old, sandbox)
    upgrade()

    for settings in db.session.query(EmailSettings).order_by(EmailSettings.id):
        number = settings.id
        assert settings.method == Method.SMTP
        assert (settings.from_email, settings.username) == (f"orders@shop{number}.example",) * 2
        assert (settings.smtp_host, settings.smtp_port, settings.version) == ("localhost", sandbox.smtp_port, 4)
        assert settings.bcc_addresses == ("records@shop.example",)
        assert settings.has_password
        assert settings.connection is None
    db.session.remove()

    worker.run(old, threads=2, once=True)
    delivered = sorted(message.header("Subject") for message in sandbox.messages())
    assert delivered == ["Order 1", "Order 2"], "the third store's emails are turned off"
    assert all(set(m.recipients) == {"lena@inbox.example", "records@shop.example"} for m in sandbox.messages())
    states = {message.subject: message.status for message in db.session.query(Message)}
    assert states["Order 1"] == states["Order 2"] == MessageStatus.SENT
    assert states["Order 3"] == MessageStatus.HELD


def test_new_stores_beside_them_start_on_advanced_smtp(old: Flask, sandbox: Sandbox) -> None:
    fill(old, sandbox)
    upgrade()
    store = factories.make_store("New Shop")
    assert store.email_settings.method == Method.ADVANCED_SMTP
    assert db.session.query(EmailSettings).filter_by(method=Method.SMTP).count() == STORES


def test_both_tabs_of_an_upgraded_store_open(old: Flask, sandbox: Sandbox) -> None:
    from tests.conftest import PASSWORD, Browser

    fill(old, sandbox)
    upgrade()
    factories.make_admin("alice@shop.example", password=PASSWORD)
    browser = Browser(old.test_client())
    browser.post("/sign-in", {"email": "alice@shop.example", "password": PASSWORD})
    store = db.session.query(Store).first()
    assert store is not None
    for tab in ("smtp", "advanced-smtp", "messages", "api-keys"):
        assert browser.get(f"/stores/{store.id}/{tab}").status_code == 200, tab
    assert "Password sign-in" in browser.get("/stores").text


def test_mail_handed_in_after_the_upgrade_goes_by_smtp_too(old: Flask, sandbox: Sandbox) -> None:
    fill(old, sandbox)
    upgrade()
    worker.run(old, threads=1, once=True)
    store = db.session.query(Store).filter_by(code="shop-1").one()
    new = NewMessage(to=("tomas@post.example",), subject="After", text="Still here.")
    outbox.enqueue(store.id, new, equipment=old.extensions["storepost"])
    db.session.commit()
    worker.run(old, threads=1, once=True)
    assert sandbox.messages()[-1].header("Subject") == "After"
    assert sandbox.messages()[-1].mechanism in ("PLAIN", "LOGIN")
