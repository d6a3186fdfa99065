"""What ended is forgotten by the database's clock: contents first, then the rest. On SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from mail import outbox, purge
from mail.outcomes import Outcome
from models import Attempt, Message, MessageContent, Recipient, Store, clock
from models.database import reading
from models.outbox import HoldReason, MessageBlob, MessageStatus
from tests.mail.outbox.conftest import WALKS, plan_of, statements
from tests.mail.outbox.test_outbox_content import FILES

DAY = timedelta(days=1)


@pytest.fixture
def ended(put: Any) -> Any:
    """Hand a message in and end it; the answer is its id."""

    def ended(status: MessageStatus = MessageStatus.SENT, **fields: Any) -> str:
        uid: str = put(attachments=FILES[2:], **fields)
        (claimed,) = outbox.claim(limit=1)
        assert outbox.finish(claimed, Outcome(status))
        return uid

    return ended


def counts(db: Any) -> list[int]:
    db.session.rollback()
    tables = (Message, MessageContent, MessageBlob, Recipient, Attempt)
    with reading():
        found = [db.session.scalar(select(func.count()).select_from(one)) for one in tables]
        db.session.rollback()
    return found


@pytest.mark.parametrize("status", [MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.EXPIRED])
def test_after_a_week_subject_and_content_are_gone_and_the_rest_is_there(
    status: MessageStatus, ended: Any, row: Any, db: Any
) -> None:
    uid = ended(status)
    with clock.shifted(7 * DAY - timedelta(minutes=1)):
        assert purge.purge() == 0
    assert counts(db) == [1, 1, 1, 1, 1]
    with clock.shifted(7 * DAY + timedelta(minutes=1)):
        assert purge.purge() == 1
        assert purge.purge() == 0
    message = row(uid)
    assert (message.subject, message.status) == ("", status)
    assert message.purged_at - message.ended_at > 7 * DAY
    assert counts(db) == [1, 0, 0, 1, 1]


def test_after_ninety_days_nothing_is_left(ended: Any, db: Any) -> None:
    ended()
    with clock.shifted(8 * DAY):
        purge.purge()
    with clock.shifted(90 * DAY - timedelta(minutes=1)):
        assert purge.purge() == 0
    with clock.shifted(90 * DAY + timedelta(minutes=1)):
        assert purge.purge() == 1
    assert counts(db) == [0, 0, 0, 0, 0]


def test_days_count_from_the_end_however_late_a_purge_came(ended: Any, db: Any) -> None:
    ended()
    with clock.shifted(91 * DAY):
        assert purge.purge() == 2
    assert counts(db) == [0, 0, 0, 0, 0]


def test_both_times_can_be_set(ended: Any, db: Any) -> None:
    ended()
    with clock.shifted(2 * DAY):
        assert purge.purge(content_after=DAY, all_after=3 * DAY) == 1
        assert counts(db)[:2] == [1, 0]
    with clock.shifted(4 * DAY):
        assert purge.purge(content_after=DAY, all_after=3 * DAY) == 1
    assert counts(db)[0] == 0


def test_what_has_not_ended_is_kept_for_ever(put: Any, shop: Store, db: Any) -> None:
    put(), put()
    outbox.hold_queue(shop.id, HoldReason.SETTINGS_WRONG)
    db.session.commit()
    put(), put()
    outbox.claim(limit=1)
    with clock.shifted(1000 * DAY):
        assert purge.purge() == 0
    assert counts(db)[:2] == [4, 4]


def test_a_cancelled_message_is_purged_too(put: Any, shop: Store, row: Any, db: Any) -> None:
    uid = put()
    assert outbox.cancel(shop.id, uid)
    db.session.commit()
    with clock.shifted(8 * DAY):
        assert purge.purge() == 1
    assert row(uid).subject == ""


def test_a_call_does_a_bounded_piece_oldest_first(many: Any, db: Any) -> None:
    many(450, "sent", ended_at="1700000000000 + n")
    assert purge.purge(all_after=100_000 * DAY, at_most=130) == 130
    left = db.session.scalar(select(func.min(Message.ended_at)).where(Message.purged_at.is_(None)))
    gone = db.session.scalar(select(func.max(Message.ended_at)).where(Message.purged_at.is_not(None)))
    assert gone < left
    db.session.rollback()
    assert [purge.purge(all_after=100_000 * DAY, at_most=200) for _ in range(3)] == [200, 120, 0]


def test_large_messages_are_removed_in_smaller_groups(ended: Any, db: Any) -> None:
    for _ in range(3):
        ended()
    db.session.execute(update(Message).values(size_bytes=purge.GROUP_BYTES))
    db.session.commit()
    with clock.shifted(8 * DAY), statements() as seen:
        assert purge.purge() == 3
    assert sum(one.startswith("DELETE FROM message_blobs") for one, _ in seen) == 3


def test_it_walks_partial_indexes_beside_what_is_not_due(many: Any) -> None:
    """20,000 that ended just now, 20,000 purged ones that are kept: neither is looked through."""
    many(20_000, "sent", ended_at="1900000000000 + n")
    many(20_000, "failed", ended_at="1900000000000 + n", purged_at="1900000000000 + n")
    with statements() as seen:
        assert purge.purge() == 0
    plans = [plan_of(*one) for one in seen if "FROM messages" in one[0]]
    assert len(plans) == 2
    for index, plan in zip(("ix_messages_unpurged", "ix_messages_purged"), plans, strict=True):
        assert index in plan
        assert not WALKS.search(plan)
