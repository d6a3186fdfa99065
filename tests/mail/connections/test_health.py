"""The state machine of connections: what moves it, who raises the notice, and what that does to waiting mail."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from extensions import db
from mail import delivery, health, outbox
from mail.equipment import Equipment
from mail.errors import ConnectionLost, TryLater
from mail.health import GRANTED, SENT, TESTED, Finding
from mail.tokens import access_token_for
from models import EmailSettings, Store, clock
from models.connection import Connection, Health
from models.email_settings import Method
from models.outbox import HoldReason, MessageStatus
from tests.fakes.oauth import make_oauth_store
from tests.fakes.provider import FakeProvider, reply
from tests.mail.connections.looks import both_databases, change, hand_in, messages_of, notices, row, told

LOST = Finding(Health.NEEDS_REAUTHORIZATION, "token", "invalid_grant", "HTTP 400 invalid_grant")
REFUSED = Finding(Health.SETTINGS_WRONG, "token", "invalid_client", "HTTP 401 invalid_client")
SIGN_IN_REFUSED = Finding(Health.SETTINGS_WRONG, "auth", "auth_refused", "535 5.7.139 disabled")
FAILING = Finding(Health.TEMPORARILY_FAILING, "token", "http_503", "HTTP 503")


def states_after(connection_id: int, *findings: Finding) -> list[str]:
    found = []
    for finding in findings:
        assert health.report(connection_id, finding)
        found.append(row(connection_id).health.value)
    return found


@both_databases
@pytest.mark.parametrize(
    ("findings", "states", "kinds"),
    [
        ([FAILING, FAILING, GRANTED], ["temporarily_failing"] * 2 + ["connected"], [("failing", True)]),
        (
            [FAILING, LOST, FAILING, GRANTED],
            ["temporarily_failing", *["needs_reauthorization"] * 2, "connected"],
            [("failing", True), ("lost", True)],
        ),
        (
            [REFUSED, LOST, SENT],
            ["settings_wrong", *["needs_reauthorization"] * 2],
            [("settings_wrong", True), ("lost", False)],
        ),
        (
            [SIGN_IN_REFUSED, GRANTED, SENT, SENT],
            ["settings_wrong"] * 2 + ["connected"] * 2,
            [("settings_wrong", True)],
        ),
        ([LOST, SIGN_IN_REFUSED, TESTED], ["needs_reauthorization"] * 3, [("lost", False)]),
        ([REFUSED, TESTED], ["settings_wrong", "connected"], [("settings_wrong", True)]),
    ],
    ids=["passing", "worse and worse", "mail and grant", "token and sign-in", "lost", "test"],
)  # fmt: skip
def test_a_trouble_ends_only_by_what_would_meet_it_again_and_is_told_once(
    connection_id: int, findings: list[Finding], states: list[str], kinds: list[tuple[str, bool]]
) -> None:
    assert states_after(connection_id, *findings) == states
    assert told(connection_id) == kinds


def test_since_when_and_why_are_those_of_the_transition(connection_id: int) -> None:
    health.report(connection_id, FAILING)
    first = row(connection_id)
    with clock.shifted(timedelta(hours=2)):
        health.report(connection_id, Finding(Health.TEMPORARILY_FAILING, "token", "timed_out", "Timeout"))
        again = row(connection_id)
        health.report(connection_id, LOST)
    assert again.health_since == first.health_since
    assert (again.health_code, again.health_detail, again.health_stage) == ("timed_out", "Timeout", "token")
    assert first.health_since is not None
    assert row(connection_id).health_since >= first.health_since + timedelta(hours=2)
    (failing, lost) = notices(connection_id)
    assert failing.ended_at == pytest.approx(lost.begun_at, abs=timedelta(seconds=1))
    assert (lost.code, lost.detail, lost.stage) == ("invalid_grant", "HTTP 400 invalid_grant", "token")


@both_databases
def test_of_many_who_see_the_same_trouble_one_tells_it(connection_id: int, app: Flask) -> None:
    start = threading.Barrier(8)

    def see(number: int) -> None:
        with app.app_context():
            for finding in (LOST, GRANTED):
                start.wait(10)
                health.report(connection_id, finding)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(see, range(8)))
    assert told(connection_id) == [("lost", True)]


def test_conditions_that_do_not_hold_change_nothing(connection_id: int) -> None:
    before = row(connection_id)
    assert not health.report(connection_id, LOST, Connection.edition == before.edition + 1)
    assert row(connection_id).health is Health.CONNECTED
    assert told(connection_id) == []


def test_a_refusal_by_settings_that_were_changed_since_is_no_news(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    """Somebody connects anew while an old sign-in is on its way to be refused."""
    edition = row(connection_id).edition
    change(connection_id, edition=Connection.edition + 1)
    assert not health.report(connection_id, SIGN_IN_REFUSED, Connection.edition == edition)
    assert row(connection_id).health is Health.CONNECTED


# --- What it does to mail


@pytest.fixture
def sharers(equipment: Equipment, provider: FakeProvider) -> list[int]:
    """Two stores on one connection."""
    first = make_oauth_store(equipment, provider.token_url, name="First")
    second = make_oauth_store(equipment, provider.token_url, name="Second")
    second.email_settings.connection = first.email_settings.connection
    for store in (first, second):
        store.email_settings.method = Method.ADVANCED_SMTP
    found = [first.id, second.id]
    db.session.commit()
    return found


def connection_of(store_id: int) -> int:
    found = db.session.query(EmailSettings.connection_id).filter_by(store_id=store_id).scalar()
    db.session.rollback()
    assert found is not None
    return int(found)


@both_databases
def test_a_lost_grant_holds_the_mail_of_all_its_stores_at_once_and_uses_up_no_attempt(
    sharers: list[int], equipment: Equipment, provider: FakeProvider
) -> None:
    for store_id in sharers:
        hand_in(store_id, equipment, 3)
    provider.answer = reply(400, {"error": "invalid_grant"})
    with pytest.raises(ConnectionLost):
        access_token_for(connection_of(sharers[0]), equipment=equipment)
    for store_id in sharers:
        held = messages_of(store_id)
        assert {message.hold_reason for message in held} == {HoldReason.NEEDS_REAUTHORIZATION}
        assert {(message.attempts, message.last_attempt, message.reason_code) for message in held} == {
            (0, 0, "invalid_grant")
        }


@both_databases
def test_the_endpoint_is_not_asked_again_about_a_grant_that_is_gone(
    sharers: list[int], equipment: Equipment, provider: FakeProvider
) -> None:
    health.report(connection_of(sharers[0]), LOST)
    for store_id in sharers:
        hand_in(store_id, equipment)
        for claimed in outbox.claim(store_id=store_id, limit=5, lease=equipment.lease):
            outcome = delivery.deliver(claimed, equipment=equipment)
            assert (outcome.status, outcome.hold_reason) == (MessageStatus.HELD, HoldReason.NEEDS_REAUTHORIZATION)
            assert not outcome.counts
            outbox.finish(claimed, outcome)
    assert provider.requests == []
    assert [message.status for store_id in sharers for message in messages_of(store_id)] == [MessageStatus.HELD] * 2


@both_databases
def test_when_the_grant_works_again_the_mail_of_all_its_stores_goes(
    sharers: list[int], equipment: Equipment, provider: FakeProvider
) -> None:
    connection_id = connection_of(sharers[0])
    for store_id in sharers:
        hand_in(store_id, equipment, 2)
    health.report(connection_id, LOST)
    access_token_for(connection_id, equipment=equipment, urgent=True)
    assert {message.status for store_id in sharers for message in messages_of(store_id)} == {MessageStatus.QUEUED}
    assert row(connection_id).health is Health.CONNECTED


def test_mail_of_a_store_on_its_smtp_method_goes_on(
    sharers: list[int], equipment: Equipment, provider: FakeProvider
) -> None:
    db.session.get_one(Store, sharers[1]).email_settings.method = Method.SMTP
    db.session.commit()
    for store_id in sharers:
        hand_in(store_id, equipment)
    health.report(connection_of(sharers[0]), LOST)
    states = [messages_of(store_id)[0].status for store_id in sharers]
    assert states == [MessageStatus.HELD, MessageStatus.QUEUED]


def test_passing_trouble_holds_nothing(connection_id: int, equipment: Equipment, provider: FakeProvider) -> None:
    store_id = db.session.query(EmailSettings.store_id).filter_by(connection_id=connection_id).scalar()
    db.session.rollback()
    hand_in(store_id, equipment)
    provider.answer = reply(503, {})
    with pytest.raises(TryLater):
        access_token_for(connection_id, equipment=equipment)
    assert messages_of(store_id)[0].status is MessageStatus.QUEUED


# --- How long an endpoint is left alone


@pytest.mark.parametrize(("wish", "pause_s"), [("120", 120), ("90000", 3600), ("junk", None)])
@pytest.mark.parametrize("status", [429, 503])
def test_the_endpoint_is_left_alone_as_long_as_it_asks(
    connection_id: int, provider: FakeProvider, equipment: Equipment, status: int, wish: str, pause_s: int | None
) -> None:
    provider.answer = reply(status, {}, Retry_After=wish)
    for _ in range(2):
        with pytest.raises(TryLater) as caught:
            access_token_for(connection_id, equipment=equipment)
    if pause_s is None:
        assert len(provider.requests) == 2
        return
    assert len(provider.requests) == 1
    assert caught.value.after_s == pytest.approx(pause_s, abs=3)
    provider.answer = None
    with clock.shifted(timedelta(seconds=pause_s + 1)):
        assert access_token_for(connection_id, equipment=equipment).fresh


# --- People


def test_connecting_ends_the_trouble_of_what_was_before(
    connection_id: int, equipment: Equipment, connect: Callable[..., Any]
) -> None:
    health.report(connection_id, LOST)
    connection = db.session.get_one(Connection, connection_id)
    health.set_by_person(connection, Health.CONNECTED)
    db.session.commit()
    assert told(connection_id) == [("lost", True)]
    found = row(connection_id)
    assert (found.health, found.health_code, found.health_stage) == (Health.CONNECTED, "", "")
