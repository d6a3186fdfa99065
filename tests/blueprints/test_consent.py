"""Connect by the front door, with the sandbox as provider: leaving, coming back, disconnecting, the card."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from app import create_app
from extensions import db
from mail.equipment import Equipment
from models import AuditEntry, Store, TestRun, User
from models.connection import Connection, GrantType, Health
from sandbox import Sandbox
from tests import factories
from tests.blueprints import settings_page
from tests.conftest import Browser, settings_for
from tests.fakes import sandboxed
from tests.fakes.oauth import connection_of, make_oauth_store, opened
from tests.sandbox.clients import CLIENT_ID, CLIENT_SECRET, MAILBOX, SCOPE


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.reset()
    return running


@pytest.fixture
def app(database_url: str, sandbox: Sandbox) -> Iterator[Flask]:
    application = create_app(settings_for(database_url, **sandboxed.configuration(sandbox)))
    with application.app_context():
        factories.make_tables()
        yield application
        db.session.remove()
        uids = db.session.scalars(select(TestRun.uid)).all()
        db.session.remove()
        for uid in uids:
            sandboxed.wait_for(uid)
        db.engine.dispose()


@pytest.fixture
def shop(app: Flask, sandbox: Sandbox, equipment: Equipment) -> int:
    """The id of a store that is ready to connect to the sandbox."""
    store = make_oauth_store(
        equipment,
        sandbox.token_url,
        from_email=MAILBOX,
        refresh_token=None,
        client_secret=CLIENT_SECRET,
        provider="sandbox",
        authorization_url=sandbox.authorize_url,
        client_id=CLIENT_ID,
        scope=SCOPE,
        tenant_id="",
    )
    store.email_settings.advanced_smtp_host = "localhost"
    store.email_settings.advanced_smtp_port = sandbox.smtp_port
    db.session.commit()
    store_id = store.id
    db.session.remove()
    return store_id


def leave(browser: Browser, store_id: int) -> str:
    """Press Connect; returns where Continue leads."""
    form = settings_page.read(browser.get(f"/stores/{store_id}/advanced-smtp").text)
    page = browser.post(f"/stores/{store_id}/connect", form.values)
    assert page.status_code == 200, page.text[-3000:]
    found = re.search(r'<a class="btn pri" id="continue" href="([^"]+)" rel="noreferrer">', page.text)
    assert found, page.text[-3000:]
    return unescape(found.group(1))


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def connect(browser: Browser, store_id: int, sandbox: Sandbox, mailbox: str = MAILBOX) -> TestResponse:
    return browser.get(path_of(sandbox.consent(leave(browser, store_id), mailbox)))


def failure(browser: Browser, answer: TestResponse) -> str:
    """The words of the page that a failed Connect ends on."""
    assert answer.status_code == 303
    assert answer.location == "/oauth/outcome"
    page = browser.get(answer.location)
    assert page.status_code == 200
    return unescape(re.sub(r"<[^>]+>", " ", page.text))


def card(browser: Browser, store_id: int) -> str:
    """The words of the connection card."""
    page = browser.get(f"/stores/{store_id}/advanced-smtp").text
    found = re.search(r'<section class="card tight" id="connection-card".*?</section>', page, re.S)
    assert found
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", found.group())).split())


def change(**values: Any) -> None:
    db.session.execute(update(Connection).values(values))
    db.session.commit()


# --- There


def test_the_leave_page_names_both_hosts(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    form = settings_page.read(alice.get(f"/stores/{shop}/advanced-smtp").text)
    page = alice.post(f"/stores/{shop}/connect", form.values)
    assert f'id="authorization-host">{urlsplit(sandbox.web_url).netloc}<' in page.text
    assert f'id="token-host">{urlsplit(sandbox.issuer).netloc}<' in page.text
    assert f'href="/stores/{shop}/advanced-smtp">Cancel' in page.text
    assert "form-action &#39;self&#39;" not in page.text
    assert "form-action 'self'" in page.headers["Content-Security-Policy"]


def test_connect_is_a_plain_submit_of_the_settings_form(alice: Browser, shop: int) -> None:
    page = alice.get(f"/stores/{shop}/advanced-smtp").text
    [button] = re.findall(r'<button[^>]*id="connect-btn"[^>]*>', page)
    assert f'form="smtp-form" formaction="/stores/{shop}/connect"' in button
    assert "hx-" not in button
    assert '<form id="smtp-form"' in page


# --- And back


def test_a_consent_fills_the_card_and_leaves_a_clean_address(
    alice: Browser, shop: int, sandbox: Sandbox, equipment: Equipment
) -> None:
    answer = connect(alice, shop, sandbox)
    assert answer.status_code == 303
    assert re.fullmatch(rf"/stores/{shop}/advanced-smtp\?test=[0-9a-f]{{32}}", answer.location)
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    words = card(alice, shop)
    assert "Sandbox Connected" in words
    assert f"Connected as {MAILBOX}" in words
    assert "Scope smtp.send offline_access" in words
    assert "Expires in" in words
    assert "Connected by Alice Adams" in words
    assert "Reconnect Disconnect" in words
    assert opened(connection_of(shop).id, "refresh_token_sealed", equipment)
    assert "connected" in db.session.scalars(select(AuditEntry.action)).all()
    db.session.remove()


def test_a_client_secret_typed_just_before_connect_is_no_change_meanwhile(
    alice: Browser, shop: int, sandbox: Sandbox
) -> None:
    change(client_secret_sealed=None, client_secret_set_at=None)
    form = settings_page.read(alice.get(f"/stores/{shop}/advanced-smtp").text)
    page = alice.post(f"/stores/{shop}/connect", form.with_(client_secret=CLIENT_SECRET))
    [url] = re.findall(r'id="continue" href="([^"]+)"', page.text)
    answer = alice.get(path_of(sandbox.consent(unescape(url), MAILBOX)))
    assert urlsplit(answer.location).path == f"/stores/{shop}/advanced-smtp"


def test_the_page_after_connecting_says_who(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    page = alice.get(connect(alice, shop, sandbox).location)
    assert f"Connected as {MAILBOX}." in page.text


def test_connecting_starts_a_test_that_reaches_the_inbox(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    connect(alice, shop, sandbox)
    [message] = sandbox.wait_for_messages()
    assert "alice@shop.example" in str(message)


def test_the_query_string_is_in_no_log(
    alice: Browser, shop: int, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    back = sandbox.consent(leave(alice, shop), MAILBOX)
    code, state = (parse_qs(urlsplit(back).query)[name][0] for name in ("code", "state"))
    alice.get(path_of(back))
    # The sandbox is the other side, and says what it likes.
    ours = [record for record in caplog.records if not record.name.startswith(("oauthlib", "sandbox"))]
    logged = " ".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    assert code not in logged
    assert state not in logged


def test_the_tokens_are_in_no_page(alice: Browser, shop: int, sandbox: Sandbox, equipment: Equipment) -> None:
    connect(alice, shop, sandbox)
    connection_id = connection_of(shop).id
    secrets = [opened(connection_id, f"{name}_sealed", equipment) for name in ("refresh_token", "access_token")]
    page = alice.get(f"/stores/{shop}/advanced-smtp").text + alice.get(f"/stores/{shop}/disconnect").text
    assert all(secret and secret not in page for secret in secrets)


def test_a_denied_consent_is_a_calm_message(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    back = sandbox.consent(leave(alice, shop), MAILBOX, allow=False)
    words = failure(alice, alice.get(path_of(back)))
    assert "Nothing was connected" in words
    assert "Nothing was changed." in words
    assert "access_denied" in words
    assert not connection_of(shop).has_refresh_token


def test_a_denied_consent_leaves_the_old_connection(
    alice: Browser, shop: int, sandbox: Sandbox, equipment: Equipment
) -> None:
    connect(alice, shop, sandbox)
    sandbox.wait_for_messages()
    connection_id = connection_of(shop).id
    before = opened(connection_id, "refresh_token_sealed", equipment)
    back = sandbox.consent(leave(alice, shop), MAILBOX, allow=False)
    alice.get(path_of(back))
    assert opened(connection_id, "refresh_token_sealed", equipment) == before
    assert connection_of(shop).health is Health.CONNECTED


def test_no_refresh_token_is_said_with_the_way_out(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    sandbox.faults.set(no_refresh_token=True)
    words = failure(alice, connect(alice, shop, sandbox))
    assert "Sandbox gave no refresh token" in words
    assert "offline_access" in words


def test_another_mailbox_is_said_with_the_way_out(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    page = alice.get(connect(alice, shop, sandbox, mailbox="boss@sandbox.example").location)
    assert "You signed in as boss@sandbox.example, but mail signs in as" in page.text


def test_a_second_visit_with_the_same_answer_is_told_so(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    back = path_of(sandbox.consent(leave(alice, shop), MAILBOX))
    alice.get(back)
    assert "used already" in failure(alice, alice.get(back))
    assert connection_of(shop).health is Health.CONNECTED


def test_settings_saved_meanwhile_refuse_the_answer(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    back = sandbox.consent(leave(alice, shop), MAILBOX)
    change(scope="smtp.send", version=Connection.version + 1)
    assert "settings of this store changed" in failure(alice, alice.get(path_of(back)))


def test_an_answer_in_another_session_is_refused(app: Flask, alice: Browser, shop: int, sandbox: Sandbox) -> None:
    back = path_of(sandbox.consent(leave(alice, shop), MAILBOX))
    other = Browser(app.test_client())
    other.post("/sign-in", {"email": "alice@shop.example", "password": "correct horse battery staple 9"})
    assert "another browser session" in failure(other, other.get(back))
    assert alice.get(back).location.startswith(f"/stores/{shop}/advanced-smtp?test=")


def test_an_answer_after_signing_out_is_a_page_and_loses_nothing(
    app: Flask, alice: Browser, shop: int, sandbox: Sandbox
) -> None:
    back = path_of(sandbox.consent(leave(alice, shop), MAILBOX))
    page = Browser(app.test_client()).get(back)
    assert page.status_code == 403
    assert "You are not signed in" in page.text
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in page.headers
    assert alice.get(back).location.startswith(f"/stores/{shop}/advanced-smtp?test=")


def test_a_right_lost_meanwhile_counts(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    back = path_of(sandbox.consent(leave(alice, shop), MAILBOX))
    db.session.scalars(select(User)).one().roles = []
    db.session.commit()
    words = failure(alice, alice.get(back))
    assert "may not connect this store any more" in words
    assert "Acme" not in words
    assert not connection_of(shop).has_refresh_token


@pytest.mark.parametrize(
    "query",
    [
        "",
        "state=",
        "state=a&state=b",
        "code=x",
        "state=%00&code=%ff",
        "state=" + "A" * 43 + "&code=x",
        "error=access_denied&error_description=%3Cscript%3E",
        urlencode({"state": "A" * 43, "iss": "https://evil.example"}),
    ],
)
def test_made_up_answers_end_in_a_sentence(alice: Browser, shop: int, query: str) -> None:
    words = failure(alice, alice.get(f"/oauth/callback?{query}"))
    assert "Connect did not finish" in words
    assert "Go to Manage Stores" in words


def test_the_providers_words_are_escaped(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    state = parse_qs(urlsplit(leave(alice, shop)).query)["state"][0]
    query = {"state": state, "iss": sandbox.issuer, "error": "server_error", "error_description": "<img src=x>"}
    answer = alice.get(f"/oauth/callback?{urlencode(query)}")
    page = alice.get(answer.location)
    assert "<img" not in page.text
    assert "&lt;img src=x&gt;" in page.text


def test_the_outcome_page_without_an_outcome_leads_home(alice: Browser) -> None:
    assert alice.get("/oauth/outcome").location == "/stores"


# --- The end


def test_disconnecting_asks_first_revokes_and_removes(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    connect(alice, shop, sandbox)
    sandbox.wait_for_messages()
    question = alice.get(f"/stores/{shop}/disconnect")
    assert "Disconnect Sandbox from Acme Store?" in question.text
    assert connection_of(shop).has_refresh_token
    answer = alice.post(f"/stores/{shop}/disconnect")
    assert answer.location == f"/stores/{shop}/advanced-smtp"
    assert "Disconnected from Sandbox." in alice.get(answer.location).text
    assert not connection_of(shop).has_refresh_token
    assert "Not connected" in card(alice, shop)
    assert all(grant.revoked for grant in _grants(sandbox))


def _grants(sandbox: Sandbox) -> list[Any]:
    return [token.grant for token in sandbox.state._refresh.values()]


def test_a_failed_revocation_is_told_and_the_tokens_go_anyway(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    connect(alice, shop, sandbox)
    sandbox.wait_for_messages()
    sandbox.faults.set(token_5xx=True)
    page = alice.get(alice.post(f"/stores/{shop}/disconnect").location)
    assert "did not confirm" in page.text
    assert not connection_of(shop).has_refresh_token


def test_sharers_are_named_before_and_after(alice: Browser, shop: int, sandbox: Sandbox) -> None:
    connect(alice, shop, sandbox)
    sandbox.wait_for_messages()
    copy = factories.make_store("Second Store", from_email=MAILBOX)
    copy.email_settings.connection_id = connection_of(shop).id
    db.session.commit()
    assert "Shared with Second Store." in card(alice, shop)
    assert "Second Store uses the same connection" in alice.get(f"/stores/{shop}/disconnect").text
    assert "Second Store used the same connection" in alice.get(alice.post(f"/stores/{shop}/disconnect").location).text


# --- The card


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["Not connected", "Connect", "http://localhost:8025/oauth/callback"]),
        (
            {"grant_type": GrantType.CLIENT_CREDENTIALS},
            ["No sign-in needed", "signs in as the app itself"],
        ),
        (
            {"grant_type": GrantType.CLIENT_CREDENTIALS, "health": Health.CONNECTED},
            ["Connected", "No sign-in needed"],
        ),
    ],
)
def test_the_card_before_anybody_connected(alice: Browser, shop: int, values: dict[str, Any], words: list[str]) -> None:
    if values:
        change(**values)
    shown = card(alice, shop)
    assert all(word in shown for word in words), shown
    assert "Disconnect " not in shown


@pytest.mark.parametrize(
    ("health", "code", "detail", "words"),
    [
        (
            Health.NEEDS_REAUTHORIZATION,
            "invalid_grant",
            "HTTP 400 invalid_grant: gone",
            ["Revoked", "Reason", "invalid_grant", "Reconnect"],
        ),
        (
            Health.SETTINGS_WRONG,
            "invalid_client",
            "HTTP 401 invalid_client",
            ["Settings refused", "Client Id and Client Secret", "invalid_client", "Reconnect"],
        ),
        (Health.TEMPORARILY_FAILING, "http_503", "HTTP 503", ["Retrying", "http_503", "tried again by itself"]),
    ],
)
def test_the_card_in_trouble_says_since_when_and_why(
    alice: Browser, shop: int, sandbox: Sandbox, health: Health, code: str, detail: str, words: list[str]
) -> None:
    connect(alice, shop, sandbox)
    sandboxed.wait_for_all()  # a test that passes tells the connection that it works
    change(health=health, health_code=code, health_detail=detail)
    shown = card(alice, shop)
    assert all(word in shown for word in words), shown


def test_a_pasted_token_says_so(alice: Browser, sandbox: Sandbox, equipment: Equipment) -> None:
    store = sandboxed.make_store(sandbox, equipment)
    store_id = store.id
    shown = card(alice, store_id)
    assert "Not used yet" in shown
    assert "Token pasted Alice Adams" in shown


def test_the_tenant_is_offered_asked_for_and_taken(alice: Browser, app: Flask, equipment: Equipment) -> None:
    tenant = "11111111-2222-3333-4444-555555555555"
    login = "https://login.microsoftonline.com/common/oauth2/v2.0"
    store = make_oauth_store(
        equipment,
        f"{login}/token",
        provider="microsoft365",
        authorization_url=f"{login}/authorize",
        account_tenant=tenant,
    )
    store_id = store.id
    assert f"Use tenant {tenant} instead of common?" in card(alice, store_id)
    answer = alice.post(f"/stores/{store_id}/tenant")
    assert answer.location == f"/stores/{store_id}/advanced-smtp"
    connection = connection_of(store_id)
    assert tenant in connection.token_url
    assert connection.has_refresh_token
    assert "instead of common" not in card(alice, store_id)


def test_a_stranger_finds_no_store_to_disconnect(app: Flask, client: Browser, store: Store) -> None:
    stranger = factories.make_user(password="a stranger to all of them 7")
    store_id = store.id
    client.post("/sign-in", {"email": stranger.email, "password": "a stranger to all of them 7"})
    assert client.get(f"/stores/{store_id}/disconnect").status_code == 404
