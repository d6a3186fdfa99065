"""Who is served next: first come, first served, nobody twice in the line, nobody forgotten."""

from __future__ import annotations

import threading
import time

import pytest

from mail.turns import Turns


@pytest.fixture
def turns() -> Turns:
    return Turns()


def test_stores_are_served_in_the_order_they_came(turns: Turns) -> None:
    for store_id in (3, 1, 2, 1, 3):
        turns.offer(store_id)
    assert [turns.take(0) for _ in range(4)] == [3, 1, 2, None]


def test_a_nudge_during_a_turn_brings_another_one_after_it(turns: Turns) -> None:
    turns.offer(1)
    assert turns.take(0) == 1
    turns.offer(1)
    assert turns.take(0) is None
    turns.done(1, None)
    assert turns.take(0) == 1


def test_who_wants_to_go_on_goes_behind_the_others(turns: Turns) -> None:
    turns.offer(1)
    turns.take(0)
    turns.offer(2)
    turns.done(1, 0)
    assert [turns.take(0), turns.take(0)] == [2, 1]


def test_a_store_put_off_comes_back_by_itself_and_not_before(turns: Turns) -> None:
    turns.offer(1)
    turns.take(0)
    turns.done(1, 0.15)
    turns.offer(1)
    began = time.monotonic()
    assert turns.take(0) is None
    assert turns.take(5) == 1
    assert time.monotonic() - began >= 0.14
    assert turns.take(0) is None


def test_more_threads_serve_a_store_up_to_its_limit(turns: Turns) -> None:
    turns.offer(1)
    assert turns.take(0) == 1
    turns.offer_more(1, at_most=2)
    turns.offer_more(1, at_most=2)
    assert turns.take(0) == 1
    turns.offer_more(1, at_most=2)
    assert turns.take(0) is None


def test_a_thread_that_waits_is_woken(turns: Turns) -> None:
    found: list[int | None] = []
    thread = threading.Thread(target=lambda: found.append(turns.take(10)))
    thread.start()
    while not turns.idle:
        time.sleep(0.001)
    turns.offer(7)
    thread.join(5)
    assert found == [7]


def test_others_wait_only_when_no_thread_is_free_for_them(turns: Turns) -> None:
    turns.offer(1)
    turns.take(0)
    assert not turns.others_wait(1)
    turns.offer(2)
    assert turns.others_wait(1)
    assert not turns.others_wait(2)


def test_it_is_quiet_when_nobody_is_served_or_in_the_line(turns: Turns) -> None:
    turns.offer(1)
    assert not turns.is_quiet
    turns.take(0)
    assert not turns.is_quiet
    turns.done(1, None)
    assert turns.is_quiet


def test_after_closing_nobody_is_served(turns: Turns) -> None:
    turns.offer(1)
    turns.close()
    turns.offer(2)
    assert turns.take(1) is None


def test_no_offer_is_lost_between_threads(turns: Turns) -> None:
    """Every offer made after a turn began is followed by a turn that begins later."""
    served_at: dict[int, float] = {}
    offered_at: dict[int, float] = {}
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if (store_id := turns.take(0.05)) is not None:
                served_at[store_id] = time.monotonic()
                turns.done(store_id, None)

    crew = [threading.Thread(target=serve) for _ in range(4)]
    for thread in crew:
        thread.start()
    for round_ in range(2000):
        store_id = round_ % 7
        offered_at[store_id] = time.monotonic()
        turns.offer(store_id)
    ends = time.monotonic() + 5
    while not turns.is_quiet and time.monotonic() < ends:
        time.sleep(0.005)
    stop.set()
    for thread in crew:
        thread.join(5)
    assert all(served_at[store_id] >= at for store_id, at in offered_at.items())
