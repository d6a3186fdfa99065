"""The banners about a store's connection: lost, refused, about to end; in words, with figures and the way out."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from extensions import db
from mail import health, outbox
from mail.equipment import Equipment
from mail.health import Finding
from mail.outbox import NewMessage
from models import Message, Store
from models.connection import Connection, GrantType, Health
from models.email_settings import Method
from models.outbox import HoldReason, MessageStatus
from models.types import utcnow
from tests.conftest import Browser
from tests.fakes.oauth import make_oauth_store

LOST = Finding(Health.NEEDS_REAUTHORIZATION, "token", "invalid_grant", "HTTP 400 invalid_grant: AADSTS50173 revoked")


def store_with(
    equipment: Equipment, *, name: str = "Acme Store", shares_with: Store | None = None, **columns: Any
) -> Store:
    columns = {"provider": "microsoft365", **columns}
    store = make_oauth_store(equipment, "https://localhost:1/token", name=name, **columns)
    store.email_settings.method = Method.ADVANCED_SMTP
    if shares_with is not None:
        store.email_settings.connection = shares_with.email_settings.connection
    db.session.commit()
    return store


def hand_in(store: Store, equipment: Equipment, count: int) -> None:
    for _ in range(count):
        new = NewMessage(to=("lena@shop.example",), subject="Order", text="Thanks")
        outbox.enqueue(store.id, new, equipment=equipment)
    db.session.commit()


def banners(alice: Browser, store_id: int) -> str:
    found = _markup(alice, store_id)
    return re.sub(r"\s+", " ", re.sub(r"<(?!button|a )[^>]*>", " ", " ".join(found)))


def _markup(alice: Browser, store_id: int) -> list[str]:
    page = alice.get(f"/stores/{store_id}/advanced-smtp").text
    return re.findall(r'<div class="above"><div class="note.*?</div></div></div>', page, re.DOTALL)


def test_a_lost_grant_is_shown_with_since_when_how_much_and_the_oldest(alice: Browser, equipment: Equipment) -> None:
    store = store_with(equipment)
    hand_in(store, equipment, 3)
    store_id, connection_id = store.id, store.email_settings.connection_id
    assert connection_id is not None
    db.session.query(Message).filter_by(id=1).update({"created_at": utcnow() - timedelta(hours=5)})
    db.session.query(Connection).update({"health_since": utcnow()})
    db.session.commit()
    health.report(connection_id, LOST)
    db.session.query(Connection).update({"health_since": utcnow() - timedelta(hours=2)})
    db.session.commit()
    said = banners(alice, store_id)
    assert "revoked this store’s authorization" in said
    assert re.search(r"Since (\d+ \w+, )?\d\d:\d\d UTC ?\.", said)
    assert "3 messages are held, the oldest came in 5 hours ago" in said
    assert re.search(rf'<button[^>]*formaction="/stores/{store_id}/connect"[^>]*>Reconnect', said)


def test_stores_that_share_the_lost_connection_are_named(alice: Browser, equipment: Equipment) -> None:
    first = store_with(equipment, name="First")
    second = store_with(equipment, name="Second", shares_with=first)
    third = store_with(equipment, name="Third", shares_with=first)
    ids, connection_id = [first.id, second.id, third.id], first.email_settings.connection_id
    assert connection_id is not None
    db.session.rollback()
    health.report(connection_id, LOST)
    assert "Second and Third lost it too and have to be connected as well." in banners(alice, ids[0])
    assert "First and Third lost it too" in banners(alice, ids[1])


@pytest.mark.parametrize(
    ("stage", "words"), [("token", "Microsoft refuses these settings"), ("auth", "Microsoft refuses the sign-in")]
)
def test_refused_settings_say_who_refuses_what(alice: Browser, equipment: Equipment, stage: str, words: str) -> None:
    store = store_with(equipment)
    store_id, connection_id = store.id, store.email_settings.connection_id
    assert connection_id is not None
    db.session.rollback()
    detail = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox."
    health.report(connection_id, Finding(Health.SETTINGS_WRONG, stage, "auth_refused", detail))
    assert words in banners(alice, store_id)
    page = alice.get(f"/stores/{store_id}/advanced-smtp").text
    # The card finds the fault by the half of the catalogue that knows such words.
    card = page.partition('id="connection-card"')[2].partition("</section>")[0]
    assert ("Set-CASMailbox" in card) is (stage == "auth")


@pytest.mark.parametrize(
    ("days", "words", "is_bad"),
    [
        (45, "", False),
        (30, "The client secret expires in 30 days", False),
        (1, "The client secret expires in 1 day,", True),
        (0, "The client secret expires today", True),
        (-3, "The client secret expired on", True),
    ],
)
def test_the_end_of_a_client_secret_is_counted_down_in_words(
    alice: Browser, equipment: Equipment, days: int, words: str, is_bad: bool
) -> None:
    expires_on = utcnow().date() + timedelta(days=days)
    store_id = store_with(equipment, client_secret_expires_on=expires_on, refreshed_at=utcnow()).id
    said = banners(alice, store_id)
    assert (words in said) if words else not said
    assert any('class="note bad"' in one for one in _markup(alice, store_id)) is is_bad


def test_a_google_app_in_testing_is_named_as_such(alice: Browser, equipment: Equipment) -> None:
    ends = utcnow() + timedelta(days=4, hours=20)
    store = store_with(equipment, provider="google", grant_ends_at=ends, refreshed_at=utcnow())
    said = banners(alice, store.id)
    assert "Google ends this connection in 5 days" in said
    assert "Publish the app" in said
    assert "Reconnect" in said


def test_a_grant_that_ended_after_seven_days_says_why(alice: Browser, equipment: Equipment) -> None:
    store = store_with(equipment, provider="google")
    store_id, connection_id = store.id, store.email_settings.connection_id
    assert connection_id is not None
    db.session.rollback()
    lost = Finding(Health.NEEDS_REAUTHORIZATION, "token", "testing_ended", "HTTP 400 invalid_grant: expired or revoked")
    health.report(connection_id, lost)
    assert "Google ended this store’s authorization after 7 days" in banners(alice, store_id)
    assert "Press Publish app" in alice.get(f"/stores/{store_id}/advanced-smtp").text


def test_an_unused_connection_says_when_it_ends(alice: Browser, equipment: Equipment) -> None:
    used = utcnow() - timedelta(days=80)
    store = store_with(equipment, refreshed_at=used, refresh_token_set_at=used)
    assert "Microsoft ends this unused connection in 10 days" in banners(alice, store.id)


def test_app_only_connections_are_not_told_to_reconnect(alice: Browser, equipment: Equipment) -> None:
    store = store_with(equipment, refresh_token=None, grant_type=GrantType.CLIENT_CREDENTIALS)
    store_id, connection_id = store.id, store.email_settings.connection_id
    assert connection_id is not None
    db.session.rollback()
    health.report(connection_id, Finding(Health.SETTINGS_WRONG, "token", "invalid_client", "HTTP 401 invalid_client"))
    assert "Reconnect" not in banners(alice, store_id)


def test_a_healthy_connection_has_no_banner(alice: Browser, equipment: Equipment) -> None:
    store = store_with(equipment, refreshed_at=utcnow())
    assert banners(alice, store.id) == ""


def test_trying_again_asks_about_a_lost_grant_once_more(alice: Browser, equipment: Equipment) -> None:
    store = store_with(equipment)
    hand_in(store, equipment, 2)
    store_id, connection_id = store.id, store.email_settings.connection_id
    assert connection_id is not None
    db.session.rollback()
    health.report(connection_id, LOST)
    answer = alice.post(f"/stores/{store_id}/messages/release", {"reason": HoldReason.NEEDS_REAUTHORIZATION.value})
    assert answer.status_code == 303
    assert {status for (status,) in db.session.query(Message.status)} == {MessageStatus.QUEUED}
    assert db.session.get_one(Connection, connection_id).health is Health.NOT_CONNECTED


def test_the_list_of_stores_says_what_is_about_to_end(alice: Browser, equipment: Equipment) -> None:
    soon = utcnow().date() + timedelta(days=5)
    store_with(equipment, name="Secret", client_secret_expires_on=soon, refreshed_at=utcnow(), health=Health.EXPIRING)
    store_with(equipment, name="Trial", provider="google", health=Health.EXPIRING)
    page = alice.get("/stores").text
    assert "Replace the client secret" in page
    assert "Reconnect to stay connected" in page
