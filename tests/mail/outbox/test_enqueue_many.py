"""Messages come in one by one or many at a time, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from mail import outbox, outbox_content
from mail.compose import Attachment
from mail.equipment import Equipment
from mail.outbox import Enqueued, HandedIn, IdempotencyConflict
from mail.outcomes import parked
from models import Message, MessageContent, Store
from models.outbox import HoldReason, MessageStatus, Priority
from models.types import utcnow
from tests.mail.outbox.conftest import WALKS, a_message, plan_of, statements

Hand = Callable[..., list[Any]]


@pytest.fixture
def hand(shop: Store, equipment: Equipment, db: Any) -> Hand:
    """Hand several in and commit."""
    store_id = shop.id

    def hand(*many: HandedIn) -> list[Enqueued | IdempotencyConflict]:
        found = outbox.enqueue_many(store_id, many, equipment=equipment)
        db.session.commit()
        return found

    return hand


def count(db: Any) -> int:
    db.session.rollback()
    return int(db.session.scalar(select(func.count()).select_from(Message)))


def test_every_message_gets_a_row_of_its_own_and_results_keep_their_order(hand: Hand, row: Any) -> None:
    found = hand(*(HandedIn(a_message(subject=f"Number {n}", priority=Priority.LOW)) for n in range(7)))
    rows = [row(one.uid) for one in found]
    assert [one.subject for one in rows] == [f"Number {n}" for n in range(7)]
    assert {(one.status, one.priority) for one in rows} == {(MessageStatus.QUEUED, Priority.LOW)}
    assert [one.message_id for one in rows] == [f"<{one.uid}@acme.example>" for one in rows]
    assert [one.id for one in rows] == sorted(one.id for one in rows)


def test_each_message_says_what_was_handed_in(hand: Hand, equipment: Equipment) -> None:
    hand(*(HandedIn(a_message(to=(f"p{n}@shop.example", "all@shop.example"), text=f"Text {n}")) for n in range(5)))
    claimed = outbox.claim(limit=9)
    found = outbox_content.load_all(claimed, equipment=equipment)
    assert [(found[one.id].to[0], found[one.id].text) for one in claimed] == [
        (f"p{n}@shop.example", f"Text {n}") for n in range(5)
    ]


def test_a_batch_larger_than_a_group_of_contents_is_stored_whole(hand: Hand, equipment: Equipment) -> None:
    texts = [letter * 1_500_000 for letter in "abcd"]
    hand(*(HandedIn(a_message(text=text)) for text in texts))
    claimed = outbox.claim(limit=9)
    found = outbox_content.load_all(claimed, equipment=equipment)
    assert [found[one.id].text for one in claimed] == texts


def test_none_handed_in_is_none_stored(hand: Hand, db: Any) -> None:
    assert hand() == []
    assert count(db) == 0


def test_many_cost_as_many_statements_as_one(hand: Hand) -> None:
    files = (Attachment("a.txt", "text/plain", b"file"),)
    with statements() as for_one:
        hand(HandedIn(a_message(attachments=files)))
    with statements() as for_many:
        hand(*(HandedIn(a_message()) for _ in range(49)), HandedIn(a_message(attachments=files)))
    assert len(for_many) == len(for_one) <= 6


# Idempotency keys


def test_the_same_key_again_replays_what_was_accepted(hand: Hand, db: Any) -> None:
    (first,) = hand(HandedIn(a_message(), "key-1", "hash"))
    (other, again) = hand(HandedIn(a_message(), "key-2", "hash"), HandedIn(a_message(), "key-1", "hash"))
    assert again == replace(first, replayed=True)
    assert other.uid != first.uid
    assert count(db) == 2


def test_a_key_used_for_another_message_is_a_conflict_of_that_message_alone(hand: Hand, db: Any) -> None:
    hand(HandedIn(a_message(), "key-1", "hash"))
    before, conflict, after = hand(
        HandedIn(a_message()), HandedIn(a_message(), "key-1", "another"), HandedIn(a_message())
    )
    assert [type(one) for one in (before, conflict, after)] == [Enqueued, IdempotencyConflict, Enqueued]
    assert count(db) == 3


def test_a_key_twice_in_one_batch_replays_or_conflicts_too(hand: Hand, db: Any) -> None:
    first, equal, different = hand(
        HandedIn(a_message(), "key", "hash"), HandedIn(a_message(), "key", "hash"), HandedIn(a_message(), "key", "x")
    )
    assert (first.replayed, equal) == (False, replace(first, replayed=True))
    assert isinstance(different, IdempotencyConflict)
    assert count(db) == 1


def test_a_single_conflict_is_raised(shop: Store, equipment: Equipment, hand: Hand) -> None:
    hand(HandedIn(a_message(), "key", "hash"))
    with pytest.raises(IdempotencyConflict):
        outbox.enqueue(shop.id, a_message(), equipment=equipment, idempotency_key="key", idempotency_hash="another")


# Held


def test_a_batch_is_held_as_a_whole_while_emails_are_off(shop: Store, hand: Hand, db: Any, told: list[int]) -> None:
    shop.email_settings.emails_off = True
    db.session.commit()
    found = hand(HandedIn(a_message()), HandedIn(a_message()))
    assert {(one.status, one.hold_reason) for one in found} == {(MessageStatus.HELD, HoldReason.EMAILS_OFF)}
    assert told == []


def test_a_batch_joins_what_is_held_for_the_settings_with_its_reason(
    shop: Store, put: Any, hand: Hand, row: Any, db: Any
) -> None:
    put()
    outbox.hold_queue(
        shop.id, HoldReason.SETTINGS_WRONG, parked(HoldReason.POISON, code="5.7.3", detail="wrong identity")
    )
    db.session.commit()
    for one in hand(HandedIn(a_message()), HandedIn(a_message())):
        message = row(one.uid)
        assert (message.status, message.hold_reason) == (MessageStatus.HELD, HoldReason.SETTINGS_WRONG)
        assert (message.reason_code, message.reason_detail) == ("5.7.3", "wrong identity")


def test_looking_for_a_reason_to_hold_reads_no_sent_and_no_waiting_message(
    shop: Store, many: Any, hand: Hand, db: Any
) -> None:
    many(20_000, "sent", ended_at="1700000000000 + n")
    many(3_000, "queued")
    with statements() as seen:
        hand(HandedIn(a_message()))
    (lookup,) = (one for one in seen if one[0].startswith("SELECT messages.hold_reason"))
    plan = plan_of(*lookup)
    is_file = db.engine.dialect.name == "sqlite"
    assert ("ix_messages_store_id_status_id" if is_file else "ix_messages_held") in plan
    assert not WALKS.search(plan)


# The caller's transaction, and who is told after it


def test_nothing_is_stored_and_nobody_told_unless_the_caller_commits(
    shop: Store, equipment: Equipment, db: Any, told: list[int]
) -> None:
    outbox.enqueue_many(shop.id, [HandedIn(a_message())] * 2, equipment=equipment)
    db.session.rollback()
    assert count(db) == 0
    assert db.session.scalar(select(func.count()).select_from(MessageContent)) == 0
    db.session.commit()
    assert told == []


def test_workers_are_told_once_after_the_commit(shop: Store, equipment: Equipment, db: Any, told: list[int]) -> None:
    store_id = shop.id
    outbox.enqueue_many(store_id, [HandedIn(a_message())] * 3, equipment=equipment)
    assert told == []
    db.session.commit()
    assert told == [store_id]
    db.session.commit()
    assert told == [store_id]


def test_the_end_of_a_savepoint_tells_nobody(shop: Store, equipment: Equipment, db: Any, told: list[int]) -> None:
    store_id = shop.id
    with db.session.begin_nested():
        outbox.enqueue(store_id, a_message(), equipment=equipment)
    assert told == []
    db.session.commit()
    assert told == [store_id]


def test_mail_for_later_tells_nobody(put: Any, told: list[int]) -> None:
    put(send_at=utcnow() + timedelta(hours=1))
    assert told == []


def test_released_mail_is_told_of_like_new_mail(
    shop: Store, put: Any, equipment: Equipment, db: Any, told: list[int]
) -> None:
    store_id = shop.id
    put()
    for reason, release in (
        (HoldReason.EMAILS_OFF, lambda: outbox.release(store_id, HoldReason.EMAILS_OFF, equipment=equipment)),
        (HoldReason.SETTINGS_WRONG, lambda: outbox.release_mended(store_id, equipment=equipment)),
    ):
        outbox.hold_queue(store_id, reason)
        db.session.commit()
        told.clear()
        assert release() == 1
        db.session.commit()
        assert told == [store_id]
        assert release() == 0
        db.session.commit()
        assert told == [store_id]
