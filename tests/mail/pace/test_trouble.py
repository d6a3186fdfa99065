"""The breaker, and what a server that says "slow down" brings about."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from mail import pace
from mail.errors import Stage
from mail.pace import Limits, look
from mail.pace.replies import Throttling, throttling_of
from models import clock

RATE = "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
CROWDED = "432 4.3.2 Concurrent connections limit exceeded"
QUOTA = "554 5.2.2 Submission quota exceeded: SubmissionQuotaExceededException"


def fail(limits: Limits) -> timedelta:
    return pace.note_failure(limits, code="connect_refused", detail="connection refused")


def throttle(limits: Limits, words: str = RATE, *, stage: Stage = Stage.MESSAGE, wish_s: float | None = None) -> Any:
    return pace.note_throttled(limits, stage=stage, code="throttled", detail=words, wish_s=wish_s)


# The breaker ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_spread")
def test_each_failure_in_a_row_doubles_the_pause_up_to_five_minutes(limits: Limits) -> None:
    pauses, later = [], timedelta()
    for _ in range(8):
        with clock.shifted(later):
            pauses.append(fail(limits).total_seconds())
            assert look(limits).pause > timedelta(seconds=pauses[-1] - 5)
        later += timedelta(seconds=pauses[-1] + 1)
        with clock.shifted(later):
            assert look(limits).pause == timedelta()
            assert look(limits).is_failing
    assert pauses == [10, 20, 40, 80, 160, 300, 300, 300]


def test_pauses_are_spread_by_chance_and_never_shorter(limits: Limits) -> None:
    pauses = {fail(replace(limits, lane=f"{limits.lane}000{number}")) for number in range(10)}
    assert len(pauses) > 5
    assert all(timedelta(seconds=10) <= pause <= timedelta(seconds=12.5) for pause in pauses)


def test_reports_of_the_same_outage_count_once(app: Flask, limits: Limits) -> None:
    pauses: list[timedelta] = []

    def report() -> None:
        with app.app_context():
            pauses.append(fail(limits))

    threads = [threading.Thread(target=report) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pauses) == 5
    assert max(pauses) <= timedelta(seconds=12.5)
    with clock.shifted(timedelta(seconds=13)):
        assert fail(limits) >= timedelta(seconds=20)


def test_a_success_ends_the_trouble(limits: Limits) -> None:
    fail(limits)
    pace.note_success(limits)
    state = look(limits)
    assert (state.is_failing, state.pause, state.pause_code) == (False, timedelta(), "")
    assert fail(limits) < timedelta(seconds=13)


def test_a_lane_without_trouble_is_open_and_other_lanes_stay_so(limits: Limits) -> None:
    fail(limits)
    state = look(replace(limits, lane="store:9999"))
    assert (state.pause, state.is_failing, state.connections, state.per_minute) == (timedelta(), False, 3, 30)


def test_it_remembers_since_when_and_why(limits: Limits) -> None:
    fail(limits)
    first = pace.meter(limits).failing_since
    with clock.shifted(timedelta(seconds=13)):
        pace.note_failure(limits, code="tls_failed", detail="certificate has expired")
    found = pace.meter(limits)
    assert first is not None
    assert found.failing_since == first
    assert (found.pause_code, found.pause_detail) == ("tls_failed", "certificate has expired")


@pytest.mark.parametrize("report", [fail, throttle, lambda limits: throttle(limits, QUOTA)])
def test_a_clock_put_back_ends_a_pause_instead_of_making_it_longer(limits: Limits, report: Any) -> None:
    report(limits)
    with clock.shifted(timedelta(hours=-1)):
        state = look(limits)
        assert (state.pause, state.per_minute) == (timedelta(), 30)
        assert report(limits) > timedelta()
        assert look(limits).pause > timedelta()


# Throttling ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_spread")
def test_too_fast_pauses_a_minute_and_then_sends_seven_tenths_of_what_was_sent(limits: Limits, take: Any) -> None:
    assert take(limits, tries=20) == 20
    assert throttle(limits) == timedelta(minutes=1)
    state = look(limits)
    assert timedelta(seconds=50) < state.pause <= timedelta(minutes=1)
    assert (state.pause_code, state.per_minute, state.connections, state.is_failing) == ("throttled", 14, 3, False)
    with clock.shifted(timedelta(minutes=9, seconds=50)):
        assert (look(limits).pause, look(limits).per_minute) == (timedelta(), 14)
        assert take(limits, look(limits).per_minute) == 14
    with clock.shifted(timedelta(minutes=10, seconds=1)):
        assert look(limits).per_minute == 30


def test_a_further_reply_lowers_again_but_never_to_nothing(limits: Limits, take: Any) -> None:
    take(limits)
    rates, later = [], timedelta()
    for _ in range(9):
        with clock.shifted(later):
            throttle(limits)
            rates.append(look(limits).per_minute)
        later += timedelta(seconds=80)
        with clock.shifted(later):
            take(limits, rates[-1])
    assert rates == [21, 14, 9, 6, 4, 2, 1, 1, 1]


def test_replies_to_several_connections_at_once_lower_once(limits: Limits, take: Any) -> None:
    take(limits)
    first = throttle(limits)
    assert throttle(limits) <= first
    assert throttle(limits, CROWDED, stage=Stage.AUTH) <= first
    assert (look(limits).per_minute, look(limits).connections) == (21, 3)


def test_without_a_rate_it_counts_the_messages_of_the_lanes_stores(limits: Limits, sent: Any) -> None:
    unlimited = replace(limits, per_minute=None)
    sent(10, timedelta(seconds=30))
    sent(5, timedelta(seconds=70))
    throttle(unlimited)
    assert look(unlimited).per_minute == 7
    with clock.shifted(timedelta(minutes=11)):
        assert look(unlimited).per_minute is None


def test_nothing_sent_before_still_leaves_one_a_minute(limits: Limits) -> None:
    throttle(limits)
    assert look(limits).per_minute == 1


@pytest.mark.parametrize(
    ("wish_s", "pause"),
    [(None, timedelta(minutes=1)), (5, timedelta(minutes=1)), (600, timedelta(minutes=10)), (1e9, timedelta(days=1))],
)
@pytest.mark.usefixtures("no_spread")
def test_the_servers_wish_counts_when_it_is_longer_up_to_a_day(
    limits: Limits, wish_s: float | None, pause: timedelta
) -> None:
    assert throttle(limits, wish_s=wish_s) == pause
    assert timedelta() < pause - look(limits).pause + timedelta(seconds=1) < timedelta(seconds=5)


def test_a_longer_wish_prolongs_the_pause_that_is_running(limits: Limits) -> None:
    throttle(limits)
    assert throttle(limits, wish_s=600) == timedelta(minutes=10)
    assert look(limits).pause > timedelta(minutes=9)


@pytest.mark.usefixtures("no_spread")
def test_too_many_connections_leave_one_fewer_than_were_in_use(limits: Limits) -> None:
    five = replace(limits, connections=5)
    for _ in range(4):
        pace.take_slot(five, 1, lease=timedelta(seconds=90))
    assert throttle(five, CROWDED, stage=Stage.AUTH) == timedelta(seconds=15)
    assert (look(five).connections, look(five).per_minute) == (3, 30)
    with clock.shifted(timedelta(seconds=16)):
        throttle(five, CROWDED, stage=Stage.GREET)
        assert look(five).connections == 2
    with clock.shifted(timedelta(minutes=15, seconds=20)):
        assert look(five).connections == 5


def test_one_connection_is_always_left(limits: Limits) -> None:
    pace.take_slot(limits, 1, lease=timedelta(seconds=90))
    throttle(limits, CROWDED)
    assert look(limits).connections == 1


def test_a_lower_rate_and_fewer_connections_go_together(limits: Limits, take: Any) -> None:
    take(limits)
    throttle(limits)
    with clock.shifted(timedelta(seconds=80)):
        throttle(limits, CROWDED, stage=Stage.CONNECT)
        assert (look(limits).per_minute, look(limits).connections) == (21, 2)


@pytest.mark.usefixtures("no_spread")
def test_a_limit_of_the_day_pauses_an_hour_and_longer_while_it_persists(limits: Limits) -> None:
    hours, later = [], timedelta()
    for _ in range(5):
        with clock.shifted(later):
            hours.append(throttle(limits, QUOTA) / timedelta(hours=1))
            assert throttle(limits, QUOTA) <= timedelta(hours=hours[-1])
            assert look(limits).per_minute == 30
        later += timedelta(hours=hours[-1], minutes=1)
    assert hours == [1, 2, 4, 4, 4]
    with clock.shifted(later + timedelta(hours=6)):
        assert throttle(limits, QUOTA) == timedelta(hours=1)


@pytest.mark.usefixtures("no_spread")
def test_a_limit_of_the_day_takes_the_place_of_a_minutes_pause_and_not_the_other_way(limits: Limits) -> None:
    throttle(limits)
    assert throttle(limits, QUOTA) == timedelta(hours=1)
    assert throttle(limits) > timedelta(minutes=59)
    assert pace.meter(limits).is_daily_limit


def test_a_server_that_throttles_can_be_used(limits: Limits) -> None:
    fail(limits)
    throttle(limits)
    assert not look(limits).is_failing
    pace.note_success(limits)
    assert look(limits).pause > timedelta(seconds=50)


@pytest.mark.parametrize(
    "words",
    ["452 4.5.3 Too many recipients", "450 4.2.1 The user you are trying to contact is receiving mail too quickly"],
)
def test_a_reply_about_one_message_or_recipient_stops_nobody_else(limits: Limits, words: str) -> None:
    assert throttle(limits, words, stage=Stage.RECIPIENT) == timedelta()
    assert (look(limits).pause, look(limits).per_minute) == (timedelta(), 30)


@pytest.mark.parametrize(
    ("stage", "words", "kind"),
    [
        (Stage.MESSAGE, RATE, Throttling.MESSAGES),
        (Stage.MESSAGE, "451 4.7.500 Server busy. Please try again later", Throttling.MESSAGES),
        (Stage.SENDER, "454 Throttling failure: Maximum sending rate exceeded.", Throttling.MESSAGES),
        (Stage.AUTH, CROWDED, Throttling.CONNECTIONS),
        (Stage.MESSAGE, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded", Throttling.CONNECTIONS),
        (Stage.AUTH, "454 4.7.0 Too many login attempts, please try again later.", Throttling.CONNECTIONS),
        (Stage.GREET, "421 4.7.0 Try again later, closing connection.", Throttling.CONNECTIONS),
        (Stage.MESSAGE, QUOTA, Throttling.DAY),
        (Stage.RECIPIENT, "550 5.1.90 Your message can't be sent because you've reached your limit", Throttling.DAY),
        (Stage.MESSAGE, "550 5.7.232 Your message can't be sent because your trial tenant", Throttling.DAY),
        (Stage.MESSAGE, "550 5.7.236 message limit for onmicrosoft.com", Throttling.DAY),
        (Stage.SENDER, "550 5.4.5 Daily user sending limit exceeded.", Throttling.DAY),
        (Stage.MESSAGE, "454 Throttling failure: Daily message quota exceeded.", Throttling.DAY),
        (Stage.RECIPIENT, "452 4.5.3 Too many recipients", Throttling.ONE_MESSAGE),
        (Stage.RECIPIENT, "550 5.2.121 The recipient's mail per hour limit was exceeded", Throttling.ONE_MESSAGE),
    ],
)  # fmt: skip
def test_it_knows_what_a_reply_is_about(stage: Stage, words: str, kind: Throttling) -> None:
    assert throttling_of(stage, words) is kind
