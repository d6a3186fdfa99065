"""Messages by template: what the store wrote, filled in and fixed at acceptance; and the list of templates."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select
from werkzeug.test import TestResponse

from blueprints.messages import words
from extensions import db as database
from mail import audit
from mail.outbox_content import Content, content_from, open_json
from mail.templates import brand, kinds, stored
from mail.templates.drafts import Draft
from models import Store, TemplateVersion
from models.outbox import MessageContent
from tests.blueprints.api.calls import MESSAGE, Call, Send, count, the_message
from tests.conftest import Browser

CODE: dict[str, Any] = {"sign_in": {"code": "481516", "minutes": 10}}
KIND = kinds.SIGN_IN_CODE


def by_template(data: Any = CODE, template: Any = KIND.key, **more: Any) -> dict[str, Any]:
    return {"to": ["lena@shop.example"], "template": template, "data": data, **more}


def faults(answer: TestResponse) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    assert count() == 0
    return {one["field"]: one["message"] for one in answer.json["errors"]}


def write(store: Store, subject: str, sample: str = "", locale: str = "en") -> None:
    """Save texts of the store's own for the sign-in code."""
    draft = Draft(subject, "", "<p>{{ sign_in.code }}</p>", "", sample or stored.default_in(KIND, "en").sample)
    number = stored.latest_number(store.id, KIND, locale)
    assert stored.save(store, KIND, locale, draft, expected_number=number, actor=audit.SYSTEM)
    database.session.commit()


def switch(store: Store, *, off: bool) -> None:
    assert stored.switch(store, KIND, off=off, actor=audit.SYSTEM)
    database.session.commit()


def content(app: Flask) -> Content:
    message = the_message()
    sealed = database.session.scalar(select(MessageContent.sealed).where(MessageContent.message_id == message.id))
    return content_from(open_json(message.uid, sealed, equipment=app.extensions["storepost"]))


# Accepting


def test_a_message_by_template_is_written_when_it_is_accepted(app: Flask, send: Send) -> None:
    answer = send(by_template())
    assert (answer.status_code, answer.json["status"]) == (202, "queued")
    said = content(app)
    assert "481516" in (said.html or "")
    assert "481516" in (said.text or "")
    assert the_message().subject


def test_everything_else_of_a_message_stays_what_it_is(app: Flask, send: Send) -> None:
    files = [{"filename": "a.pdf", "content": "JVBERg=="}]
    answer = send(by_template(headers={"X-Order": "1"}, attachments=files, priority="high", reply_to=["a@b.example"]))
    assert answer.status_code == 202
    said = content(app)
    assert (said.headers, said.reply_to) == ((("X-Order", "1"),), ("a@b.example",))
    assert [one.filename for one in said.attachments] == ["a.pdf"]
    assert the_message().priority == 0


def test_the_language_asked_for_decides(app: Flask, send: Send) -> None:
    assert send(by_template(locale="de_at")).status_code == 202
    german = the_message().subject
    assert send(by_template(locale="xx")).status_code == 202
    assert the_message().subject != german


def test_the_store_s_own_texts_go_before_the_default(send: Send, store: Store) -> None:
    write(store, "Code {{ sign_in.code }} of {{ store.name }}")
    assert send(by_template()).status_code == 202
    assert the_message().subject == f"Code 481516 of {store.name}"


def test_a_later_change_changes_nothing_that_was_accepted(app: Flask, send: Send, store: Store) -> None:
    write(store, "First")
    uid = send(by_template()).json["id"]
    before = content(app)
    write(store, "Second")
    assert the_message().uid == uid
    assert (the_message().subject, content(app)) == ("First", before)


def test_every_change_of_the_store_counts_from_the_next_message_on(send: Send, store: Store) -> None:
    seen = []

    def subject() -> str:
        answer = send(by_template())
        seen.append(answer.json["status"])
        return the_message().subject

    before = subject()
    write(store, "{{ store.name }} 1")
    assert subject() == f"{store.name} 1"
    store.name = "New name"
    database.session.commit()
    assert subject() == "New name 1"
    brand.save(store, brand.BrandDraft(display_name="Shown"), expected_version=0, actor=audit.SYSTEM)
    database.session.commit()
    assert subject() == "Shown 1"
    brand.save(store, brand.BrandDraft(display_name="Shown now"), expected_version=1, actor=audit.SYSTEM)
    database.session.commit()
    assert subject() == "Shown now 1"
    write(store, "{{ store.name }} 2")
    assert subject() == "Shown now 2"
    switch(store, off=True)
    subject()
    switch(store, off=False)
    subject()
    stored.reset(store, KIND, "en", expected_number=2, actor=audit.SYSTEM)
    database.session.commit()
    assert subject() == before
    assert seen == ["queued"] * 6 + ["cancelled", "queued", "queued"]


def test_the_data_is_never_liquid(send: Send, store: Store, app: Flask) -> None:
    write(store, "{{ sign_in.code }}")
    hostile = "{{ store.name }}{% raw %}<b>"
    assert send(by_template({"sign_in": {"code": hostile, "minutes": 1}})).status_code == 202
    assert the_message().subject == hostile
    assert "&lt;b&gt;" in (content(app).html or "")


# Refusing


def test_every_missing_name_is_told_by_its_path(send: Send) -> None:
    found = faults(send(by_template({"sign_in": {"minutes": "ten"}})))
    assert found == {"data.sign_in.code": "Send a text", "data.sign_in.minutes": "Send a number, like 3"}


@pytest.mark.parametrize("data", [None, {}, {"sign_in": None}, {"sign_in": {}}])
def test_no_data_lacks_every_name(send: Send, data: Any) -> None:
    assert set(faults(send(by_template(data)))) == {"data.sign_in.code", "data.sign_in.minutes"}


def test_a_missing_name_in_a_list_has_its_position(send: Send) -> None:
    data = kinds.sample(kinds.ORDER_CONFIRMATION, "en")
    del data["order"]["lines"][1]["name"]
    assert faults(send(by_template(data, "order_confirmation"))) == {"data.order.lines[1].name": "Send a text"}


def test_a_name_of_the_store_s_own_is_needed_where_its_texts_use_it(send: Send, store: Store) -> None:
    sample = '{"sign_in": {"code": "1", "minutes": 1, "shop": "x", "hint": null}}'
    write(store, "{{ sign_in.shop }}{{ sign_in.hint }}", sample)
    assert faults(send(by_template())) == {"data.sign_in.shop": "Send a text, a number, true or false"}
    assert send(by_template({"sign_in": {**CODE["sign_in"], "shop": "Acme"}})).status_code == 202
    assert the_message().subject == "Acme"


def test_an_unknown_template_is_answered_with_those_there_are(send: Send) -> None:
    told = faults(send(by_template(template="sign_in")))["template"]
    assert all(kind.key in told for kind in kinds.KINDS)


@pytest.mark.parametrize("field", ["subject", "text", "html"])
def test_texts_beside_a_template_are_refused(send: Send, field: str) -> None:
    assert faults(send(by_template(**{field: "x"}))) == {field: "Leave this out: the template writes it"}


@pytest.mark.parametrize("more", [{"data": {}}, {"locale": "de"}])
def test_data_without_a_template_is_refused(send: Send, more: dict[str, Any]) -> None:
    assert set(faults(send(MESSAGE | more))) == set(more)


@pytest.mark.parametrize("locale", ["", "german", "d", 7, "de-DE-x-private", "../de"])
def test_a_locale_that_is_none_is_refused(send: Send, locale: Any) -> None:
    assert set(faults(send(by_template(locale=locale)))) == {"locale"}


def test_all_faults_are_told_at_once(send: Send) -> None:
    found = faults(send(by_template({}, subject="x", locale=7, priority="now", colour="red")))
    assert set(found) == {"subject", "locale", "priority", "colour"}
    found = faults(send(by_template({"sign_in": {"code": "1"}}, priority="now")))
    assert set(found) == {"data.sign_in.minutes", "priority"}


def test_texts_that_make_no_mail_of_the_data_are_named(send: Send, store: Store) -> None:
    write(store, "{{ 10 | divided_by: sign_in.minutes }}")
    told = faults(send(by_template({"sign_in": {"code": "1", "minutes": 0}})))["template"]
    assert "line 1 of its subject: A number cannot be divided by zero" in told


# Once and only once


def test_a_replay_is_answered_from_the_first_however_the_template_changed(send: Send, store: Store) -> None:
    first = send(by_template(), Idempotency_Key="k")
    row = TemplateVersion(store_id=store.id, kind=KIND.key, locale="en", number=1, html="{{ broken")
    database.session.add(row)
    database.session.commit()
    assert send(by_template()).status_code == 422
    again = send(by_template(), Idempotency_Key="k")
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
    assert count() == 1


def test_the_same_key_with_other_data_is_refused(send: Send) -> None:
    send(by_template(), Idempotency_Key="k")
    other = send(by_template({"sign_in": {"code": "2", "minutes": 10}}), Idempotency_Key="k")
    assert other.status_code == 422
    assert "Idempotency-Key" in other.json["detail"]
    assert count() == 1


# Switched off


def test_a_template_that_is_off_sends_nothing_and_says_so(send: Send, call: Call, store: Store) -> None:
    switch(store, off=True)
    answer = send(by_template())
    assert (answer.status_code, answer.json["status"]) == (202, "cancelled")
    told = call("GET", f"/messages/{answer.json['id']}").json
    assert told["status"] == "cancelled"
    assert told["reason"] == {"code": "template_off", "detail": "The template “Sign-in code” is switched off"}
    assert told["ended_at"] is not None


def test_people_see_why_it_did_not_go(client: Browser, send: Send, store: Store) -> None:
    switch(store, off=True)
    send(by_template())
    message = the_message()
    assert "The template “Sign-in code” is switched off" in words.verdict(message, store.email_settings).text
    assert words.reason_in_short(message, store.email_settings) == "The template is switched off"


def test_it_stays_ended_when_the_store_s_mail_is_held_and_when_it_is_sent_again(send: Send, store: Store) -> None:
    switch(store, off=True)
    store.email_settings.emails_off = True
    database.session.commit()
    first = send(by_template(), Idempotency_Key="k")
    assert first.json["status"] == "cancelled"
    switch(store, off=False)
    again = send(by_template(), Idempotency_Key="k")
    assert again.json == first.json
    assert send(by_template(), Idempotency_Key="l").json["status"] == "held"


# Batches


def test_in_a_batch_each_is_judged_for_itself(call: Call, store: Store) -> None:
    switch(store, off=True)
    welcome = by_template(kinds.sample(kinds.WELCOME, "en"), "welcome")
    items = [by_template(), MESSAGE, welcome, by_template({}, "welcome"), by_template(template="nothing"), 7]
    results = call("POST", "/messages/batch", {"messages": items}, Idempotency_Key="b").json["results"]
    assert [one["status"] for one in results] == [202, 202, 202, 422, 422, 422]
    assert [one.get("message_status") for one in results[:3]] == ["cancelled", "queued", "queued"]
    assert results[3]["errors"][0]["field"].startswith("data.")
    assert count() == 3
    again = call("POST", "/messages/batch", {"messages": items}, Idempotency_Key="b").json["results"]
    assert [one.get("id") for one in again] == [one.get("id") for one in results]
    assert [one.get("message_status") for one in again[:3]] == ["cancelled", "queued", "queued"]


def test_texts_are_read_once_for_a_batch(app: Flask, call: Call) -> None:
    asked: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        asked.extend(name for name in ("template_versions", "template_switches", "brands") if name in statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        answer = call("POST", "/messages/batch", {"messages": [by_template() for _ in range(20)]})
        call("POST", "/messages/batch", {"messages": [MESSAGE] * 20})
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert {one["status"] for one in answer.json["results"]} == {202}
    assert sorted(set(asked)) == ["brands", "template_switches", "template_versions"]
    assert asked.count("template_switches") == 1


# The list


def test_the_list_tells_what_each_template_needs(call: Call) -> None:
    listed = call("GET", "/templates").json["templates"]
    assert [one["template"] for one in listed] == [kind.key for kind in kinds.KINDS]
    (code,) = (one for one in listed if one["template"] == KIND.key)
    assert (code["name"], code["group"], code["is_on"], code["locales"]) == (
        KIND.name,
        "notification",
        True,
        ["de", "en"],
    )
    assert {"path": "sign_in.code", "type": "text", "meaning": "The code to type", "required": True} in code[
        "variables"
    ]


def test_every_sample_of_the_list_is_accepted(call: Call) -> None:
    listed = call("GET", "/templates").json["templates"]
    messages = [by_template(one["sample"], one["template"]) for one in listed]
    results = call("POST", "/messages/batch", {"messages": messages}).json["results"]
    assert [one["status"] for one in results] == [202] * len(kinds.KINDS)


def test_the_list_tells_what_the_store_has_changed(call: Call, store: Store) -> None:
    write(store, "Code", '{"sign_in": {"code": "own", "minutes": 1}}')
    write(store, "Code", locale="fr")
    switch(store, off=True)
    (code,) = (one for one in call("GET", "/templates").json["templates"] if one["template"] == KIND.key)
    assert (code["is_on"], code["locales"]) == (False, ["de", "en", "fr"])
    assert code["sample"]["sign_in"]["code"] == "own"


def test_the_list_is_for_keys_that_may_send(call: Call) -> None:
    assert call("GET", "/templates", Authorization="Bearer nothing").status_code == 401
