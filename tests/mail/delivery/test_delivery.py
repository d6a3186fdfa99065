"""One message from the outbox to a real SMTP server on loopback, and everything that can come between."""

from __future__ import annotations

from datetime import timedelta
from email import message_from_bytes
from email.policy import default
from typing import Any

import pytest
from sqlalchemy import delete, select

from extensions import db
from mail import delivery, outbox, outbox_content, relayed
from mail.compose import Attachment
from mail.equipment import Equipment
from mail.outbox import ClaimedMessage, Leave, NewMessage, Outcome
from mail.smtp import Conversation
from models import Connection, CustomField, Store, clock
from models.connection import Health
from models.email_settings import EmailSettings
from models.outbox import HoldReason, MessageBlob, MessageStatus
from models.types import new_uid
from security.vault import Place
from tests.fakes.certs import ServerCert
from tests.fakes.mta import MTA
from tests.fakes.provider import FakeProvider, granted, reply
from tests.mail.delivery.conftest import TOKEN


@pytest.fixture
def settings(shop: Store, db: Any) -> Any:
    """The settings row as it is now: a delivery ends the session that a test loaded it in."""
    store_id = shop.id

    def settings() -> EmailSettings:
        found = db.session.scalar(select(EmailSettings).where(EmailSettings.store_id == store_id))
        assert found is not None
        return found

    return settings


@pytest.fixture
def hand_in(shop: Store, equipment: Equipment, db: Any) -> Any:
    store_id = shop.id

    def hand_in(**fields: Any) -> str:
        new = NewMessage(**{"to": ("lena@shop.example",), "subject": "Hello", "text": "Hi.", **fields})
        uid = outbox.enqueue(store_id, new, equipment=equipment).uid
        db.session.commit()
        return uid

    return hand_in


@pytest.fixture
def work(equipment: Equipment) -> Any:
    """Claim and deliver one message, as the worker does; the answer is the outcome."""

    def work() -> Outcome:
        (claimed,) = outbox.claim(limit=1)
        outcome = delivery.deliver(claimed, equipment=equipment)
        assert outbox.finish(claimed, outcome)
        return outcome

    return work


# The way through


def test_it_sends_by_classic_smtp_with_the_stores_bcc_in_the_envelope_only(
    hand_in: Any, work: Any, row: Any, mta: MTA
) -> None:
    uid = hand_in(cc=("tom@shop.example",), bcc=("eve@shop.example",))
    assert work().status is MessageStatus.SENT
    (received,) = mta.received
    assert received.sender == "orders@acme.example"
    assert received.recipients == (
        "lena@shop.example",
        "tom@shop.example",
        "eve@shop.example",
        "records@acme.example",
    )
    header = received.content.partition(b"\r\n\r\n")[0]
    assert b"From: Acme Store <orders@acme.example>" in header
    assert b"eve@" not in received.content
    assert b"records@" not in received.content
    assert received.is_encrypted
    message = row(uid)
    assert (message.status, message.remote_id, message.attempts) == (MessageStatus.SENT, "4F2B1C0D3E", 1)
    assert {one.status.value for one in message.recipients} == {"accepted"}
    assert message.attempt_rows[0].outcome == "sent"
    assert message.attempt_rows[0].host == mta.host


@pytest.mark.usefixtures("connected")
def test_it_signs_in_with_the_cached_token(hand_in: Any, work: Any, mta: MTA) -> None:
    mta.accounts["orders@acme.example"] = TOKEN
    hand_in()
    assert work().status is MessageStatus.SENT
    assert [one.mechanism for one in mta.sign_ins] == ["XOAUTH2"]


def test_custom_headers_of_the_store_go_along(
    connected: Store, hand_in: Any, work: Any, mta: MTA, equipment: Equipment, db: Any
) -> None:
    _add_header(connected, "X-Shop", "Acme", equipment, db)
    hand_in()
    assert work().status is MessageStatus.SENT
    assert b"X-Shop: Acme\r\n" in mta.received[0].content


# Recipients have results of their own


def test_an_accepted_recipient_is_never_sent_to_again(hand_in: Any, work: Any, row: Any, mta: MTA) -> None:
    uid = hand_in(to=("lena@shop.example", "tom@shop.example"))
    mta.faults.refuse_recipients["tom@shop.example"] = "450 4.2.1 mailbox busy"
    assert work().status is MessageStatus.DEFERRED
    mta.faults.refuse_recipients.clear()
    with clock.shifted(timedelta(minutes=5)):
        assert work().status is MessageStatus.SENT
    assert mta.received[1].recipients == ("tom@shop.example",)
    assert mta.received[0].content == mta.received[1].content
    assert row(uid).attempts == 2


def test_a_refused_recipient_ends_alone(hand_in: Any, work: Any, row: Any, mta: MTA) -> None:
    uid = hand_in(to=("lena@shop.example", "gone@shop.example"))
    mta.faults.refuse_recipients["gone@shop.example"] = "550 5.1.1 no such user"
    assert work().status is MessageStatus.SENT
    message = row(uid)
    assert message.reason_code == "some_recipients_refused"
    assert {one.address: one.status.value for one in message.recipients} == {
        "lena@shop.example": "accepted",
        "gone@shop.example": "refused",
        "records@acme.example": "accepted",
    }


def test_a_copy_to_the_store_alone_is_no_delivery(hand_in: Any, work: Any, row: Any, mta: MTA) -> None:
    uid = hand_in(to=("gone@shop.example",))
    mta.faults.refuse_recipients["gone@shop.example"] = "550 5.1.1 no such user"
    assert work().status is MessageStatus.FAILED
    assert row(uid).reason_detail.startswith("550 5.1.1")


# What an error makes of a message


@pytest.mark.parametrize(
    ("fault", "value", "status", "reason", "attempts"),
    [
        pytest.param("refuse_message", "451 4.7.1 greylisted", "deferred", None, 1, id="temporary"),
        pytest.param("refuse_message", "432 4.3.2 sender thread limit exceeded", "deferred", None, 0, id="throttled"),
        pytest.param("refuse_message", "554 5.6.0 content rejected", "failed", None, 1, id="refused"),
        pytest.param("refuse_sender", "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
                     "held", "settings_wrong", 0, id="sender"),
        pytest.param("refuse_auth", "535 5.7.8 Authentication credentials invalid", "held", "settings_wrong", 0,
                     id="password"),
        pytest.param("cut", "dot", "uncertain", None, 1, id="cut after the dot"),
    ],
)  # fmt: skip
def test_each_kind_of_trouble_has_its_state(
    fault: str, value: str, status: str, reason: str | None, attempts: int, hand_in: Any, work: Any, row: Any, mta: MTA
) -> None:
    uid = hand_in()
    setattr(mta.faults, fault, value)
    work()
    message = row(uid)
    assert (message.status, message.hold_reason, message.attempts) == (status, reason, attempts)
    assert message.reason_code
    assert message.reason_detail


def test_trouble_of_the_store_holds_its_whole_queue_at_once(settings: Any, hand_in: Any, work: Any, mta: MTA) -> None:
    for _ in range(3):
        hand_in()
    mta.faults.refuse_auth = "535 5.7.8 Authentication credentials invalid"
    work()
    assert outbox.claim(limit=9) == []
    assert outbox.held_count(settings().store_id, HoldReason.SETTINGS_WRONG) == 3
    assert len(mta.sign_ins) == 1


def test_held_messages_go_out_oldest_first_once_the_trouble_ends(
    settings: Any, hand_in: Any, work: Any, mta: MTA, db: Any, equipment: Equipment
) -> None:
    for number in range(3):
        hand_in(subject=f"Number {number}")
    mta.faults.refuse_auth = "535 5.7.8 Authentication credentials invalid"
    work()
    mta.faults.refuse_auth = ""
    assert outbox.release_mended(settings().store_id, equipment=equipment) == 3
    db.session.commit()
    for _ in range(3):
        assert work().status is MessageStatus.SENT
    subjects = [line for one in mta.received for line in one.content.split(b"\r\n") if line.startswith(b"Subject")]
    assert subjects == [b"Subject: Number 0", b"Subject: Number 1", b"Subject: Number 2"]


def test_missing_settings_hold_the_message_and_are_named(
    shop: Store, hand_in: Any, work: Any, row: Any, db: Any
) -> None:
    shop.email_settings.smtp_host = ""
    db.session.commit()
    uid = hand_in()
    work()
    message = row(uid)
    assert (message.hold_reason, message.reason_detail) == (HoldReason.NOT_COMPLETE, "SMTP Server")


def test_a_secret_that_does_not_open_holds_one_store(shop: Store, hand_in: Any, work: Any, row: Any, db: Any) -> None:
    sealed = shop.email_settings.password_sealed
    shop.email_settings.password_sealed = sealed[:-4] + ("AAAA" if not sealed.endswith("AAAA") else "BBBB")
    db.session.commit()
    uid = hand_in()
    work()
    assert row(uid).hold_reason is HoldReason.UNREADABLE
    assert row(uid).reason_code == "secret_unreadable"


def test_a_content_that_does_not_open_parks_one_message(hand_in: Any, work: Any, row: Any, db: Any, mta: MTA) -> None:
    broken, fine = hand_in(), hand_in()
    table = outbox_content.contents
    db.session.execute(table.update().where(table.c.message_id == row(broken).id).values(sealed="v1.k1.AAAA"))
    db.session.commit()
    work()
    work()
    assert row(broken).hold_reason is HoldReason.UNREADABLE
    assert row(fine).status is MessageStatus.SENT
    assert row(hand_in()).status is MessageStatus.QUEUED


def test_an_attachment_that_does_not_open_parks_one_message(
    hand_in: Any, work: Any, row: Any, db: Any, mta: MTA
) -> None:
    files = (Attachment("a.bin", "application/octet-stream", bytes(1_100_000)),)
    broken, fine = hand_in(attachments=files), hand_in(attachments=files)
    piece = select(MessageBlob.id).where(MessageBlob.message_id == row(broken).id, MessageBlob.piece == 1)
    db.session.execute(delete(MessageBlob).where(MessageBlob.id.in_(piece)))
    db.session.commit()
    work()
    work()
    assert row(broken).hold_reason is HoldReason.UNREADABLE
    assert row(fine).status is MessageStatus.SENT
    (received,) = mta.received
    (file,) = message_from_bytes(received.content, policy=default).iter_attachments()
    assert file.get_content() == files[0].content


def test_a_relayed_message_goes_out_with_its_body_as_it_was_and_by_the_stores_sender(
    hand_in: Any, work: Any, mta: MTA
) -> None:
    body = b"Content-Type: text/plain\r\n\r\n" + b"A line of the application.\r\n" * 12_000
    raw = b"From: app@app.example\r\nSubject: Hello\r\nMessage-ID: <7@app.example>\r\nX-Order: 1001\r\n" + body
    found = relayed.normalise(raw)
    hand_in(relayed=found, subject=found.subject, text=None)
    assert work().status is MessageStatus.SENT
    (received,) = mta.received
    message = message_from_bytes(received.content, policy=default)
    assert received.content.endswith(body)
    assert (message["Message-ID"], message["Subject"], message["X-Order"]) == ("<7@app.example>", "Hello", "1001")
    assert (message["From"], message["Reply-To"]) == ("Acme Store <orders@acme.example>", "app@app.example")


# Between claim and commit


def _meddle(monkeypatch: pytest.MonkeyPatch, deed: Any) -> None:
    """Let something happen at the last moment before the check that precedes the committing bytes."""
    real = delivery.outbox_finish.mark_committing

    def late(claimed: ClaimedMessage, leave: Leave) -> bool:
        deed()
        return real(claimed, leave)

    monkeypatch.setattr(delivery.outbox_finish, "mark_committing", late)


def test_emails_turned_off_in_the_last_moment_stop_the_message(
    shop: Store, hand_in: Any, work: Any, row: Any, mta: MTA, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = hand_in()

    def turn_off() -> None:
        db.session.execute(db.text("UPDATE email_settings SET emails_off = true"))
        db.session.commit()

    _meddle(monkeypatch, turn_off)
    work()
    assert mta.received == []
    assert row(uid).hold_reason is HoldReason.EMAILS_OFF
    assert row(uid).committing_at is None


def test_a_method_switched_in_the_last_moment_sends_it_the_new_way(
    connected: Store, hand_in: Any, work: Any, row: Any, mta: MTA, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = hand_in()

    def switch() -> None:
        db.session.execute(db.text("UPDATE email_settings SET method = 'smtp'"))
        db.session.commit()

    _meddle(monkeypatch, switch)
    assert work().status is MessageStatus.QUEUED
    assert mta.received == []
    assert work().status is MessageStatus.SENT
    assert row(uid).method == "smtp"
    assert mta.sign_ins[-1].mechanism in ("PLAIN", "LOGIN")


def test_nobody_sends_while_emails_are_off(shop: Store, hand_in: Any, work: Any, row: Any, mta: MTA, db: Any) -> None:
    first, second = hand_in(), hand_in()
    shop.email_settings.emails_off = True
    db.session.commit()
    work()
    assert {row(uid).hold_reason for uid in (first, second)} == {HoldReason.EMAILS_OFF}
    assert mta.connections == 0


# Once more


def test_after_an_uncertain_end_the_same_bytes_go_by_the_old_sender_and_are_marked(
    connected: Store, settings: Any, hand_in: Any, work: Any, row: Any, mta: MTA, equipment: Equipment, db: Any
) -> None:
    _add_header(connected, "X-Shop", "Acme", equipment, db)
    uid = hand_in(html="<p>Hi</p>")
    mta.faults.cut = "dot"
    assert work().status is MessageStatus.UNCERTAIN
    assert not row(uid).maybe_sent_twice
    mta.faults.cut = ""
    changed = settings()
    changed.from_name, changed.from_email = "Renamed", "new@acme.example"
    changed.connection.login = "orders@acme.example"
    changed.custom_fields.clear()
    db.session.commit()
    with clock.shifted(timedelta(minutes=5)):
        assert work().status is MessageStatus.SENT
    assert mta.received[0].content == mta.received[1].content
    assert mta.received[1].sender == "orders@acme.example"
    assert row(uid).maybe_sent_twice


def test_after_a_definite_no_the_new_sender_applies(
    settings: Any, hand_in: Any, work: Any, row: Any, mta: MTA, db: Any
) -> None:
    uid = hand_in()
    mta.faults.refuse_message = "451 4.7.1 greylisted"
    work()
    assert row(uid).committing_at is None
    mta.faults.refuse_message = ""
    settings().from_name = "Renamed"
    db.session.commit()
    with clock.shifted(timedelta(minutes=5)):
        work()
    assert b"From: Renamed <" in mta.received[0].content
    assert not row(uid).maybe_sent_twice


# Killed


class Killed(BaseException):
    """What `kill -9` is to the code: nothing after it runs that would write anything."""


@pytest.mark.parametrize(
    "point", ["connect", "greet", "auth", "sender", "recipient", "message", "mark", "dot", "answer"]
)
def test_a_worker_killed_anywhere_loses_nothing_and_marks_what_may_be_double(
    point: str, hand_in: Any, work: Any, row: Any, mta: MTA, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = hand_in()
    (claimed,) = outbox.claim(limit=1)
    with monkeypatch.context() as patch:
        _kill_at(point, patch)
        with pytest.raises(Killed):
            delivery.deliver(claimed, equipment=equipment)
    db.session.remove()
    arrived = len(mta.received)
    with clock.shifted(timedelta(seconds=91)):
        outbox.sweep()
        assert work().status is MessageStatus.SENT
    assert arrived == (1 if point == "answer" else 0)
    assert len({one.content for one in mta.received}) == 1
    message = row(uid)
    assert message.status is MessageStatus.SENT
    assert message.maybe_sent_twice is (point in ("dot", "answer"))
    assert [one.outcome for one in message.attempt_rows] == ["sent", ""]


def _kill_at(point: str, patch: pytest.MonkeyPatch) -> None:
    real_mark, real_send = delivery.outbox_finish.mark_committing, Conversation.send_all
    real_init = Conversation.__init__

    def mark(claimed: ClaimedMessage, leave: Leave) -> bool:
        if point == "mark":
            raise Killed
        real_mark(claimed, leave)
        raise Killed  # the mark is made, the dot is not sent

    def send_all(self: Any, *args: Any, **options: Any) -> Any:
        for _ in real_send(self, *args, **options):
            raise Killed  # the server has answered, nobody wrote it down
        yield

    def init(self: Any, *args: Any, **options: Any) -> None:
        def observe(stage: Any, event: str, facts: Any) -> None:
            if (stage, event) == (point, "started"):
                raise Killed

        real_init(self, *args, **{**options, "observe": observe})

    if point in ("mark", "dot"):
        patch.setattr(delivery.outbox_finish, "mark_committing", mark)
    elif point == "answer":
        patch.setattr(Conversation, "send_all", send_all)
    else:
        patch.setattr(Conversation, "__init__", init)


# Tokens


def test_a_refused_cached_token_is_renewed_once_and_tried_once(
    connected: Store, hand_in: Any, work: Any, mta: MTA, cert: ServerCert, db: Any
) -> None:
    mta.accounts["orders@acme.example"] = "fake-access-1"
    with FakeProvider(cert) as provider:
        _connection(connected, db).token_url = provider.token_url
        db.session.commit()
        hand_in()
        assert work().status is MessageStatus.SENT
        assert len(provider.requests) == 1
    assert [one.succeeded for one in mta.sign_ins] == [False, True]


def test_a_fresh_token_that_is_refused_too_needs_a_person(
    connected: Store,
    settings: Any,
    hand_in: Any,
    work: Any,
    row: Any,
    mta: MTA,
    cert: ServerCert,
    db: Any,
    equipment: Equipment,
) -> None:
    mta.faults.refuse_auth = "535 5.7.3 Authentication unsuccessful"
    with FakeProvider(cert) as provider:
        provider.answer = granted("another-token")
        _connection(connected, db).token_url = provider.token_url
        db.session.commit()
        uid = hand_in()
        work()
        assert len(provider.requests) == 1
    assert len(mta.sign_ins) == 2
    assert row(uid).status is MessageStatus.HELD
    assert row(uid).attempts == 0
    assert settings().connection.health in (Health.NEEDS_REAUTHORIZATION, Health.SETTINGS_WRONG)
    assert settings().connection.health_detail.startswith("535 5.7.3")
    mta.faults.refuse_auth = ""
    outbox.release_mended(settings().store_id, equipment=equipment)
    db.session.commit()
    assert work().status is MessageStatus.SENT
    assert settings().connection.health is Health.CONNECTED


def test_a_lost_grant_holds_the_queue_until_somebody_reconnects(
    connected: Store, hand_in: Any, work: Any, row: Any, mta: MTA, cert: ServerCert, db: Any
) -> None:
    with FakeProvider(cert) as provider:
        provider.answer = reply(400, {"error": "invalid_grant", "error_description": "Token has been revoked."})
        connection = _connection(connected, db)
        connection.token_url = provider.token_url
        connection.access_token_sealed = connection.access_token_expires_at = None
        db.session.commit()
        uid, other = hand_in(), hand_in()
        work()
    assert row(uid).hold_reason is row(other).hold_reason is HoldReason.NEEDS_REAUTHORIZATION
    assert row(uid).reason_family == "token"


def test_no_transaction_is_open_while_the_server_is_talked_to(
    hand_in: Any, work: Any, db: Any, mta: MTA, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in()
    seen = []
    real = Conversation.open

    def watched(self: Any) -> None:
        seen.append(db.engine.pool.checkedout())
        real(self)

    monkeypatch.setattr(Conversation, "open", watched)
    work()
    assert seen == [0]


def _connection(store: Store, db: Any) -> Connection:
    connection = db.session.get(Store, store.id).email_settings.connection
    assert connection is not None
    return connection


def _add_header(store: Store, name: str, value: str, equipment: Equipment, db: Any) -> None:
    uid = new_uid()
    sealed = equipment.vault.seal(value, Place("custom_fields", uid, "value_sealed"))
    field = CustomField(uid=uid, position=0, key=f"header.{name}", value_sealed=sealed)
    db.session.get(Store, store.id).email_settings.custom_fields.append(field)
    db.session.commit()
