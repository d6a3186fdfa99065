"""Slots: never more connections than allowed, and none lost to a worker that died."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from extensions import db as database
from mail import pace
from mail.errors import Stage
from mail.pace import Limits, Slot
from models import Store, clock
from models.database import writing
from models.pace import LaneSlot
from tests import factories

LEASE = timedelta(seconds=90)


def take(limits: Limits, lease: timedelta = LEASE) -> Slot | None:
    return pace.take_slot(limits, int(limits.lane.partition(":")[2]), lease=lease)


def fill(limits: Limits) -> list[Slot]:
    """Take slots until there is none."""
    return list(iter(lambda: take(limits), None))


def test_it_gives_as_many_as_there_are_connections(limits: Limits) -> None:
    assert [slot.number for slot in fill(limits)] == [0, 1, 2]
    assert "lease" not in repr(take(replace(limits, connections=4)))


def test_a_freed_slot_is_given_again_and_only_its_holder_can_free_it(limits: Limits) -> None:
    first, second, _ = fill(limits)
    pace.free_slot(replace(first, lease="somebody else's"))
    assert take(limits) is None
    pace.free_slot(second)
    again = take(limits)
    assert again is not None
    assert again.number == second.number


def test_a_lease_that_ran_out_is_free_and_its_former_holder_cannot_renew_it(limits: Limits) -> None:
    [old] = fill(replace(limits, connections=1))
    with clock.shifted(LEASE - timedelta(seconds=5)):
        assert take(replace(limits, connections=1)) is None
    with clock.shifted(LEASE + timedelta(seconds=1)):
        new = take(replace(limits, connections=1))
        assert new is not None
        assert pace.renew_slots([old.lease], lease=LEASE) == 0
        pace.free_slot(old)
        assert take(replace(limits, connections=1)) is None


def test_renewing_keeps_what_is_ours(limits: Limits) -> None:
    leases = [slot.lease for slot in fill(limits)]
    with clock.shifted(timedelta(seconds=60)):
        assert pace.renew_slots(leases[:2], lease=LEASE) == 2
    assert pace.renew_slots([], lease=LEASE) == 0
    with clock.shifted(timedelta(seconds=100)):
        assert [slot.number for slot in fill(limits)] == [2]


def test_eight_threads_never_hold_more_than_the_limit(app: Flask, limits: Limits) -> None:
    held: set[int] = set()
    most, doubles, guard = 0, [], threading.Lock()
    end = time.monotonic() + 1.5

    def work() -> None:
        nonlocal most
        with app.app_context():
            while time.monotonic() < end:
                slot = take(limits)
                if slot is None:
                    time.sleep(0.002)
                    continue
                with guard:
                    doubles.extend([slot.number] if slot.number in held else [])
                    held.add(slot.number)
                    most = max(most, len(held))
                time.sleep(0.1)
                with guard:
                    held.discard(slot.number)
                pace.free_slot(slot)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, doubles) == (3, [])


def test_a_limit_that_changes_works_with_the_rows_that_are_there(limits: Limits) -> None:
    held = fill(limits)
    more = replace(limits, connections=5)
    held += fill(more)
    assert [slot.number for slot in held] == [0, 1, 2, 3, 4]
    for slot in held:
        pace.free_slot(slot)
    assert [slot.number for slot in fill(replace(limits, connections=2))] == [0, 1]


def test_stores_that_share_a_connection_share_its_slots(store: Store) -> None:
    ids = [store.id, factories.make_store("Copy of Acme", code=f"copy-{store.id}").id]
    database.session.rollback()  # a test's own session would keep others from writing
    shared = Limits(f"connection:{1000 + ids[0]}", 2, None, None)
    first, second = (pace.take_slot(shared, store_id, lease=LEASE) for store_id in ids)
    assert first is not None
    assert second is not None
    assert pace.take_slot(shared, ids[0], lease=LEASE) is None
    takers = select(LaneSlot.store_id).where(LaneSlot.lane_key == shared.lane).order_by(LaneSlot.number)
    assert list(database.session.scalars(takers)) == ids


def test_taking_one_is_one_statement_once_the_rows_are_there(limits: Limits, statements: list[str]) -> None:
    pace.free_slot(fill(limits)[0])
    statements.clear()
    assert take(limits) is not None
    assert [words.split()[0] for words in statements if not words.startswith("BEGIN")] == ["UPDATE"]


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)])
def test_a_clock_that_jumps_blocks_no_slot_for_longer_than_a_lease(limits: Limits, jump: timedelta) -> None:
    held = fill(limits)
    with clock.shifted(jump):
        pace.renew_slots([slot.lease for slot in held], lease=LEASE)
        assert take(limits) is None
    fill(limits)  # back again: those leases are an hour ahead, or ran out
    with clock.shifted(LEASE + timedelta(seconds=1)):
        assert len(fill(limits)) == 3


def test_a_clock_put_back_takes_no_slot_from_its_holder(limits: Limits) -> None:
    held = fill(limits)
    with clock.shifted(timedelta(hours=-1)):
        assert take(limits) is None
        assert pace.renew_slots([slot.lease for slot in held], lease=LEASE) == 3


def test_a_failing_lane_gets_one_connection_until_one_succeeds(limits: Limits) -> None:
    pace.note_failure(limits, code="connect_refused", detail="")
    assert len(fill(limits)) == 1
    pace.note_success(limits)
    assert len(fill(limits)) == 2


def test_too_many_connections_leave_one_fewer_for_a_while(limits: Limits) -> None:
    held = fill(limits)
    words = "432 4.3.2 Concurrent connections limit exceeded"
    pace.note_throttled(limits, stage=Stage.AUTH, code="throttled", detail=words, wish_s=None)
    for slot in held:
        pace.free_slot(slot)
    assert len(fill(limits)) == 2
    with clock.shifted(timedelta(minutes=16)):
        assert len(fill(limits)) == 3


@pytest.mark.postgres
def test_a_row_that_somebody_is_busy_with_is_passed_over(limits: Limits, db: Any) -> None:
    if db.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    for slot in fill(limits):
        pace.free_slot(slot)
    with writing(), db.engine.begin() as connection:
        connection.exec_driver_sql(
            f"SELECT id FROM lane_slots WHERE lane_key = '{limits.lane}' AND number = 0 FOR UPDATE"
        )
        slot = take(limits)
        assert slot is not None
        assert slot.number == 1
