"""POST /api/v1/messages/{id}/cancel: while it has not gone, once and for good."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from extensions import db as database
from mail import outbox
from models import APIKey, AuditEntry, Message
from models.outbox import MessageStatus
from tests.blueprints.api.calls import MESSAGE, Call, Send, key_of_another_store, the_message


def set_status(status: MessageStatus) -> None:
    database.session.execute(Message.__table__.update().values(status=status))
    database.session.commit()


@pytest.mark.parametrize(
    "status", [MessageStatus.QUEUED, MessageStatus.DEFERRED, MessageStatus.HELD, MessageStatus.UNCERTAIN]
)
def test_what_waits_can_be_cancelled(send: Send, call: Call, status: MessageStatus) -> None:
    uid = send().json["id"]
    set_status(status)
    answer = call("POST", f"/messages/{uid}/cancel")
    assert answer.status_code == 200
    assert (answer.json["id"], answer.json["status"]) == (uid, "cancelled")
    assert answer.json["ended_at"]
    assert the_message().status is MessageStatus.CANCELLED


def test_a_cancelled_message_is_not_sent(send: Send, call: Call) -> None:
    call("POST", f"/messages/{send().json['id']}/cancel")
    assert outbox.claim(limit=10) == []


@pytest.mark.parametrize(
    "status", [MessageStatus.SENDING, MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.EXPIRED]
)
def test_what_has_gone_or_is_on_its_way_cannot(send: Send, call: Call, status: MessageStatus) -> None:
    uid = send().json["id"]
    set_status(status)
    answer = call("POST", f"/messages/{uid}/cancel")
    assert (answer.status_code, answer.mimetype) == (409, "application/problem+json")
    assert answer.json["message_status"] == status
    assert the_message().status is status


def test_to_cancel_again_changes_nothing_and_says_so_again(send: Send, call: Call) -> None:
    uid = send().json["id"]
    first = call("POST", f"/messages/{uid}/cancel")
    again = call("POST", f"/messages/{uid}/cancel")
    assert (again.status_code, again.json) == (200, first.json)
    assert len(trail()) == 1


def test_the_trail_names_the_key(send: Send, call: Call, key: str) -> None:
    uid = send().json["id"]
    call("POST", f"/messages/{uid}/cancel")
    (entry,) = trail()
    assert (entry.actor, entry.detail, entry.store_code) == (f"API key Web shop ({key[:11]}…)", uid, "acme-store")
    assert entry.user_id is None


def trail() -> list[AuditEntry]:
    database.session.rollback()
    return list(database.session.scalars(select(AuditEntry).where(AuditEntry.action == "message_cancelled")))


def test_messages_of_other_stores_do_not_exist(send: Send, call: Call) -> None:
    uid = send().json["id"]
    other = key_of_another_store()
    foreign = call("POST", f"/messages/{uid}/cancel", Authorization=other)
    missing = call("POST", f"/messages/{'0' * 32}/cancel", Authorization=other)
    assert (foreign.status_code, foreign.text) == (missing.status_code, missing.text)
    assert foreign.status_code == 404
    assert the_message().status is MessageStatus.QUEUED


def test_a_key_that_may_only_read_cancels_nothing(send: Send, call: Call, db: Any) -> None:
    uid = send(MESSAGE).json["id"]
    db.session.execute(APIKey.__table__.update().values(scopes="read"))
    db.session.commit()
    assert call("POST", f"/messages/{uid}/cancel").status_code == 403
    assert the_message().status is MessageStatus.QUEUED
