"""Counting requests: in the process, told to all now and then, and forgotten soon."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select

from extensions import db as database
from mail import api_keys
from mail.api_keys import KeyHolder
from mail.api_rates import TOLD_AT_LEAST_EVERY, RequestRates
from mail.audit import SYSTEM
from models.api_usage import APIUsage
from tests import factories

MINUTE = 29_000_000


class Clock:
    def __init__(self) -> None:
        self.now = MINUTE * 60.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def holder(application: Flask) -> KeyHolder:
    _, key = api_keys.create(factories.make_store(), "Web shop", actor=SYSTEM)
    database.session.commit()
    found = api_keys.holder_of(f"Bearer {key.reveal()}")
    assert found
    api_keys.touch(found)
    database.session.commit()
    fresh = api_keys.holder_of(f"Bearer {key.reveal()}")
    assert fresh
    assert not fresh.is_stale
    return fresh


@pytest.fixture
def written(application: Flask) -> Iterator[list[str]]:
    """The statements that write, in order."""
    statements: list[str] = []

    def watch(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", watch)
    yield statements
    event.remove(database.engine, "before_cursor_execute", watch)


def rows() -> list[tuple[int, int]]:
    database.session.rollback()
    query = select(APIUsage.minute, APIUsage.requests).order_by(APIUsage.minute)
    found = [(row.minute, row.requests) for row in database.session.execute(query)]
    database.session.rollback()  # whoever reads in a test holds SQLite's only pen
    return found


def test_it_writes_once_a_second_however_many_requests_come(
    holder: KeyHolder, clock: Clock, written: list[str]
) -> None:
    rates = RequestRates(1000, clock=clock)
    for _ in range(30):
        rates.count(holder)
    assert rows() == [(MINUTE, 1)]
    assert len([one for one in written if one.startswith("INSERT")]) == 1
    clock.now += 1
    usage = rates.count(holder)
    assert rows() == [(MINUTE, 31)]
    assert usage
    assert (usage.used, usage.remaining, usage.resets_in_s) == (31, 969, 59)


def test_it_tells_after_50_requests_without_waiting(holder: KeyHolder, clock: Clock) -> None:
    rates = RequestRates(1000, clock=clock)
    for _ in range(TOLD_AT_LEAST_EVERY + 1):
        rates.count(holder)
    assert rows() == [(MINUTE, TOLD_AT_LEAST_EVERY + 1)]


def test_two_processes_learn_of_each_other(holder: KeyHolder, clock: Clock) -> None:
    one, other = RequestRates(1000, clock=clock), RequestRates(1000, clock=clock)
    for _ in range(51):
        one.count(holder)
    seen = other.count(holder)
    assert seen
    assert seen.used == 52


def test_the_limit_holds_over_processes_but_for_what_was_not_told_yet(holder: KeyHolder, clock: Clock) -> None:
    processes = [RequestRates(100, clock=clock) for _ in range(2)]
    passed = 0
    for number in range(400):
        usage = processes[number % 2].count(holder)
        assert usage
        passed += not usage.is_over
    assert 100 <= passed <= 100 + TOLD_AT_LEAST_EVERY


def test_whoever_is_over_the_limit_costs_no_more_writes(holder: KeyHolder, clock: Clock, written: list[str]) -> None:
    rates = RequestRates(2, clock=clock)
    for _ in range(3):
        rates.count(holder)
    before = len(written)
    for _ in range(200):
        clock.now += 0.2
        usage = rates.count(holder)
        assert usage
        assert usage.is_over
    assert len(written) == before


def test_a_new_minute_begins_at_nothing_and_forgets_what_is_past(holder: KeyHolder, clock: Clock) -> None:
    rates = RequestRates(10, clock=clock)
    for _ in range(20):
        rates.count(holder)
    for minute in range(1, 6):
        clock.now = (MINUTE + minute) * 60.0
        usage = rates.count(holder)
        assert usage
        assert usage.used == 1
    # The minute before stays for machines whose clocks are a little behind.
    assert [minute for minute, _ in rows()] == [MINUTE + 4, MINUTE + 5]


def test_threads_lose_no_request(application: Flask, holder: KeyHolder, clock: Clock) -> None:
    rates = RequestRates(10_000, clock=clock)

    def ask() -> None:
        with application.app_context():
            for _ in range(100):
                rates.count(holder)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    clock.now += 1
    usage = rates.count(holder)
    assert usage
    assert usage.used == 801
    assert rows() == [(MINUTE, 801)]


def test_what_could_not_be_told_is_told_later(holder: KeyHolder, clock: Clock) -> None:
    rates = RequestRates(100, clock=clock)
    database.session.connection().exec_driver_sql("ALTER TABLE api_usage RENAME TO away")
    database.session.commit()
    usage = rates.count(holder)
    assert usage
    assert usage.used == 1
    database.session.connection().exec_driver_sql("ALTER TABLE away RENAME TO api_usage")
    database.session.commit()
    clock.now += 1
    rates.count(holder)
    assert rows() == [(MINUTE, 2)]


def test_a_key_that_was_deleted_meanwhile_breaks_nothing(holder: KeyHolder, clock: Clock) -> None:
    database.session.connection().exec_driver_sql("DELETE FROM api_keys")
    database.session.commit()
    usage = RequestRates(100, clock=clock).count(holder)
    assert usage
    assert usage.used == 1
