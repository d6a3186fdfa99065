"""Permits: all that the provider allows and never more, by however many processes; recipients of the day."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from extensions import db as database
from mail import pace
from mail.pace import Limits, add_recipients, look, take_permit
from mail.pace.limits import low_priority_share
from models import clock
from models.database import writing
from models.pace import LanePermit, LaneRecipients

ROOT = Path(__file__).resolve().parents[3]
WHOLE = pace.WINDOW + pace.MARGIN


def count_rows(limits: Limits) -> int:
    found = database.session.scalar(select(func.count()).where(LanePermit.lane_key == limits.lane))
    database.session.rollback()
    return found or 0


def test_it_gives_a_minutes_worth_and_then_none_until_the_first_is_a_minute_old(limits: Limits, take: Any) -> None:
    assert look(limits).next_permit_in == timedelta()
    assert take(limits) == 30
    assert WHOLE - timedelta(seconds=20) < look(limits).next_permit_in <= WHOLE
    with clock.shifted(timedelta(seconds=30)):
        assert take(limits) == 0
        assert look(limits).next_permit_in < timedelta(seconds=31)
    with clock.shifted(WHOLE):
        assert look(limits).next_permit_in == timedelta()
        assert take(limits) == 30
    assert count_rows(limits) == 30


def test_the_permit_taken_longest_ago_is_taken_first(limits: Limits, take: Any) -> None:
    few = replace(limits, per_minute=3)
    take(few, tries=1)
    with clock.shifted(timedelta(seconds=30)):
        take(few)
    with clock.shifted(WHOLE):
        assert take(few) == 1
        assert timedelta(seconds=20) < look(few).next_permit_in <= timedelta(seconds=31)


def test_a_permit_goes_back_when_the_transaction_does(limits: Limits, take: Any, db: Any) -> None:
    one = replace(limits, per_minute=1)
    with writing(), db.engine.connect() as connection, connection.begin() as transaction:
        assert take_permit(one, 1, connection)
        transaction.rollback()
    assert take(one) == 1


def test_low_priority_leaves_the_last_tenth_to_others(limits: Limits, take: Any) -> None:
    assert take(limits, low_priority_share(30)) == 27
    state = look(limits)
    assert state.next_permit_in == timedelta()
    assert state.next_low_permit_in > timedelta(seconds=30)
    assert take(limits) == 3


def test_a_raised_limit_makes_the_missing_permits(limits: Limits, take: Any) -> None:
    assert take(limits) == 30
    more = replace(limits, per_minute=40)
    assert look(more).next_permit_in == timedelta()
    assert take(more) == 10
    assert count_rows(limits) == 40


def test_a_lowered_limit_uses_only_the_first_permits(limits: Limits, take: Any) -> None:
    assert take(limits) == 30
    less = replace(limits, per_minute=10)
    assert take(less) == 0
    with clock.shifted(WHOLE):
        assert take(less) == 10
        assert look(less).next_permit_in > timedelta(seconds=30)


def test_a_rate_of_thousands_makes_its_permits_as_they_are_needed(limits: Limits, take: Any) -> None:
    assert take(replace(limits, per_minute=100_000), tries=3) == 3
    assert count_rows(limits) == 200
    assert look(replace(limits, per_minute=100_000)).next_permit_in == timedelta()


def test_a_clock_put_back_keeps_the_limit_and_heals_within_a_window(limits: Limits, take: Any) -> None:
    assert take(limits) == 30
    with clock.shifted(timedelta(hours=-1)):
        assert take(limits) == 0
        assert look(limits).next_permit_in <= WHOLE
        assert take(limits) == 0
    with clock.shifted(timedelta(hours=-1) + WHOLE):
        assert take(limits) == 30


def test_a_clock_put_forward_blocks_nothing(limits: Limits, take: Any) -> None:
    assert take(limits) == 30
    with clock.shifted(timedelta(hours=1)):
        assert take(limits) == 30
    assert look(limits).next_permit_in <= WHOLE
    with clock.shifted(WHOLE):
        assert take(limits) == 30


def test_taking_one_is_one_statement_once_the_rows_are_there(
    limits: Limits, take: Any, write: Any, statements: list[str]
) -> None:
    assert take(limits, tries=1) == 1
    statements.clear()
    assert write(lambda connection: take_permit(limits, 30, connection))
    assert [words.split()[0] for words in statements if not words.startswith("BEGIN")] == ["UPDATE"]


@pytest.mark.postgres
def test_two_that_choose_at_once_get_different_ones_without_waiting(limits: Limits, take: Any, db: Any) -> None:
    if db.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    assert take(replace(limits, per_minute=3)) == 3
    with clock.shifted(WHOLE), db.engine.begin() as one, db.engine.begin() as other:
        other.execute(text("SET LOCAL lock_timeout = '100ms'"))
        assert [take_permit(limits, 3, each) for each in (one, other, other, other)] == [True, True, True, False]


# Several processes ---------------------------------------------------------------------------------------------------

PER_WINDOW, WINDOW_S, MARGIN_S, WINDOWS, MOST_WINDOWS = 30, 2.5, 0.02, 3, 9


def test_three_processes_use_the_limit_and_never_more(limits: Limits, database_url: str) -> None:
    with senders(3, database_url, limits.lane) as stamps:
        got = sorted(stamps.get(timeout=60) for _ in range(PER_WINDOW * WINDOWS))
        while max(_shares(got)) < 0.97 and len(got) < PER_WINDOW * MOST_WINDOWS:
            got = sorted([*got, *(stamps.get(timeout=60) for _ in range(PER_WINDOW))])
    window_ms = WINDOW_S * 1000
    # Any message and the one that is 30 later are more than a window apart: no window holds 31.
    gaps = [later - earlier for earlier, later in zip(got, got[PER_WINDOW:], strict=False)]
    assert min(gaps) > window_ms
    assert max(_shares(got)) >= 0.97, _shares(got)


def _shares(got: list[int]) -> list[float]:
    """What was sent of what the limit allows, from the end of one burst to that of the next.

    The best one tells what is possible; a busy machine only makes the others worse.
    """
    ends = got[PER_WINDOW - 1 :: PER_WINDOW]
    return [WINDOW_S * 1000 / (later - earlier) for earlier, later in pairwise(ends)]


@contextmanager
def senders(number: int, url: str, lane: str) -> Iterator[queue.Queue[int]]:
    """Run senders in processes of their own; the queue fills with the times at which they got permits."""
    command = [sys.executable, "-m", "tests.mail.pace.sender", url, lane, str(PER_WINDOW), str(WINDOW_S), str(MARGIN_S)]
    stamps: queue.Queue[int] = queue.Queue()
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(number)
    ]

    def read(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            stamps.put(int(line))

    threads = [threading.Thread(target=read, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    try:
        yield stamps
        assert [process.poll() for process in processes] == [None] * number
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.communicate()
        for thread in threads:
            thread.join()


# Recipients of the day ------------------------------------------------------------------------------------------------


def test_recipients_add_up_and_leave_the_day_after_it_is_over(limits: Limits, write: Any) -> None:
    assert look(limits).recipients_left == 10_000
    for _ in range(2):
        write(lambda connection: add_recipients(limits.lane, 1500, connection))
    with clock.shifted(timedelta(hours=10)):
        write(lambda connection: add_recipients(limits.lane, 4000, connection))
        assert look(limits).recipients_left == 3000
    with clock.shifted(timedelta(hours=23, minutes=59)):
        assert look(limits).recipients_left == 3000
    with clock.shifted(timedelta(hours=25, minutes=1)):
        assert look(limits).recipients_left == 6000
    with clock.shifted(timedelta(hours=36)):
        assert look(limits).recipients_left == 10_000


def test_more_recipients_than_allowed_leave_none_and_no_limit_leaves_none_named(limits: Limits, write: Any) -> None:
    write(lambda connection: add_recipients(limits.lane, 10_001, connection))
    write(lambda connection: add_recipients("store:9999", 5, connection))
    assert look(limits).recipients_left == 0
    assert look(replace(limits, recipients_per_day=None)).recipients_left is None


def test_recipients_counted_ahead_by_a_clock_put_back_do_not_count(limits: Limits, write: Any) -> None:
    with clock.shifted(timedelta(days=30)):
        write(lambda connection: add_recipients(limits.lane, 10_000, connection))
    assert look(limits).recipients_left == 10_000


# Leftovers ------------------------------------------------------------------------------------------------------------


def test_tidy_removes_hours_long_past_and_lanes_that_are_gone(limits: Limits, take: Any, write: Any) -> None:
    gone = replace(limits, lane="connection:7777")
    for lane in (limits, gone):
        take(lane)
        pace.take_slot(lane, 1, lease=timedelta(seconds=90))
        write(lambda connection, key=lane.lane: add_recipients(key, 1, connection))
        pace.note_failure(lane, code="connect_refused", detail="")
    with clock.shifted(timedelta(hours=3)):
        write(lambda connection: add_recipients(limits.lane, 1, connection))
    pace.tidy()
    assert look(gone) == replace(look(gone), is_failing=False, next_permit_in=timedelta())
    assert count_rows(limits) == 30
    assert look(limits).is_failing
    with clock.shifted(timedelta(hours=26)):
        pace.tidy()
    database.session.rollback()
    assert database.session.scalar(select(func.count()).where(LaneRecipients.lane_key == limits.lane)) == 1
