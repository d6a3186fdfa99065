"""The brand page: what its fields take, what is refused where, both versions after a stale save, and its preview."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from mail.templates import brand
from models import Store
from tests.conftest import Browser

FILLED = {
    "display_name": "Acme & Söhne", "logo_url": "https://cdn.acme.example/logo.png", "logo_width": "120",
    "accent": "#AA0000", "header_color": "#fee", "website_url": "https://acme.example",
    "support_email": "help@acme.example", "address": "Main St 1\r\n1010 Vienna",
    "legal": "FN 1234\r\nVAT 1", "locale": "de_AT", "time_zone": "europe/vienna",
    "currency": "chf",
}  # fmt: skip


def url(store: Store, *more: str) -> str:
    return "/".join((f"/stores/{store.id}/templates/brand", *more))


def fill(browser: Browser, store: Store, **change: str) -> dict[str, str]:
    found = re.search(r'name="version" value="(\d+)"', browser.get(url(store)).text)
    assert found
    return {"version": found[1], **FILLED, **change}


def test_what_is_entered_is_how_mails_look(alice: Browser, store: Store) -> None:
    assert alice.post(url(store), fill(alice, store)).status_code == 303
    look = brand.look_of(store)
    assert look == brand.Look(
        name="Acme & Söhne", logo_url="https://cdn.acme.example/logo.png", logo_width=120,
        website_url="https://acme.example/", support_email="help@acme.example", accent="#aa0000",
        header_color="#ffeeee", address=("Main St 1", "1010 Vienna"), legal=("FN 1234", "VAT 1"),
        locale="de-AT", time_zone="Europe/Vienna",
        currency="CHF",
    )  # fmt: skip
    page = html.unescape(alice.get(url(store)).text)
    assert "Main St 1\n1010 Vienna</textarea>" in page
    assert "German (Austria)" in alice.get(f"/stores/{store.id}/templates").text


@pytest.mark.parametrize(
    ("name", "typed", "words"),
    [
        ("logo_url", "http://acme.example/logo.png", "Start the URL with https://"),
        ("logo_url", "javascript:alert(1)", "Start the URL with https://"),
        ("website_url", "acme.example", "Start the URL with https://"),
        ("logo_width", "1000", "Use a number from 40 to 320"),
        ("accent", "red;background:url(x)", "Enter a colour"),
        ("accent", "", "Enter a colour, like #2153d4"),
        ("support_email", "help@", "Enter a full email address"),
        ("address", "\n".join("a" * 13), "Use 12 lines or fewer"),
        ("legal", "one\ntwo\x00", "Line 2: Take out the control character"),
        ("locale", "german", "Enter a language, like de"),
        ("time_zone", "Berlin", "Enter a time zone, like Europe/Berlin"),
        ("currency", "Euro", "Enter a currency by its three letters"),
        ("display_name", "x" * 151, "Use 150 characters or fewer"),
    ],
)
def test_what_no_mail_can_use_is_refused_at_its_field(
    alice: Browser, store: Store, name: str, typed: str, words: str
) -> None:
    posted = fill(alice, store, **{name: typed})
    for ask in (alice.post, alice.htmx_post):
        answer = ask(url(store), posted)
        assert answer.status_code == 422
        error = re.search(rf'id="{name}-error">(.*?)</p>', answer.text, re.S)
        assert error
        assert words in html.unescape(error[1])
        assert f'<a href="#{name}">' in answer.text
        assert "help@acme.example" in answer.text or name == "support_email", "what else was typed is kept"
    assert alice.htmx_post(url(store, "field", name), posted).status_code == 422
    assert brand.load(store) is None


def test_a_field_is_checked_alone(alice: Browser, store: Store) -> None:
    answer = alice.htmx_post(url(store, "field", "currency"), {"currency": "usd"})
    assert answer.status_code == 200
    assert 'id="f-currency"' in answer.text
    assert alice.htmx_post(url(store, "field", "version"), {"version": "1"}).status_code == 404


def test_a_form_that_did_not_arrive_whole_saves_nothing(alice: Browser, store: Store) -> None:
    for lost in ("accent", "address", "version"):
        posted = fill(alice, store)
        del posted[lost]
        assert alice.post(url(store), posted).status_code == 422
    assert brand.load(store) is None


def test_a_stale_save_shows_both_versions(alice: Browser, store: Store, db: Any) -> None:
    first, second = fill(alice, store), fill(alice, store, currency="USD")
    assert alice.post(url(store), first).status_code == 303
    answer = alice.htmx_post(url(store), second)
    assert answer.status_code == 409
    assert "Alice Adams saved the brand while you were editing it" in answer.text
    row = re.search(r'<a href="#currency">Currency</a></th><td[^>]*>(\w+)</td><td[^>]*>(\w+)</td>', answer.text)
    assert row
    assert row.groups() == ("USD", "CHF")
    assert answer.text.count('<th scope="row">') == 1
    found = re.search(r'name="version" value="(\d+)"', answer.text)
    assert found
    assert alice.post(url(store), second | {"version": found[1]}).status_code == 303
    db.session.rollback()
    assert brand.look_of(store).currency == "USD"


def test_the_frame_follows_what_is_right_of_what_is_typed(alice: Browser, store: Store) -> None:
    answer = alice.post(url(store, "preview"), fill(alice, store, accent="#00aa7", display_name="Typed & Söhne"))
    assert answer.status_code == 200
    assert "Typed &amp; Söhne" in answer.text
    assert "#2153d4" in answer.text, "the colour is not finished, so the saved one stands"
    assert "Typed" not in alice.get(url(store, "preview")).text


def test_fields_offer_what_they_may_hold(alice: Browser, store: Store) -> None:
    for name, option in (("locale", "de-AT"), ("time-zone", "Europe/Berlin"), ("currency", "CHF")):
        assert f'<option value="{option}">' in alice.get(url(store, "choices", name)).text
    assert alice.get(url(store, "choices", "secrets")).status_code == 404
