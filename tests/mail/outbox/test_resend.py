"""A message sent once more is a message of its own with the same content, on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, select, update

from mail import outbox, outbox_content, outbox_recipients, purge
from mail.equipment import Equipment
from mail.outcomes import Outcome
from models import Message, MessageContent, Store, clock
from models.outbox import HoldReason, MessageBlob, MessageStatus, Priority, RecipientKind
from security.vault import Unreadable
from tests import factories
from tests.mail.outbox.test_outbox_content import FILES, RELAYED


@pytest.fixture
def sent(put: Any) -> Any:
    """Hand a message in and note it as sent; the answer is its id."""

    def sent(**fields: Any) -> str:
        uid: str = put(**fields)
        (claimed,) = outbox.claim(limit=1)
        outbox_recipients.load([claimed], ["records@acme.example"])
        assert outbox.finish(claimed, Outcome(MessageStatus.SENT))
        return uid

    return sent


def again(store_id: int, uid: str, equipment: Equipment, db: Any) -> str:
    found = outbox.resend(store_id, uid, equipment=equipment)
    db.session.commit()
    assert found is not None
    return found.uid


def test_it_has_the_same_content_and_people_and_an_identity_of_its_own(
    shop: Store, sent: Any, equipment: Equipment, row: Any, db: Any, told: list[int]
) -> None:
    store_id = shop.id
    uid = sent(
        subject="Your order", text="Thanks.", html="<p>Thanks.</p>", headers=(("X-Order", "1001"),),
        cc=("tom@shop.example",), bcc=("eve@shop.example",), attachments=FILES, priority=Priority.HIGH,
    )  # fmt: skip
    told.clear()
    copy = row(again(store_id, uid, equipment, db))
    assert (copy.status, copy.subject, copy.priority, copy.resent_from) == (
        MessageStatus.QUEUED, "Your order", Priority.HIGH, uid,
    )  # fmt: skip
    assert copy.uid != uid
    assert copy.message_id == f"<{copy.uid}@acme.example>"
    assert [(one.kind, one.address) for one in copy.recipients] == [
        (RecipientKind.TO, "lena@shop.example"),
        (RecipientKind.CC, "tom@shop.example"),
        (RecipientKind.BCC, "eve@shop.example"),
    ]
    assert told == [store_id]
    (claimed,) = outbox.claim(limit=9)
    content = outbox_content.load(claimed, equipment=equipment)
    assert (content.text, content.html, content.headers) == ("Thanks.", "<p>Thanks.</p>", (("X-Order", "1001"),))
    assert content.attachments == FILES


def test_the_copy_outlives_the_original(shop: Store, sent: Any, equipment: Equipment, row: Any, db: Any) -> None:
    store_id = shop.id
    uid = sent(attachments=FILES)
    again(store_id, uid, equipment, db)
    db.session.delete(row(uid))
    db.session.commit()
    (claimed,) = outbox.claim(limit=9)
    assert outbox_content.load(claimed, equipment=equipment).attachments == FILES


def test_headers_that_custom_fields_added_to_the_original_do_not_go_along(
    shop: Store, put: Any, equipment: Equipment, db: Any
) -> None:
    store_id, uid = shop.id, put()
    (claimed,) = outbox.claim(limit=1)
    outbox_content.keep_sent_headers(claimed, (("X-Shop", "7"),), equipment=equipment)
    assert outbox.finish(claimed, Outcome(MessageStatus.SENT))
    again(store_id, uid, equipment, db)
    (copy,) = outbox.claim(limit=9)
    assert outbox_content.load(copy, equipment=equipment).sent_headers == ()


def test_a_relayed_message_goes_out_under_a_new_id(shop: Store, sent: Any, equipment: Equipment, db: Any) -> None:
    store_id = shop.id
    uid = sent(relayed=RELAYED, text=None)
    again(store_id, uid, equipment, db)
    (copy,) = outbox.claim(limit=9)
    relayed = outbox_content.load(copy, equipment=equipment).relayed
    assert relayed is not None
    assert (relayed.body, relayed.fields, relayed.to) == (RELAYED.body, RELAYED.fields, RELAYED.to)
    assert copy.message_id == f"<{copy.uid}@acme.example>"
    assert RELAYED.message_id not in (relayed.message_id, copy.message_id)


def test_it_is_held_like_any_new_message(
    shop: Store, sent: Any, equipment: Equipment, db: Any, told: list[int]
) -> None:
    uid = sent()
    shop.email_settings.emails_off = True
    db.session.commit()
    told.clear()
    found = outbox.resend(shop.id, uid, equipment=equipment)
    db.session.commit()
    assert found is not None
    assert (found.status, found.hold_reason) == (MessageStatus.HELD, HoldReason.EMAILS_OFF)
    assert told == []


def test_there_is_nothing_to_send_of_what_is_unknown_foreign_or_removed(
    shop: Store, sent: Any, equipment: Equipment, db: Any
) -> None:
    store_id, uid = shop.id, sent()
    other = factories.make_store("Other Store").id
    assert outbox.resend(store_id, "0" * 32, equipment=equipment) is None
    assert outbox.resend(other, uid, equipment=equipment) is None
    db.session.commit()
    with clock.shifted(purge.CONTENT_AFTER):
        assert purge.purge() == 1
    assert outbox.resend(store_id, uid, equipment=equipment) is None


def test_what_may_still_go_by_itself_is_not_sent_twice(shop: Store, put: Any, equipment: Equipment, db: Any) -> None:
    store_id, uid = shop.id, put()
    assert outbox.resend(store_id, uid, equipment=equipment) is None
    db.session.commit()
    outbox.claim(limit=1)
    assert outbox.resend(store_id, uid, equipment=equipment) is None
    db.session.commit()
    assert db.session.scalar(select(func.count()).select_from(Message)) == 1


def test_nothing_is_stored_unless_the_caller_commits(shop: Store, sent: Any, equipment: Equipment, db: Any) -> None:
    uid = sent(attachments=FILES)
    before = db.session.scalar(select(func.count()).select_from(MessageBlob))
    assert outbox.resend(shop.id, uid, equipment=equipment)
    db.session.rollback()
    assert db.session.scalar(select(func.count()).select_from(Message)) == 1
    assert db.session.scalar(select(func.count()).select_from(MessageBlob)) == before


def test_a_content_that_does_not_open_is_not_copied(shop: Store, sent: Any, equipment: Equipment, db: Any) -> None:
    uid = sent()
    db.session.execute(update(MessageContent).values(sealed="v1.k1.AAAA"))
    db.session.commit()
    with pytest.raises(Unreadable):
        outbox.resend(shop.id, uid, equipment=equipment)
