"""POST /api/v1/messages/batch: many at once, each judged for itself, all stored together."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import event, select

from extensions import db as database
from mail import intake
from models import Message, Store
from models.outbox import MessageStatus
from tests.blueprints.api.calls import MESSAGE, Call, count, key_of_another_store

BAD = {"to": ["lena"], "text": "Thanks.", "colour": "red"}


def numbered(many: int) -> list[dict[str, Any]]:
    return [{**MESSAGE, "subject": f"Your order {number}"} for number in range(many)]


def send(call: Call, messages: Any, **headers: str) -> Any:
    return call("POST", "/messages/batch", {"messages": messages}, **headers)


def statuses(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [one["status"] for one in answer.json["results"]]


def test_it_tells_what_became_of_each_in_order(call: Call, store: Store) -> None:
    answer = send(call, [{**MESSAGE, "subject": "First"}, BAD, "no message", {**MESSAGE, "subject": "Second"}])
    assert statuses(answer) == [202, 422, 422, 202]
    first, bad, none, second = answer.json["results"]
    stored = database.session.execute(select(Message.uid, Message.subject).order_by(Message.id)).all()
    assert [tuple(row) for row in stored] == [(first["id"], "First"), (second["id"], "Second")]
    assert first == {"status": 202, "id": first["id"], "message_status": "queued"}
    assert {one["field"] for one in bad["errors"]} == {"to[0]", "colour"}
    assert bad["title"] == none["title"] == "The message cannot be accepted as it is"
    assert none["errors"][0]["message"].startswith("Send an object")


def test_all_of_it_is_one_commit(call: Call) -> None:
    commits: list[Any] = []

    def watch(connection: Any) -> None:
        commits.append(connection)

    event.listen(database.engine, "commit", watch)
    try:
        # The first request of a minute counts itself; that is a transaction of its own.
        call("GET", "/messages")
        commits.clear()
        assert statuses(send(call, numbered(20))) == [202] * 20
    finally:
        event.remove(database.engine, "commit", watch)
    assert len(commits) == 1
    assert count() == 20


def test_500_are_the_limit(call: Call) -> None:
    answer = send(call, [MESSAGE] * (intake.BATCH_MAX + 1))
    assert answer.status_code == 422
    assert answer.json["errors"] == [{"field": "messages", "message": "Send a list of 1 to 500 messages"}]
    assert count() == 0
    assert statuses(send(call, [MESSAGE] * 499 + [BAD])) == [202] * 499 + [422]
    assert count() == 499


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"messages": []}, id="an empty list"),
        pytest.param({"messages": None}, id="null"),
        pytest.param({"messages": MESSAGE}, id="one message in place of a list"),
        pytest.param({"messages": [MESSAGE], "priority": "low"}, id="a field beside it"),
    ],
)
def test_what_is_no_batch_is_refused_whole(call: Call, document: Any) -> None:
    answer = call("POST", "/messages/batch", document)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert answer.json["errors"]
    assert count() == 0


def test_only_refused_ones_change_nothing(call: Call) -> None:
    assert statuses(send(call, [BAD, BAD])) == [422, 422]
    assert count() == 0


def test_it_says_that_they_are_held_while_emails_are_off(call: Call, store: Store, db: Any) -> None:
    store.email_settings.emails_off = True
    db.session.commit()
    (one,) = send(call, [MESSAGE]).json["results"]
    assert (one["status"], one["message_status"], one["hold_reason"]) == (202, "held", "emails_off")


# Once and only once


def test_a_batch_sent_again_is_answered_again(call: Call) -> None:
    messages = numbered(3)
    first = send(call, messages, Idempotency_Key="night-run-7")
    again = send(call, messages, Idempotency_Key="night-run-7")
    assert [one["id"] for one in again.json["results"]] == [one["id"] for one in first.json["results"]]
    assert [one.get("replayed") for one in again.json["results"]] == [True] * 3
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert count() == 3


def test_what_changed_meanwhile_is_refused_and_the_rest_answered_again(call: Call) -> None:
    messages = numbered(3)
    send(call, messages, Idempotency_Key="night-run-7")
    messages[1] = {**messages[1], "subject": "Another"}
    answer = send(call, [*messages, MESSAGE], Idempotency_Key="night-run-7")
    assert statuses(answer) == [202, 422, 202, 202]
    assert answer.json["results"][1]["detail"] == "This Idempotency-Key was used before with another message."
    assert "Idempotent-Replayed" not in answer.headers
    assert count() == 4


def test_what_was_refused_may_be_mended_and_sent_again(call: Call) -> None:
    send(call, [MESSAGE, BAD], Idempotency_Key="night-run-7")
    answer = send(call, [MESSAGE, {**MESSAGE, "subject": "Mended"}], Idempotency_Key="night-run-7")
    assert statuses(answer) == [202, 202]
    assert count() == 2


def test_keys_of_a_batch_meet_neither_single_messages_nor_other_stores(call: Call) -> None:
    send(call, [MESSAGE], Idempotency_Key="order-1001")
    single = call("POST", "/messages", {**MESSAGE, "subject": "Another"}, Idempotency_Key="order-1001")
    assert single.status_code == 202
    other = key_of_another_store()
    assert statuses(send(call, [{**MESSAGE, "subject": "X"}], Idempotency_Key="order-1001", Authorization=other)) == [
        202
    ]
    assert count() == 3


@pytest.mark.parametrize("word", ["k", "x" * 255, '"quoted"'])
def test_keys_of_any_length_fit(call: Call, word: str) -> None:
    assert statuses(send(call, numbered(2), Idempotency_Key=word)) == [202, 202]


def test_a_database_that_cannot_store_promises_nothing(call: Call) -> None:
    def full(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith("INSERT INTO message_contents"):
            cursor.execute("INSERT INTO no_such_table VALUES (1)")

    event.listen(database.engine, "before_cursor_execute", full)
    try:
        answer = send(call, numbered(3))
    finally:
        event.remove(database.engine, "before_cursor_execute", full)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert count() == 0


def test_a_message_of_a_batch_is_seen_like_any_other(call: Call) -> None:
    (one,) = send(call, [MESSAGE]).json["results"]
    assert call("GET", f"/messages/{one['id']}").json["status"] == MessageStatus.QUEUED


def test_the_answer_is_the_same_for_any_layout(call: Call, key: str) -> None:
    first = send(call, [MESSAGE], Idempotency_Key="k").json["results"][0]["id"]
    raw = json.dumps({"messages": [dict(reversed(MESSAGE.items()))]}, indent=3)
    again = call("POST", "/messages/batch", None, Idempotency_Key="k", Content_Type="application/json", raw=raw)
    assert again.json["results"][0]["id"] == first
