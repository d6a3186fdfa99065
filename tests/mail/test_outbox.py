"""The state machine of the outbox, row by row, by the database's clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from mail import outbox, outbox_content, outbox_recipients, outcomes
from mail.compose import Attachment
from mail.equipment import Equipment
from mail.errors import Refused, Stage, TryLater, Uncertain
from mail.outbox import NewMessage
from mail.outcomes import Waiting
from models import Attempt, Message, MessageContent, Recipient, Store, clock
from models.database import reading
from models.outbox import HoldReason, MessageStatus, Priority, RecipientKind
from security.vault import Unreadable

LATER = timedelta(minutes=5)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture
def shop(store: Store, db: Any) -> Store:
    store.email_settings.from_email = "orders@acme.example"
    db.session.commit()
    return store


@pytest.fixture
def put(shop: Store, equipment: Equipment, db: Any) -> Any:
    """Hand a message in and commit; the answer is its id."""
    store_id = shop.id

    def put(**fields: Any) -> str:
        new = NewMessage(**{"to": ("lena@shop.example",), "subject": "Hello", "text": "Hi.", **fields})
        uid = outbox.enqueue(store_id, new, equipment=equipment).uid
        db.session.commit()
        return uid

    return put


@pytest.fixture
def row(db: Any) -> Any:
    def row(uid: str) -> Message:
        db.session.rollback()
        with reading():  # as a writer it would keep the next claim waiting
            message = db.session.scalar(select(Message).where(Message.uid == uid))
        assert message is not None
        return message

    return row


def mark(claimed: outbox.ClaimedMessage) -> bool:
    return outbox.mark_committing(claimed, outbox.Leave("advanced_smtp", "Acme", "orders@acme.example"))


# Coming in


def test_it_fixes_id_date_and_subject_when_accepted(put: Any, row: Any) -> None:
    uid = put(subject="Your order")
    message = row(uid)
    assert message.message_id == f"<{uid}@acme.example>"
    assert message.subject == "Your order"
    assert message.date == message.created_at or abs(message.date - message.created_at) < timedelta(seconds=5)
    assert message.status is MessageStatus.QUEUED


def test_it_keeps_the_content_sealed_for_this_message_only(put: Any, db: Any, equipment: Equipment) -> None:
    put(text="the marker text", attachments=(Attachment("a.txt", "text/plain", b"the marker file"),))
    put(text="another")
    sealed = db.session.scalars(select(MessageContent).order_by(MessageContent.message_id)).all()
    assert "marker" not in sealed[0].sealed
    sealed[1].sealed = sealed[0].sealed
    db.session.commit()
    first, second = outbox.claim(limit=2)
    assert outbox_content.load(first, equipment=equipment).attachments[0].content == b"the marker file"
    with pytest.raises(Unreadable):
        outbox_content.load(second, equipment=equipment)


def test_a_mailbox_named_twice_gets_one_row(put: Any, row: Any) -> None:
    uid = put(to=("lena@shop.example",), cc=("Lena@shop.example", "tom@shop.example"), bcc=("tom@shop.example",))
    assert [(one.kind.value, one.address) for one in row(uid).recipients] == [
        ("to", "lena@shop.example"),
        ("cc", "tom@shop.example"),
    ]


def test_it_is_held_at_once_while_emails_are_off(shop: Store, put: Any, row: Any, db: Any) -> None:
    shop.email_settings.emails_off = True
    db.session.commit()
    message = row(put())
    assert (message.status, message.hold_reason) == (MessageStatus.HELD, HoldReason.EMAILS_OFF)


def test_it_joins_a_queue_that_is_held_for_the_stores_settings(shop: Store, put: Any, row: Any, db: Any) -> None:
    put()
    outbox.hold_queue(
        shop.id, HoldReason.NEEDS_REAUTHORIZATION, outcomes.parked(HoldReason.POISON, code="x", detail="y")
    )
    db.session.commit()
    message = row(put())
    assert (message.status, message.hold_reason) == (MessageStatus.HELD, HoldReason.NEEDS_REAUTHORIZATION)
    assert (message.reason_code, message.reason_detail) == ("x", "y")


def test_nothing_is_stored_unless_the_caller_commits(shop: Store, equipment: Equipment, db: Any) -> None:
    outbox.enqueue(shop.id, NewMessage(to=("a@shop.example",), text="x"), equipment=equipment)
    db.session.rollback()
    assert db.session.scalars(select(Message)).all() == []


# Claiming


def test_a_claim_takes_each_message_once_most_urgent_first(put: Any) -> None:
    normal, low, high = put(), put(priority=Priority.LOW), put(priority=Priority.HIGH)
    assert [one.uid for one in outbox.claim(limit=2)] == [high, normal]
    assert [one.uid for one in outbox.claim(limit=2)] == [low]
    assert outbox.claim(limit=2) == []
    assert not outbox.has_due()


def test_a_message_for_later_waits_for_its_time(put: Any, row: Any) -> None:
    with clock.shifted(timedelta()):
        uid = put(send_at=row(put()).created_at + LATER)
    taken = [one.uid for one in outbox.claim(limit=9)]
    assert uid not in taken
    with clock.shifted(LATER + timedelta(seconds=5)):
        assert uid in [one.uid for one in outbox.claim(limit=9)]


def test_a_claim_leaves_its_trace_before_any_network(put: Any, row: Any) -> None:
    uid = put()
    outbox.claim(limit=1)
    message = row(uid)
    assert message.status is MessageStatus.SENDING
    assert message.claims == 1
    assert [(one.number, one.outcome) for one in message.attempt_rows] == [(1, "")]


def test_a_claim_is_of_one_store(put: Any, shop: Store, db: Any) -> None:
    store_id = shop.id
    put()
    assert outbox.claim(limit=1, store_id=store_id + 1) == []
    assert len(outbox.claim(limit=1, store_id=store_id)) == 1


# Crashes: the worker dies at each point, the lease runs out


def test_a_worker_that_dies_before_the_mark_loses_nothing(put: Any, row: Any) -> None:
    uid = put()
    outbox.claim(limit=1)
    with clock.shifted(timedelta(seconds=80)):
        outbox.sweep()
        assert row(uid).status is MessageStatus.SENDING
    with clock.shifted(timedelta(seconds=91)):
        outbox.sweep()
        message = row(uid)
        assert (message.status, message.maybe_sent_twice) == (MessageStatus.QUEUED, False)
        assert [one.uid for one in outbox.claim(limit=1)] == [uid]


def test_a_worker_that_dies_after_the_mark_leaves_a_message_that_may_go_twice(put: Any, row: Any) -> None:
    uid = put()
    assert mark(outbox.claim(limit=1)[0])
    with clock.shifted(timedelta(seconds=91)):
        outbox.sweep()
        assert row(uid).status is MessageStatus.UNCERTAIN
        again = outbox.claim(limit=1)[0]
        assert again.committing_at is not None
        assert again.sender_address == "orders@acme.example"
        assert not row(uid).maybe_sent_twice
        assert mark(again)
        assert row(uid).maybe_sent_twice


def test_a_second_crash_before_the_mark_does_not_forget_the_first_one_after_it(put: Any, row: Any) -> None:
    uid = put()
    assert mark(outbox.claim(limit=1)[0])
    with clock.shifted(timedelta(seconds=91)):
        outbox.sweep()
        outbox.claim(limit=1)
    with clock.shifted(timedelta(seconds=200)):
        outbox.sweep()
        assert row(uid).status is MessageStatus.UNCERTAIN


def test_a_renewed_lease_is_not_swept(put: Any, row: Any) -> None:
    uid = put()
    claimed = outbox.claim(limit=1)[0]
    with clock.shifted(timedelta(seconds=60)):
        assert outbox.renew([claimed.lease]) == 1
    with clock.shifted(timedelta(seconds=120)):
        outbox.sweep()
        assert row(uid).status is MessageStatus.SENDING


def test_a_message_that_takes_its_worker_down_five_times_is_parked(put: Any, row: Any) -> None:
    uid = put()
    for crash in range(1, 6):
        with clock.shifted(timedelta(seconds=91 * crash)):
            outbox.sweep()
            assert len(outbox.claim(limit=1)) == 1
    with clock.shifted(timedelta(seconds=91 * 7)):
        outbox.sweep()
    message = row(uid)
    assert (message.status, message.hold_reason) == (MessageStatus.HELD, HoldReason.POISON)


def test_an_outcome_between_crashes_starts_the_count_anew(put: Any, row: Any) -> None:
    uid = put()
    claimed = outbox.claim(limit=1)[0]
    error = TryLater("temporary", "451 try later", stage=Stage.MESSAGE, reply_code=451)
    outbox.finish(claimed, outcomes.of_error(error, [], attempts=0))
    assert row(uid).claims == 0


# Outcomes


def test_only_the_holder_of_the_claim_writes_the_outcome(put: Any, row: Any) -> None:
    uid = put()
    lost = outbox.claim(limit=1)[0]
    with clock.shifted(timedelta(seconds=91)):
        outbox.sweep()
        outbox.claim(limit=1)
        refused = outcomes.of_error(Refused("no", "550 no", stage=Stage.MESSAGE), [], attempts=0)
        assert not outbox.finish(lost, refused)
        assert not mark(lost)
    assert row(uid).status is MessageStatus.SENDING


def test_a_result_kept_through_an_outage_counts_while_nobody_else_took_the_message(put: Any, row: Any) -> None:
    uid = put()
    claimed = outbox.claim(limit=1)[0]
    assert mark(claimed)
    with clock.shifted(timedelta(seconds=91)):
        outbox.sweep()
        assert outbox.finish(claimed, outcomes.Outcome(MessageStatus.SENT))
    assert row(uid).status is MessageStatus.SENT


def test_an_expired_lease_may_not_commit_even_before_the_sweep(put: Any) -> None:
    put()
    claimed = outbox.claim(limit=1)[0]
    with clock.shifted(timedelta(seconds=91)):
        assert not mark(claimed)


def test_emails_off_or_another_method_forbid_the_committing_bytes(put: Any, shop: Store, db: Any) -> None:
    put()
    claimed = outbox.claim(limit=1)[0]
    shop.email_settings.emails_off = True
    db.session.commit()
    assert not mark(claimed)
    shop.email_settings.emails_off = False
    shop.email_settings.method = "smtp"
    db.session.commit()
    assert not mark(claimed)
    shop.email_settings.method = "advanced_smtp"
    db.session.commit()
    assert mark(claimed)


def test_temporary_trouble_counts_and_throttling_does_not(put: Any, row: Any) -> None:
    uid = put()
    claimed = outbox.claim(limit=1)[0]
    throttled = TryLater("throttled", "432 4.3.2", stage=Stage.MESSAGE, reply_code=432)
    outbox.finish(claimed, outcomes.of_error(throttled, [], attempts=claimed.attempts))
    assert (row(uid).status, row(uid).attempts) == (MessageStatus.DEFERRED, 0)
    with clock.shifted(LATER):
        claimed = outbox.claim(limit=1)[0]
        later = TryLater("temporary", "451 busy", stage=Stage.MESSAGE, reply_code=451)
        outbox.finish(claimed, outcomes.of_error(later, [], attempts=claimed.attempts))
        assert outbox.claim(limit=1) == []
    assert (row(uid).status, row(uid).attempts) == (MessageStatus.DEFERRED, 1)


def test_after_three_days_of_trying_a_message_fails(put: Any, row: Any) -> None:
    uid = put()
    waiting = [Waiting("lena@shop.example", RecipientKind.TO)]
    for attempts in range(40):
        with clock.shifted(timedelta(hours=5 * attempts)):
            claimed = outbox.claim(limit=1)
            if not claimed:
                break
            later = TryLater("timed_out", "timed out", stage=Stage.CONNECT)
            outbox.finish(claimed[0], outcomes.of_error(later, waiting, attempts=claimed[0].attempts))
    message = row(uid)
    assert message.status is MessageStatus.FAILED
    assert 20 < message.attempts < 30
    assert message.ended_at is not None
    assert [one.status.value for one in message.recipients] == ["refused"]


def test_a_lasting_uncertainty_ends_with_a_person(put: Any) -> None:
    put()
    claimed = outbox.claim(limit=1)[0]
    error = Uncertain("cut_after_dot", "cut", stage=Stage.MESSAGE)
    assert outcomes.of_error(error, [], attempts=0).status is MessageStatus.UNCERTAIN
    last = outcomes.of_error(error, [], attempts=99)
    assert (last.status, last.hold_reason) == (MessageStatus.HELD, HoldReason.UNCERTAIN)
    assert outbox.finish(claimed, last)


def test_what_is_worthless_expires_wherever_it_waits(
    put: Any, row: Any, shop: Store, db: Any, equipment: Equipment
) -> None:
    waiting, held = put(expires_in_s=60), put(expires_in_s=60)
    outbox.hold_queue(shop.id, HoldReason.EMAILS_OFF)
    outbox.release(shop.id, HoldReason.EMAILS_OFF, uid=waiting, equipment=equipment)
    db.session.commit()
    with clock.shifted(timedelta(seconds=61)):
        assert outbox.claim(limit=9) == []
        outbox.sweep()
    assert {row(uid).status for uid in (waiting, held)} == {MessageStatus.EXPIRED}


# People


def test_released_messages_go_oldest_first(put: Any, shop: Store, db: Any, equipment: Equipment) -> None:
    uids = [put() for _ in range(5)]
    outbox.hold_queue(shop.id, HoldReason.SETTINGS_WRONG)
    db.session.commit()
    assert outbox.held_count(shop.id) == 5
    assert outbox.release_mended(shop.id, equipment=equipment) == 5
    db.session.commit()
    assert [one.uid for one in outbox.claim(limit=9)] == uids


def test_mending_the_settings_does_not_release_what_other_reasons_hold(
    put: Any, shop: Store, db: Any, equipment: Equipment
) -> None:
    put()
    outbox.hold_queue(shop.id, HoldReason.EMAILS_OFF)
    db.session.commit()
    assert outbox.release_mended(shop.id, equipment=equipment) == 0
    assert outbox.held_count(shop.id, HoldReason.EMAILS_OFF) == 1
    assert outbox.discard(shop.id, HoldReason.EMAILS_OFF) == 1


def test_a_message_on_its_way_cannot_be_cancelled(put: Any, shop: Store, row: Any, db: Any) -> None:
    uid = put()
    outbox.claim(limit=1)
    assert not outbox.cancel(shop.id, uid)
    other = put()
    assert outbox.cancel(shop.id, other)
    db.session.commit()
    assert row(other).status is MessageStatus.CANCELLED
    assert outbox.claim(limit=1) == []


def test_a_claim_of_a_batch_numbers_attempts_per_message(put: Any, db: Any) -> None:
    put(), put()
    for claimed in outbox.claim(limit=2):
        outbox.finish(claimed, outcomes.Outcome(MessageStatus.QUEUED))
    outbox.claim(limit=2)
    numbers = db.session.scalars(select(Attempt.number).order_by(Attempt.message_id, Attempt.number)).all()
    assert numbers == [1, 2, 1, 2]


def test_store_bcc_rows_follow_the_setting_until_they_are_served(put: Any, db: Any) -> None:
    put(to=("lena@shop.example",))
    claimed = outbox.claim(limit=1)[0]
    outbox_recipients.load([claimed], ("records@acme.example", "LENA@shop.example"))
    outbox_recipients.load([claimed], ("archive@acme.example",))
    rows = db.session.execute(select(Recipient.address, Recipient.kind).order_by(Recipient.id)).all()
    assert [(one.address, one.kind.value) for one in rows] == [
        ("lena@shop.example", "to"),
        ("archive@acme.example", "store_bcc"),
    ]


def test_deleting_a_store_takes_its_messages_along(put: Any, shop: Store, db: Any) -> None:
    put()
    db.session.delete(shop)
    db.session.commit()
    assert db.session.scalars(select(MessageContent)).all() == []
    assert db.session.scalars(select(Message)).all() == []
