"""Requests that come at the same moment share a commit, and nothing else: no trouble, no answers, no waiting."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, func, select
from sqlalchemy.exc import NoResultFound, OperationalError

from extensions import db as database
from mail import accepting_together, outbox
from mail.accepting_together import SHARED_CHARS, SHARED_MESSAGES, PerhapsStored, Together
from mail.outbox import Enqueued, HandedIn, IdempotencyConflict, NewMessage
from models import Message
from tests import factories

THREADS = 8


@pytest.fixture
def application(application: Flask) -> Flask:
    """One with a store."""
    factories.make_store()
    return application


@pytest.fixture
def commits(application: Flask) -> Iterator[list[int]]:
    """How many messages each commit brought."""
    sizes: list[int] = []
    waiting = threading.local()

    def inserted(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        if statement.startswith("INSERT INTO message_contents"):
            waiting.count = getattr(waiting, "count", 0) + (len(parameters) if many else 1)
        elif "INSERT INTO message_contents" in statement:  # PostgreSQL takes all rows in one
            waiting.count = getattr(waiting, "count", 0) + len(json.loads(parameters["sealed"]))

    def committed(connection: Any) -> None:
        if getattr(waiting, "count", 0):
            sizes.append(waiting.count)
        waiting.count = 0

    event.listen(database.engine, "after_cursor_execute", inserted)
    event.listen(database.engine, "commit", committed)
    yield sizes
    event.remove(database.engine, "after_cursor_execute", inserted)
    event.remove(database.engine, "commit", committed)


def handed(number: int, key: str | None = None, **more: Any) -> HandedIn:
    new = NewMessage(to=("lena@shop.example",), subject=f"Your order {number}", text="Thanks.", **more)
    return HandedIn(new, key, f"hash of {number}" if key else None)


def at_once(
    application: Flask, together: Together, calls: list[tuple[int, list[HandedIn]]], hold: Callable[[], Any]
) -> list[Any]:
    """What each (store, messages) got, all handed in while the first writer is held up by `hold`."""
    results: list[Any] = [None] * len(calls)

    def call(number: int, store_id: int, messages: list[HandedIn]) -> None:
        with application.app_context():
            try:
                equipment = application.extensions["storepost"]
                results[number] = together.accept(store_id, messages, equipment=equipment, api_key_id=None)
            except Exception as error:
                results[number] = error
            finally:
                database.session.remove()

    threads = [threading.Thread(target=call, args=(number, *one)) for number, one in enumerate(calls)]
    threads[0].start()
    hold()
    for thread in threads[1:]:
        thread.start()
    deadline = time.monotonic() + 20
    while len(together._waiting) < len(calls) - 1 and time.monotonic() < deadline:
        time.sleep(0.005)
    held.set()
    for thread in threads:
        thread.join(30)
    return results


held = threading.Event()
entered = threading.Event()


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """The first writer stops before it writes, until all others wait; call it to wait until it has stopped."""
    held.clear()
    entered.clear()
    write = accepting_together._write

    def slow(connection: Any, group: Any, equipment: Any) -> Any:
        entered.set()
        held.wait(20)
        return write(connection, group, equipment)

    monkeypatch.setattr(accepting_together, "_write", slow)
    return lambda: entered.wait(20)


def count() -> int:
    found = database.session.scalar(select(func.count()).select_from(Message)) or 0
    database.session.rollback()
    return found


def test_who_comes_while_somebody_writes_goes_along_with_the_next(
    application: Flask, commits: list[int], hold: Callable[[], Any]
) -> None:
    results = at_once(application, Together(), [(1, [handed(n)]) for n in range(THREADS)], hold)
    assert sorted(commits) == [1, THREADS - 1]
    uids = [answers[0].uid for answers in results]
    for number, uid in enumerate(uids):
        subject = database.session.scalar(select(Message.subject).where(Message.uid == uid))
        assert subject == f"Your order {number}"
    database.session.rollback()


def test_each_gets_its_own_answers_in_order(application: Flask, hold: Callable[[], Any]) -> None:
    other = factories.make_store("Other Store").id
    database.session.rollback()  # whoever reads in a test holds SQLite's only pen
    calls = [(1, [handed(1), handed(2)]), (other, [handed(3)]), (1, [handed(4), handed(5), handed(6)]), (other, [])]
    results = at_once(application, Together(), calls, hold)
    assert [len(answers) for answers in results] == [2, 1, 3, 0]
    query = select(Message.subject, Message.store_id).where(Message.uid.in_([one.uid for one in results[2]]))
    found = database.session.execute(query.order_by(Message.id)).all()
    database.session.rollback()
    assert [tuple(row) for row in found] == [(f"Your order {number}", 1) for number in (4, 5, 6)]


def test_the_trouble_of_one_is_not_that_of_the_others(application: Flask, hold: Callable[[], Any]) -> None:
    calls = [(1, [handed(1)]), (1, [handed(2)]), (999, [handed(3)]), (1, [handed(4)])]
    results = at_once(application, Together(), calls, hold)
    assert isinstance(results[2], NoResultFound)
    assert [type(answers[0]) for answers in results if isinstance(answers, list)] == [Enqueued] * 3
    assert count() == 3


def test_one_key_in_a_group_is_one_message(application: Flask, hold: Callable[[], Any]) -> None:
    calls = [(1, [handed(0)]), *((1, [handed(1, "order-1001")]) for _ in range(4)), (1, [handed(2, "order-1001")])]
    results = at_once(application, Together(), calls, hold)
    same = [answers[0] for answers in results[1:5]]
    assert len({one.uid for one in same if isinstance(one, Enqueued)}) == 1
    assert [one.replayed for one in same].count(False) + isinstance(results[5][0], Enqueued) == 1
    conflicts = [answers[0] for answers in results[1:] if isinstance(answers[0], IdempotencyConflict)]
    assert len(conflicts) in (1, 4)  # whichever came first
    assert count() == 2


@pytest.mark.parametrize(
    "large",
    [
        pytest.param([handed(1, html="x" * SHARED_CHARS)], id="a large text"),
        pytest.param([handed(n) for n in range(SHARED_MESSAGES + 1)], id="many messages"),
    ],
)
def test_what_is_large_lets_nobody_wait(
    application: Flask, commits: list[int], hold: Callable[[], Any], large: list[HandedIn]
) -> None:
    held.set()
    together = Together()
    with together._lock:
        together._has_writer = True  # somebody writes, and does not come to an end
    answers = together.accept(1, large, equipment=application.extensions["storepost"], api_key_id=None)
    assert len(answers) == len(large)
    assert commits == [len(large)]


def test_a_writer_that_failed_leaves_the_pen_to_others(application: Flask) -> None:
    together = Together()
    for _ in range(3):
        with pytest.raises(NoResultFound):
            together.accept(999, [handed(1)], equipment=application.extensions["storepost"], api_key_id=None)
        together.accept(1, [handed(1)], equipment=application.extensions["storepost"], api_key_id=None)
    assert count() == 3


@pytest.mark.parametrize("key", [None, "order-1001"])
def test_a_commit_that_took_place_though_its_answer_was_lost_is_not_repeated(
    application: Flask, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    """As when the connection to PostgreSQL breaks at that very moment."""
    database.session.rollback()
    dialect = database.engine.dialect
    commit, lost = dialect.do_commit, threading.Event()

    def commit_and_lose_the_answer(connection: Any) -> None:
        commit(connection)
        if not lost.is_set():
            lost.set()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(dialect, "do_commit", commit_and_lose_the_answer)
    told: list[int] = []
    equipment = replace(application.extensions["storepost"], nudges=SimpleNamespace(send=told.append))
    (answer,) = Together().accept(1, [handed(1, key)], equipment=equipment, api_key_id=None)
    assert lost.is_set()
    assert count() == 1
    assert isinstance(answer, Enqueued)
    assert answer.uid == database.session.scalar(select(Message.uid))
    assert not answer.replayed
    assert told == [1]
    database.session.rollback()


@pytest.mark.parametrize("commits_first", [True, False])
def test_a_commit_whose_answer_was_lost_with_the_database_is_told_as_open(
    application: Flask, monkeypatch: pytest.MonkeyPatch, commits_first: bool
) -> None:
    """PostgreSQL breaks off amid the commit and does not come back before the next try."""
    database.session.rollback()
    engine = database.engine
    if engine.dialect.name != "postgresql":
        pytest.skip("a file is no way away")
    commit = engine.dialect.do_commit
    away = engine.dialect.loaded_dbapi.OperationalError("server closed the connection unexpectedly")

    def break_off(connection: Any) -> None:
        if commits_first:
            commit(connection)
        connection.driver_connection.close()
        raise away

    def refuse(*_: Any) -> None:
        raise away

    equipment = application.extensions["storepost"]
    monkeypatch.setattr(engine.dialect, "do_commit", break_off)
    engine.dispose()
    with engine.connect():
        pass  # the one connection that is there
    event.listen(engine, "do_connect", refuse)
    try:
        with pytest.raises(PerhapsStored):
            Together().accept(1, [handed(1)], equipment=equipment, api_key_id=None)
    finally:
        event.remove(engine, "do_connect", refuse)
        monkeypatch.undo()
    assert count() == commits_first


def test_many_at_once_lose_nothing(application: Flask, commits: list[int]) -> None:
    """Without being held up: as it goes in a process of the web server."""
    together = Together()
    answers: list[Any] = []

    def hand_in(sender: int) -> None:
        with application.app_context():
            for number in range(25):
                one = handed(sender * 100 + number)
                equipment = application.extensions["storepost"]
                answers.append(together.accept(1, [one], equipment=equipment, api_key_id=None))
            database.session.remove()

    threads = [threading.Thread(target=hand_in, args=(sender,)) for sender in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len({one.uid for (one,) in answers}) == THREADS * 25 == count() == sum(commits)
    assert len(commits) < THREADS * 25
    assert together._waiting == []
    assert not together._has_writer
    with application.app_context():
        assert len(outbox.claim(limit=500)) == THREADS * 25
