"""A certified authorization server of others, found by its issuer: connect, renew, disconnect by the front door."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from sqlalchemy import update

from app import create_app
from extensions import db
from mail.equipment import Equipment
from mail.tokens import access_token_for
from models import clock
from models.connection import ClientAuth, Connection, Health
from tests import factories
from tests.blueprints.settings_page import read
from tests.blueprints.test_consent import failure, leave, path_of
from tests.conftest import PUBLIC_URL, Browser, settings_for
from tests.fakes import sandboxed, tools
from tests.fakes.certified import CLIENTS, SECRET, CertifiedProvider
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.fakes.installation import free_port
from tests.fakes.oauth import connection_of, opened

MAILBOX = "orders@acme.example"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return make_ca(tmp_path_factory.mktemp("certified"))


@pytest.fixture(scope="module")
def provider(ca: CA) -> Iterator[CertifiedProvider]:
    if tools.oidc_provider() is None:
        assert not os.environ.get("CI"), "oidc-provider must be there in CI"
        pytest.skip("oidc-provider is not installed")
    cert: ServerCert = make_server_cert(ca)
    with CertifiedProvider(ca, cert, f"{PUBLIC_URL}/oauth/callback") as running:
        yield running


@pytest.fixture
def app(database_url: str, ca: CA) -> Iterator[Flask]:
    application = create_app(settings_for(database_url, CA_FILE=ca.cert_file))
    with application.app_context():
        factories.make_tables()
        yield application
        sandboxed.wait_for_all()
        db.session.remove()
        db.engine.dispose()


def set_up(browser: Browser, provider: CertifiedProvider, auth: str = "client_secret_basic") -> int:
    """A store that knows nothing but the issuer, the app and its mail server, saved; returns its id."""
    store_id = factories.make_store("Acme Store", from_email=MAILBOX).id
    url = f"/stores/{store_id}/advanced-smtp"
    page = read(browser.get(url).text)
    page = read(browser.post(f"{url}/provider", page.with_(provider="other", scope="")).text)
    page = read(browser.post(f"{url}/issuer", page.with_(issuer=provider.issuer)).text)
    assert page.error_of("issuer") == ""
    typed = page.with_(
        from_name="Acme Store",
        smtp_host="localhost",
        smtp_port=str(free_port()),
        client_id=CLIENTS[auth],
        client_secret=SECRET,
        client_auth=auth,
    )
    answer = browser.post(url, typed)
    assert answer.status_code == 303, re.findall(r"class=\"err\".*?</p>", answer.text, re.S)
    return store_id


def connect(browser: Browser, store_id: int, provider: CertifiedProvider) -> None:
    back = provider.consent(leave(browser, store_id), MAILBOX)
    answer = browser.get(path_of(back))
    assert urlsplit(answer.location).path == f"/stores/{store_id}/advanced-smtp", answer.location


def expire(store_id: int) -> None:
    db.session.execute(update(Connection).values(access_token_expires_at=clock.now()))
    db.session.commit()


def test_its_issuer_alone_fills_in_the_endpoints(alice: Browser, provider: CertifiedProvider) -> None:
    connection = connection_of(set_up(alice, provider))
    assert connection.authorization_url == f"{provider.issuer}/auth"
    assert connection.token_url == f"{provider.issuer}/token"
    assert connection.revocation_url == f"{provider.issuer}/token/revocation"
    assert connection.scope == "smtp.send openid email offline_access"
    assert (connection.issuer, connection.iss_required, connection.pkce_method) == (provider.issuer, True, "S256")
    assert connection.client_auth is ClientAuth.BASIC


@pytest.mark.parametrize("auth", CLIENTS)
def test_a_mailbox_connects_renews_and_disconnects(
    alice: Browser, provider: CertifiedProvider, equipment: Equipment, auth: str
) -> None:
    before = len(provider.calls("/token"))
    store_id = set_up(alice, provider, auth)
    connect(alice, store_id, provider)
    connection_id = connection_of(store_id).id
    assert connection_of(store_id).health is Health.CONNECTED
    assert connection_of(store_id).account == MAILBOX
    sandboxed.wait_for_all()
    tokens = [opened(connection_id, "refresh_token_sealed", equipment)]
    for _ in range(2):
        expire(store_id)
        assert access_token_for(connection_id, equipment=equipment).rotated
        tokens.append(opened(connection_id, "refresh_token_sealed", equipment))
    assert len(set(tokens)) == 3
    assert "Disconnected" in alice.get(alice.post(f"/stores/{store_id}/disconnect").location).text
    calls = provider.calls("/token")[before:]
    assert [call["status"] for call in calls] == [200, 200, 200]
    assert {call["auth"] for call in calls} == {"basic" if auth == ClientAuth.BASIC else "body"}
    assert [call["status"] for call in provider.calls("/token/revocation")][-1] == 200
    assert not connection_of(store_id).has_refresh_token
    assert provider.refuses(tokens[-1] or "", CLIENTS[auth])


@pytest.mark.parametrize("iss", [None, "https://evil.example", "{issuer}/"])
def test_an_answer_of_another_server_never_reaches_the_token_endpoint(
    alice: Browser, provider: CertifiedProvider, iss: str | None
) -> None:
    store_id = set_up(alice, provider)
    before = len(provider.calls("/token"))
    query = parse_qs(urlsplit(provider.consent(leave(alice, store_id), MAILBOX)).query)
    assert query.pop("iss") == [provider.issuer]
    if iss:
        query["iss"] = [iss.format(issuer=provider.issuer)]
    words = failure(alice, alice.get(f"/oauth/callback?{urlencode(query, doseq=True)}"))
    assert "sign-in server" in words
    assert len(provider.calls("/token")) == before
    assert not connection_of(store_id).has_refresh_token


def test_a_person_who_cancels_there_is_told_calmly(alice: Browser, provider: CertifiedProvider) -> None:
    store_id = set_up(alice, provider)
    query = parse_qs(urlsplit(leave(alice, store_id)).query)
    assert query["prompt"] == ["consent"]
    answer = {"state": query["state"][0], "iss": provider.issuer, "error": "access_denied"}
    words = failure(alice, alice.get(f"/oauth/callback?{urlencode(answer)}"))
    assert "Nothing was changed." in unescape(words)
