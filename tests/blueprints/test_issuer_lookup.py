"""Issuer and Look up on the Advanced SMTP tab: what it fills in, what it stores, and whom it does not believe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from extensions import db
from models import Store
from models.connection import ClientAuth, Connection
from tests import factories
from tests.blueprints.settings_page import Page, read
from tests.conftest import Browser, running, settings_for
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.fakes.oauth import connection_of
from tests.fakes.provider import FakeProvider, reply

TOKEN_URL = "https://token.acme.example/token"
AUTHORIZATION_URL = "https://id.acme.example/authorize"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return make_ca(tmp_path_factory.mktemp("issuers"))


@pytest.fixture
def app(database_url: str, ca: CA) -> Iterator[Flask]:
    with running(settings_for(database_url, CA_FILE=ca.cert_file)) as application:
        yield application


@pytest.fixture
def server(ca: CA) -> Iterator[FakeProvider]:
    cert: ServerCert = make_server_cert(ca)
    with FakeProvider(cert) as running:
        metadata = {
            "issuer": issuer_of(running),
            "authorization_endpoint": AUTHORIZATION_URL,
            "token_endpoint": TOKEN_URL,
            "revocation_endpoint": "https://token.acme.example/revoke",
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
            "authorization_response_iss_parameter_supported": True,
        }
        running.answer = reply(200, metadata)
        yield running


def issuer_of(server: FakeProvider) -> str:
    return server.token_url.removesuffix("/token")


class Tab:
    """The Advanced SMTP tab of one store with Other provider chosen."""

    def __init__(self, browser: Browser, store_id: int) -> None:
        self.browser, self.store_id = browser, store_id
        self.url = f"/stores/{store_id}/advanced-smtp"

    def open(self) -> Page:
        page = read(self.browser.get(self.url).text)
        return read(self.browser.post(f"{self.url}/provider", page.with_(provider="other", scope="")).text)

    def look_up(self, issuer: str, **changes: str) -> Page:
        return read(self.browser.post(f"{self.url}/issuer", self.open().with_(issuer=issuer, **changes)).text)

    def save(self, posted: dict[str, str]) -> Page:
        answer = self.browser.post(self.url, posted)
        return read(answer.text) if answer.status_code == 422 else read(self.browser.get(answer.location).text)

    @property
    def connection(self) -> Connection:
        return connection_of(self.store_id)


@pytest.fixture
def tab(alice: Browser, store: Store) -> Tab:
    store.email_settings.from_email = "orders@acme.example"
    store.email_settings.from_name = "Acme"
    db.session.commit()
    return Tab(alice, store.id)


def test_it_fills_in_what_the_server_says_and_stores_nothing(tab: Tab, server: FakeProvider) -> None:
    page = tab.look_up(issuer_of(server))
    assert page.values["authorization_url"] == AUTHORIZATION_URL
    assert page.values["token_url"] == TOKEN_URL
    assert page.values["client_auth"] == "client_secret_post"
    assert page.values["scope"] == "openid email offline_access"
    assert "This server promises PKCE with S256, its name in every answer" in page.text
    assert (tab.connection.provider, tab.connection.issuer) == ("microsoft365", "")


def test_htmx_gets_the_part_alone(tab: Tab, server: FakeProvider) -> None:
    answer = tab.browser.htmx_post(f"{tab.url}/issuer", {"provider": "other", "issuer": issuer_of(server)})
    assert answer.status_code == 200
    assert 'hx-target="#part-endpoint"' in answer.text
    assert TOKEN_URL in answer.text
    assert "filled in by the issuer" in answer.text
    assert "From Display Name" not in answer.text


def test_a_scope_that_was_typed_stays(tab: Tab, server: FakeProvider) -> None:
    assert tab.look_up(issuer_of(server), scope="my.own").values["scope"] == "my.own"


@pytest.mark.parametrize(
    ("issuer", "words"),
    [
        ("", "Enter the issuer as the provider gives it"),
        ("http://id.acme.example", "Start the URL with https://"),
        ("{issuer}/", "The server calls itself “{issuer}”"),
        ("https://10.0.0.1", "10.0.0.1:443 is not a public internet address"),
    ],
)
def test_what_is_wrong_stands_beside_the_field(tab: Tab, server: FakeProvider, issuer: str, words: str) -> None:
    own = issuer_of(server)
    answer = tab.browser.post(f"{tab.url}/issuer", tab.open().with_(issuer=issuer.format(issuer=own)))
    assert answer.status_code == 422
    assert words.format(issuer=own) in read(answer.text).error_of("issuer")


def test_saving_keeps_what_the_server_promised(tab: Tab, server: FakeProvider) -> None:
    tab.save(tab.look_up(issuer_of(server)).with_(client_id="app"))
    connection = tab.connection
    assert (connection.provider, connection.issuer) == ("other", issuer_of(server))
    assert (connection.authorization_url, connection.token_url) == (AUTHORIZATION_URL, TOKEN_URL)
    assert connection.revocation_url == "https://token.acme.example/revoke"
    assert (connection.iss_required, connection.pkce_method) == (True, "S256")
    assert connection.client_auth is ClientAuth.POST


def test_another_save_keeps_it_too(tab: Tab, server: FakeProvider) -> None:
    tab.save(tab.look_up(issuer_of(server)).values)
    asked = len(server.requests)
    tab.save(read(tab.browser.get(tab.url).text).with_(client_id="app-2"))
    assert (tab.connection.client_id, tab.connection.issuer) == ("app-2", issuer_of(server))
    assert tab.connection.iss_required
    assert len(server.requests) == asked


def test_an_issuer_that_nobody_looked_up_is_not_stored(tab: Tab) -> None:
    page = tab.save(tab.open().with_(issuer="https://id.acme.example", token_url=TOKEN_URL))
    assert "Press Look up" in page.error_of("issuer")
    assert tab.connection.provider == "microsoft365"


@pytest.mark.parametrize("field", ["token_url", "authorization_url"])
def test_an_endpoint_changed_afterwards_is_not_the_issuers(tab: Tab, server: FakeProvider, field: str) -> None:
    found = tab.look_up(issuer_of(server)).with_(**{field: "https://evil.example/token"})
    assert "changed after they were looked up" in tab.save(found).error_of("issuer")
    saved = tab.save(tab.look_up(issuer_of(server)).values)
    later = saved.with_(**{field: "https://evil.example/token"})
    assert "changed after they were looked up" in tab.save(later).error_of("issuer")
    assert getattr(tab.connection, field) in (TOKEN_URL, AUTHORIZATION_URL)


def test_what_was_looked_up_for_another_store_is_not_believed(tab: Tab, server: FakeProvider) -> None:
    other = Tab(tab.browser, factories.make_store("Second Store", code="second").id)
    foreign = other.look_up(issuer_of(server)).values["looked_up"]
    posted = tab.open().with_(
        issuer=issuer_of(server), token_url=TOKEN_URL, authorization_url=AUTHORIZATION_URL, looked_up=foreign
    )
    assert "Press Look up" in tab.save(posted).error_of("issuer")


@pytest.mark.parametrize("text", ["", "x", "e30.abc", "bnVsbA.x"])
def test_a_made_up_promise_is_not_believed(tab: Tab, text: str) -> None:
    posted = tab.open().with_(issuer="https://id.acme.example", token_url=TOKEN_URL, looked_up=text)
    assert "Press Look up" in tab.save(posted).error_of("issuer")


def test_leaving_it_empty_ends_what_it_promised(tab: Tab, server: FakeProvider) -> None:
    saved = tab.save(tab.look_up(issuer_of(server)).values)
    tab.save(saved.with_(issuer=""))
    connection = tab.connection
    assert (connection.issuer, connection.revocation_url, connection.pkce_method) == ("", "", "")
    assert not connection.iss_required


def test_picking_a_preset_takes_the_place_of_the_issuers_endpoints(tab: Tab, server: FakeProvider) -> None:
    saved = tab.save(tab.look_up(issuer_of(server)).values)
    page = read(tab.browser.post(f"{tab.url}/provider", saved.with_(provider="google")).text)
    assert page.values["token_url"] == "https://oauth2.googleapis.com/token"
    tab.save(page.values)
    connection = tab.connection
    assert (connection.provider, connection.issuer, connection.iss_required) == ("google", "", False)


def test_how_the_app_proves_itself_can_be_chosen(tab: Tab) -> None:
    typed = tab.open().with_(token_url=TOKEN_URL, client_auth="client_secret_basic")
    tab.save(typed)
    assert tab.connection.client_auth is ClientAuth.BASIC
