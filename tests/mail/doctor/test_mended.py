"""A test that passed mends: mail that was held for trouble with the settings goes out, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select, update

from extensions import db as database
from mail import outbox
from mail.drafts import current_advanced, current_smtp
from mail.equipment import Equipment
from mail.errors import Stage
from mail.outbox import NewMessage
from mail.settings import switch_method
from mail.tokens import access_token_for
from models import Store
from models.connection import Connection, Health
from models.email_settings import Method
from models.outbox import HoldReason, Message, MessageStatus
from models.test_run import TestStatus as Status
from sandbox import Sandbox
from tests.fakes import sandboxed
from tests.fakes.sandboxed import ACTOR
from tests.mail.doctor.pages import Press, failed_at


def hold(store: Store, equipment: Equipment, reason: HoldReason, count: int = 2) -> None:
    for number in range(count):
        new = NewMessage(to=("lena@inbox.example",), subject=f"Order {number}", text="Thank you.")
        outbox.enqueue(store.id, new, equipment=equipment)
    database.session.execute(
        update(Message).where(Message.status == MessageStatus.QUEUED).values(
            status=MessageStatus.HELD, hold_reason=reason, reason_code="x"
        )
    )  # fmt: skip
    database.session.commit()


def statuses() -> set[MessageStatus]:
    database.session.rollback()
    return set(database.session.scalars(select(Message.status)))


MENDED = (
    HoldReason.SETTINGS_WRONG,
    HoldReason.NOT_COMPLETE,
    HoldReason.UNREADABLE,
    HoldReason.NEEDS_REAUTHORIZATION,
)


@pytest.mark.parametrize("reason", MENDED)
def test_what_waited_for_these_settings_goes_out_and_that_is_said(
    press: Press, connected: Store, equipment: Equipment, reason: HoldReason
) -> None:
    hold(connected, equipment, reason)
    report = press(connected)
    assert "2 held messages are going out now." in report.notes
    assert statuses() == {MessageStatus.QUEUED}


def test_what_waits_for_something_else_waits_on(press: Press, connected: Store, equipment: Equipment) -> None:
    for reason in (HoldReason.EMAILS_OFF, HoldReason.UNCERTAIN, HoldReason.POISON):
        hold(connected, equipment, reason, 1)
    report = press(connected)
    assert report.status is Status.PASSED
    assert "going out" not in " ".join(report.notes)
    assert statuses() == {MessageStatus.HELD}


def test_unsaved_settings_mend_nothing(press: Press, connected: Store, equipment: Equipment) -> None:
    hold(connected, equipment, HoldReason.SETTINGS_WRONG)
    draft = current_advanced(connected.email_settings, equipment)
    report = press(connected, replace(draft, general=replace(draft.general, from_name="Autumn sale")))
    assert report.status is Status.PASSED
    assert statuses() == {MessageStatus.HELD}


def test_the_method_that_is_not_in_use_mends_nothing(press: Press, sandbox: Sandbox, equipment: Equipment) -> None:
    store = sandboxed.make_store(sandbox, equipment, method=Method.SMTP)
    settings = store.email_settings
    switch_method(settings, Method.ADVANCED_SMTP, expected_version=settings.version, actor=ACTOR)
    database.session.commit()
    hold(store, equipment, HoldReason.NOT_COMPLETE)
    report = press(store, current_smtp(settings, equipment))
    assert report.status is Status.PASSED
    assert statuses() == {MessageStatus.HELD}


def test_a_test_that_failed_or_sent_nothing_mends_nothing(
    press: Press, connected: Store, sandbox: Sandbox, equipment: Equipment
) -> None:
    hold(connected, equipment, HoldReason.SETTINGS_WRONG)
    sandbox.faults.set(wrong_identity=True)
    assert failed_at(press(connected)) is Stage.AUTH
    sandbox.faults.reset()
    assert statuses() == {MessageStatus.HELD}
    draft = current_advanced(database.session.get_one(Store, 1).email_settings, equipment)
    report = press(database.session.get_one(Store, 1), replace(draft, general=replace(draft.general, emails_off=True)))
    assert report.is_off
    assert statuses() == {MessageStatus.HELD}


def note_health(health: Health) -> None:
    database.session.execute(update(Connection).values(health=health, health_code="auth_refused"))
    database.session.commit()


def health() -> Health | None:
    database.session.rollback()
    return database.session.scalar(select(Connection.health))


def test_the_connection_is_called_well_again(press: Press, connected: Store) -> None:
    note_health(Health.SETTINGS_WRONG)
    press(connected)
    assert health() is Health.CONNECTED


def test_a_kept_token_that_outlives_its_grant_mends_nothing(
    press: Press, connected: Store, sandbox: Sandbox, equipment: Equipment
) -> None:
    connection_id = connected.email_settings.connection_id
    assert connection_id is not None
    database.session.commit()
    access_token_for(connection_id, equipment=equipment)
    note_health(Health.NEEDS_REAUTHORIZATION)
    hold(connected, equipment, HoldReason.NEEDS_REAUTHORIZATION)
    report = press(connected)
    assert report.status is Status.PASSED
    assert health() is Health.NEEDS_REAUTHORIZATION
    assert statuses() == {MessageStatus.HELD}
