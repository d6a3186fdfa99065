"""How a store's mails look: what its fields may hold, and that nobody overwrites what somebody else saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from extensions import db
from mail.audit import Actor
from mail.templates import brand
from mail.templates.brand import BrandDraft
from mail.templates.locales import direction, known, name, own_name, parse_locale, standing_in
from mail.templates.stored import StaleSave
from models import AuditEntry, Store
from tests.mail.templates.racing import Save, saved_at_once

MAYA = Actor("Maya")


def test_a_store_without_a_brand_looks_like_the_defaults_and_has_its_own_name(store: Store) -> None:
    store.domain = "acme.example"
    look = brand.look_of(store)
    assert (look.name, look.website_url, look.locale, look.currency) == (
        "Acme Store", "https://acme.example/", "en", "EUR",
    )  # fmt: skip


def test_what_is_saved_is_how_mails_look(store: Store) -> None:
    draft = BrandDraft(
        display_name="Acme", accent="#aa0000", address="Main St 1\nVienna", legal="VAT 1", locale="de-AT"
    )
    assert brand.save(store, draft, expected_version=0, actor=MAYA) == (
        "display_name", "accent", "address", "legal", "locale",
    )  # fmt: skip
    db.session.commit()
    look = brand.look_of(store)
    assert (look.name, look.accent, look.address, look.legal) == (
        "Acme",
        "#aa0000",
        ("Main St 1", "Vienna"),
        ("VAT 1",),
    )
    assert brand.save(store, draft, expected_version=0, actor=MAYA) == (), "the same again changes nothing"
    [entry] = db.session.query(AuditEntry)
    assert (entry.action, entry.actor) == ("brand_saved", "Maya")


@pytest.mark.parametrize("expected", [0, 2, 99])
def test_a_stale_save_is_told(store: Store, expected: int) -> None:
    brand.save(store, BrandDraft(currency="CHF"), expected_version=0, actor=MAYA)
    db.session.commit()
    with pytest.raises(StaleSave):
        brand.save(store, BrandDraft(currency="USD"), expected_version=expected, actor=MAYA)
    assert brand.look_of(store).currency == "CHF"
    assert brand.save(store, BrandDraft(currency="USD"), expected_version=1, actor=MAYA)


def test_of_two_first_saves_at_the_same_moment_one_is_told(app: Flask, store: Store) -> None:
    def save(currency: str) -> Save:
        return lambda mine: brand.save(mine, BrandDraft(currency=currency), expected_version=0, actor=MAYA)

    assert saved_at_once(app, store, save("CHF"), save("USD")) == ["saved", "stale"]


@pytest.mark.parametrize(
    ("parse", "typed", "meant"),
    [
        (brand.parse_color, "#2153D4", "#2153d4"),
        (brand.parse_color, "abc", "#aabbcc"),
        (brand.parse_web_url, "https://Shop.Example", "https://shop.example/"),
        (brand.parse_web_url, 'https://a.example/"><b>', "https://a.example/%22%3E%3Cb%3E"),
        (brand.parse_logo_width, "320", 320),
        (brand.parse_time_zone, "europe/berlin", "Europe/Berlin"),
        (brand.parse_time_zone, "America/New York", "America/New_York"),
        (brand.parse_currency, "chf", "CHF"),
        (brand.parse_lines, " a \r\n\r\n b\n", "a\nb"),
        (brand.parse_lines, "", ""),
        (parse_locale, "DE_at", "de-AT"),
        (parse_locale, "zh-hant-tw", "zh-Hant-TW"),
    ],
)
def test_each_field_has_one_spelling(parse: Callable[[str], Any], typed: str, meant: object) -> None:
    assert parse(typed) == meant


@pytest.mark.parametrize(
    ("parse", "typed"),
    [
        *((brand.parse_color, text) for text in ("", "red", "#12345", "#1234567", "#12345g", "#２１５３d4", "url(x)")),
        *((brand.parse_web_url, text) for text in ("http://a.example/x.png", "javascript:alert(1)", "data:x", "//a")),
        (brand.parse_web_url, "https://a.example/" + "x" * 500),
        *((brand.parse_logo_width, text) for text in ("", "39", "321", "-1", "1e2", "１６０")),
        *((brand.parse_time_zone, text) for text in ("", "Berlin", "Europe/Nowhere", "../etc/passwd", "localtime")),
        *((brand.parse_currency, text) for text in ("", "EURO", "€", "ZZZ", "XX")),
        *((brand.parse_lines, text) for text in ("a\x00b", "a\u202eb", "\n".join("abcdefghijklm"))),
        *((parse_locale, text) for text in ("", "german", "de-XX-YY-ZZ", "xx", "d", "../de", "de-ÄT")),
    ],
)
def test_what_no_mail_can_use_is_refused_with_an_instruction(parse: Callable[[str], Any], typed: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        parse(typed)


def test_languages_have_names_and_directions() -> None:
    assert (name("de-AT"), own_name("de-AT")) == ("German (Austria)", "Deutsch (Österreich)")
    assert (direction("ar"), direction("de"), direction("zz")) == ("rtl", "ltr", "ltr")
    assert ("fr-CA", "French (Canada)") in known()
    assert standing_in("de-AT", "fr-CH") == ("de-AT", "de", "fr-CH", "fr", "en")


def test_choices_can_all_be_chosen() -> None:
    assert all(parse_locale(tag) == tag for tag, _ in known())
    assert all(brand.parse_time_zone(zone) == zone for zone, _ in brand.time_zone_choices())
    assert all(brand.parse_currency(code) == code for code, _ in brand.currency_choices())
    assert "Europe/Berlin" in dict(brand.time_zone_choices())
    assert "DEM" not in dict(brand.currency_choices())
