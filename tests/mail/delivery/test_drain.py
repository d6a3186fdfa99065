"""One turn of a store: slots, rates, breakers and fairness, against a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from mail import drain, outbox, pace
from mail.drain import Drainer
from mail.equipment import Equipment
from mail.outbox import NewMessage
from mail.pace import Limits
from mail.smtp.pool import ConversationPool
from models import Attempt, Lane, LaneSlot, Message, Store, clock
from models.database import reading
from models.outbox import MessageStatus, Priority
from tests.fakes.mta import MTA


class Hands:
    """The process around a drain, as a test says it is."""

    def __init__(self) -> None:
        self.is_stopping = self.is_over = False
        self.others = False
        self.asked_for: list[int] = []
        self.held: set[str] = set()
        self.after_each: Callable[[int], None] = lambda number: None
        self.count = 0

    @contextmanager
    def hold(self, lease: str) -> Iterator[None]:
        self.held.add(lease)
        yield
        self.held.discard(lease)

    def others_wait(self, store_id: int) -> bool:
        return self.others

    def offer_more(self, store_id: int, *, at_most: int) -> None:
        self.asked_for.append(at_most)

    def moved(self) -> None:
        self.count += 1
        self.after_each(self.count)


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def drainer(equipment: Equipment, hands: Hands) -> Iterator[Drainer]:
    pool = ConversationPool()
    yield Drainer(equipment, pool, hands, window=4)
    pool.close_all()


@pytest.fixture
def store_id(shop: Store, db: Any) -> int:
    store_id = shop.id
    db.session.commit()
    return store_id


@pytest.fixture
def hand_in(store_id: int, equipment: Equipment, db: Any) -> Callable[..., None]:
    def hand_in(count: int, **fields: Any) -> None:
        for number in range(count):
            new = NewMessage(**{"to": ("lena@shop.example",), "subject": f"No. {number}", "text": "Hi.", **fields})
            outbox.enqueue(store_id, new, equipment=equipment)
        db.session.commit()

    return hand_in


@pytest.fixture
def states(db: Any) -> Callable[[], dict[MessageStatus, int]]:
    def states() -> dict[MessageStatus, int]:
        with reading():
            found = db.session.execute(select(Message.status, func.count()).group_by(Message.status)).all()
            db.session.rollback()
        return dict(found)

    return states


def _limit(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    real = pace.limits_of

    def limits_of(route: Any) -> Limits:
        plain = real(route)
        values = {name: limits.get(name, getattr(plain, name)) for name in ("lane", "connections", "per_minute")}
        return Limits(**values, recipients_per_day=limits.get("recipients_per_day"))

    monkeypatch.setattr(drain.pace, "limits_of", limits_of)


def test_a_turn_sends_all_that_is_due_and_frees_everything(
    drainer: Drainer, hands: Hands, hand_in: Any, store_id: int, states: Any, mta: MTA, db: Any
) -> None:
    hand_in(45)
    assert drainer.drain(store_id) is None
    assert states() == {MessageStatus.SENT: 45}
    assert len(mta.received) == 45
    assert hands.held == set()
    assert db.session.scalar(select(func.count()).where(LaneSlot.lease.is_not(None))) == 0
    attempts = db.session.execute(select(Attempt.number, Attempt.outcome).distinct()).all()
    assert attempts == [(1, "sent")]


def test_it_asks_for_more_threads_when_the_server_is_known_to_work(
    drainer: Drainer, hands: Hands, hand_in: Any, store_id: int
) -> None:
    hand_in(3)
    drainer.drain(store_id)
    assert hands.asked_for == []
    hand_in(drain.BATCH)
    drainer.drain(store_id)
    assert hands.asked_for == [3]


def test_the_more_wait_the_more_are_in_flight(
    drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []
    real = drain.delivery.deliver_all

    def deliver_all(claimed: Any, *arguments: Any, window: int, **options: Any) -> Any:
        seen.append((len(claimed), window))
        return real(claimed, *arguments, window=window, **options)

    monkeypatch.setattr(drain.delivery, "deliver_all", deliver_all)
    hand_in(drain.BATCH + drain.LONG_BACKLOG + 10)
    drainer.drain(store_id)
    # At most four, as the drainer was told, and one for each dozen that waits.
    long = drain.LONG_BATCH
    assert seen == [(20, 4), (long, 4), (20, 3), (20, 2), (6, 1)]
    assert states() == {MessageStatus.SENT: 130}
    assert len({one.content for one in mta.received}) == len(mta.received) == 130


def test_no_slot_means_no_connection(drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA) -> None:
    hand_in(1)
    limits = Limits(f"store:{store_id}", 3, None, None)
    taken = [pace.take_slot(limits, store_id, lease=timedelta(seconds=90)) for _ in range(3)]
    assert drainer.drain(store_id) == drain.SLOT_WAIT
    assert (states(), mta.connections) == ({MessageStatus.QUEUED: 1}, 0)
    assert taken[0] is not None
    pace.free_slot(taken[0])
    assert drainer.drain(store_id) is None
    assert states() == {MessageStatus.SENT: 1}


def test_a_turn_ends_when_others_wait(
    drainer: Drainer, hands: Hands, hand_in: Any, store_id: int, states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "TURN_MESSAGES", 5)
    hands.others = True
    hand_in(2 * drain.BATCH)
    assert drainer.drain(store_id) == timedelta()
    assert states() == {MessageStatus.SENT: drain.BATCH, MessageStatus.QUEUED: drain.BATCH}


def test_a_rate_is_kept_and_the_rest_waits_untouched(
    drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit(monkeypatch, per_minute=3)
    hand_in(5)
    wait = drainer.drain(store_id)
    assert wait == drain.LOOK_AGAIN
    assert states() == {MessageStatus.SENT: 3, MessageStatus.QUEUED: 2}
    assert db.session.execute(select(Message.attempts, Message.claims).where(Message.status == "queued")).all() == [
        (0, 0),
        (0, 0),
    ]
    assert db.session.scalar(select(func.count()).select_from(Attempt)) == 3
    db.session.rollback()
    with clock.shifted(timedelta(seconds=61)):
        assert drainer.drain(store_id) is None
    assert states() == {MessageStatus.SENT: 5}
    assert mta.connections == 1


def test_bulk_leaves_a_part_of_the_rate_to_what_somebody_waits_for(
    drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA, monkeypatch: pytest.MonkeyPatch
) -> None:
    _limit(monkeypatch, per_minute=10)
    hand_in(20, priority=Priority.LOW, subject="bulk")
    drainer.drain(store_id)
    assert len(mta.received) == 9
    hand_in(1, priority=Priority.HIGH, subject="code")
    drainer.drain(store_id)
    assert b"Subject: code" in mta.received[-1].content
    assert len(mta.received) == 10


def test_a_throttling_reply_slows_the_mailbox_down_and_burns_no_attempt(
    drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA, db: Any
) -> None:
    hand_in(4)
    mta.faults.refuse_message = "451 4.3.2 Message submission rate for this client has exceeded the configured limit"
    drainer.drain(store_id)
    assert states() == {MessageStatus.DEFERRED: 1, MessageStatus.QUEUED: 3}
    assert db.session.scalars(select(Message.attempts).distinct()).all() == [0]
    lane = db.session.scalar(select(Lane))
    assert (lane.slow_per_minute or 0) >= 1
    db.session.rollback()
    mta.faults.refuse_message = ""
    assert drainer.drain(store_id) == drain.LOOK_AGAIN
    assert len(mta.received) == 0


def test_the_breaker_asks_a_server_that_is_away_rarely(
    drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA, db: Any
) -> None:
    mta.faults.refuse_auth = "454 4.7.0 Temporary authentication failure"
    hand_in(30)
    for second in range(0, 60, 2):
        with clock.shifted(timedelta(seconds=second)):
            drainer.drain(store_id)
    assert 2 <= mta.connections <= 4
    assert states()[MessageStatus.QUEUED] >= 26
    mta.faults.refuse_auth = ""
    with clock.shifted(timedelta(minutes=10)):
        assert drainer.drain(store_id) is None
    assert states() == {MessageStatus.SENT: 30}
    assert db.session.scalar(select(Lane.failures)) == 0


def test_the_days_recipients_are_counted_and_respected(
    drainer: Drainer, hand_in: Any, store_id: int, states: Any, mta: MTA, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each message goes to its recipient and to the store's Bcc.
    _limit(monkeypatch, recipients_per_day=4)
    hand_in(2)
    drainer.drain(store_id)
    hand_in(1)
    assert drainer.drain(store_id) == drain.LOOK_AGAIN
    assert len(mta.received) == 2
    with clock.shifted(timedelta(hours=26)):
        assert drainer.drain(store_id) is None
    assert len(mta.received) == 3


def test_told_to_stop_it_finishes_the_message_in_hand_and_gives_the_rest_back(
    drainer: Drainer, hands: Hands, hand_in: Any, store_id: int, states: Any, mta: MTA, db: Any
) -> None:
    hand_in(5)

    def stop(number: int) -> None:
        hands.is_stopping = number >= 2

    hands.after_each = stop
    drainer.drain(store_id)
    assert states() == {MessageStatus.SENT: 2, MessageStatus.QUEUED: 3}
    assert db.session.scalar(select(func.count()).select_from(Attempt)) == 2
    assert db.session.scalar(select(func.count()).where(Message.lease.is_not(None))) == 0


def test_what_took_workers_down_goes_alone_and_last(
    drainer: Drainer, hand_in: Any, store_id: int, mta: MTA, db: Any
) -> None:
    hand_in(3)
    db.session.execute(update(Message).where(Message.subject == "No. 0").values(claims=2))
    db.session.commit()
    drainer.drain(store_id)
    subjects = [line for one in mta.received for line in one.content.split(b"\r\n") if line.startswith(b"Subject")]
    assert subjects == [b"Subject: No. 1", b"Subject: No. 2", b"Subject: No. 0"]
