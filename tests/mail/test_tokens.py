"""Access tokens from the row or by one refresh at a time, against a real token endpoint that counts its requests."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import update

from extensions import db
from mail import token_lease, tokens
from mail.equipment import Equipment
from mail.errors import ConnectionLost, MailError, SettingsWrong, TryLater
from mail.token_endpoint import TokenCall
from mail.tokens import AccessToken, access_token_for, token_call_for, try_out
from models import clock
from models.connection import Connection, GrantType, Health
from models.types import new_uid
from security.secret import Secret
from security.vault import Unreadable
from tests.conftest import running, settings_for
from tests.fakes.certs import CA, ServerCert
from tests.fakes.oauth import make_oauth_store, opened, seal
from tests.fakes.provider import FakeProvider, Reply, Request, granted, reply

ROOT = Path(__file__).resolve().parents[2]


both_databases = pytest.mark.parametrize(
    "any_database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
def any_database_url(request: pytest.FixtureRequest, database_url: str) -> str:
    """The file of this test; for `both_databases` also a PostgreSQL database."""
    return (
        str(request.getfixturevalue("postgres_url")) if getattr(request, "param", "") == "postgresql" else database_url
    )


@pytest.fixture
def settings(any_database_url: str, ca: CA) -> dict[str, Any]:
    return settings_for(any_database_url, CA_FILE=ca.cert_file)


@pytest.fixture
def app(settings: dict[str, Any]) -> Iterator[Flask]:
    with running(settings) as application:
        yield application


@pytest.fixture
def provider(cert: ServerCert) -> Iterator[FakeProvider]:
    with FakeProvider(cert) as running:
        yield running


@pytest.fixture
def connection_id(equipment: Equipment, provider: FakeProvider) -> int:
    connection = make_oauth_store(equipment, provider.token_url).email_settings.connection
    assert connection is not None
    found = connection.id
    db.session.rollback()  # SQLite has one writer, and it must not be this fixture
    return found


def change(connection_id: int, **values: Any) -> None:
    db.session.execute(update(Connection).where(Connection.id == connection_id).values(values))
    db.session.commit()


def row(connection_id: int) -> Connection:
    return token_lease.read(connection_id).connection


# --- The cache


def test_the_first_token_is_fetched_and_the_next_one_comes_from_the_row(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    first = access_token_for(connection_id, equipment=equipment)
    second = access_token_for(connection_id, equipment=equipment)
    assert first.fresh
    assert not second.fresh
    assert first.value == second.value
    assert len(provider.requests) == 1


def test_a_rotated_refresh_token_is_stored_with_the_access_token(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    token = access_token_for(connection_id, equipment=equipment)
    assert token.rotated
    assert opened(connection_id, "refresh_token_sealed", equipment) == "fake-refresh-1"
    assert opened(connection_id, "access_token_sealed", equipment) == token.value.reveal()
    assert row(connection_id).health is Health.CONNECTED


def test_an_answer_without_a_refresh_token_keeps_the_old_one(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.answer = granted()
    assert not access_token_for(connection_id, equipment=equipment).rotated
    assert opened(connection_id, "refresh_token_sealed", equipment) == "fake-refresh-0"


@pytest.mark.parametrize(
    ("lifetime_s", "later_s", "requests"),
    [(3600, 3200, 1), (3600, 3310, 2), (600, 530, 1), (600, 545, 2), (30, 20, 1), (30, 28, 2)],
)
def test_a_token_is_renewed_five_minutes_or_a_tenth_of_its_life_ahead(
    connection_id: int, provider: FakeProvider, equipment: Equipment, lifetime_s: int, later_s: int, requests: int
) -> None:
    provider.answer = granted(expires_in=lifetime_s)
    access_token_for(connection_id, equipment=equipment)
    with clock.shifted(timedelta(seconds=later_s)):
        access_token_for(connection_id, equipment=equipment)
    assert len(provider.requests) == requests


def test_a_token_for_one_use_is_not_kept(connection_id: int, provider: FakeProvider, equipment: Equipment) -> None:
    provider.answer = granted(expires_in=0)
    access_token_for(connection_id, equipment=equipment)
    access_token_for(connection_id, equipment=equipment)
    assert len(provider.requests) == 2
    assert row(connection_id).access_token_sealed is None


def test_a_rejected_token_is_renewed_only_while_it_is_the_stored_one(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    old = access_token_for(connection_id, equipment=equipment)
    new = access_token_for(connection_id, equipment=equipment, renew=True, rejected=old.value)
    again = access_token_for(connection_id, equipment=equipment, renew=True, rejected=old.value)
    assert new.value != old.value
    assert again.value == new.value
    assert len(provider.requests) == 2


def test_renewing_without_a_reason_asks_once_more(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    access_token_for(connection_id, equipment=equipment)
    assert access_token_for(connection_id, equipment=equipment, renew=True).fresh
    assert len(provider.requests) == 2


# --- Grants


def test_client_credentials_need_no_refresh_token(provider: FakeProvider, equipment: Equipment) -> None:
    provider.answer = granted()
    store = make_oauth_store(
        equipment, provider.token_url, refresh_token=None, grant_type=GrantType.CLIENT_CREDENTIALS, scope="smtp.send"
    )
    assert access_token_for(store.email_settings.connection_id or 0, equipment=equipment).fresh
    assert provider.requests[0].form["grant_type"] == "client_credentials"


@pytest.mark.parametrize("grant", [GrantType.REFRESH_TOKEN, GrantType.AUTHORIZATION_CODE])
def test_both_other_grants_renew_by_the_refresh_token(
    connection_id: int, provider: FakeProvider, equipment: Equipment, grant: GrantType
) -> None:
    change(connection_id, grant_type=grant)
    access_token_for(connection_id, equipment=equipment)
    assert provider.requests[0].form["grant_type"] == "refresh_token"


def test_kept_token_parameters_go_along(connection_id: int, provider: FakeProvider, equipment: Equipment) -> None:
    connection = db.session.get_one(Connection, connection_id)
    seal(connection, "token_parameters_sealed", json.dumps([["resource", "mail"]]), equipment)
    db.session.commit()
    access_token_for(connection_id, equipment=equipment)
    assert provider.requests[0].form["resource"] == "mail"


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        ({"refresh_token_sealed": None}, ConnectionLost, "Refresh Token"),
        ({"client_id": "", "token_url": ""}, SettingsWrong, "Client Id, Access Token URL"),
        (
            {"grant_type": GrantType.CLIENT_CREDENTIALS, "client_secret_sealed": None, "scope": ""},
            SettingsWrong,
            "Scope, Client Secret",
        ),
    ],
)
def test_what_is_missing_is_named_and_nobody_is_asked(
    connection_id: int,
    provider: FakeProvider,
    equipment: Equipment,
    values: dict[str, Any],
    kind: type[MailError],
    named: str,
) -> None:
    change(connection_id, **values)
    with pytest.raises(kind) as caught:
        access_token_for(connection_id, equipment=equipment)
    assert caught.value.code == "incomplete"
    assert caught.value.detail == named
    assert provider.requests == []
    assert row(connection_id).refresh_lease is None


def test_a_secret_that_does_not_open_stops_without_asking_or_overwriting(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    moved = make_oauth_store(equipment, provider.token_url, name="Other").email_settings.connection
    assert moved is not None
    change(connection_id, refresh_token_sealed=moved.refresh_token_sealed)
    with pytest.raises(Unreadable):
        access_token_for(connection_id, equipment=equipment)
    assert provider.requests == []
    assert row(connection_id).refresh_token_sealed == row(moved.id).refresh_token_sealed
    assert row(connection_id).refresh_lease is None


# --- How it went


@both_databases
@pytest.mark.parametrize(
    ("answer", "kind", "health"),
    [
        (reply(400, {"error": "invalid_grant"}), ConnectionLost, Health.NEEDS_REAUTHORIZATION),
        (reply(401, {"error": "invalid_client"}), SettingsWrong, Health.SETTINGS_WRONG),
        (reply(503, {}), TryLater, Health.TEMPORARILY_FAILING),
    ],
)
def test_a_failure_is_written_down_with_its_code_and_time(
    connection_id: int,
    provider: FakeProvider,
    equipment: Equipment,
    answer: Reply,
    kind: type[MailError],
    health: Health,
) -> None:
    provider.answer = answer
    with pytest.raises(kind) as caught:
        access_token_for(connection_id, equipment=equipment)
    connection = row(connection_id)
    assert connection.health is health
    assert (connection.health_code, connection.health_detail) == (caught.value.code, caught.value.detail)
    assert connection.health_since is not None
    assert connection.has_refresh_token


@both_databases
def test_the_time_of_a_failure_is_that_of_the_first(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.answer = reply(400, {"error": "invalid_grant"})
    for later in (timedelta(), timedelta(hours=1)):
        with clock.shifted(later), pytest.raises(ConnectionLost):
            access_token_for(connection_id, equipment=equipment)
        since = row(connection_id).health_since
        if not later:
            first = since
    assert since == first


def test_success_after_trouble_says_connected(connection_id: int, provider: FakeProvider, equipment: Equipment) -> None:
    change(connection_id, health=Health.NEEDS_REAUTHORIZATION, health_code="invalid_grant", health_detail="gone")
    access_token_for(connection_id, equipment=equipment)
    connection = row(connection_id)
    assert connection.health is Health.CONNECTED
    assert (connection.health_code, connection.health_detail) == ("", "")


def test_a_token_that_still_works_outlives_trouble_at_the_endpoint(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    first = access_token_for(connection_id, equipment=equipment)
    provider.answer = reply(503, {})
    with clock.shifted(timedelta(seconds=3400)):
        assert access_token_for(connection_id, equipment=equipment).value == first.value
        assert row(connection_id).health is Health.TEMPORARILY_FAILING
        with pytest.raises(TryLater):
            access_token_for(connection_id, equipment=equipment, renew=True, rejected=first.value)
    with clock.shifted(timedelta(seconds=3580)), pytest.raises(TryLater):
        access_token_for(connection_id, equipment=equipment, urgent=True)


@both_databases
def test_an_endpoint_that_keeps_failing_is_left_alone_for_a_while(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.answer = reply(503, {})
    for later_s in (0, 60, 70):
        with clock.shifted(timedelta(seconds=later_s)), pytest.raises(TryLater) as caught:
            access_token_for(connection_id, equipment=equipment)
    assert len(provider.requests) == 2
    assert isinstance(caught.value, TryLater)
    assert caught.value.after_s == pytest.approx(20, abs=2)
    with clock.shifted(timedelta(seconds=70)), pytest.raises(TryLater):
        access_token_for(connection_id, equipment=equipment, urgent=True)
    assert len(provider.requests) == 3


def test_changed_settings_end_the_pause(connection_id: int, provider: FakeProvider, equipment: Equipment) -> None:
    provider.answer = reply(503, {})
    for later_s in (0, 60):
        with clock.shifted(timedelta(seconds=later_s)), pytest.raises(TryLater):
            access_token_for(connection_id, equipment=equipment)
    provider.answer = None
    change(connection_id, version=Connection.version + 1)
    with clock.shifted(timedelta(seconds=61)):
        assert access_token_for(connection_id, equipment=equipment).fresh


# --- One at a time


def in_threads(app: Flask, connection_id: int, equipment: Equipment, count: int = 8) -> list[AccessToken | MailError]:
    start = threading.Barrier(count)

    def ask(_: int) -> AccessToken | MailError:
        with app.app_context():
            start.wait(5)
            try:
                return access_token_for(connection_id, equipment=equipment)
            except MailError as error:
                return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(ask, range(count)))


@both_databases
def test_eight_threads_make_one_request(
    app: Flask, connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.pause_s = 0.3
    found = in_threads(app, connection_id, equipment)
    assert len(provider.requests) == 1
    assert [token.value for token in found if isinstance(token, AccessToken)] == [Secret("fake-access-1")] * 8


@both_databases
def test_those_who_wait_share_the_refusal(
    app: Flask, connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.answer = reply(400, {"error": "invalid_grant"}, pause_s=1.0)
    found = in_threads(app, connection_id, equipment)
    assert len(provider.requests) == 1
    assert [type(error) for error in found] == [ConnectionLost] * 8


CHILD = """
import json, sys
settings, connection_id = json.loads(sys.argv[1]), int(sys.argv[2])
settings["PLAINTEXT_AUTH_HOSTS"] = frozenset()
from app import create_app
from mail.tokens import access_token_for
app = create_app(settings)
with app.app_context():
    print("ready", flush=True)
    sys.stdin.readline()
    token = access_token_for(connection_id, equipment=app.extensions["storepost"])
    print(token.value.reveal())
"""


@both_databases
def test_four_processes_make_one_request(connection_id: int, provider: FakeProvider, settings: dict[str, Any]) -> None:
    provider.pause_s = 0.5
    plain = {name: value for name, value in settings.items() if not isinstance(value, frozenset)}
    command = [sys.executable, "-c", CHILD, json.dumps(plain), str(connection_id)]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    children = [subprocess.Popen(command, text=True, env=environment, cwd=ROOT, **pipes) for _ in range(4)]
    timer = threading.Timer(60, lambda: [child.kill() for child in children])
    timer.start()
    try:
        assert [child.stdout.readline().strip() for child in children if child.stdout] == ["ready"] * 4
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        answers = [child.communicate(timeout=60) for child in children]
    finally:
        timer.cancel()
        for child in children:
            child.kill()
            child.wait(10)
    assert [out.strip() for out, _ in answers] == ["fake-access-1"] * 4, answers
    assert len(provider.requests) == 1


@both_databases
def test_a_holder_that_died_is_waited_for_no_longer_than_its_lease(
    connection_id: int, provider: FakeProvider, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_lease, "WAIT_S", 0.2)
    change(connection_id, refresh_lease=new_uid(), refresh_lease_until=clock.now(token_lease.LEASE))
    with pytest.raises(TryLater) as caught:
        access_token_for(connection_id, equipment=equipment)
    assert caught.value.code == "refresh_busy"
    assert provider.requests == []
    with clock.shifted(token_lease.LEASE + timedelta(seconds=1)):
        assert access_token_for(connection_id, equipment=equipment).fresh


# --- Somebody else writes meanwhile


@both_databases
def test_an_admins_newer_refresh_token_wins(
    connection_id: int, provider: FakeProvider, equipment: Equipment, app: Flask
) -> None:
    def paste_while_asked(request: Request) -> Reply:
        if len(provider.requests) == 1:
            with app.app_context():
                connection = db.session.get_one(Connection, connection_id)
                seal(connection, "refresh_token_sealed", "fake-pasted", equipment)
                connection.version += 1
                db.session.commit()
        return granted(f"for-{request.form['refresh_token']}", refresh_token=f"after-{request.form['refresh_token']}")

    provider.answer = paste_while_asked
    token = access_token_for(connection_id, equipment=equipment)
    assert token.value == Secret("for-fake-pasted")
    assert opened(connection_id, "refresh_token_sealed", equipment) == "after-fake-pasted"


@both_databases
def test_a_rotated_token_survives_a_save_of_something_else(
    connection_id: int, provider: FakeProvider, equipment: Equipment, app: Flask
) -> None:
    def save_while_asked(request: Request) -> Reply:
        if len(provider.requests) == 1:
            with app.app_context():
                change(connection_id, scope="smtp.send", version=Connection.version + 1)
        number = len(provider.requests)
        return granted(f"fake-access-{number}", refresh_token=f"fake-refresh-{number}")

    provider.answer = save_while_asked
    token = access_token_for(connection_id, equipment=equipment)
    assert [request.form["refresh_token"] for request in provider.requests] == ["fake-refresh-0", "fake-refresh-1"]
    assert token.value == Secret("fake-access-2")
    assert opened(connection_id, "refresh_token_sealed", equipment) == "fake-refresh-2"


@both_databases
def test_disconnecting_meanwhile_leaves_no_token_behind(
    connection_id: int, provider: FakeProvider, equipment: Equipment, app: Flask
) -> None:
    def disconnect_while_asked(request: Request) -> Reply:
        with app.app_context():
            change(connection_id, refresh_token_sealed=None, version=Connection.version + 1)
        return granted(refresh_token="fake-refresh-1")

    provider.answer = disconnect_while_asked
    with pytest.raises(ConnectionLost):
        access_token_for(connection_id, equipment=equipment)
    assert row(connection_id).refresh_token_sealed is None
    assert row(connection_id).access_token_sealed is None


@both_databases
def test_an_outdated_token_that_is_refused_is_tried_once_as_it_is_stored_now(
    connection_id: int, provider: FakeProvider, equipment: Equipment, app: Flask
) -> None:
    def refuse_the_old_one(request: Request) -> Reply:
        if request.form["refresh_token"] == "fake-refresh-0":
            with app.app_context():
                connection = db.session.get_one(Connection, connection_id)
                seal(connection, "refresh_token_sealed", "fake-newer", equipment)
                connection.version += 1
                db.session.commit()
            return reply(400, {"error": "invalid_grant"})
        return granted("fake-access-new")

    provider.answer = refuse_the_old_one
    assert access_token_for(connection_id, equipment=equipment).value == Secret("fake-access-new")
    assert row(connection_id).health is Health.CONNECTED


@both_databases
def test_a_refusal_of_older_settings_does_not_stain_newer_ones(
    connection_id: int, provider: FakeProvider, equipment: Equipment, app: Flask
) -> None:
    def save_while_asked(request: Request) -> Reply:
        with app.app_context():
            change(connection_id, client_id="client-2", version=Connection.version + 1)
        return reply(401, {"error": "invalid_client"})

    provider.answer = save_while_asked
    with pytest.raises(SettingsWrong):
        access_token_for(connection_id, equipment=equipment)
    assert row(connection_id).health is Health.CONNECTED
    assert row(connection_id).refresh_lease is None


def test_no_transaction_is_open_during_the_call(
    connection_id: int, provider: FakeProvider, equipment: Equipment, app: Flask
) -> None:
    def write_while_asked(request: Request) -> Reply:
        started = time.monotonic()
        with app.app_context():
            change(connection_id, connected_by="somebody else")
        waited.append(time.monotonic() - started)
        return granted()

    waited: list[float] = []
    provider.answer = write_while_asked
    db.session.get(Connection, connection_id)  # as a caller that has just looked at the row
    access_token_for(connection_id, equipment=equipment)
    assert waited[0] < 1


def test_a_caller_with_uncommitted_changes_is_stopped(connection_id: int, equipment: Equipment) -> None:
    db.session.get_one(Connection, connection_id).client_id = "half-made"
    with pytest.raises(RuntimeError, match="commit or undo"):
        access_token_for(connection_id, equipment=equipment)
    db.session.rollback()


# --- Trying out


@both_databases
def test_trying_out_with_the_stored_token_keeps_the_rotated_one_and_no_access_token(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    call = dataclasses.replace(token_call_for(row(connection_id), equipment), refresh_token=None)
    token = try_out(call, connection_id, uses_stored_refresh_token=True, equipment=equipment)
    assert token.rotated
    assert opened(connection_id, "refresh_token_sealed", equipment) == "fake-refresh-1"
    connection = row(connection_id)
    assert connection.access_token_sealed is None
    assert connection.refresh_lease is None
    assert access_token_for(connection_id, equipment=equipment).fresh


def test_trying_out_with_a_typed_token_touches_nothing(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.refresh_token = "fake-typed"
    before = row(connection_id).version
    call = dataclasses.replace(token_call_for(row(connection_id), equipment), refresh_token=Secret("fake-typed"))
    assert try_out(call, connection_id, uses_stored_refresh_token=False, equipment=equipment).fresh
    assert row(connection_id).version == before
    assert opened(connection_id, "refresh_token_sealed", equipment) == "fake-refresh-0"


def test_a_failed_try_leaves_health_and_lease_alone(
    connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.answer = reply(401, {"error": "invalid_client"})
    call = token_call_for(row(connection_id), equipment)
    with pytest.raises(SettingsWrong):
        try_out(call, connection_id, uses_stored_refresh_token=True, equipment=equipment)
    assert row(connection_id).health is Health.CONNECTED
    assert row(connection_id).refresh_lease is None


def test_trying_out_waits_for_a_refresh_under_way(
    app: Flask, connection_id: int, provider: FakeProvider, equipment: Equipment
) -> None:
    provider.pause_s = 0.4

    def refresh() -> None:
        with app.app_context():
            access_token_for(connection_id, equipment=equipment)

    other = threading.Thread(target=refresh)
    other.start()
    while not provider.requests:
        time.sleep(0.01)
    call: TokenCall = token_call_for(row(connection_id), equipment)
    token = try_out(call, connection_id, uses_stored_refresh_token=True, equipment=equipment)
    other.join(10)
    assert token.value == Secret("fake-access-2")
    assert not provider.is_ended


def test_the_wait_is_longer_than_one_call_and_shorter_than_a_lease() -> None:
    assert tokens.token_endpoint.DEADLINE_S < token_lease.WAIT_S < token_lease.LEASE.total_seconds()
