"""POST /api/v1/messages: strict in what it takes, durable in what it promises."""

from __future__ import annotations

import base64
import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, func, select
from werkzeug.test import TestResponse

from extensions import db as database
from mail.accepting_together import PerhapsStored, Together
from models import APIKey, Store, UserSession
from models.outbox import Priority
from models.types import utcnow
from tests.blueprints.api.calls import MESSAGE, Send, count, key_of_another_store, the_message
from tests.conftest import Browser


def faults(answer: TestResponse) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    assert answer.mimetype == "application/problem+json"
    assert count() == 0
    return {one["field"]: one["message"] for one in answer.json["errors"]}


# Accepting


def test_it_answers_202_after_the_row_is_there(send: Send, store: Store) -> None:
    answer = send()
    assert answer.status_code == 202
    message = the_message()
    assert answer.json == {"id": message.uid, "status": "queued"}
    assert answer.headers["Location"].endswith(f"/api/v1/messages/{message.uid}")
    assert (message.store_id, message.subject, message.source) == (store.id, "Your order", "api")
    assert [one.address for one in message.recipients] == ["lena@shop.example"]


def test_it_takes_every_documented_field(send: Send) -> None:
    at = (utcnow() + timedelta(hours=2)).replace(microsecond=0)
    answer = send(
        {
            "to": ["Lena@Shop.example", "lena@shop.example"],
            "cc": ["müller@bücher.example"],
            "bcc": ["eve@shop.example"],
            "reply_to": ["help@acme.example"],
            "subject": "  Ihre Bestellung 📦  ",
            "text": "Danke.\r\nIhr Team",
            "html": "<p>Danke</p>",
            "headers": {"X-Order": "1001", "List-Unsubscribe": "<https://acme.example/u>"},
            "attachments": [
                {"filename": "a.pdf", "content_type": "application/pdf", "content": base64.b64encode(b"%PDF").decode()}
            ],
            "priority": "high",
            "expires_in": 3600,
            "send_at": at.isoformat(),
        }
    )
    assert answer.status_code == 202, answer.text
    message = the_message()
    assert message.priority == Priority.HIGH
    assert message.subject == "Ihre Bestellung 📦"
    assert message.due_at == at
    assert message.expires_at == at + timedelta(hours=1)
    assert len(message.recipients) == 3


def test_a_whole_number_may_be_written_as_a_fraction(send: Send) -> None:
    """JSON knows one kind of number, and JSON Schema calls 60.0 an integer."""
    assert send(raw=b'{"to":["a@b.example"],"text":"t","expires_in":60.0}').status_code == 202
    message = the_message()
    assert message.expires_at is not None
    assert round((message.expires_at - message.created_at).total_seconds()) == 60


def test_it_says_that_a_message_is_held_while_emails_are_off(send: Send, store: Store, db: Any) -> None:
    db.session.get(Store, 1).email_settings.emails_off = True
    db.session.commit()
    answer = send()
    assert answer.status_code == 202
    assert (answer.json["status"], answer.json["hold_reason"]) == ("held", "emails_off")


def test_it_needs_no_cookie_and_makes_no_session(send: Send) -> None:
    answer = send()
    assert "Set-Cookie" not in answer.headers
    assert database.session.scalar(select(func.count()).select_from(UserSession)) == 0


def test_it_marks_the_key_as_used(send: Send) -> None:
    send()
    assert database.session.scalars(select(APIKey.last_used_at)).one() is not None


# Who may


@pytest.mark.parametrize("header", ["", "Basic abc", "Bearer wrong", "Bearer sp_" + "A" * 43])
def test_without_a_good_key_it_answers_401(send: Send, header: str) -> None:
    answer = send(Authorization=header)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert count() == 0


def test_a_key_in_the_url_or_the_body_is_no_key(client: Browser, key: str) -> None:
    answer = client.open("POST", f"/api/v1/messages?key={key}&access_token={key}", json={**MESSAGE, "key": key})
    assert answer.status_code == 401


def test_a_key_lacking_the_scope_is_refused(send: Send, db: Any) -> None:
    db.session.execute(APIKey.__table__.update().values(scopes="read"))
    db.session.commit()
    assert send().status_code == 403


# What it refuses


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(b"[1]", "object", id="a list"),
        pytest.param(b"{", "JSON", id="cut off"),
        pytest.param(b'\xef\xbb\xbf{"to":[]}', "JSON", id="a byte order mark"),
        pytest.param(b'{"subject":"\xff"}', "UTF-8", id="not UTF-8"),
        pytest.param(b'{"subject":"a","subject":"b"}', "twice", id="a name twice"),
        pytest.param(b'{"headers":{"a":"1","a":"2"}}', "twice", id="a name twice below"),
        pytest.param(b'{"expires_in":NaN}', "NaN", id="NaN"),
        pytest.param(b'{"expires_in":-Infinity}', "NaN", id="Infinity"),
        pytest.param(b'{"expires_in":1e999}', "large", id="a float beyond all"),
        pytest.param(b'{"expires_in":' + b"9" * 5000 + b"}", "JSON", id="a number of 5,000 digits"),
        pytest.param(b'{"to":' + b"[" * 17 + b"]" * 17 + b"}", "deeply", id="seventeen levels"),
        pytest.param(b'{"to":' + b"[" * 200_000, "deeply", id="200,000 levels"),
    ],
)
def test_it_refuses_json_of_other_kinds(send: Send, raw: bytes, words: str) -> None:
    answer = send(raw=raw)
    assert answer.status_code == 400
    assert answer.mimetype == "application/problem+json"
    assert words in answer.json["detail"]
    assert count() == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [
        pytest.param({"to": "lena@shop.example"}, "to", id="an address in place of a list"),
        pytest.param({"to": []}, "to", id="nobody"),
        pytest.param({"to": ["lena"]}, "to[0]", id="no address"),
        pytest.param({"to": ["a@shop.example", "Lena <lena@shop.example>"]}, "to[1]", id="a display name"),
        pytest.param({"to": ["a@shop.example", 7]}, "to[1]", id="a number among addresses"),
        pytest.param({"to": ["lena@shop.example\r\nBcc: x@y.example"]}, "to[0]", id="a line break in an address"),
        pytest.param({"cc": [f"a{n}@shop.example" for n in range(51)]}, "cc", id="51 addresses"),
        pytest.param({"subject": 7}, "subject", id="a number as subject"),
        pytest.param({"subject": "x" * 999}, "subject", id="a long subject"),
        pytest.param({"subject": "a\nb"}, "subject", id="a line break in the subject"),
        pytest.param({"subject": "a\x00b"}, "subject", id="NUL in the subject"),
        pytest.param({"subject": "a\u202eb"}, "subject", id="a bidi override"),
        pytest.param({"subject": "a\u2028b"}, "subject", id="a line separator"),
        pytest.param({"subject": "\ud800"}, "subject", id="half a character"),
        pytest.param({"text": None}, "text", id="no body"),
        pytest.param({"text": "a\x00b"}, "text", id="NUL in the text"),
        pytest.param({"text": "\udfff"}, "text", id="half a character in the text"),
        pytest.param({"html": ["<p>"]}, "html", id="a list as HTML"),
        pytest.param({"headers": {"From": "x"}}, "headers.From", id="From"),
        pytest.param({"headers": {"dkim-signature": "x"}}, "headers.dkim-signature", id="DKIM"),
        pytest.param({"headers": {"Content-Type": "x"}}, "headers.Content-Type", id="Content"),
        pytest.param({"headers": {"Resent-To": "x"}}, "headers.Resent-To", id="Resent"),
        pytest.param({"headers": {"X-A": "1\r\nBcc: x"}}, "headers.X-A", id="a line break in a header"),
        pytest.param({"headers": {"X A": "1"}}, "headers.X A", id="a blank in a header name"),
        pytest.param({"headers": {"X-A": "1", "x-a": "2"}}, "headers.x-a", id="a header twice"),
        pytest.param({"headers": {"X-A": 1}}, "headers.X-A", id="a number in a header"),
        pytest.param({"attachments": {}}, "attachments", id="an object as attachments"),
        pytest.param({"attachments": [{"filename": "a", "content": "a=b"}]}, "attachments[0].content", id="not base64"),
        pytest.param({"attachments": [{"filename": "a", "content": "YQ"}]}, "attachments[0].content", id="no padding"),
        pytest.param({"attachments": [{"content": "YQ=="}]}, "attachments[0].filename", id="no file name"),
        pytest.param(
            {"attachments": [{"filename": "../a", "content": "YQ=="}]}, "attachments[0].filename", id="a path"
        ),
        pytest.param(
            {"attachments": [{"filename": "a", "content": "YQ==", "content_type": "pdf"}]},
            "attachments[0].content_type",
            id="no media type",
        ),
        pytest.param(
            {"attachments": [{"filename": "a", "content": "YQ==", "cid": "x"}]}, "attachments[0].cid", id="cid"
        ),
        pytest.param({"priority": "urgent"}, "priority", id="an unknown priority"),
        pytest.param({"expires_in": True}, "expires_in", id="true as a number"),
        pytest.param({"expires_in": 1.5}, "expires_in", id="a fraction"),
        pytest.param({"expires_in": 0}, "expires_in", id="zero seconds"),
        pytest.param({"expires_in": 0.0}, "expires_in", id="zero seconds as a fraction"),
        pytest.param({"send_at": "tomorrow"}, "send_at", id="tomorrow"),
        pytest.param({"send_at": "2027-01-01T10:00:00"}, "send_at", id="a time without zone"),
        pytest.param({"send_at": "9999-12-31T23:59:59-14:00"}, "send_at", id="the end of time"),
        pytest.param({"store_id": 2}, "store_id", id="a field that is not ours to set"),
        pytest.param({"status": "sent"}, "status", id="the state"),
    ],
)
def test_it_names_the_field_that_is_wrong(send: Send, change: dict[str, Any], field: str) -> None:
    found = faults(send({**MESSAGE, **change}))
    assert list(found) == [field]
    assert found[field]


def test_it_names_all_faults_at_once(send: Send) -> None:
    assert set(faults(send({"to": ["x"], "subject": 1, "extra": 1}))) == {"to[0]", "subject", "extra", "text"}


def test_25_megabytes_are_the_limit(send: Send) -> None:
    content = base64.b64encode(bytes(25 * 1024 * 1024 - 7)).decode()
    full = {**MESSAGE, "attachments": [{"filename": "a.bin", "content": content}]}
    assert send(full).status_code == 202
    assert send({**full, "text": "Thanks.."}).status_code == 422
    assert send(raw=b" " * (37 * 1024 * 1024)).status_code == 413
    assert count() == 1


def test_other_content_types_are_refused(send: Send) -> None:
    assert send(Content_Type="text/plain").status_code == 415
    assert send(Content_Type="application/x-www-form-urlencoded").status_code == 415


# Once and only once


def test_the_same_key_with_the_same_message_answers_with_the_first_one(send: Send) -> None:
    first = send(Idempotency_Key="order-1001")
    reordered = json.dumps(dict(reversed(MESSAGE.items())), indent=2).encode()
    again = send(raw=reordered, Idempotency_Key="order-1001")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json["id"] == again.json["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert count() == 1


def test_the_same_key_with_another_message_is_refused(send: Send) -> None:
    send(Idempotency_Key="order-1001")
    answer = send({**MESSAGE, "subject": "Another"}, Idempotency_Key="order-1001")
    assert answer.status_code == 422
    assert count() == 1


def test_keys_of_two_stores_do_not_meet(send: Send, app: Flask, client: Browser) -> None:
    send(Idempotency_Key="order-1001")
    answer = send(Authorization=key_of_another_store(), Idempotency_Key="order-1001")
    assert "Idempotent-Replayed" not in answer.headers
    assert count() == 2


@pytest.mark.parametrize("bad", ["", "a b", "ü", "x" * 256])
def test_a_strange_idempotency_key_is_refused(send: Send, bad: str) -> None:
    assert send(Idempotency_Key=bad).status_code == 400


def test_ten_requests_at_once_make_one_message(app: Flask, key: str) -> None:
    answers: list[tuple[int, str]] = []

    def post() -> None:
        answer = app.test_client().post(
            "/api/v1/messages",
            json=MESSAGE,
            headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "order-1001"},
            base_url="http://localhost:8025",
        )
        answers.append((answer.status_code, answer.json.get("id", "")))

    threads = [threading.Thread(target=post) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {status for status, _ in answers} <= {202, 409}
    assert len({uid for status, uid in answers if status == 202}) == 1
    assert count() == 1


# When the database cannot


def test_a_commit_that_may_have_taken_place_is_not_told_as_refused(send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends it again without a key would send two mails."""

    def break_off(*_: Any, **__: Any) -> Any:
        raise PerhapsStored

    monkeypatch.setattr(Together, "accept", break_off)
    answer = send()
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert "may have been accepted" in answer.get_json()["detail"]
    assert "Idempotency-Key" in answer.get_json()["detail"]
    assert "Nothing was accepted" not in answer.get_json()["detail"]


def test_a_database_that_cannot_store_answers_503_and_promises_nothing(send: Send, app: Flask) -> None:
    def full(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith("INSERT INTO message_contents"):
            cursor.execute("INSERT INTO no_such_table VALUES (1)")

    event.listen(database.engine, "before_cursor_execute", full)
    try:
        answer = send()
    finally:
        event.remove(database.engine, "before_cursor_execute", full)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.mimetype == "application/problem+json"
    assert count() == 0
