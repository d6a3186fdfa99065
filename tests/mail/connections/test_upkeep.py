"""Tokens renewed ahead of their use, idle grants kept alive, ends announced: on the database's clock, up to a year."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask

from extensions import db
from mail import foresight, health, upkeep
from mail.equipment import Equipment
from mail.health import Finding
from mail.tokens import access_token_for
from models import EmailSettings, Message, clock
from models.connection import GrantType, Health
from models.email_settings import Method
from models.outbox import MessageStatus
from models.types import utcnow
from tests.fakes.provider import FakeProvider, granted, reply
from tests.mail.connections.looks import both_databases, change, hand_in, notices, row, told

DAY = timedelta(days=1)


def put_to_use(connection_id: int, equipment: Equipment) -> int:
    """Let mail wait at the store of this connection."""
    settings = db.session.query(EmailSettings).filter_by(connection_id=connection_id).one()
    settings.method, store_id = Method.ADVANCED_SMTP, settings.store_id
    db.session.commit()
    hand_in(store_id, equipment)
    return store_id


# --- Ahead of expiry


@both_databases
@pytest.mark.parametrize(
    ("lifetime_s", "later_s", "is_due"),
    [(3600, 2990, False), (3600, 3010, True), (300, 235, False), (300, 250, True)],
)
def test_a_token_in_use_is_renewed_before_a_sender_would_have_to(
    connection_id: int, equipment: Equipment, provider: FakeProvider, lifetime_s: int, later_s: int, is_due: bool
) -> None:
    provider.answer = lambda request: granted(f"token-{len(provider.requests)}", expires_in=lifetime_s)
    put_to_use(connection_id, equipment)
    access_token_for(connection_id, equipment=equipment)
    with clock.shifted(timedelta(seconds=later_s)):
        assert upkeep.look_after_all(equipment) == int(is_due)
    assert len(provider.requests) == 1 + is_due
    if is_due:  # a sender at the moment when it would have renewed it finds the new one
        with clock.shifted(timedelta(seconds=lifetime_s)):
            assert not access_token_for(connection_id, equipment=equipment).fresh


@both_databases
def test_a_store_that_sent_lately_is_in_use_and_one_that_did_not_costs_nothing(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    store_id = put_to_use(connection_id, equipment)
    access_token_for(connection_id, equipment=equipment)
    db.session.query(Message).update({"status": MessageStatus.SENT, "ended_at": utcnow()})
    db.session.commit()
    with clock.shifted(timedelta(seconds=3200)):
        assert upkeep.due() == [connection_id]
    with clock.shifted(timedelta(hours=3)):
        assert upkeep.due() == []
        hand_in(store_id, equipment)
        assert upkeep.due() == [connection_id]


@both_databases
def test_of_eight_workers_that_look_one_renews(
    connection_id: int, equipment: Equipment, provider: FakeProvider, app: Flask
) -> None:
    put_to_use(connection_id, equipment)
    provider.pause_s = 0.3
    start = threading.Barrier(8)

    def look(_: int) -> int:
        with app.app_context():
            start.wait(10)
            return upkeep.look_after_all(equipment)

    access_token_for(connection_id, equipment=equipment)
    with clock.shifted(timedelta(seconds=3200)), ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(look, range(8))) == 1
    assert len(provider.requests) == 2


@both_databases
def test_a_worker_that_died_with_it_is_waited_for_a_minute(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    put_to_use(connection_id, equipment)
    access_token_for(connection_id, equipment=equipment)
    with clock.shifted(timedelta(seconds=3200)):
        assert upkeep.claim(connection_id)
        assert not upkeep.claim(connection_id)
    with clock.shifted(timedelta(seconds=3262)):
        assert upkeep.look_after_all(equipment) == 1
    assert len(provider.requests) == 2


@pytest.mark.parametrize("state", [Health.NEEDS_REAUTHORIZATION, Health.SETTINGS_WRONG])
def test_trouble_that_only_a_person_can_mend_is_not_asked_about_again(
    connection_id: int, equipment: Equipment, provider: FakeProvider, state: Health
) -> None:
    put_to_use(connection_id, equipment)
    health.report(connection_id, Finding(state, "token", "invalid_client", "HTTP 401"))
    for days in (1, 8, 60):
        with clock.shifted(days * DAY):
            assert upkeep.look_after_all(equipment) == 0
    assert provider.requests == []


def test_nothing_without_a_grant_is_looked_after(
    connect: Callable[..., int], equipment: Equipment, provider: FakeProvider
) -> None:
    connect(refresh_token=None)
    with clock.shifted(30 * DAY):
        assert upkeep.look_after_all(equipment) == 0


# --- A year


@both_databases
def test_an_idle_connection_lives_through_a_year_on_one_request_a_week(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    ends_idle = 0
    for hours in range(0, 365 * 24, 12):
        with clock.shifted(timedelta(hours=hours)):
            upkeep.look_after_all(equipment)
            ends_idle += foresight.announce_all() if hours % 24 == 0 else 0
    assert not provider.is_ended
    assert 48 <= len(provider.requests) <= 53
    assert ends_idle == 0
    assert row(connection_id).health is Health.CONNECTED


def test_a_grant_that_lapses_sooner_is_used_twice_in_its_time(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    provider.answer = lambda request: granted(refresh_token="fake-refresh-1", refresh_expires_in=2 * 86_400)
    access_token_for(connection_id, equipment=equipment)
    asked_at = []
    for hours in range(1, 24 * 10):
        before = len(provider.requests)
        with clock.shifted(timedelta(hours=hours)):
            upkeep.look_after_all(equipment)
        asked_at += [hours] * (len(provider.requests) - before)
    assert asked_at == [24 * day for day in range(1, 10)]


def test_a_keep_alive_that_fails_is_tried_again_and_does_not_hammer(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    provider.answer = reply(503, {})
    for minutes in range(0, 60, 1):
        with clock.shifted(8 * DAY + timedelta(minutes=minutes)):
            upkeep.look_after_all(equipment)
    assert 3 <= len(provider.requests) <= 5
    provider.answer = None
    with clock.shifted(8 * DAY + timedelta(hours=2)):
        upkeep.look_after_all(equipment)
    assert row(connection_id).health is Health.CONNECTED


# --- What will end


def told_over(days: range, connection_id: int) -> list[tuple[int, str]]:
    """On which day which announcement was made, looking every twelve hours."""
    found, seen = [], len(notices(connection_id))
    for day in days:
        for hours in (0, 12):
            with clock.shifted(day * DAY + timedelta(hours=hours)):
                foresight.announce_all()
        found += [(day, notice.kind.value) for notice in notices(connection_id)[seen:]]
        seen = len(notices(connection_id))
    return found


@both_databases
def test_a_client_secret_is_announced_30_7_and_1_days_ahead_once_each(connection_id: int) -> None:
    today = utcnow().date()
    change(connection_id, client_secret_expires_on=today + 200 * DAY)
    assert len(told_over(range(165, 230), connection_id)) == 3
    days_left = [(today + 200 * DAY - notice.begun_at.date()).days for notice in notices(connection_id)]
    assert days_left == [30, 7, 1]
    assert row(connection_id).health is Health.EXPIRING
    assert [notice.ended_at for notice in notices(connection_id)] == [None] * 3
    change(connection_id, client_secret_expires_on=today + 600 * DAY)
    with clock.shifted(200 * DAY):
        foresight.announce_all()
    assert all(notice.ended_at for notice in notices(connection_id))
    assert row(connection_id).health is Health.CONNECTED


def test_a_date_that_is_near_already_is_announced_once_and_not_three_times(connection_id: int) -> None:
    change(connection_id, client_secret_expires_on=utcnow().date() + 5 * DAY)
    foresight.announce_all()
    assert [notice.occasion.rpartition(":")[2] for notice in notices(connection_id)] == ["7"]


@both_databases
def test_of_many_who_foresee_the_same_one_writes_it(connection_id: int, app: Flask) -> None:
    change(connection_id, client_secret_expires_on=utcnow().date() + 5 * DAY)
    start = threading.Barrier(8)

    def look(_: int) -> int:
        with app.app_context():
            start.wait(10)
            return foresight.announce_all()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(look, range(8))) == 1
    assert told(connection_id) == [("secret_ends", False)]


def test_a_microsoft_grant_near_90_idle_days_is_foreseen(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    """Whatever kept it from being used: no worker ran, or the endpoint was away all that time."""
    change(connection_id, provider="microsoft365", refreshed_at=utcnow())
    assert told_over(range(70, 95), connection_id) == [(76, "idle_ends"), (83, "idle_ends"), (89, "idle_ends")]
    assert row(connection_id).health is Health.EXPIRING
    with clock.shifted(89 * DAY):
        upkeep.look_after_all(equipment)
        foresight.announce_all()
    assert [ended for _, ended in told(connection_id)] == [True] * 3
    assert row(connection_id).health is Health.CONNECTED


def test_a_google_app_in_testing_is_recognised_by_what_its_answer_says(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    change(connection_id, provider="google", connected_at=utcnow())
    provider.answer = granted(refresh_token_expires_in=604_799)
    access_token_for(connection_id, equipment=equipment)
    assert told_over(range(0, 8), connection_id) == [(0, "testing_ends"), (6, "testing_ends")]
    assert row(connection_id).health is Health.EXPIRING


def test_a_google_app_in_testing_is_recognised_by_the_age_at_which_its_grant_died(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    change(connection_id, provider="google", connected_at=utcnow())
    provider.answer = granted()
    with clock.shifted(6.9 * DAY):
        access_token_for(connection_id, equipment=equipment)
    provider.answer = reply(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
    with clock.shifted(7.05 * DAY):
        upkeep.look_after_all(equipment)  # nothing to do yet
        with pytest.raises(Exception, match="invalid_grant"):
            access_token_for(connection_id, equipment=equipment)
    found = row(connection_id)
    assert (found.health, found.health_code) == (Health.NEEDS_REAUTHORIZATION, "testing_ended")
    assert found.grant_lifetime_s == 7 * 86_400


@pytest.mark.parametrize("age_days", [3.0, 6.5, 30.0])
def test_a_google_grant_that_dies_at_another_age_was_revoked(
    connection_id: int, equipment: Equipment, provider: FakeProvider, age_days: float
) -> None:
    change(connection_id, provider="google", connected_at=utcnow())
    provider.answer = reply(400, {"error": "invalid_grant"})
    with clock.shifted(age_days * DAY), pytest.raises(Exception, match="invalid_grant"):
        access_token_for(connection_id, equipment=equipment)
    assert (row(connection_id).health_code, row(connection_id).grant_lifetime_s) == ("invalid_grant", None)


def test_a_grant_that_outlives_its_end_is_taken_for_a_lasting_one(
    connection_id: int, equipment: Equipment, provider: FakeProvider
) -> None:
    change(
        connection_id,
        provider="google",
        connected_at=utcnow(),
        grant_ends_at=utcnow() + 7 * DAY,
        grant_lifetime_s=604_800,
    )
    provider.answer = granted()
    foresight.announce_all()
    with clock.shifted(8 * DAY):
        access_token_for(connection_id, equipment=equipment)
        foresight.announce_all()
    found = row(connection_id)
    assert (found.grant_ends_at, found.grant_lifetime_s, found.health) == (None, None, Health.CONNECTED)
    assert told(connection_id) == [("testing_ends", True)]


def test_app_only_connections_are_renewed_ahead_and_not_kept_alive(
    connect: Callable[..., int], equipment: Equipment, provider: FakeProvider
) -> None:
    connection_id = connect(refresh_token=None, grant_type=GrantType.CLIENT_CREDENTIALS)
    provider.answer = lambda request: granted(f"token-{len(provider.requests)}")
    put_to_use(connection_id, equipment)
    access_token_for(connection_id, equipment=equipment)
    with clock.shifted(timedelta(seconds=3200)):
        assert upkeep.look_after_all(equipment) == 1
    db.session.query(Message).delete()
    db.session.commit()
    with clock.shifted(30 * DAY):
        assert upkeep.look_after_all(equipment) == 0


def test_an_unreadable_secret_stops_nobody_else(
    connect: Callable[..., int], equipment: Equipment, provider: FakeProvider
) -> None:
    broken, sound = connect(name="Broken"), connect(name="Sound")
    change(broken, refresh_token_sealed="v1.k9.broken")
    with clock.shifted(8 * DAY):
        assert upkeep.look_after_all(equipment) == 2
    assert row(sound).refreshed_at is not None
    assert row(broken).refresh_token_sealed == "v1.k9.broken"
