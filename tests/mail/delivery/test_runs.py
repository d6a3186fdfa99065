"""Several messages of one store in a row: one conversation, settings read for each, nobody pays for another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from mail import delivery, outbox
from mail.drain import Drainer
from mail.equipment import Equipment
from mail.outbox import NewMessage
from mail.smtp.pool import ConversationPool
from models import Connection, EmailSettings, Message, Store, clock
from models.database import reading
from models.outbox import HoldReason, MessageStatus
from models.types import utcnow
from security.vault import Place
from tests.fakes.mta import MTA
from tests.mail.delivery.conftest import PASSWORD, TOKEN

Deliver = Callable[..., list[Message]]


@pytest.fixture
def pool() -> Iterator[ConversationPool]:
    pool = ConversationPool()
    yield pool
    pool.close_all()


@pytest.fixture
def hand_in(shop: Store, equipment: Equipment, db: Any) -> Callable[..., list[str]]:
    store_id = shop.id

    def hand_in(count: int, **fields: Any) -> list[str]:
        uids = []
        for number in range(count):
            new = NewMessage(**{"to": ("lena@shop.example",), "subject": f"No. {number}", "text": "Hi.", **fields})
            uids.append(outbox.enqueue(store_id, new, equipment=equipment).uid)
        db.session.commit()
        return uids

    return hand_in


class Hands:
    """The process around a drain; `before` is called with the number of the message that is next, from 1 on."""

    is_stopping = is_over = False

    def __init__(self, before: Callable[[int], None]) -> None:
        self._before = before
        self._number = 0

    @contextmanager
    def hold(self, lease: str) -> Iterator[None]:
        yield

    def others_wait(self, store_id: int) -> bool:
        return False

    def offer_more(self, store_id: int, *, at_most: int) -> None:
        """There is nobody else."""

    def moved(self) -> None:
        self._number += 1
        self._before(self._number)


@pytest.fixture
def deliver(shop: Store, equipment: Equipment, pool: ConversationPool, db: Any) -> Deliver:
    """Drain the store, as a worker's thread does; the answer is what all its messages came to, in their order."""
    store_id = shop.id
    db.session.commit()

    def deliver(*, turns: int = 1, before: Callable[[int], None] = lambda number: None) -> list[Message]:
        hands = Hands(before)
        for _ in range(turns):
            Drainer(equipment, pool, hands).drain(store_id)
        with reading():
            found = list(db.session.scalars(select(Message).order_by(Message.id)))
            db.session.expunge_all()
            db.session.rollback()
        return found

    return deliver


def _subjects(mta: MTA) -> list[str]:
    return [
        line.removeprefix(b"Subject: ").decode()
        for one in mta.received
        for line in one.content.split(b"\r\n")
        if line.startswith(b"Subject: ")
    ]


def test_a_run_shares_one_conversation_and_keeps_the_order(hand_in: Any, deliver: Deliver, mta: MTA) -> None:
    hand_in(6)
    assert {message.status for message in deliver()} == {MessageStatus.SENT}
    assert _subjects(mta) == [f"No. {number}" for number in range(6)]
    assert (mta.connections, len(mta.sign_ins)) == (1, 1)


def test_the_next_run_finds_the_conversation_still_open(hand_in: Any, deliver: Deliver, mta: MTA) -> None:
    for _ in range(3):
        hand_in(2)
        deliver()
    assert (len(mta.received), mta.connections) == (6, 1)


def test_without_a_pool_nothing_is_left_open(hand_in: Any, equipment: Equipment, mta: MTA) -> None:
    hand_in(1)
    for _ in range(2):
        (claimed,) = outbox.claim(limit=1)
        assert outbox.finish(claimed, delivery.deliver(claimed, equipment=equipment))
        hand_in(1)
    assert mta.connections == 2


def test_a_refused_message_ends_alone(hand_in: Any, deliver: Deliver, mta: MTA) -> None:
    mta.faults.refuse_recipients["gone@shop.example"] = "550 5.1.1 no such user"
    hand_in(1)
    hand_in(1, to=("gone@shop.example",))
    hand_in(1)
    statuses = [message.status for message in deliver()]
    assert statuses == [MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.SENT]
    assert mta.connections == 1


def test_a_server_that_is_away_is_not_asked_by_each_message(
    hand_in: Any, deliver: Deliver, shop: Store, mta: MTA, db: Any
) -> None:
    mta.faults.refuse_auth = "454 4.7.0 Temporary authentication failure"
    hand_in(5)
    statuses = [message.status for message in deliver(turns=3)]
    assert statuses == [MessageStatus.DEFERRED] + [MessageStatus.QUEUED] * 4
    assert mta.connections == 1


def test_a_wrong_password_holds_all_of_the_run(hand_in: Any, deliver: Deliver, mta: MTA, db: Any) -> None:
    mta.accounts["orders@acme.example"] = "another-password"
    hand_in(4)
    deliver()
    rows = db.session.execute(select(Message.status, Message.hold_reason, Message.attempts)).all()
    assert set(rows) == {(MessageStatus.HELD, HoldReason.SETTINGS_WRONG, 0)}
    assert len(mta.sign_ins) == 1


def test_a_cut_amid_the_run_is_dialled_anew_for_the_rest(hand_in: Any, deliver: Deliver, mta: MTA) -> None:
    hand_in(4)

    def cut_the_second(number: int) -> None:
        mta.faults.cut = "data" if number == 1 else ""

    deliver(before=cut_the_second)
    with clock.shifted(timedelta(seconds=20)):
        statuses = [message.status for message in deliver()]
    assert statuses == [MessageStatus.SENT, MessageStatus.UNCERTAIN, MessageStatus.SENT, MessageStatus.SENT]
    assert mta.connections == 2


def test_emails_turned_off_amid_the_run_stop_the_rest(
    hand_in: Any, deliver: Deliver, shop: Store, mta: MTA, db: Any
) -> None:
    store_id = shop.id
    hand_in(4)

    def turn_off(number: int) -> None:
        if number == 2:
            db.session.execute(update(EmailSettings).where(EmailSettings.store_id == store_id).values(emails_off=True))
            db.session.commit()

    messages = deliver(before=turn_off)
    assert [message.hold_reason for message in messages] == [None, None, HoldReason.EMAILS_OFF, HoldReason.EMAILS_OFF]
    assert len(mta.received) == 2


def test_another_sender_counts_from_the_next_message_on(
    hand_in: Any, deliver: Deliver, shop: Store, mta: MTA, db: Any
) -> None:
    store_id = shop.id
    hand_in(3)

    def rename(number: int) -> None:
        if number == 1:
            values = {"from_email": "new@acme.example", "version": EmailSettings.version + 1}
            db.session.execute(update(EmailSettings).where(EmailSettings.store_id == store_id).values(values))
            db.session.commit()

    deliver(turns=2, before=rename)
    assert [one.sender for one in mta.received] == ["orders@acme.example", "new@acme.example", "new@acme.example"]


def test_another_password_means_another_conversation(
    hand_in: Any, deliver: Deliver, shop: Store, mta: MTA, equipment: Equipment, db: Any
) -> None:
    hand_in(1)
    deliver()
    settings = db.session.scalar(select(EmailSettings))
    settings.password_sealed = equipment.vault.seal(
        "the-next-password", Place("email_settings", settings.uid, "password_sealed")
    )
    db.session.commit()
    hand_in(1)
    deliver()
    assert [one.credential for one in mta.sign_ins] == [PASSWORD, "the-next-password"]
    assert mta.connections == 2


def test_a_renewed_token_means_another_conversation(
    connected: Store, hand_in: Any, deliver: Deliver, mta: MTA, equipment: Equipment, db: Any
) -> None:
    connection_id, uid = db.session.execute(select(Connection.id, Connection.uid)).one()
    hand_in(1)
    deliver()
    sealed = equipment.vault.seal("renewed-fake-token", Place("connections", uid, "access_token_sealed"))
    db.session.execute(update(Connection).where(Connection.id == connection_id).values(access_token_sealed=sealed))
    db.session.commit()
    hand_in(1)
    deliver()
    assert [one.credential for one in mta.sign_ins] == [TOKEN, "renewed-fake-token"]


def test_a_message_is_marked_before_its_bytes_leave_and_only_then(
    hand_in: Any, deliver: Deliver, mta: MTA, db: Any
) -> None:
    uids = hand_in(3)
    marked: list[int] = []

    def count(number: int) -> None:
        found = db.session.scalars(select(Message.uid).where(Message.committing_at.is_not(None))).all()
        db.session.rollback()
        marked.append(len(found))

    deliver(before=count)
    assert marked == [1, 2, 3]
    assert len(uids) == len(mta.received)


def test_time_that_ran_out_meanwhile_ends_a_message_unsent(hand_in: Any, deliver: Deliver, mta: MTA, db: Any) -> None:
    hand_in(2, expires_in_s=3600)

    def expire(number: int) -> None:
        if number == 1:
            late = update(Message).where(Message.status == MessageStatus.SENDING)
            db.session.execute(late.values(expires_at=utcnow() - timedelta(hours=1)))
            db.session.commit()

    messages = deliver(before=expire)
    assert [message.status for message in messages] == [MessageStatus.SENT, MessageStatus.EXPIRED]
    assert len(mta.received) == 1
