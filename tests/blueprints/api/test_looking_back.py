"""What programs see of their messages: one, or pages of them, never those of another store, never what they say."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event

from extensions import db as database
from mail import outbox
from models import APIKey, Message, Store
from models.outbox import MessageStatus, Recipient, RecipientKind
from tests.blueprints.api.calls import MESSAGE, Call, Send, key_of_another_store


def test_it_tells_what_became_of_a_message(send: Send, call: Call) -> None:
    uid = send({**MESSAGE, "cc": ["tom@shop.example"]}).json["id"]
    claimed = outbox.claim(limit=1)[0]
    outbox.finish(claimed, outbox.Outcome(MessageStatus.SENT, detail="2.0.0 ok", reply_code=250))
    answer = call("GET", f"/messages/{uid}")
    assert answer.status_code == 200
    found = answer.json
    assert (found["id"], found["status"], found["subject"]) == (uid, "sent", "Your order")
    assert [(one["address"], one["kind"]) for one in found["recipients"]] == [
        ("lena@shop.example", "to"),
        ("tom@shop.example", "cc"),
    ]
    assert [(one["number"], one["outcome"], one["reply_code"]) for one in found["attempts"]] == [(1, "sent", 250)]
    assert found["ended_at"].endswith("Z")


def test_messages_of_other_stores_do_not_exist(send: Send, call: Call) -> None:
    uid = send().json["id"]
    other = key_of_another_store()
    foreign = call("GET", f"/messages/{uid}", Authorization=other)
    missing = call("GET", f"/messages/{'0' * 32}", Authorization=other)
    assert (foreign.status_code, foreign.text) == (missing.status_code, missing.text)
    assert foreign.status_code == 404
    assert call("GET", "/messages", Authorization=other).json == {"messages": [], "next_cursor": None}


def test_a_key_that_may_only_send_sees_nothing(send: Send, call: Call, db: Any) -> None:
    uid = send().json["id"]
    db.session.execute(APIKey.__table__.update().values(scopes="send"))
    db.session.commit()
    for path in (f"/messages/{uid}", "/messages"):
        answer = call("GET", path)
        assert answer.status_code == 403
        assert "read" in answer.json["detail"]


# The list


@pytest.fixture
def uids(call: Call) -> list[str]:
    """Seven messages, oldest first; the second was sent and the sixth cancelled."""
    many = [{**MESSAGE, "subject": f"Your order {number}"} for number in range(7)]
    results = call("POST", "/messages/batch", {"messages": many}).json["results"]
    found = [one["id"] for one in results]
    database.session.execute(Message.__table__.update().where(Message.uid == found[1]).values(status="sent"))
    database.session.execute(Message.__table__.update().where(Message.uid == found[5]).values(status="cancelled"))
    database.session.commit()
    return found


def page(call: Call, **query: Any) -> tuple[list[str], str | None]:
    answer = call("GET", "/messages?" + "&".join(f"{name}={value}" for name, value in query.items()))
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json["messages"]], answer.json["next_cursor"]


def test_the_newest_stand_first_and_the_last_page_says_so(call: Call, uids: list[str]) -> None:
    assert page(call) == (uids[::-1], None)
    first, cursor = page(call, limit=3)
    assert cursor
    second, cursor = page(call, limit=3, cursor=cursor)
    third, end = page(call, limit=3, cursor=cursor)
    assert (first + second + third, end) == (uids[::-1], None)
    assert page(call, limit=7) == (uids[::-1], None)


def test_messages_that_come_in_meanwhile_shift_no_page(call: Call, send: Send, uids: list[str]) -> None:
    first, cursor = page(call, limit=3)
    send()
    second, _ = page(call, limit=4, cursor=cursor)
    assert first + second == uids[::-1]


def test_it_is_narrowed_to_one_state(call: Call, uids: list[str]) -> None:
    assert page(call, status="sent") == ([uids[1]], None)
    first, cursor = page(call, status="queued", limit=2)
    rest, _ = page(call, status="queued", cursor=cursor)
    assert first + rest == [uids[n] for n in (6, 4, 3, 2, 0)]


def test_an_entry_of_the_list_is_what_the_message_itself_is(call: Call, uids: list[str]) -> None:
    listed = call("GET", "/messages?limit=1").json["messages"][0]
    assert listed == call("GET", f"/messages/{uids[-1]}").json


def test_the_stores_own_bcc_is_not_told(call: Call, uids: list[str]) -> None:
    message = database.session.query(Message).filter_by(uid=uids[-1]).one()
    hidden = Recipient(message_id=message.id, kind=RecipientKind.STORE_BCC, address="archive@acme.example")
    database.session.add(hidden)
    database.session.commit()
    assert "archive@" not in call("GET", "/messages").text
    assert "archive@" not in call("GET", f"/messages/{uids[-1]}").text


def test_a_longer_page_costs_no_more_queries(call: Call, uids: list[str]) -> None:
    seen: list[str] = []

    def watch(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        seen.append(statement)

    page(call)  # the first request of a minute counts itself
    event.listen(database.engine, "before_cursor_execute", watch)
    try:
        page(call, limit=1)
        short = len(seen)
        page(call, limit=100)
    finally:
        event.remove(database.engine, "before_cursor_execute", watch)
    assert len(seen) == 2 * short


def test_looking_writes_no_message(call: Call, uids: list[str], store: Store) -> None:
    written: list[str] = []

    def watch(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            written.append(statement)

    page(call)  # the first request of a minute counts itself
    event.listen(database.engine, "before_cursor_execute", watch)
    try:
        page(call)
        call("GET", f"/messages/{uids[0]}")
    finally:
        event.remove(database.engine, "before_cursor_execute", watch)
    assert written == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=asleep", "status"),
        ("status=", "status"),
        ("status=sent&status=held", "status"),
        ("status=%ff", "status"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=٣", "limit"),
        ("limit=1_0", "limit"),
        ("cursor=", "cursor"),
        ("cursor=7", "cursor"),
        ("cursor=m-1", "cursor"),
        ("cursor=m" + "f" * 16, "cursor"),
        ("state=sent", "state"),
    ],
)
def test_a_question_that_is_none_is_refused_and_not_guessed_at(call: Call, query: str, field: str) -> None:
    answer = call("GET", f"/messages?{query}")
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert [one["field"] for one in answer.json["errors"]] == [field]


def test_any_cursor_that_could_be_one_gives_a_page(call: Call, uids: list[str]) -> None:
    assert page(call, cursor="m" + "f" * 15) == (uids[::-1], None)
    assert page(call, cursor="m0") == ([], None)


def test_a_database_that_is_away_says_when_to_ask_again(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    database.session.execute(Message.__table__.update().values(status="sent"))
    database.session.commit()
    database.session.connection().exec_driver_sql("ALTER TABLE messages RENAME TO messages_away")
    database.session.commit()
    for path in ("/messages", f"/messages/{'0' * 32}"):
        answer = call("GET", path)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert "database" in answer.json["detail"]
