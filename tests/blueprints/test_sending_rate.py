"""The card "Sending rate": figures, words, who sees it, and where it is."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from extensions import db as database
from mail import pace
from mail.equipment import Equipment
from mail.errors import Stage
from mail.pace import Limits
from models import Store, clock
from models.connection import GrantType
from models.database import writing
from models.email_settings import Method
from security.vault import Place
from tests import factories
from tests.blueprints.settings_page import read
from tests.conftest import Browser

RATE = "421 4.4.2 Message submission rate for this client has exceeded the configured limit"


@pytest.fixture
def store(app: Any, equipment: Equipment) -> Store:
    """On Microsoft 365, complete: it signs in as an app."""
    made = factories.make_store("Acme Store", from_name="Acme", from_email="orders@acme.example")
    settings, connection = made.email_settings, made.email_settings.connection
    settings.advanced_smtp_host, settings.advanced_smtp_port = "smtp.office365.com", 587
    connection.client_id, connection.token_url = "app", "https://login.microsoftonline.com/t/oauth2/v2.0/token"
    connection.scope, connection.grant_type = "https://outlook.office365.com/.default", GrantType.CLIENT_CREDENTIALS
    place = Place("connections", connection.uid, "client_secret_sealed")
    connection.client_secret_sealed = equipment.vault.seal("not-a-real-secret", place)
    database.session.commit()
    return made


@pytest.fixture
def limits(store: Store, equipment: Equipment) -> Limits:
    found = pace.stored_limits(store.email_settings, equipment)
    database.session.rollback()
    assert found is not None
    return found


def spend(limits: Limits, *, permits: int = 0, recipients: int = 0) -> None:
    database.session.rollback()  # a test's own session would keep others from writing
    for _ in range(permits):
        with writing(), database.engine.begin() as connection:
            assert pace.take_permit(limits, limits.per_minute or 0, connection)
    with writing(), database.engine.begin() as connection:
        pace.add_recipients(limits.lane, recipients, connection)


def card(browser: Browser, store_id: int) -> str:
    answer = browser.htmx_get(f"/stores/{store_id}/email/rate")
    assert answer.status_code == 200
    return words(answer.text)


def words(html: str) -> str:
    """The text of a fragment as it reads."""
    found = re.search(r'<section id="rate-card".*?</section>', html, re.S)
    assert found
    text = unescape(re.sub(r"<[^>]+>", " ", found.group()))
    return re.sub(r"\s+([.,:])", r"\1", " ".join(text.split()))


def test_the_page_of_the_active_method_has_it_and_the_other_one_not(alice: Browser, store: Store) -> None:
    page = alice.get(f"/stores/{store.id}/advanced-smtp").text
    assert "0 of 30 messages in the last minute 0 of 3 connections in use" in words(page)
    assert 'id="rate-card"' not in alice.get(f"/stores/{store.id}/smtp").text


def test_it_shows_what_is_used_of_each_limit(alice: Browser, store: Store, limits: Limits) -> None:
    store_id = store.id
    spend(limits, permits=12, recipients=340)
    pace.take_slot(limits, store_id, lease=timedelta(seconds=90))
    text = card(alice, store.id)
    assert "12 of 30 messages in the last minute" in text
    assert "1 of 3 connections in use" in text
    assert "340 of 10,000 recipients in the last 24 hours" in text


def test_it_asks_for_itself_every_ten_seconds(alice: Browser, store: Store) -> None:
    text = alice.htmx_get(f"/stores/{store.id}/email/rate").text
    assert "<html" not in text
    assert f'hx-get="/stores/{store.id}/email/rate"' in text
    assert 'hx-trigger="every 10s"' in text
    assert [tag for tag in re.findall(r"<[^>]*\shx-[^>]*>", text) if "hx-nonce=" not in tag] == []


def test_without_htmx_its_address_is_a_page(alice: Browser, store: Store) -> None:
    answer = alice.get(f"/stores/{store.id}/email/rate")
    assert "<html" in answer.text
    assert f'href="/stores/{store.id}/advanced-smtp"' in answer.text
    assert "0 of 30 messages" in words(answer.text)


def test_a_store_that_cannot_send_has_none_and_is_not_asked_about(alice: Browser, app: Any) -> None:
    new = factories.make_store("New Store").id
    page = alice.get(f"/stores/{new}/advanced-smtp").text
    assert '<section id="rate-card" hidden>' in page
    assert f"/stores/{new}/email/rate" not in page
    assert "Nothing can be sent" in alice.get(f"/stores/{new}/email/rate").text


def test_without_limits_it_counts_only(alice: Browser, app: Any) -> None:
    values = {"smtp_host": "mail.acme.example", "smtp_port": 587, "from_name": "A", "from_email": "a@acme.example"}
    plain = factories.make_store("Plain Store", method=Method.SMTP, **values).id
    text = card(alice, plain)
    assert "0 messages in the last minute 0 of 3 connections in use 0 recipients in the last 24 hours" in text
    assert 'id="rate-card"' in alice.get(f"/stores/{plain}/smtp").text


def test_a_server_that_asked_to_slow_down_is_told_about_in_words(alice: Browser, store: Store, limits: Limits) -> None:
    spend(limits, permits=30)
    pace.note_throttled(limits, stage=Stage.MESSAGE, code="throttled", detail=f"{RATE} <b>", wish_s=None)
    text = card(alice, store.id)
    assert "Paused" in text
    assert "30 of 30 messages in the last minute" in text
    assert "Microsoft asked Storepost to slow down" in text
    moment = r"(?:\d+ \w+, )?\d\d:\d\d UTC"  # with the day around midnight
    assert re.search(rf"Nothing goes out until {moment}, then 21 a minute until {moment}\.", text)
    assert f"Microsoft said: {RATE} <b>" in text
    with clock.shifted(timedelta(minutes=2)):
        later = card(alice, store.id)
    assert "0 of 21 messages in the last minute" in later
    assert "Slowed down" in later
    assert re.search(rf"slow down 21 a minute until {moment}\.", later)


def test_fewer_connections_are_told_of(alice: Browser, store: Store, limits: Limits) -> None:
    held = "432 4.3.2 Concurrent connections limit exceeded"
    pace.note_throttled(limits, stage=Stage.AUTH, code="throttled", detail=held, wish_s=None)
    with clock.shifted(timedelta(seconds=30)):
        text = card(alice, store.id)
    assert "0 of 2 connections in use" in text
    assert "2 connections at a time until" in text


def test_a_server_that_cannot_be_used_is_told_about_with_the_next_try(
    alice: Browser, store: Store, limits: Limits
) -> None:
    pace.note_failure(limits, code="connect_refused", detail="ConnectionRefusedError: connection refused")
    text = card(alice, store.id)
    assert "Not usable" in text
    assert "smtp.office365.com cannot be used Since" in text
    assert "Storepost tries again within a minute" in text
    assert "In technical words: ConnectionRefusedError: connection refused" in text
    assert "0 of 1 connection in use" in text
    with clock.shifted(timedelta(seconds=30)):
        assert "tries again with the next mail" in card(alice, store.id)


def test_a_limit_of_the_day_is_told_of(alice: Browser, store: Store, limits: Limits) -> None:
    pace.note_throttled(
        limits, stage=Stage.MESSAGE, code="throttled", detail="554 5.2.2 Submission quota exceeded", wish_s=None
    )
    text = card(alice, store.id)
    assert "Daily limit reached" in text
    assert "Microsoft takes no more mail from this mailbox for now. Storepost tries again at" in text


def test_recipients_used_up_without_a_word_of_the_server_are_told_of(
    alice: Browser, store: Store, limits: Limits
) -> None:
    spend(limits, recipients=10_000)
    text = card(alice, store.id)
    assert "10,000 of 10,000 recipients" in text
    assert "Microsoft takes 10,000 recipients in 24 hours" in text


def test_stores_that_share_a_mailbox_see_the_same(alice: Browser, store: Store, limits: Limits) -> None:
    shared = store.email_settings.connection
    other = factories.make_store(
        "Copy of Acme", connection=shared, from_name="C", from_email="c@acme.example",
        advanced_smtp_host="smtp.office365.com", advanced_smtp_port=587,
    ).id  # fmt: skip
    spend(limits, permits=3)
    assert "3 of 30 messages" in card(alice, other)


def test_a_save_has_it_ask_at_once(alice: Browser, store: Store, limits: Limits) -> None:
    url = f"/stores/{store.id}/advanced-smtp"
    spend(limits, permits=2)
    values = read(alice.get(url).text).with_(custom_fields__0__key="messages_per_minute", custom_fields__0__value="120")
    answer = alice.htmx_post(url, values).text
    assert re.search(r'<section id="rate-card"[^>]* hx-trigger="load"', answer)
    assert "2 of 120 messages" in card(alice, store.id)


def test_the_bar_is_as_long_as_what_is_used(alice: Browser, store: Store, limits: Limits) -> None:
    spend(limits, permits=12)
    text = alice.htmx_get(f"/stores/{store.id}/email/rate").text
    assert re.findall(r'class="fill" width="([\d.]+)"', text) == ["40.0", "0.0", "0.0"]
    assert " style=" not in text


def test_limits_come_from_the_catalogue_and_custom_fields(limits: Limits) -> None:
    assert limits == replace(limits, connections=3, per_minute=30, recipients_per_day=10_000)
    assert limits.lane.startswith("connection:")
