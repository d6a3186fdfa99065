"""250 means stored: groups, a database that goes away, messages that spoil others, more than can be written at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from sqlalchemy.exc import DataError, OperationalError

from extensions import db as database
from mail import api_keys, outbox
from models import Store
from models.database import reading
from relay import Relay, writing
from relay.limits import Limits
from relay.writing import Answer, HandedOver, Writers
from tests.relay.peer import MESSAGE, Peer, stored, uid_of

AWAY = "451 4.3.0 The message could not be stored; send it again later"


@pytest.fixture
def group(app: Flask, key: str) -> Callable[..., list[Answer]]:
    """Hands over all messages before a writer looks, so that they are one group, and returns their answers."""
    with reading():
        holder = api_keys.holder_of(f"Bearer {key}")
        database.session.rollback()
    assert holder

    def group(*contents: bytes) -> list[Answer]:
        writers = Writers(app, Limits(writers=1))
        handed = [HandedOver(holder, ("lena@shop.example",), b"\r\n" + content[:-2]) for content in contents]
        for one in handed:
            writers.hand_over(one)
        writers.start()
        answers = [one.answer.result(15) for one in handed]
        writers.stop(5)
        return answers

    return group


@pytest.fixture
def commits(app: Flask) -> Iterator[list[str]]:
    """The commits of all connections from here on."""
    seen: list[str] = []

    def note(connection: Any) -> None:
        seen.append("commit")

    with app.app_context():
        engine = database.engine
    event.listen(engine, "commit", note)
    yield seen
    event.remove(engine, "commit", note)


def numbered(number: int) -> bytes:
    return b"Subject: %d\r\n\r\nHi\r\n" % number


def spoil(monkeypatch: pytest.MonkeyPatch, subject: str, error: Exception) -> list[int]:
    """Make storing fail whenever a message with this subject is among those stored; returns the sizes of the groups."""
    real, sizes = outbox.enqueue_many, []

    def enqueue_many(store_id: int, handed: Any, **more: Any) -> Any:
        sizes.append(len(handed))
        answers = real(store_id, handed, **more)
        if any(one.new.subject == subject for one in handed):
            raise error
        return answers

    monkeypatch.setattr(writing.outbox, "enqueue_many", enqueue_many)
    return sizes


def test_messages_that_wait_together_are_committed_together(group: Any, commits: list[str]) -> None:
    answers = group(*(numbered(n) for n in range(40)))
    assert len(commits) == 1
    assert [message.uid for message in stored()] == [answer.uid for answer in answers]
    assert [message.subject for message in stored()] == [str(n) for n in range(40)]


def test_a_group_is_no_larger_than_its_limit(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = spoil(monkeypatch, "none", ValueError())
    group(*(numbered(n) for n in range(120)))
    assert sizes == [50, 50, 20]


def test_one_message_that_cannot_be_stored_spoils_no_other(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "3", DataError("INSERT", {}, Exception("value out of range")))
    answers = group(*(numbered(n) for n in range(6)))
    assert [answer.reply == AWAY for answer in answers] == [False, False, False, True, False, False]
    assert [message.subject for message in stored()] == ["0", "1", "2", "4", "5"]
    assert [message.uid for message in stored()] == [answer.uid for answer in answers if answer.uid]


def test_one_message_that_breaks_the_code_spoils_no_other(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = writing.relay_intake.read_message

    def read_message(raw: bytes, recipients: Any) -> Any:
        if b"Subject: 1\r\n" in raw:
            raise RecursionError("a bug")
        return real(raw, recipients)

    monkeypatch.setattr(writing.relay_intake, "read_message", read_message)
    answers = group(*(numbered(n) for n in range(3)))
    assert [answer.reply[:9] for answer in answers] == ["250 2.0.0", "554 5.6.0", "250 2.0.0"]
    assert [message.subject for message in stored()] == ["0", "2"]


def test_a_message_that_is_no_message_is_refused_with_the_reason(group: Any) -> None:
    answers = group(b"Subject: \x00\r\n\r\n", numbered(1))
    assert answers[0].reply == "554 5.6.0 The message contains a NUL character."
    assert [message.subject for message in stored()] == ["1"]


def test_a_database_that_is_away_fails_all_without_trying_each(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def usable_keys(key_ids: Any) -> set[int]:
        tries.append(1)
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    monkeypatch.setattr(writing.relay_access, "usable_keys", usable_keys)
    answers = group(*(numbered(n) for n in range(20)))
    assert {answer.reply for answer in answers} == {AWAY}
    assert len(tries) == 3
    assert stored() == []


def test_a_commit_whose_confirmation_was_lost_is_found_out_and_not_repeated(
    group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = database.session()
    real, lost = type(session).commit, []

    def commit(self: Any) -> None:
        real(self)
        if not lost and threading.current_thread().name.startswith("relay-write"):
            lost.append(1)
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(type(session), "commit", commit)
    answers = group(*(numbered(n) for n in range(4)))
    assert lost
    assert [message.uid for message in stored()] == [answer.uid for answer in answers]


def test_a_writer_outlives_its_own_bugs(app: Flask, group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, broken = Writers._try, []

    def try_once(self: Writers, ready: Any) -> Any:
        if not broken:
            broken.append(1)
            raise ZeroDivisionError
        return real(self, ready)

    monkeypatch.setattr(Writers, "_try", try_once)
    assert [answer.reply for answer in group(numbered(1))] == [AWAY]
    assert group(numbered(2))[0].uid


def test_what_was_taken_back_is_not_written(app: Flask, group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Writers.hand_over

    def hand_over(self: Writers, handed: HandedOver) -> None:
        if b"Subject: 1" in handed.content:
            assert handed.answer.cancel()
            handed.answer = Future()
            handed.answer.set_result(Answer("taken back"))
            taken_back: Future[Answer] = Future()
            taken_back.cancel()
            real(self, HandedOver(handed.holder, handed.recipients, handed.content, taken_back))
            return
        real(self, handed)

    monkeypatch.setattr(Writers, "hand_over", hand_over)
    answers = group(*(numbered(n) for n in range(3)))
    assert answers[1].reply == "taken back"
    assert [message.subject for message in stored()] == ["0", "2"]


# Through the front door -----------------------------------------------------------------------------------------------


def lock(app: Flask) -> ExitStack:
    """Keep SQLite's only writer busy until the result is closed."""
    stack = ExitStack()
    with app.app_context():
        connection = stack.enter_context(database.engine.connect())
    connection.exec_driver_sql("SELECT 1")  # begins with BEGIN IMMEDIATE
    return stack


def test_what_waits_too_long_for_a_writer_is_put_off_and_never_written(
    app: Flask, start: Callable[..., Relay], key: str
) -> None:
    relay = start(writers=1, wait_s=0.4)
    with Peer(relay.port, timeout_s=30) as first, Peer(relay.port) as second:
        first.sign_in(key).envelope()
        second.sign_in(key).envelope()
        with lock(app):
            first.say("DATA")
            first.send(b"Subject: first\r\n\r\nHi\r\n.\r\n")
            threading.Event().wait(0.2)  # the only writer has it now, and waits for the database
            answer = second.data(b"Subject: second\r\n\r\nHi\r\n")
            assert answer.text.startswith("451 4.3.0 Too much mail is waiting"), answer
        # Begun in time, so its outcome is told however long it took.
        uid = uid_of(first.reply())
        assert second.envelope().data(b"Subject: third\r\n\r\nHi\r\n").code == 250
    assert [message.subject for message in stored()] == ["first", "third"]
    assert stored()[0].uid == uid


def test_a_locked_database_is_waited_for_and_then_said_to_be_away(
    app: Flask, start: Callable[..., Relay], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = start()
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope()
        with app.app_context():
            database.engine.dispose()  # new connections get the short patience
        monkeypatch.setattr("models.database.BUSY_TIMEOUT_MS", 100)
        with lock(app):
            assert peer.data().text == AWAY
        assert stored() == []
        assert peer.envelope().data().code == 250
    assert len(stored()) == 1


def test_a_sign_in_that_cannot_be_judged_may_be_tried_again(
    relay: Relay, store: Store, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign_in(user: str, password: str) -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    with Peer(relay.port) as peer:
        peer.greet()
        with monkeypatch.context() as away:
            away.setattr("mail.relay_access.sign_in", sign_in)
            assert peer.auth(key).text.startswith("454 4.7.0 ")
        assert peer.auth(key).code == 235
        assert peer.envelope().data(MESSAGE).code == 250
