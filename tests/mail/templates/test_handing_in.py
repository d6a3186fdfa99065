"""What comes in by template reaches the outbox on both databases; what is switched off ends there at once."""

from __future__ import annotations

from typing import Any

from flask import Flask
from sqlalchemy import select

from extensions import db
from mail import outbox
from mail.accepting_together import Together
from mail.audit import SYSTEM
from mail.outbox import Enqueued, HandedIn
from mail.templates import handing_in, kinds, stored
from models import Message, Recipient
from models.outbox import MessageContent, MessageStatus
from tests import factories

CODE = {"to": ["lena@shop.example"], "template": "sign_in_code", "data": {"sign_in": {"code": "1", "minutes": 5}}}
PLAIN = {"to": ["lena@shop.example"], "text": "Hello"}


def hand_in(application: Flask, store_id: int, *documents: dict[str, Any]) -> list[Any]:
    read = handing_in.read_messages(store_id, documents, [None] * len(documents))
    assert not db.session().in_transaction()
    good = [one for one in read if isinstance(one, HandedIn)]
    return Together().accept(store_id, good, equipment=application.extensions["storepost"], api_key_id=None)


def test_what_is_off_ends_at_once_beside_mail_that_goes(application: Flask) -> None:
    store = factories.make_store("Acme Store", from_email="orders@acme.example")
    stored.switch(store, kinds.SIGN_IN_CODE, off=True, actor=SYSTEM)
    db.session.commit()
    answers = hand_in(application, store.id, CODE, PLAIN)
    assert [one.status for one in answers] == [MessageStatus.CANCELLED, MessageStatus.QUEUED]
    cancelled, queued = db.session.scalars(select(Message).order_by(Message.id))
    assert (cancelled.status, cancelled.reason_code) == (MessageStatus.CANCELLED, outbox.TEMPLATE_OFF)
    assert cancelled.reason_detail == "The template “Sign-in code” is switched off"
    assert cancelled.ended_at == cancelled.created_at
    assert (queued.status, queued.reason_code, queued.ended_at) == (MessageStatus.QUEUED, "", None)
    for table in (MessageContent, Recipient):
        assert len(list(db.session.scalars(select(table)))) == 2
    assert outbox.due_stores() == [store.id]


def test_a_worker_has_nothing_to_do_with_what_is_off(application: Flask) -> None:
    store = factories.make_store("Acme Store", from_email="orders@acme.example")
    stored.switch(store, kinds.SIGN_IN_CODE, off=True, actor=SYSTEM)
    db.session.commit()
    told: list[int] = []
    nudges = application.extensions["storepost"].nudges
    nudges.send = told.append
    hand_in(application, store.id, CODE)
    assert told == []
    assert list(outbox.due_stores()) == []
    stored.switch(store, kinds.SIGN_IN_CODE, off=False, actor=SYSTEM)
    db.session.commit()
    (answer,) = hand_in(application, store.id, CODE)
    assert isinstance(answer, Enqueued)
    assert (answer.status, told) == (MessageStatus.QUEUED, [store.id])
