"""What people decide about one message: not to wait, that it arrived, to send it again. On both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from extensions import db as database
from mail import nudges, outbox, repeating
from mail.equipment import Equipment
from mail.outbox import NewMessage
from models import Message, MessageContent, Store
from models.outbox import END_STATES, HoldReason, MessageStatus, RecipientStatus
from models.types import utcnow
from tests.message_states import change

LATER = timedelta(hours=2)
WAITING = (MessageStatus.QUEUED, MessageStatus.DEFERRED, MessageStatus.UNCERTAIN)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture
def shop(store: Store) -> int:
    return store.id


@pytest.fixture
def put(shop: int, equipment: Equipment) -> Any:
    """Hand a message in, write these columns of it, commit; the answer is its id."""

    def put(to: tuple[str, ...] = ("lena@shop.example",), send_at: Any = None, **columns: Any) -> str:
        new = NewMessage(to=to, subject="Hello", text="Hi.", send_at=send_at)
        uid = outbox.enqueue(shop, new, equipment=equipment).uid
        if columns:
            change(uid, **columns)
        database.session.commit()
        return uid

    return put


def row(uid: str) -> Message:
    database.session.rollback()
    return database.session.scalars(select(Message).where(Message.uid == uid)).one()


def hurry(store_id: int, uid: str, equipment: Equipment) -> bool:
    done = outbox.retry_now(store_id, uid, equipment=equipment)
    database.session.commit()
    return done


# Not to wait


@pytest.mark.parametrize("status", WAITING)
def test_what_waits_for_a_later_time_is_due_at_once(
    put: Any, shop: int, equipment: Equipment, status: MessageStatus
) -> None:
    uid = put(status=status, due_at=utcnow() + LATER)
    assert hurry(shop, uid, equipment)
    message = row(uid)
    assert message.due_at <= utcnow() + timedelta(seconds=5)
    assert message.status is status


@pytest.mark.parametrize("status", [one for one in MessageStatus if one not in WAITING])
def test_what_does_not_wait_is_left_alone(put: Any, shop: int, equipment: Equipment, status: MessageStatus) -> None:
    due_at = utcnow() + LATER
    uid = put(status=status, due_at=due_at)
    assert not hurry(shop, uid, equipment)
    assert row(uid).due_at > utcnow() + timedelta(hours=1)


def test_what_is_due_already_keeps_its_place(put: Any, shop: int, equipment: Equipment) -> None:
    uid = put(due_at=utcnow() - LATER)
    assert not hurry(shop, uid, equipment)
    assert row(uid).due_at < utcnow() - timedelta(hours=1)


def test_a_message_of_another_store_is_left_alone(put: Any, shop: int, equipment: Equipment) -> None:
    uid = put(due_at=utcnow() + LATER)
    assert not hurry(shop + 1, uid, equipment)


def test_mail_for_later_that_goes_now_carries_the_date_of_now(put: Any, shop: int, equipment: Equipment) -> None:
    uid = put(send_at=utcnow() + LATER)
    assert row(uid).date > utcnow() + timedelta(hours=1)
    assert hurry(shop, uid, equipment)
    assert row(uid).date <= utcnow() + timedelta(seconds=5)


def test_what_may_have_left_already_keeps_its_date(put: Any, shop: int, equipment: Equipment) -> None:
    sent_as = utcnow() + timedelta(minutes=30)
    uid = put(status=MessageStatus.UNCERTAIN, date=sent_as, committing_at=utcnow(), due_at=utcnow() + LATER)
    assert hurry(shop, uid, equipment)
    assert row(uid).date > utcnow() + timedelta(minutes=20)


def test_workers_are_told_only_when_it_is_committed(put: Any, shop: int, equipment: Equipment) -> None:
    told: list[int] = []

    class Told(nudges.NoNudges):
        def send(self, store_id: int) -> None:
            told.append(store_id)

    uid = put(due_at=utcnow() + LATER)
    object.__setattr__(equipment, "nudges", Told())
    assert outbox.retry_now(shop, uid, equipment=equipment)
    assert told == []
    database.session.commit()
    assert told == [shop]


# That it arrived


def ask(put: Any, **columns: Any) -> str:
    held = {"status": MessageStatus.HELD, "hold_reason": HoldReason.UNCERTAIN, "committing_at": utcnow()}
    return str(put(**held | columns))


def test_a_message_that_somebody_found_is_sent(put: Any, shop: int) -> None:
    uid = ask(put, reason_detail="connection lost", reason_stage="message", reason_family="smtp")
    assert outbox.mark_sent(shop, uid)
    database.session.commit()
    message = row(uid)
    assert (message.status, message.hold_reason) == (MessageStatus.SENT, None)
    assert (message.reason_code, message.reason_detail) == (outbox.MARKED_SENT, "")
    assert message.ended_at is not None
    assert [one.status for one in message.recipients] == [RecipientStatus.ACCEPTED]


def test_who_was_refused_before_stays_refused(put: Any, shop: int) -> None:
    uid = ask(put, to=("lena@shop.example", "nobody@shop.example"))
    row(uid).recipients[1].status = RecipientStatus.REFUSED
    other = put()
    database.session.commit()
    assert outbox.mark_sent(shop, uid)
    database.session.commit()
    assert [one.status.value for one in row(uid).recipients] == ["accepted", "refused"]
    assert [one.status.value for one in row(other).recipients] == ["waiting"]


@pytest.mark.parametrize(
    "columns",
    [
        {"status": MessageStatus.UNCERTAIN, "hold_reason": None},
        {"hold_reason": HoldReason.EMAILS_OFF},
        {"status": MessageStatus.SENDING},
        {"status": MessageStatus.CANCELLED},
    ],
)
def test_only_a_message_that_is_asked_about_can_be_marked(put: Any, shop: int, columns: dict[str, Any]) -> None:
    uid = ask(put, **columns)
    assert not outbox.mark_sent(shop, uid)
    database.session.commit()
    assert [one.status for one in row(uid).recipients] == [RecipientStatus.WAITING]
    assert row(uid).status is columns.get("status", MessageStatus.HELD)


def test_a_message_of_another_store_cannot_be_marked(put: Any, shop: int) -> None:
    uid = ask(put)
    assert not outbox.mark_sent(shop + 1, uid)
    assert row(uid).status is MessageStatus.HELD


# To send it again


def test_the_states_that_can_be_sent_again_are_those_that_have_ended(put: Any, shop: int, equipment: Equipment) -> None:
    for status in MessageStatus:
        uid = put(status=status)
        copy = repeating.send_again(shop, uid, equipment=equipment)
        assert (copy is not None) == (status in END_STATES), status
        if copy:
            assert row_in_session(copy.uid).resent_from == uid
        database.session.rollback()


def test_a_message_whose_content_does_not_open_is_not_sent_again(put: Any, shop: int, equipment: Equipment) -> None:
    uid = put(status=MessageStatus.SENT)
    row(uid)
    (content,) = database.session.scalars(select(MessageContent))
    content.sealed = content.sealed[:-4] + ("AAAA" if not content.sealed.endswith("AAAA") else "BBBB")
    database.session.commit()
    assert repeating.send_again(shop, uid, equipment=equipment) is None


def row_in_session(uid: str) -> Message:
    return database.session.scalars(select(Message).where(Message.uid == uid)).one()
