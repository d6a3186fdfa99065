"""Whose limits apply to a route, and which lane it takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mail.compose import Sender
from mail.pace import Limits, limits_of
from mail.pace.limits import low_priority_share
from mail.providers import GOOGLE, MICROSOFT365
from mail.routes import Route
from mail.smtp import Encryption, Endpoint
from models.email_settings import Method

ROUTE = Route(
    store_id=3,
    method=Method.SMTP,
    provider="other",
    sender=Sender("Acme", "orders@acme.example"),
    bcc=(),
    endpoint=Endpoint("mail.acme.example", 587, Encryption.STARTTLS),
    password_login=None,
    connection_id=None,
    bearer_user="",
    mechanism=None,
    headers=(),
    timeout_s=None,
    max_connections=None,
    messages_per_minute=None,
    recipients_per_day=None,
    emails_off=False,
)


def test_a_store_on_smtp_is_a_lane_of_its_own_with_three_connections_and_no_rate() -> None:
    assert limits_of(ROUTE) == Limits("store:3", 3, None, None)


def test_stores_that_share_a_connection_share_its_lane() -> None:
    routes = [replace(ROUTE, store_id=number, connection_id=7) for number in (3, 4)]
    assert {limits_of(route).lane for route in routes} == {"connection:7"}


def test_it_takes_what_the_route_names() -> None:
    route = replace(ROUTE, max_connections=5, messages_per_minute=120, recipients_per_day=9)
    assert limits_of(route) == Limits("store:3", 5, 120, 9)


def test_the_catalogue_knows_the_limits_of_a_day() -> None:
    assert (MICROSOFT365.recipients_per_day, GOOGLE.recipients_per_day) == (10_000, 10_000)


@pytest.mark.parametrize(("per_minute", "share"), [(30, 27), (10, 9), (9, 9), (1, 1), (1000, 900)])
def test_low_priority_leaves_a_tenth_but_is_never_shut_out(per_minute: int, share: int) -> None:
    assert low_priority_share(per_minute) == share
