"""One stored value that does not open stops one store: its pages say so, its mail waits, nothing is overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

import worker
from app import create_app
from extensions import db
from mail import consent, outbox, readable
from mail import settings as email_settings
from mail.outbox_content import NewMessage
from mail.sealed_columns import SEALED_COLUMNS, SealedColumn
from models import Connection, EmailSettings, Message, Store
from models.connection import GrantType
from models.database import reading
from models.email_settings import Method
from models.outbox import HoldReason, MessageStatus
from models.types import utcnow
from sandbox import Sandbox
from tests import factories
from tests.conftest import PASSWORD, Browser, settings_for
from tests.fakes.sandboxed import ACTOR, advanced_draft, configuration, make_store, smtp_draft

CREDENTIALS = [
    "email_settings.password_sealed",
    "custom_fields.value_sealed",
    "connections.client_secret_sealed",
    "connections.refresh_token_sealed",
    "connections.access_token_sealed",
    "connections.token_parameters_sealed",
]
CUSTOM = (("token.audience", "acme"), ("header.X-Shop", "acme"))


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "sandbox") as running:
        yield running


@pytest.fixture
def app(tmp_path: Path, sandbox: Sandbox) -> Iterator[Flask]:
    application = create_app(settings_for(f"sqlite:///{tmp_path / 'values.sqlite3'}", **configuration(sandbox)))
    with application.app_context():
        factories.make_tables()
        yield application
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def shops(app: Flask, sandbox: Sandbox, damaged: SealedColumn) -> tuple[int, int]:
    """The ids of two stores that have both sent a message: Acme, whose value breaks, and another one."""
    equipment = app.extensions["storepost"]
    method = _method(damaged)
    acme = make_store(sandbox, equipment, method=method, **({"custom_fields": CUSTOM} if _is_advanced(damaged) else {}))
    other = factories.make_store("Other Store")
    settings = other.email_settings
    email_settings.save(settings, advanced_draft(sandbox), expected_version=1, actor=ACTOR, equipment=equipment)
    db.session.commit()
    ids = acme.id, other.id
    for store_id in ids:
        hand_in(app, store_id, "before")
    worker.run(app, threads=1, once=True)
    assert len(sandbox.messages()) == 2
    return ids


def _is_advanced(column: SealedColumn) -> bool:
    return column.table.name != "email_settings"


def _method(column: SealedColumn) -> Method:
    return Method.ADVANCED_SMTP if _is_advanced(column) else Method.SMTP


@pytest.fixture(params=CREDENTIALS)
def damaged(request: pytest.FixtureRequest) -> SealedColumn:
    return next(column for column in SEALED_COLUMNS if column.label == request.param)


def hand_in(app: Flask, store_id: int, subject: str) -> None:
    new = NewMessage(to=("lena@inbox.example",), subject=subject, text="Hello")
    outbox.enqueue(store_id, new, equipment=app.extensions["storepost"])
    db.session.commit()
    db.session.remove()


def damage(column: SealedColumn) -> None:
    """Change one character of a ciphertext of the first store, whose access token has run out by then."""
    owner = select(EmailSettings.connection_id).where(EmailSettings.store_id == 1)
    ours = {
        "connections": column.table.c.id == owner.scalar_subquery(),
        "custom_fields": column.table.c.get("email_settings_id") == 1,
        "email_settings": column.table.c.get("store_id") == 1,
    }[column.table.name]
    key, sealed = db.session.execute(select(column.key, column.column).where(ours).limit(1)).one()
    changed = sealed[:-20] + ("A" if sealed[-20] != "A" else "B") + sealed[-19:]
    db.session.execute(update(column.table).where(column.key == key).values({column.name: changed}))
    past = {"access_token_expires_at": utcnow() - timedelta(hours=1)}
    if column.name != "access_token_sealed":
        db.session.execute(update(Connection).where(Connection.id == owner.scalar_subquery()).values(past))
    db.session.commit()
    db.session.remove()


def stored() -> dict[str, list[Any]]:
    """Everything sealed that is there, but the tests' and the messages' own."""
    with reading():
        db.session.rollback()
        found = {
            column.label: list(db.session.execute(select(column.key, column.column).order_by(column.key)))
            for column in SEALED_COLUMNS
            if column.label in CREDENTIALS
        }
        db.session.rollback()
    return found


def states(store_id: int) -> list[tuple[str, MessageStatus, HoldReason | None]]:
    db.session.rollback()
    query = select(Message.subject, Message.status, Message.hold_reason).where(Message.store_id == store_id)
    return [tuple(row) for row in db.session.execute(query.order_by(Message.id))]


def load(store_id: int) -> EmailSettings:
    db.session.rollback()
    return db.session.scalars(select(EmailSettings).where(EmailSettings.store_id == store_id)).one()


def test_its_mail_is_held_and_other_stores_deliver(
    app: Flask, sandbox: Sandbox, shops: tuple[int, int], damaged: SealedColumn
) -> None:
    acme, other = shops
    damage(damaged)
    before = stored()
    for number in range(2):
        for store_id in shops:
            hand_in(app, store_id, f"after {number}")
    worker.run(app, threads=2, once=True)

    held = (MessageStatus.HELD, HoldReason.UNREADABLE)
    assert states(acme)[1:] == [("after 0", *held), ("after 1", *held)]
    assert states(other)[1:] == [("after 0", MessageStatus.SENT, None), ("after 1", MessageStatus.SENT, None)]
    connection_id = load(acme).connection_id
    assert _of(connection_id, stored()) == _of(connection_id, before)


def _of(connection_id: int | None, values: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Without the other store's connection, whose tokens go on being renewed."""
    return {
        label: [row for row in rows if row[0] == connection_id or not label.startswith("connections")]
        for label, rows in values.items()
    }


def test_its_pages_open_and_say_what_to_do(app: Flask, shops: tuple[int, int], damaged: SealedColumn) -> None:
    acme, other = shops
    damage(damaged)
    hand_in(app, acme, "after")
    worker.run(app, threads=1, once=True)
    before = stored()
    browser = _signed_in(app)
    tab = "advanced-smtp" if _is_advanced(damaged) else "smtp"
    page = browser.get(f"/stores/{acme}/{tab}").text
    assert "cannot be read: enter the credentials again" in page
    assert "cannot be read: enter the credentials again" not in browser.get(f"/stores/{other}/{tab}").text
    for url in ("smtp", "advanced-smtp", "messages", "api-keys", "method", "copy", "edit", "disconnect"):
        assert browser.get(f"/stores/{acme}/{url}").status_code in (200, 303), url
    uid = db.session.scalar(select(Message.uid).where(Message.subject == "after"))
    assert "Enter the credentials again" in browser.get(f"/stores/{acme}/messages/{uid}").text
    assert "Acme Store" in browser.get("/stores").text
    assert stored() == before


def test_a_save_of_something_else_overwrites_nothing(app: Flask, shops: tuple[int, int], damaged: SealedColumn) -> None:
    acme, _ = shops
    damage(damaged)
    before = stored()
    settings, equipment = load(acme), app.extensions["storepost"]
    for method in Method:
        draft = email_settings.current_smtp(settings, equipment)
        if method is Method.ADVANCED_SMTP:
            draft = email_settings.current_advanced(settings, equipment)
        general = email_settings.General(**{**vars(draft.general), "from_name": f"Renamed {method}"})
        draft = type(draft)(**{**vars(draft), "general": general})
        email_settings.save(settings, draft, expected_version=settings.version, actor=ACTOR, equipment=equipment)
        db.session.commit()
    after = stored()
    if damaged.name == "token_parameters_sealed":
        # Said again by the custom fields, which the page shows and which come along with every save of it.
        assert readable.column_opens(load(acme).connection, damaged.name, equipment)
        after[damaged.label], before[damaged.label] = [], []
        after["connections.access_token_sealed"], before["connections.access_token_sealed"] = [], []
    assert after == before


def test_entering_the_credentials_again_sends_what_was_held(
    app: Flask, sandbox: Sandbox, shops: tuple[int, int], damaged: SealedColumn
) -> None:
    """The very same credentials: what was right before is not refused as no change."""
    acme, _ = shops
    damage(damaged)
    hand_in(app, acme, "after")
    worker.run(app, threads=1, once=True)
    assert states(acme)[-1][2] is HoldReason.UNREADABLE
    equipment, settings = app.extensions["storepost"], load(acme)
    assert readable.unreadable(settings, equipment, method=_method(damaged))
    if _is_advanced(damaged):
        draft = advanced_draft(sandbox, custom_fields=CUSTOM, grant_type=GrantType.REFRESH_TOKEN)
        if damaged.name != "refresh_token_sealed":
            draft = type(draft)(**{**vars(draft), "refresh_token": email_settings.KEEP_SECRET})
    else:
        draft = smtp_draft(sandbox)
    email_settings.save(settings, draft, expected_version=settings.version, actor=ACTOR, equipment=equipment)
    assert outbox.release_mended(acme, equipment=equipment) == 1
    db.session.commit()
    assert readable.unreadable(load(acme), equipment, method=_method(damaged)) == ()
    db.session.remove()
    worker.run(app, threads=1, once=True)
    assert states(acme)[-1] == ("after", MessageStatus.SENT, None)


@pytest.mark.parametrize("damaged", ["connections.client_secret_sealed", "connections.token_parameters_sealed",
                                     "custom_fields.value_sealed"], indirect=True)  # fmt: skip
def test_connect_says_what_to_enter_before_anybody_leaves(
    app: Flask, shops: tuple[int, int], damaged: SealedColumn
) -> None:
    acme, _ = shops
    settings, equipment = load(acme), app.extensions["storepost"]
    assert settings.connection is not None
    settings.connection.grant_type = GrantType.AUTHORIZATION_CODE
    db.session.commit()
    damage(damaged)
    with pytest.raises(consent.NotReady) as refusal:
        consent.begin(load(acme), user_id=1, session_hash="0" * 64, equipment=equipment)
    (missing,) = refusal.value.missing
    assert "cannot be read" in missing.sentence
    assert missing.field == ("client_secret" if "client" in damaged.name else "custom_fields")


@pytest.mark.parametrize("damaged", ["connections.token_parameters_sealed"], indirect=True)
def test_a_shared_connection_is_mended_for_all_who_share_it(
    app: Flask, shops: tuple[int, int], damaged: SealedColumn
) -> None:
    acme, _ = shops
    equipment, copy = app.extensions["storepost"], Store(name="Copy", code="copy")
    db.session.add(copy)
    db.session.flush()
    source = db.session.scalars(select(EmailSettings).where(EmailSettings.store_id == acme)).one()
    email_settings.copy_to(source, copy, emails_off=False, actor=ACTOR, equipment=equipment)
    db.session.commit()
    copy_id = copy.id
    damage(damaged)
    settings = load(acme)
    draft = email_settings.current_advanced(settings, equipment)
    result = email_settings.save(settings, draft, expected_version=settings.version, actor=ACTOR, equipment=equipment)
    db.session.commit()
    assert result.split_from == ()
    assert readable.unreadable(load(copy_id), equipment, method=Method.ADVANCED_SMTP) == ()


def _signed_in(app: Flask) -> Browser:
    factories.make_admin("alice@shop.example", password=PASSWORD)
    browser = Browser(app.test_client())
    browser.post("/sign-in", {"email": "alice@shop.example", "password": PASSWORD})
    return browser
