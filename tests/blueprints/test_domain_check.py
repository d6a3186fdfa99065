"""The domain check on the settings pages: with and without htmx, who may, and what nobody may send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape

import pytest
from flask import Flask

from config import ConfigError, load
from mail.domain.limit import PER_MINUTE
from models import Store
from models.database import BUSY_TIMEOUT_MS
from tests import factories
from tests.conftest import Browser
from tests.fakes.dns import NameServer

OUTLOOK = "spf.protection.outlook.com"
ZONE = {
    "com": {"TXT": ["a registry"]},
    "acme.example": {"TXT": ["v=spf1 include:_spf.google.com <b>bold</b> -all"]},
    "typed.example": {"TXT": [f"v=spf1 include:{OUTLOOK} -all"]},
    OUTLOOK: {"TXT": ["v=spf1 ip4:40.92.0.0/15 -all"]},
    "x2026._domainkey.acme.example": {"TXT": ["v=DKIM1; p="]},
}


@pytest.fixture
def names(app: Flask) -> Iterator[NameServer]:
    with NameServer(ZONE) as server:
        app.extensions["storepost"] = replace(app.extensions["storepost"], dns_servers=server.servers)
        yield server


@pytest.fixture
def store(app: Flask) -> Store:
    return factories.make_store("Acme Store", from_email="orders@acme.example")


def url_of(store: Store, method: str = "advanced_smtp") -> str:
    return f"/stores/{store.id}/domain-check/{method}"


@pytest.mark.parametrize("tab", ["smtp", "advanced-smtp"])
def test_both_tabs_have_the_card_and_ask_nothing_by_themselves(
    alice: Browser, store: Store, names: NameServer, tab: str
) -> None:
    page = alice.get(f"/stores/{store.id}/{tab}").text
    assert page.count('id="domain-card"') == 1
    assert f'hx-post="{url_of(store, tab.replace("-", "_"))}"' in page
    assert names.asked == []


def test_a_press_answers_with_the_card(alice: Browser, store: Store, names: NameServer) -> None:
    answer = alice.htmx_post(url_of(store))
    text = unescape(answer.text)
    assert answer.status_code == 200
    assert "<html" not in text
    assert "3 things to mend for acme.example" in text
    assert f"v=spf1 include:{OUTLOOK} include:_spf.google.com -all" in text
    assert re.search(r'id="live"[^>]*>3 things to mend for acme.example', text)


def test_without_htmx_it_is_a_page(alice: Browser, store: Store, names: NameServer) -> None:
    answer = alice.post(url_of(store, "smtp"))
    assert answer.status_code == 200
    assert "<html" in answer.text
    assert "to mend for acme.example" in answer.text
    assert f'href="/stores/{store.id}/smtp"' in answer.text


def test_the_page_by_itself_asks_nothing(alice: Browser, store: Store, names: NameServer) -> None:
    answer = alice.get(url_of(store))
    assert (answer.status_code, names.asked) == (200, [])
    assert "Check domain" in answer.text


def test_it_checks_what_is_on_the_screen(alice: Browser, store: Store, names: NameServer) -> None:
    typed = {"from_email": "a@typed.example", "smtp_host": "smtp.office365.com", "provider": "microsoft365"}
    text = alice.htmx_post(url_of(store), typed).text
    assert "typed.example" in text
    assert "The SPF record lets Microsoft 365 send" in text


def test_what_a_zone_says_is_shown_as_text(alice: Browser, store: Store, names: NameServer) -> None:
    answer = alice.htmx_post(url_of(store))
    assert "<b>bold</b>" not in answer.text
    assert "&lt;b&gt;bold&lt;/b&gt;" in answer.text


def test_every_htmx_attribute_has_its_nonce(alice: Browser, store: Store, names: NameServer) -> None:
    text = alice.htmx_post(url_of(store)).text
    assert [tag for tag in re.findall(r"<[^>]*\shx-[^>]*>", text) if "hx-nonce=" not in tag] == []


def test_a_typed_selector_is_looked_at_and_kept_in_its_field(alice: Browser, store: Store, names: NameServer) -> None:
    text = alice.htmx_post(url_of(store, "smtp"), {"dkim_selector": "x2026", "smtp_host": ""}).text
    assert "withdrawn" in text
    assert 'name="dkim_selector" value="x2026"' in text


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"from_email": ""}, "Enter a From Email Address first"),
        ({"from_email": "nonsense"}, "Enter a full email address"),
        ({"from_email": "a@b.example\u202e"}, "text direction character"),
        ({"from_email": "a@" + "x" * 5000 + ".example"}, "Enter a full email address"),
        ({"from_email": "a@[127.0.0.1]"}, "Enter a full email address"),
        ({"smtp_host": "http://127.0.0.1/"}, "Leave out what stands before the name"),
        ({"smtp_host": "a b"}, "SMTP Server"),
        ({"dkim_selector": "<script>"}, "DKIM selector"),
        ({"dkim_selector": "x" * 5000}, "DKIM selector"),
        ({"dkim_selector": "a\\000b"}, "DKIM selector"),
    ],
    ids=["none", "no-address", "direction", "long", "literal", "url", "no-host", "tag", "long-selector", "escape"],
)
def test_what_cannot_be_checked_is_refused_in_words(
    alice: Browser, store: Store, names: NameServer, entries: dict[str, str], said: str
) -> None:
    for post in (alice.htmx_post, alice.post):
        answer = post(url_of(store), entries)
        assert answer.status_code == 422
        assert said in unescape(answer.text)
    assert names.asked == []


@pytest.mark.parametrize("body", [b"from_email=%ff%fe", b"dkim_selector=%c0%80", b"smtp_host=%ff", b"%ff=1"], ids=ascii)
def test_bytes_that_are_no_text_are_refused(alice: Browser, store: Store, names: NameServer, body: bytes) -> None:
    form = "application/x-www-form-urlencoded"
    answer = alice.open("POST", url_of(store), data=f"csrf_token={alice.csrf}&".encode() + body, content_type=form)
    assert answer.status_code == 422
    assert names.asked == []


def test_an_unknown_provider_is_judged_as_any_other(alice: Browser, store: Store, names: NameServer) -> None:
    answer = alice.htmx_post(url_of(store), {"provider": "../x", "smtp_host": "mail.nowhere.example"})
    assert answer.status_code == 200


def test_it_takes_the_token_of_the_session(alice: Browser, store: Store, names: NameServer) -> None:
    assert alice.open("POST", url_of(store)).status_code == 400
    assert names.asked == []


def test_strangers_find_no_card(app: Flask, client: Browser, store: Store, names: NameServer) -> None:
    word = "a stranger to all of them 7"
    stranger = factories.make_user(password=word)
    client.post("/sign-in", {"email": stranger.email, "password": word})
    assert client.get(url_of(store)).status_code == 404
    assert client.post(url_of(store), {"csrf_token": ""}).status_code in (400, 404)
    assert names.asked == []


def test_a_method_that_is_none_is_no_page(alice: Browser, store: Store) -> None:
    assert alice.get(url_of(store, "imap")).status_code == 404


def test_more_checks_than_anybody_reads_have_to_wait(alice: Browser, store: Store, names: NameServer) -> None:
    answers = [alice.htmx_post(url_of(store)) for _ in range(PER_MINUTE + 1)]
    assert [answer.status_code for answer in answers] == [200] * PER_MINUTE + [429]
    assert int(answers[-1].headers["Retry-After"]) <= 61
    assert "Nothing was looked up" in answers[-1].text


def test_nobody_waits_for_the_database_while_a_name_server_is_silent(
    app: Flask, alice: Browser, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check holds no transaction: somebody else writes while it is asking."""
    from extensions import db
    from mail.domain import dns as domain_dns

    store_id = store.id
    written: list[bool] = []

    def ask(self: domain_dns.Asker, name: str, kind: str = "TXT") -> domain_dns.Reply:
        with db.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=100")
            connection.exec_driver_sql(f"UPDATE stores SET name = 'Renamed' WHERE id = {store_id}")
            connection.commit()
            connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        written.append(True)
        return domain_dns.Reply(domain_dns.Status.SILENT)

    monkeypatch.setattr(domain_dns.Asker, "ask", ask)
    answer = alice.htmx_post(url_of(store))
    assert (answer.status_code, written) == (200, [True])
    assert "could not be reached" in answer.text


def test_a_save_leaves_what_was_found_on_the_page(alice: Browser, store: Store) -> None:
    from tests.blueprints.settings_page import read

    url = f"/stores/{store.id}/smtp"
    answer = alice.htmx_post(url, read(alice.get(url).text).with_(from_name="Acme", from_email="orders@acme.example"))
    assert answer.status_code == 200
    assert re.search(r'<section id="domain-card" hx-preserve hx-nonce="[^"]+"></section>', answer.text)


NEEDED = {
    "STOREPOST_PUBLIC_URL": "http://localhost:8025",
    "STOREPOST_SECRET_KEY": "test-only-secret-key-0123456789abcdefghij",
    "STOREPOST_KEYRING": "k1:x",
}


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", ()),
        ("9.9.9.9", (("9.9.9.9", 53),)),
        (
            "127.0.0.1:5353, [2620:fe::fe]:54 2620:fe::9",
            (("127.0.0.1", 5353), ("2620:fe::fe", 54), ("2620:fe::9", 53)),
        ),
    ],
    ids=["none", "one", "three"],
)
def test_the_name_servers_are_a_setting(text: str, servers: tuple[tuple[str, int], ...]) -> None:
    assert load(NEEDED | {"STOREPOST_DNS_SERVERS": text})["DNS_SERVERS"] == servers


@pytest.mark.parametrize("text", ["dns.example", "9.9.9.9:0", "9.9.9.9:x", "9.9.9.9/24", "[::1", "u@9.9.9.9", "1.2.3"])
def test_a_name_server_that_is_no_address_stops_the_start(text: str) -> None:
    with pytest.raises(ConfigError, match="STOREPOST_DNS_SERVERS must be addresses"):
        load(NEEDED | {"STOREPOST_DNS_SERVERS": text})
