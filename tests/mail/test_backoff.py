"""Waits between attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mail import backoff


@pytest.fixture
def no_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff._dice, "uniform", lambda low, high: low)


@pytest.mark.usefixtures("no_spread")
def test_it_doubles_up_to_four_hours() -> None:
    waits = [backoff.wait_after(attempts) for attempts in (1, 2, 3, 9, 20)]
    minutes = [wait / timedelta(minutes=1) for wait in waits if wait]
    assert minutes == [1, 2, 4, 240, 240]


@pytest.mark.usefixtures("no_spread")
def test_it_tries_for_three_days_and_then_gives_up() -> None:
    waits = [backoff.wait_after(attempts) for attempts in range(1, backoff.MAX_RETRIES + 1)]
    total = sum((wait for wait in waits if wait), timedelta())
    assert None not in waits
    assert timedelta(hours=68) < total <= timedelta(hours=72)
    assert backoff.wait_after(backoff.MAX_RETRIES + 1) is None


def test_it_spreads_waits_but_never_shortens_them() -> None:
    waits = {backoff.wait_after(1) for _ in range(50)}
    assert len(waits) > 10
    assert all(wait and timedelta(minutes=1) <= wait <= timedelta(seconds=75) for wait in waits)


@pytest.mark.usefixtures("no_spread")
def test_the_servers_wish_counts_when_it_is_longer_and_sane() -> None:
    assert backoff.wait_after(1, wish_s=600) == timedelta(minutes=10)
    assert backoff.wait_after(4, wish_s=1) == timedelta(minutes=8)
    assert backoff.wait_after(1, wish_s=10**9) == timedelta(days=1)
    assert backoff.wait_throttled(wish_s=None) == timedelta(minutes=1)
