"""The picker: every provider of the catalogue, and the way to the SMTP tab for those that take no OAuth."""

from __future__ import annotations

import re
from html import unescape

import pytest

from mail.providers import PASSWORD_PROVIDERS, catalogue
from models import Store
from tests.blueprints.settings_page import read
from tests.conftest import Browser
from tests.fakes.oauth import connection_of


def advanced(store: Store) -> str:
    return f"/stores/{store.id}/advanced-smtp"


def test_every_provider_can_be_picked_and_those_without_oauth_lead_to_the_smtp_tab(
    alice: Browser, store: Store
) -> None:
    url, smtp_url = advanced(store), f"/stores/{store.id}/smtp"
    page = alice.get(url).text
    offered = re.findall(r'type="radio" name="provider" id="provider-\d+" value="(\w+)"', page)
    assert offered == [one.key for one in (*catalogue().common(), *catalogue().more())]
    links = re.findall(rf'href="{smtp_url}\?provider=(\w+)"', page)
    assert links == [one.key for one in PASSWORD_PROVIDERS]


@pytest.mark.parametrize("provider", catalogue().more(), ids=lambda one: one.key)
def test_picking_one_fills_in_all_it_needs(alice: Browser, store: Store, provider: object) -> None:
    key = provider.key  # type: ignore[attr-defined]  # a Provider, named so for its id
    url, store_id = advanced(store), store.id
    page = read(alice.post(f"{url}/provider", read(alice.get(url).text).with_(provider=key)).text)
    assert "More providers" in page.text
    assert 'id="f-provider-more" open' in page.text
    chosen = catalogue().get(key)
    assert chosen is not None
    assert page.values["smtp_host"] == chosen.smtp_host
    assert page.values["smtp_port"] == str(chosen.smtp_port)
    assert page.values["scope"] == chosen.scope
    assert page.values["tenant_id"] == (chosen.default_tenant or "common")
    assert f"How to set up {chosen.name}" in unescape(page.text)
    assert alice.post(url, page.with_(from_email="orders@acme.example", from_name="Acme")).status_code == 303
    connection = connection_of(store_id)
    assert connection.provider == key
    assert "{" not in connection.authorization_url + connection.token_url


def test_the_redirect_uri_and_the_stores_values_are_there_to_copy(alice: Browser, store: Store) -> None:
    store_url = advanced(store)
    page = read(alice.get(store_url).text).with_(from_email="orders@acme.example", from_name="Acme")
    alice.post(store_url, page)
    text = unescape(alice.get(store_url).text)
    for wanted in ("http://localhost:8025/oauth/callback", "Set-CASMailbox -Identity orders@acme.example"):
        copied = re.search(rf'<code id="(guide-\d+-\d+)">{re.escape(wanted)}[^<]*</code>', text)
        assert copied, wanted
        assert f'data-copy="{copied.group(1)}"' in text


def test_a_save_brings_the_guide_up_to_date_and_leaves_it_alone_otherwise(alice: Browser, store: Store) -> None:
    url = advanced(store)
    typed = read(alice.get(url).text).with_(from_email="orders@acme.example", from_name="Acme")
    answer = alice.htmx_post(url, typed)
    assert "-Identity orders@acme.example" in answer.text
    again = alice.htmx_post(url, read(alice.get(url).text).with_(from_name="Acme Store"))
    assert again.status_code == 200
    assert "-Identity" not in again.text
    assert 'id="setup-steps" class="guide gap-top" hx-preserve' in again.text


def test_the_smtp_tab_is_filled_in_and_nothing_is_saved(alice: Browser, store: Store) -> None:
    url = f"/stores/{store.id}/smtp"
    answer = alice.get(f"{url}?provider=yahoo")
    page = read(answer.text)
    assert (page.values["smtp_host"], page.values["smtp_port"]) == ("smtp.mail.yahoo.com", "465")
    assert "Filled in for Yahoo Mail, not saved yet" in answer.text
    assert "app password" in answer.text
    assert 'class="savebar float dirty"' in answer.text
    assert read(alice.get(url).text).values["smtp_host"] == ""


def test_a_provider_whose_server_differs_by_account_keeps_what_is_there(alice: Browser, store: Store) -> None:
    url = f"/stores/{store.id}/smtp"
    saved = read(alice.get(url).text).with_(
        from_name="Acme", from_email="a@acme.example", smtp_host="smtp.acme.example", smtp_port="25"
    )
    assert alice.post(url, saved).status_code == 303
    page = read(alice.get(f"{url}?provider=ses").text)
    assert (page.values["smtp_host"], page.values["smtp_port"]) == ("smtp.acme.example", "25")
    assert "IAM key" in page.text


@pytest.mark.parametrize("key", ["", "nobody", "google"])
def test_an_unknown_one_shows_the_tab_as_it_is(alice: Browser, store: Store, key: str) -> None:
    answer = alice.get(f"/stores/{store.id}/smtp?provider={key}")
    assert answer.status_code == 200
    assert "Filled in" not in answer.text
