"""The worker's loop: everything due goes out, no store takes all threads, outages and signals are survived."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

import worker
from mail import delivery as real_delivery
from mail import ledger, outbox, outbox_work
from mail.equipment import Equipment
from mail.errors import Stage, TryLater
from mail.outbox import ClaimedMessage, NewMessage, Outcome
from mail.outcomes import of_error
from models import Message, Store, clock
from models.database import reading
from models.email_settings import Method
from models.outbox import HoldReason, MessageStatus
from tests import factories
from tests.patience import SOON_S

SENT = Outcome(MessageStatus.SENT)


class Delivery:
    """Stands where a server would: keeps who was sent, and does what a test says."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.deed: Callable[[ClaimedMessage], Outcome] = lambda message: SENT

    def __call__(
        self, claimed: Sequence[ClaimedMessage], way: Any, *, goes_on: Callable[[], bool], **how: Any
    ) -> Iterator[tuple[ClaimedMessage, Outcome]]:
        for message in claimed:
            if not goes_on():
                return
            outcome = self.deed(message)
            self.sent.append(message.uid)
            yield message, outcome


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch) -> Delivery:
    fake = Delivery()
    monkeypatch.setattr(real_delivery, "deliver_all", fake)
    return fake


@pytest.fixture
def store(app: Flask) -> Store:
    return _store("Acme Store")


def _store(name: str) -> Store:
    """A store whose settings are complete, so that it has a way out."""
    return factories.make_store(
        name, method=Method.SMTP, from_name=name, from_email="orders@acme.example", smtp_host="localhost", smtp_port=25
    )


@pytest.fixture
def hand_in(store: Store, equipment: Equipment, db: Any) -> Callable[..., str]:
    own = store.id

    def hand_in(store_id: int = 0) -> str:
        new = NewMessage(to=("lena@shop.example",), text="Hi.")
        uid = outbox.enqueue(store_id or own, new, equipment=equipment).uid
        db.session.commit()
        return uid

    return hand_in


@pytest.fixture
def states(db: Any) -> Callable[[], dict[str, MessageStatus]]:
    def states() -> dict[str, MessageStatus]:
        with reading():
            found = dict(db.session.execute(select(Message.uid, Message.status)).all())
            # SQLite has one writer, and a test's open transaction would keep the worker waiting.
            db.session.rollback()
        return found

    return states


@contextmanager
def _running(app: Flask, *, threads: int = 4) -> Iterator[worker.Worker]:
    """A worker that runs beside the test, as `flask worker` would."""
    one = worker.Worker(app, threads=threads)
    thread = threading.Thread(target=one.run)
    thread.start()
    try:
        yield one
    finally:
        one.stopping.set()
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def running(app: Flask) -> Iterator[worker.Worker]:
    with _running(app) as one:
        yield one


def eventually(check: Callable[[], bool], within_s: float = 10) -> None:
    ends = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def test_it_sends_all_that_is_due_and_ends(app: Flask, delivery: Delivery, hand_in: Any, states: Any) -> None:
    uids = [hand_in() for _ in range(12)]
    worker.run(app, once=True)
    assert sorted(delivery.sent) == sorted(uids)
    assert set(states().values()) == {MessageStatus.SENT}


def test_it_picks_up_new_messages_by_itself(delivery: Delivery, running: Any, hand_in: Any) -> None:
    uid = hand_in()
    eventually(lambda: delivery.sent == [uid])


def test_a_delivery_that_breaks_stops_nobody_else(app: Flask, delivery: Delivery, hand_in: Any, states: Any) -> None:
    broken, fine = hand_in(), hand_in()

    def deed(message: ClaimedMessage) -> Outcome:
        if message.uid == broken:
            raise RuntimeError("a bug")
        return SENT

    delivery.deed = deed
    worker.run(app, once=True)
    assert states()[broken] is MessageStatus.SENDING
    with clock.shifted(timedelta(seconds=91)):
        delivery.deed = lambda message: SENT
        worker.run(app, once=True)
    assert states() == {broken: MessageStatus.SENT, fine: MessageStatus.SENT}


@pytest.mark.parametrize("threads", [4, 1])
def test_stores_that_hang_keep_no_other_waiting(
    app: Flask, delivery: Delivery, hand_in: Any, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "STUCK_AFTER_S", 0.3)
    other = _store("Other Store").id
    hangs, is_busy = threading.Event(), threading.Event()

    def deed(message: ClaimedMessage) -> Outcome:
        if message.store_id != other:
            is_busy.set()
            hangs.wait(20)
        return SENT

    delivery.deed = deed
    for _ in range(6):
        hand_in()
    with _running(app, threads=threads):
        try:
            assert is_busy.wait(10)
            uid = hand_in(other)
            eventually(lambda: uid in delivery.sent, 8)
        finally:
            hangs.set()


def test_a_result_waits_for_the_database_and_the_message_is_not_sent_again(
    app: Flask, delivery: Delivery, hand_in: Any, states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = hand_in()
    real, refusals = ledger.outbox_finish.finish, []

    def finish(*args: Any) -> bool:
        if len(refusals) < 3:
            refusals.append(1)
            raise OperationalError("UPDATE", {}, Exception("the disk is full"))
        return real(*args)

    monkeypatch.setattr(ledger.outbox_finish, "finish", finish)
    monkeypatch.setattr(ledger, "_AWAY_FIRST_S", 0.01)
    worker.run(app, once=True)
    assert delivery.sent == [uid]
    assert states()[uid] is MessageStatus.SENT


def test_it_outlives_a_database_that_goes_away(
    app: Flask, delivery: Delivery, hand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = hand_in()
    real, refusals = outbox_work.claim, []

    def claim(**how: Any) -> list[ClaimedMessage]:
        if len(refusals) < 3:
            refusals.append(1)
            raise OperationalError("UPDATE", {}, Exception("connection refused"))
        return real(**how)

    monkeypatch.setattr(outbox_work, "claim", claim)
    monkeypatch.setattr(worker, "_AWAY_S", 0.01)
    worker.run(app, once=True)
    assert delivery.sent == [uid]


def test_it_renews_the_leases_of_what_takes_long(
    delivery: Delivery, app: Flask, hand_in: Any, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "RENEWALS_PER_LEASE", 1800)
    uid = hand_in()

    def deed(message: ClaimedMessage) -> Outcome:
        db.session.execute(update(Message).values(lease_until=message.date + timedelta(seconds=1)))
        db.session.commit()
        eventually(lambda: _lease_left(db) > timedelta(seconds=60))
        return SENT

    delivery.deed = deed
    worker.run(app, once=True)
    assert delivery.sent == [uid]


def _lease_left(db: Any) -> timedelta:
    until, now = db.session.execute(select(Message.lease_until, clock.now())).one()
    db.session.rollback()
    left: timedelta = until - now
    return left


def test_it_sweeps_up_after_a_worker_that_died(app: Flask, delivery: Delivery, hand_in: Any, states: Any) -> None:
    uid = hand_in()
    outbox.claim(limit=1)
    worker.run(app, once=True)
    assert delivery.sent == []
    with clock.shifted(timedelta(seconds=91)):
        worker.run(app, once=True)
    assert delivery.sent == [uid]


def test_it_ends_cleanly_on_sigterm_with_the_message_in_hand(
    app: Flask, delivery: Delivery, hand_in: Any, states: Any
) -> None:
    uid, waiting = hand_in(), [hand_in() for _ in range(3)]

    def deed(message: ClaimedMessage) -> Outcome:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)
        return SENT

    delivery.deed = deed
    before = signal.getsignal(signal.SIGTERM)
    began = time.monotonic()
    worker.run(app, threads=1)
    assert time.monotonic() - began < SOON_S
    assert signal.getsignal(signal.SIGTERM) is before
    found = states()
    assert found.pop(uid) is MessageStatus.SENT
    assert set(found.values()) == {MessageStatus.QUEUED}
    assert set(found) == set(waiting)


def test_deferred_messages_come_back_when_they_are_due(
    app: Flask, delivery: Delivery, hand_in: Any, states: Any
) -> None:
    uid = hand_in()
    error = TryLater("timed_out", "timed out", stage=Stage.CONNECT)
    delivery.deed = lambda message: of_error(error, [], attempts=message.attempts)
    worker.run(app, once=True)
    assert states()[uid] is MessageStatus.DEFERRED
    delivery.deed = lambda message: SENT
    with clock.shifted(timedelta(minutes=2)):
        worker.run(app, once=True)
    assert states()[uid] is MessageStatus.SENT


def test_two_workers_send_each_message_once(app: Flask, delivery: Delivery, hand_in: Any) -> None:
    uids = [hand_in() for _ in range(30)]
    pair = [threading.Thread(target=worker.run, args=(app,), kwargs={"once": True}) for _ in range(2)]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join(30)
    assert sorted(delivery.sent) == sorted(uids)


def test_held_messages_are_left_alone(app: Flask, delivery: Delivery, store: Store, hand_in: Any, db: Any) -> None:
    hand_in()
    outbox.hold_queue(store.id, HoldReason.EMAILS_OFF)
    db.session.commit()
    worker.run(app, once=True)
    assert delivery.sent == []
