"""A client secret is near its end: a second one is typed, tried, and saved, while mail goes on by the first."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from extensions import db
from mail import foresight, token_lease
from mail.equipment import Equipment
from mail.errors import SettingsWrong
from mail.tokens import access_token_for, token_call_for, try_out
from models import EmailSettings
from models.connection import Health
from models.types import utcnow
from security.secret import Secret
from tests.blueprints.settings_page import read
from tests.conftest import Browser
from tests.fakes.oauth import CLIENT_SECRET
from tests.fakes.provider import FakeProvider, Reply, Request, granted, reply
from tests.mail.connections.looks import both_databases, change, notices, row, told

SECOND = "fake-second-secret-77"


def store_of(connection_id: int) -> int:
    store_id = db.session.query(EmailSettings.store_id).filter_by(connection_id=connection_id).scalar()
    db.session.rollback()
    return int(store_id)


@both_databases
def test_a_second_secret_is_tried_and_put_to_use_without_an_outage(
    connection_id: int, equipment: Equipment, provider: FakeProvider, alice: Browser
) -> None:
    valid = {CLIENT_SECRET, SECOND}

    def by_secret(request: Request) -> Reply:
        if request.form["client_secret"] not in valid:
            return reply(401, {"error": "invalid_client"})
        number = len(provider.requests)
        return granted(f"token-{number}", refresh_token=f"fake-refresh-{number}")

    provider.answer = by_secret
    change(connection_id, client_secret_expires_on=utcnow().date() + timedelta(days=5), refreshed_at=utcnow())
    foresight.announce_all()
    first = access_token_for(connection_id, equipment=equipment)

    # A typing error shows in the test, and nowhere else.
    call = dataclasses.replace(token_call_for(row(connection_id), equipment), client_secret=Secret("mistyped"))
    with pytest.raises(SettingsWrong):
        try_out(call, connection_id, uses_stored_refresh_token=True, equipment=equipment)
    assert row(connection_id).health is Health.EXPIRING
    assert told(connection_id) == [("secret_ends", False)]

    # The right one passes, and mail goes on by the token of the old one.
    call = dataclasses.replace(call, client_secret=Secret(SECOND))
    assert try_out(call, connection_id, uses_stored_refresh_token=True, equipment=equipment).rotated
    asked = len(provider.requests)
    assert access_token_for(connection_id, equipment=equipment).value == first.value
    assert len(provider.requests) == asked

    # Saved, it is used from then on, with the grant as it was; the old one may end now.
    url = f"/stores/{store_of(connection_id)}/advanced-smtp"
    later = (utcnow().date() + timedelta(days=700)).isoformat()
    posted = read(alice.get(url).text).with_(client_secret=SECOND, client_secret_expires_on=later)
    assert alice.post(url, posted).status_code == 303
    valid.remove(CLIENT_SECRET)
    assert access_token_for(connection_id, equipment=equipment).fresh
    assert provider.requests[-1].form["client_secret"] == SECOND
    foresight.announce_all()
    assert [notice.ended_at is not None for notice in notices(connection_id)] == [True]
    assert row(connection_id).health is Health.CONNECTED
    assert token_lease.read(connection_id).connection.has_refresh_token


def test_a_secret_that_ran_out_stops_and_the_second_one_starts_again(
    connection_id: int, equipment: Equipment, provider: FakeProvider, alice: Browser
) -> None:
    provider.answer = lambda request: (
        granted() if request.form["client_secret"] == SECOND else reply(401, {"error": "invalid_client"})
    )
    with pytest.raises(SettingsWrong):
        access_token_for(connection_id, equipment=equipment)
    assert told(connection_id) == [("settings_wrong", False)]
    url = f"/stores/{store_of(connection_id)}/advanced-smtp"
    posted = read(alice.get(url).text).with_(client_secret=SECOND)
    assert alice.post(url, posted).status_code == 303
    assert told(connection_id) == [("settings_wrong", True)]
    assert access_token_for(connection_id, equipment=equipment).fresh
    assert row(connection_id).health is Health.CONNECTED
