"""What a store wrote for its mails: which texts are in force, versions that nothing overwrites, switches, copies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from extensions import db
from mail.audit import Actor
from mail.templates import brand, kinds, stored
from mail.templates.brand import BrandDraft
from mail.templates.drafts import Draft
from mail.templates.kinds import Kind
from mail.templates.stored import InForce, NotAccepted, StaleSave
from models import AuditEntry, Brand, Store, TemplateSwitch, TemplateVersion
from tests import factories
from tests.conftest import running, settings_for
from tests.mail.templates.racing import Save, saved_at_once

MAYA, JON = Actor("Maya"), Actor("Jon")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def app(request: pytest.FixtureRequest) -> Iterator[Flask]:
    """Numbers, cascades and what happens at the same time are the database's: on each of them."""
    url = request.getfixturevalue("database_url" if request.param == "sqlite" else "postgres_url")
    with running(settings_for(url)) as application:
        yield application


@pytest.fixture
def kind() -> Kind:
    found = kinds.find("password_reset")
    assert found is not None
    return found


def draft(subject: str = "Reset it", **more: Any) -> Draft:
    sample = '{"customer": {"first_name": "Emma", "email": "emma@inbox.example"}, "reset": {"url": "https://a.example/x", "minutes": 30}}'  # noqa: E501
    return Draft(**{"subject": subject, "preheader": "", "html": "<p>Hello</p>", "text": "", "sample": sample} | more)


def put(store: Store, kind: Kind, locale: str, texts: Draft, *, actor: Actor = MAYA) -> bool:
    number = stored.latest_number(store.id, kind, locale)
    saved = stored.save(store, kind, locale, texts, expected_number=number, actor=actor)
    db.session.commit()
    return saved


def now(store: Store, kind: Kind, locale: str = "en", fallback: str = "en") -> InForce:
    return stored.in_force(store.id, kind, locale, fallback)


def trail() -> list[tuple[str, str, list[str]]]:
    return [(one.action, one.detail, one.fields) for one in db.session.query(AuditEntry).order_by(AuditEntry.id)]


# --- What goes out


def test_a_store_that_wrote_nothing_sends_the_defaults(store: Store, kind: Kind) -> None:
    for locale in ("en", "de"):
        found = now(store, kind, locale)
        assert (found.locale, found.number, found.is_default) == (locale, 0, True)
        assert found.source == kinds.default_source(kind, locale)


@pytest.mark.parametrize(
    ("asked", "fallback", "written", "answer"),
    [
        ("de-AT", "en", {"de-AT", "de"}, "de-AT"),
        ("de-AT", "en", {"de"}, "de"),
        ("de-AT", "en", set(), "de"),
        ("fr-CA", "fr-BE", {"fr-BE"}, "fr-BE"),
        ("fr-CA", "fr-BE", {"fr"}, "fr"),
        ("pl", "de-CH", set(), "de"),
        ("pl", "fr", {"fr"}, "fr"),
        ("pl", "fr", set(), "en"),
        ("", "de", set(), "de"),
    ],
)
def test_the_nearest_language_stands_in(
    store: Store, kind: Kind, asked: str, fallback: str, written: set[str], answer: str
) -> None:
    for locale in written:
        put(store, kind, locale, draft(f"In {locale}"))
    found = now(store, kind, asked, fallback)
    assert found.locale == answer
    assert found.is_default == (answer not in written)
    assert found.source.subject == (f"In {answer}" if answer in written else kinds.default_source(kind, answer).subject)


def test_what_one_store_wrote_is_of_no_other(store: Store, kind: Kind) -> None:
    other = factories.make_store("Bluebird")
    put(store, kind, "en", draft("Ours"))
    assert now(other, kind).is_default
    assert now(store, kinds.KINDS[0]).is_default


# --- Versions


def test_each_save_is_a_version_and_the_last_one_is_in_force(store: Store, kind: Kind) -> None:
    assert put(store, kind, "en", draft("First"))
    assert put(store, kind, "en", draft("Second"), actor=JON)
    assert (now(store, kind).source.subject, now(store, kind).number) == ("Second", 2)
    kept = [(one.number, one.origin, one.made_by) for one in stored.versions(store.id, kind, "en")]
    assert kept == [(2, "saved", "Jon"), (1, "saved", "Maya")]
    assert trail()[-1] == ("template_saved", "Password reset (en)", ["subject"])


def test_the_same_texts_again_are_no_version(store: Store, kind: Kind) -> None:
    put(store, kind, "en", draft())
    assert not put(store, kind, "en", draft(html="<p>Hello</p>", subject="  Reset it "))
    assert not put(store, kind, "de", now(store, kind, "de").draft)
    assert stored.latest_number(store.id, kind, "en") == 1
    assert stored.latest_number(store.id, kind, "de") == 0


def test_texts_that_only_stood_in_become_versions_of_a_new_language(store: Store, kind: Kind) -> None:
    assert put(store, kind, "fr", now(store, kind, "fr").draft)
    assert now(store, kind, "fr").locale == "fr"


def test_of_two_people_the_second_is_told(store: Store, kind: Kind) -> None:
    put(store, kind, "en", draft("Maya’s"))
    for act in (
        lambda: stored.save(store, kind, "en", draft("Jon’s"), expected_number=0, actor=JON),
        lambda: stored.reset(store, kind, "en", expected_number=0, actor=JON),
    ):
        with pytest.raises(StaleSave):
            act()
        db.session.rollback()
    assert now(store, kind).source.subject == "Maya’s"


def test_two_saves_at_the_same_moment_make_one_version(app: Flask, store: Store, kind: Kind) -> None:
    def save(subject: str) -> Save:
        return lambda mine: stored.save(mine, kind, "en", draft(subject), expected_number=0, actor=MAYA)

    store_id = store.id
    assert saved_at_once(app, store, save("One"), save("Two")) == ["saved", "stale"]
    assert [one.number for one in stored.versions(store_id, kind, "en")] == [1]


def test_fifty_versions_are_kept_and_their_numbers_go_on(store: Store, kind: Kind) -> None:
    rows = [
        TemplateVersion(store_id=store.id, kind=kind.key, locale="en", number=number, html="<p>Old</p>")
        for number in range(1, stored.VERSIONS_MAX + 1)
    ]
    db.session.add_all(rows)
    db.session.commit()
    put(store, kind, "en", draft("Newest"))
    numbers = [one.number for one in stored.versions(store.id, kind, "en")]
    assert (numbers[0], numbers[-1], len(numbers)) == (51, 2, 50)


@pytest.mark.parametrize(
    ("change", "part", "line"),
    [
        ({"html": "<p>\n{{ reset.link }}</p>"}, "html", 2),
        ({"subject": "{{ customer.frist_name }}"}, "subject", 1),
        ({"text": "One\nTwo\n{% if %}"}, "text", 3),
        ({"sample": '{\n"customer": {,}\n}'}, "sample", 2),
        ({"sample": "[]"}, "sample", 1),
        ({"html": "a\r\nb\x00"}, "html", 2),
        ({"text": "a\n\u202eb"}, "text", 2),
        ({"subject": "a\nb"}, "subject", 1),
        ({"html": "x" * 100_001}, "html", None),
        ({"sample": '{"a": "\\ud800"}'}, "sample", None),
        ({"sample": '{"a": ' + "[" * 40 + "]" * 40 + "}"}, "sample", None),
        ({"sample": '{"a": 1e999}'}, "sample", None),
        ({"sample": '{"a": 1, "a": 2}'}, "sample", None),
    ],
)
def test_texts_that_make_no_mail_are_refused_by_line(
    store: Store, kind: Kind, change: dict[str, str], part: str, line: int | None
) -> None:
    with pytest.raises(NotAccepted) as refused:
        stored.save(store, kind, "en", draft(**change), expected_number=0, actor=MAYA)
    first = refused.value.problems[0]
    assert (first.part, first.line) == (part, line)
    assert not any(problem.is_warning for problem in refused.value.problems)
    db.session.rollback()
    assert now(store, kind).is_default
    assert trail() == []


def test_lines_keep_their_numbers_whatever_ends_them(store: Store, kind: Kind) -> None:
    put(store, kind, "en", draft(html="\r\n<p>One</p>\r<p>Two</p>\n\n"))
    assert now(store, kind).source.html == "\n<p>One</p>\n<p>Two</p>\n\n"


def test_one_kind_takes_so_many_languages_and_no_more(store: Store, kind: Kind) -> None:
    locales = [f"fr-{number:03}" for number in range(30)]
    db.session.add_all(
        TemplateVersion(store_id=store.id, kind=kind.key, locale=locale, number=1, html="x") for locale in locales
    )
    db.session.commit()
    with pytest.raises(NotAccepted, match="30 languages"):
        stored.save(store, kind, "pl", draft(), expected_number=0, actor=MAYA)


# --- Back and forth


def test_resetting_is_a_version_that_can_be_taken_back(store: Store, kind: Kind) -> None:
    put(store, kind, "en", draft("Ours"))
    assert stored.reset(store, kind, "en", expected_number=1, actor=JON)
    assert now(store, kind).is_default
    assert not stored.reset(store, kind, "en", expected_number=2, actor=JON), "there is nothing left to reset"
    assert stored.restore(store, kind, "en", 1, expected_number=2, actor=MAYA)
    db.session.commit()
    assert (now(store, kind).source.subject, now(store, kind).number) == ("Ours", 3)
    assert [one.origin for one in stored.versions(store.id, kind, "en")] == ["restored 1", "reset", "saved"]
    assert [action for action, _, _ in trail()] == ["template_saved", "template_reset", "template_restored"]


def test_a_language_without_default_is_taken_out_by_a_reset(store: Store, kind: Kind) -> None:
    put(store, kind, "fr", draft("Bonjour"))
    stored.reset(store, kind, "fr", expected_number=1, actor=MAYA)
    assert now(store, kind, "fr").locale == "en"
    assert [one.is_default for one in stored.overview(store.id)] == [True]
    stored.restore(store, kind, "fr", 1, expected_number=2, actor=MAYA)
    assert now(store, kind, "fr").source.subject == "Bonjour"


def test_a_version_that_no_longer_renders_is_not_restored(store: Store, kind: Kind) -> None:
    old = TemplateVersion(store_id=store.id, kind=kind.key, locale="en", number=1, html="{{ gone.name }}")
    db.session.add(old)
    db.session.commit()
    put(store, kind, "en", draft("Newer"))
    with pytest.raises(NotAccepted):
        stored.restore(store, kind, "en", 1, expected_number=2, actor=MAYA)
    assert not stored.restore(store, kind, "en", 99, expected_number=2, actor=MAYA)


# --- Switches and copies


def test_a_kind_is_switched_off_and_on(store: Store, kind: Kind) -> None:
    assert not stored.is_off(store.id, kind)
    assert stored.switch(store, kind, off=True, actor=MAYA)
    assert not stored.switch(store, kind, off=True, actor=JON)
    db.session.commit()
    assert stored.is_off(store.id, kind)
    assert stored.off_kinds(store.id)[kind.key].off_by == "Maya"
    assert stored.switch(store, kind, off=False, actor=MAYA)
    assert not stored.is_off(store.id, kind)
    assert [detail for _, detail, _ in trail()] == ["Password reset: off", "Password reset: on"]


def test_a_copied_store_sends_the_same(store: Store, kind: Kind) -> None:
    for number in range(3):
        put(store, kind, "en", draft(f"Version {number}"))
    put(store, kind, "fr", draft("Bonjour"))
    put(store, kinds.KINDS[0], "de", now(store, kinds.KINDS[0], "de").draft)
    put(store, kind, "de", draft("Hallo"))
    stored.reset(store, kind, "de", expected_number=1, actor=MAYA)
    stored.switch(store, kind, off=True, actor=MAYA)
    look = BrandDraft(display_name="Acme", accent="#aa0000", address="Main St 1\nVienna", locale="de-AT")
    brand.save(store, look, expected_version=0, actor=MAYA)
    copy = factories.make_store("Copy")
    stored.copy_to(store, copy, actor=JON)
    db.session.commit()
    for locale in ("en", "de", "fr"):
        ours, theirs = now(store, kind, locale), now(copy, kind, locale)
        assert (theirs.source, theirs.sample, theirs.locale) == (ours.source, ours.sample, ours.locale)
    assert stored.off_kinds(copy.id).keys() == {kind.key}
    assert replace(stored.look_of(copy), name="") == replace(stored.look_of(store), name="")
    assert [(one.number, one.origin) for one in stored.versions(copy.id, kind, "en")] == [(1, "copied")]
    put(copy, kind, "en", draft("Only in the copy"))
    assert now(store, kind).source.subject == "Version 2"


def test_a_deleted_store_takes_its_templates_along(store: Store, kind: Kind) -> None:
    put(store, kind, "en", draft())
    stored.switch(store, kind, off=True, actor=MAYA)
    brand.save(store, BrandDraft(currency="CHF"), expected_version=0, actor=MAYA)
    db.session.delete(store)
    db.session.commit()
    assert [db.session.query(model).count() for model in (TemplateVersion, TemplateSwitch, Brand)] == [0, 0, 0]
