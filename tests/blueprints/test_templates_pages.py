"""The pages of a store's templates: who may, what is refused and where it says so, and that nothing typed is lost."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from mail.templates import kinds, stored
from models import AuditEntry, Message, Store, User
from models.access import Permission
from models.outbox import MessageStatus
from tests import factories
from tests.blueprints.template_pages import fields, open_, problems, save, url_of
from tests.conftest import PASSWORD, Browser

RESET = "password-reset"
BROKEN = {"html": "<p>One</p>\n<p>{{ reset.link }}</p>"}


@pytest.fixture
def kind() -> kinds.Kind:
    found = kinds.find("password_reset")
    assert found is not None
    return found


@pytest.fixture
def bob(app: Flask, admin: User) -> Browser:
    """Another administrator, signed in."""
    factories.make_admin("bob@shop.example", name="Bob Brown", password=PASSWORD)
    browser = Browser(app.test_client())
    assert browser.post("/sign-in", {"email": "bob@shop.example", "password": PASSWORD}).status_code == 303
    return browser


def subject_now(store: Store, kind: kinds.Kind, locale: str = "en") -> str:
    return stored.in_force(store.id, kind, locale, "en").source.subject


# --- The list


def test_the_list_shows_every_kind_with_its_purpose(alice: Browser, store: Store) -> None:
    page = html.unescape(alice.get(f"/stores/{store.id}/templates").text)
    for kind in kinds.KINDS:
        assert kind.name in page
        assert kind.purpose in page
    assert page.count('role="switch"') == len(kinds.KINDS)


def test_the_list_says_who_edited_what(alice: Browser, store: Store) -> None:
    save(alice, store, {"subject": "Ours"})
    page = alice.get(f"/stores/{store.id}/templates").text
    assert re.findall(r"Edited \d+ \w+ by Alice Adams", page) != []
    assert page.count("Edited ") == 1


def test_a_kind_is_turned_off_and_on(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    url = f"/stores/{store.id}/templates/{RESET}/switch"
    page = alice.get(f"/stores/{store.id}/templates").text
    assert "Nobody gets this mail then" in page, "what it means stands there before it is done"
    assert alice.post(url, {"on-present": "1"}).status_code == 303
    assert stored.is_off(store.id, kind)
    assert "by Alice Adams. A message of this kind" in alice.get(f"/stores/{store.id}/templates").text
    answer = alice.htmx_post(url, {"on-present": "1", "on": "1"})
    assert answer.status_code == 200
    assert "Password reset is on now." in answer.text
    assert not stored.is_off(store.id, kind)


def test_a_form_without_its_switch_turns_nothing_off(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    assert alice.post(f"/stores/{store.id}/templates/{RESET}/switch", {}).status_code == 422
    assert not stored.is_off(store.id, kind)


# --- Saving


def test_the_editor_gives_back_exactly_what_was_saved(alice: Browser, store: Store) -> None:
    typed = {
        "subject": "Wörter & <Zeichen> „Ü“ 🛍",
        "html": "\n\n<p class=\"a\">&lt;b&gt; '{{ reset.url | link }}'</p>\n\t<p>🛍</p>\n\n",
        "text": "  two blanks\n</textarea><script>alert(1)</script>\n",
    }
    assert save(alice, store, typed).status_code == 303
    found = open_(alice, store)
    assert {name: found[name] for name in typed} == typed
    assert found["expected"] == "1"
    assert "<script>alert" not in alice.get(url_of(store)).text


def test_saving_what_is_there_makes_no_version(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    answer = alice.post(url_of(store), {k: v.replace("\n", "\r\n") for k, v in open_(alice, store).items()})
    assert answer.status_code == 303
    assert stored.latest_number(store.id, kind, "en") == 0
    assert "no new version" in alice.get(answer.location).text


@pytest.mark.parametrize("ask", ["post", "htmx_post"])
def test_what_does_not_render_is_refused_at_its_line_and_kept(
    alice: Browser, store: Store, kind: kinds.Kind, ask: str
) -> None:
    typed = open_(alice, store) | BROKEN | {"subject": "Typed"}
    answer = getattr(alice, ask)(url_of(store), typed)
    assert answer.status_code == 422
    assert "Line 2" in problems(answer.text, "html")
    assert "reset.link" in problems(answer.text, "html")
    assert fields(answer.text) == typed
    assert 'href="#html" data-line="2"' in answer.text
    assert ("<html" in answer.text) == (ask == "post")
    assert stored.latest_number(store.id, kind, "en") == 0


@pytest.mark.parametrize(
    ("change", "part", "words"),
    [
        ({"html": "a\nb\x00c"}, "html", "Line 2: Take out the control character"),
        ({"text": "\u202eevil"}, "text", "Line 1: Take out the text direction character"),
        ({"subject": "x" * 501}, "subject", "Use 500 characters or fewer"),
        ({"html": "x" * 100_001}, "html", "Use 100,000 characters or fewer"),
        ({"sample": "{"}, "sample", "Line 1"),
        ({"sample": '{"a": "\\ud800"}'}, "sample", "Take out the half of a character"),
        ({"sample": "[" * 20_000}, "sample", "brackets"),
        ({"html": "{% for a in (1..99999999) %}x{% endfor %}"}, "html", ""),
        ({"html": "{{ ''.__class__.__mro__ }}"}, "html", ""),
    ],
)
def test_hostile_texts_are_refused_in_words(
    alice: Browser, store: Store, kind: kinds.Kind, change: dict[str, str], part: str, words: str
) -> None:
    answer = save(alice, store, change)
    assert answer.status_code == 422
    assert problems(answer.text, part)
    assert words in problems(answer.text, part)
    assert stored.latest_number(store.id, kind, "en") == 0


@pytest.mark.parametrize("lost", ["subject", "html", "sample", "expected"])
def test_a_form_that_did_not_arrive_whole_saves_nothing(
    alice: Browser, store: Store, kind: kinds.Kind, lost: str
) -> None:
    typed = open_(alice, store) | {"subject": "Ours"}
    del typed[lost]
    answer = alice.post(url_of(store), typed)
    assert answer.status_code == 422
    assert "did not arrive whole" in answer.text
    assert stored.latest_number(store.id, kind, "en") == 0


def test_bytes_that_are_no_text_are_refused(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    body = f"csrf_token={alice.csrf}&expected=0&subject=%FF&preheader=&html=x&text=&sample=%7B%7D".encode()
    answer = alice.open("POST", url_of(store), data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 422
    assert stored.latest_number(store.id, kind, "en") == 0


def test_the_largest_template_fits_and_a_larger_body_does_not(alice: Browser, store: Store) -> None:
    filled = "<p>漢字漢字漢</p>\n" * 7_000
    assert save(alice, store, {"html": filled[:99_000], "text": filled[:99_000]}).status_code in (303, 422)
    assert save(alice, store, {"html": "漢" * 400_000}).status_code == 413


def test_a_stale_save_shows_both_versions_and_loses_nothing(alice: Browser, bob: Browser, store: Store) -> None:
    mine = open_(alice, store) | {"subject": "Alice’s", "html": "<p>Alice</p>\n<p>wrote this</p>"}
    assert save(bob, store, {"subject": "Bob’s", "html": "<p>Bob</p>\n<p>wrote this</p>"}).status_code == 303
    answer = alice.htmx_post(url_of(store), mine)
    assert answer.status_code == 409
    shown = html.unescape(answer.text)
    assert "Bob Brown saved this template while you were editing it" in shown
    assert re.search(r"<del><span class=\"vh\">Removed: </span><span aria-hidden=\"true\">− </span><p>Bob</p>", shown)
    assert re.search(r"<ins><span class=\"vh\">Added: </span><span aria-hidden=\"true\">\+ </span><p>Alice</p>", shown)
    again = fields(answer.text)
    assert (again["subject"], again["html"], again["expected"]) == (mine["subject"], mine["html"], "1")
    assert alice.post(url_of(store), again).status_code == 303
    assert open_(bob, store)["subject"] == "Alice’s"


# --- While typing


def test_a_check_answers_at_each_field_and_saves_nothing(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    answer = alice.htmx_post(url_of(store, RESET, "en", "check"), open_(alice, store) | BROKEN)
    assert answer.status_code == 200
    assert 'hx-target="#html-problems"' in answer.text
    assert 'data-line="2"' in answer.text
    assert "data-fine" not in answer.text
    fine = alice.htmx_post(
        url_of(store, RESET, "en", "check"), open_(alice, store) | {"subject": "For {{ customer.email }}"}
    )
    assert "data-fine" in fine.text
    assert "No problems" in fine.text
    assert re.search(r"\d KB of the 100 that Gmail shows", fine.text)
    assert stored.latest_number(store.id, kind, "en") == 0


def test_the_frame_shows_what_is_typed_and_not_what_is_saved(alice: Browser, store: Store) -> None:
    typed = open_(alice, store) | {"html": "<p>Typed just now</p><script>alert(1)</script>"}
    answer = alice.post(url_of(store, RESET, "en", "preview"), typed)
    assert "Typed just now" in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert "Typed just now" not in alice.get(url_of(store, RESET, "en", "preview")).text


def test_the_frame_has_a_light_a_dark_and_a_text_view(alice: Browser, store: Store) -> None:
    typed = open_(alice, store) | {"html": "<p>A &amp; B</p>", "text": ""}

    def seen(view: str) -> str:
        return alice.post(url_of(store, RESET, "en", "preview"), typed | {"view": view}).text

    assert "prefers-color-scheme" not in seen("dark") + seen("desktop")
    assert seen("dark") != seen("desktop")
    assert seen("phone") == seen("desktop")
    assert "<pre>" in seen("text")
    assert "A &amp; B" in seen("text")


def test_the_frame_says_what_to_mend(alice: Browser, store: Store) -> None:
    answer = alice.post(url_of(store, RESET, "en", "preview"), open_(alice, store) | BROKEN)
    assert "HTML, line 2" in answer.text
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_no_other_site_fills_the_frame(alice: Browser, store: Store, headers: dict[str, str]) -> None:
    answer = alice.post(url_of(store, RESET, "en", "preview"), open_(alice, store), headers=headers)
    assert answer.status_code == 403


# --- A sample by mail


def test_a_sample_goes_to_who_asks_and_by_the_outbox(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    answer = alice.htmx_post(url_of(store, RESET, "en", "sample"), open_(alice, store) | {"subject": "Not saved"})
    assert "Sending the sample to alice@shop.example" in answer.text
    [message] = _messages()
    assert (message.subject, message.source) == ("Not saved", "sample")
    assert [one.address for one in message.recipients] == ["alice@shop.example"]
    url = f"/stores/{store.id}/templates/samples/{message.uid}"
    assert url in answer.text
    assert stored.latest_number(store.id, kind, "en") == 0
    assert alice.get(url).location == f"/stores/{store.id}/messages/{message.uid}"
    assert _actions()[-1] == "template_sample_sent"


def test_a_sample_that_has_ended_is_asked_for_no_more(alice: Browser, store: Store, db: Any) -> None:
    alice.htmx_post(url_of(store, RESET, "en", "sample"), open_(alice, store))
    [message] = _messages()
    message.status = MessageStatus.SENT
    db.session.commit()
    answer = alice.htmx_get(f"/stores/{store.id}/templates/samples/{message.uid}")
    assert "The server accepted the sample" in answer.text
    assert 'hx-target="#live"' in answer.text
    assert "hx-get" not in answer.text
    assert alice.htmx_get(f"/stores/{store.id}/templates/samples/nothing").status_code == 404


def test_a_sample_that_nobody_sends_is_not_asked_for_for_ever(alice: Browser, store: Store, db: Any) -> None:
    alice.htmx_post(url_of(store, RESET, "en", "sample"), open_(alice, store))
    [message] = _messages()
    message.status, message.hold_reason = MessageStatus.QUEUED, None
    url = f"/stores/{store.id}/templates/samples/{message.uid}"
    db.session.commit()
    assert "hx-get" in alice.htmx_get(url).text
    message = _messages()[0]
    message.created_at -= timedelta(minutes=2)
    db.session.commit()
    answer = alice.htmx_get(url)
    assert "still waits" in answer.text
    assert "hx-get" not in answer.text


def test_with_emails_off_no_sample_is_sent(alice: Browser, store: Store, db: Any) -> None:
    store.email_settings.emails_off = True
    db.session.commit()
    answer = alice.htmx_post(url_of(store, RESET, "en", "sample"), open_(alice, store))
    assert "Emails are turned off for Acme Store" in answer.text
    assert _messages() == []


@pytest.mark.parametrize("ask", ["post", "htmx_post"])
def test_texts_with_problems_make_no_sample(alice: Browser, store: Store, ask: str) -> None:
    answer = getattr(alice, ask)(url_of(store, RESET, "en", "sample"), open_(alice, store) | BROKEN)
    assert answer.status_code == 422
    assert "The sample was not sent" in answer.text
    assert _messages() == []


def test_without_javascript_a_sample_leaves_the_typed_texts_in_the_page(alice: Browser, store: Store) -> None:
    typed = open_(alice, store) | {"subject": "Not saved"}
    answer = alice.post(url_of(store, RESET, "en", "sample"), typed)
    assert answer.status_code == 200
    assert fields(answer.text) == typed
    assert "View message" in answer.text


def _messages() -> list[Message]:
    from extensions import db

    db.session.rollback()
    return list(db.session.query(Message))


def _actions() -> list[str]:
    from extensions import db

    return [one.action for one in db.session.query(AuditEntry).order_by(AuditEntry.id)]


# --- Languages, versions, reset


def test_a_language_begins_with_the_texts_that_stand_in(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    answer = alice.get(f"/stores/{store.id}/templates/{RESET}?locale=de_at")
    assert answer.location == url_of(store, RESET, "de-AT")
    page = alice.get(answer.location).text
    assert "German stands in" in page
    assert fields(page)["subject"] == kinds.default_source(kind, "de").subject
    assert save(alice, store, {}, locale="de-AT").status_code == 303
    assert stored.in_force(store.id, kind, "de-AT", "en").locale == "de-AT"
    assert "German (Austria)" in alice.get(url_of(store)).text


@pytest.mark.parametrize("asked", ["german", "xx", "../../..", "de-AT-x-private", "<script>", "%00"[:1]])
def test_what_is_no_language_begins_nothing(alice: Browser, store: Store, asked: str) -> None:
    answer = alice.get(f"/stores/{store.id}/templates/{RESET}", query_string={"locale": asked})
    assert answer.status_code == 422
    assert "Enter a language, like de" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "nothing/en",
        "password_reset/en",
        "Password-Reset/en",
        "password-reset/xx",
        "password-reset/de_at",
        "password-reset/DE",
    ],
)
def test_an_address_that_no_template_has_is_not_found(alice: Browser, store: Store, path: str) -> None:
    for more in ("", "/versions", "/preview"):
        assert alice.get(f"/stores/{store.id}/templates/{path}{more}").status_code == 404
    assert alice.post(f"/stores/{store.id}/templates/{path}", {"expected": "0"}).status_code == 404


def test_versions_are_compared_and_restored(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    save(alice, store, {"html": "<p>First</p>\n<p>Same</p>"})
    save(alice, store, {"html": "<p>Second</p>\n<p>Same</p>"})
    url = url_of(store, RESET, "en", "versions")
    page = html.unescape(alice.get(f"{url}?compare=1").text)
    assert "Version 1 against the present one" in page
    assert re.search(r"<del>.*?<p>First</p>", page)
    assert re.search(r"<ins>.*?<p>Second</p>", page)
    assert alice.get(f"{url}?compare=99").status_code == 404
    assert alice.get(f"{url}?compare=x").status_code == 200
    assert alice.post(f"{url}/1/restore", {"expected": "1"}).location == url, "somebody saved meanwhile"
    assert "First" not in open_(alice, store)["html"]
    assert alice.post(f"{url}/1/restore", {"expected": "2"}).location == url_of(store)
    assert "First" in open_(alice, store)["html"]
    assert "Restored 1" in alice.get(url).text


def test_a_reset_asks_first_and_can_be_undone(alice: Browser, store: Store, kind: kinds.Kind) -> None:
    assert 'id="ask-reset"' not in alice.get(url_of(store)).text, "nothing to reset yet"
    save(alice, store, {"subject": "Ours"})
    page = alice.get(url_of(store)).text
    assert 'commandfor="reset"' in page
    assert "Reset Password reset in English to the default?" in page
    assert alice.post(url_of(store, RESET, "en", "reset"), {"expected": "0"}).status_code == 303
    assert subject_now(store, kind) == "Ours", "the page was stale"
    assert alice.post(url_of(store, RESET, "en", "reset"), {}).status_code == 422
    assert alice.post(url_of(store, RESET, "en", "reset"), {"expected": "1"}).status_code == 303
    assert subject_now(store, kind) == kinds.default_source(kind, "en").subject
    compared = alice.get(url_of(store, RESET, "en", "versions") + "?compare=1").text
    assert "Ours" in compared


# --- Who may


def test_whoever_may_only_look_gets_no_buttons(
    alice: Browser, store: Store, kind: kinds.Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blueprints import web
    from blueprints.templates import pages

    real = web.may

    def may_not_edit(user: User, permission: Permission, store: Store | None = None) -> bool:
        return permission is not Permission.EDIT_TEMPLATES and real(user, permission, store)

    typed = open_(alice, store) | {"subject": "Ours"}
    for module in (web, pages):
        monkeypatch.setattr(module, "may", may_not_edit)
    for path in ("", "/password-reset/en", "/password-reset/en/versions", "/brand"):
        page = alice.get(f"/stores/{store.id}/templates{path}").text
        main = page[page.index("<main") :]
        assert 'id="save-btn"' not in main
        assert "formaction" not in main.replace('formtarget="mail-frame"', "", 1) or path in (
            "/password-reset/en",
            "/brand",
        )
        assert 'role="switch"' not in main or main.count(" disabled") == len(kinds.KINDS)
    assert alice.post(url_of(store), typed).status_code == 403
    assert alice.post(url_of(store, RESET, "en", "sample"), typed).status_code == 403
    assert alice.post(f"/stores/{store.id}/templates/{RESET}/switch", {"on-present": "1"}).status_code == 403
    assert alice.post(f"/stores/{store.id}/templates/brand", {}).status_code == 403
    assert alice.htmx_post(url_of(store, RESET, "en", "check"), typed).status_code == 200
    assert subject_now(store, kind) == kinds.default_source(kind, "en").subject


def test_a_copied_store_brings_its_templates_along(alice: Browser, store: Store, kind: kinds.Kind, db: Any) -> None:
    save(alice, store, {"subject": "Ours"})
    alice.post(
        f"/stores/{store.id}/copy", {"name": "Copy", "code": "copy", "emails_off-present": "1", "emails_off": "1"}
    )
    copy = db.session.query(Store).filter_by(code="copy").one()
    assert subject_now(copy, kind) == "Ours"
