"""Eight processes want a token at the moment it expires, of a provider that ends a grant whose token is used twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TextIO

import pytest

from app import create_app
from extensions import db
from mail import token_lease
from models.connection import Health
from tests.conftest import settings_for
from tests.crash.conftest import Ground, both_databases
from tests.crash.figures import Figures
from tests.fakes.certs import CA, ServerCert
from tests.fakes.installation import ROOT
from tests.fakes.oauth import make_oauth_store
from tests.fakes.provider import FakeProvider, Reply, Request, granted, reply

LIFE_S = 3600
SHORT, LONG = 12, 200


class LenientProvider(FakeProvider):
    """Rotates, and lets the token before be used again until its successor was: as Microsoft, Auth0 or Okta do.

    It ends the grant when an older one is used, or the one before although its successor was in use already.
    """

    def __init__(self, cert: ServerCert) -> None:
        super().__init__(cert)
        self._before = ""

    def _rotate(self, request: Request, number: int) -> Reply:
        used = request.form.get("refresh_token", "")
        if self.is_ended or used not in (self.refresh_token, self._before):
            self.is_ended = True
            return reply(400, {"error": "invalid_grant", "error_description": "Token has been used before."})
        self._before, self.refresh_token = used, f"fake-refresh-{number}"
        return granted(f"fake-access-{number}", refresh_token=self.refresh_token)


@dataclass
class Caller:
    """One process that asks for tokens when told."""

    pid: int
    line: TextIO

    def told(self, order: str) -> None:
        self.line.write(f"{order}\n")
        self.line.flush()

    def heard(self) -> str:
        """Its answer; empty when it died."""
        try:
            return self.line.readline().strip()
        except ConnectionResetError:
            return ""

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(OSError):
            self.line.close()


class Crew:
    """Callers, forked from one process that has everything imported."""

    def __init__(self, settings: dict[str, Any], connection_id: int) -> None:
        self.members: list[Caller] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.settimeout(60)
        port = str(self._door.getsockname()[1])
        command = [sys.executable, "-m", "tests.crash.flight", port, json.dumps(settings), str(connection_id)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, cwd=ROOT)

    def hire(self, count: int) -> None:
        assert self._parent.stdin is not None
        self._parent.stdin.write("one more\n" * count)
        self._parent.stdin.flush()
        for _ in range(count):
            connected, _ = self._door.accept()
            connected.settimeout(120)
            caller = Caller(0, connected.makefile("rw"))
            connected.close()  # the file keeps it open
            word, pid = caller.heard().split()
            assert word == "ready"
            caller.pid = int(pid)
            self.members.append(caller)

    def ask(self, order: str, members: list[Caller] | None = None) -> list[str]:
        chosen = self.members if members is None else members
        for one in chosen:
            one.told(order)
        return [one.heard() for one in chosen]

    def close(self) -> None:
        for one in self.members:
            one.kill()
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.kill()
        self._parent.wait(10)
        self._door.close()


@contextmanager
def crew_of(count: int, database: str, ground: Ground, ca: CA, provider: FakeProvider) -> Iterator[tuple[Crew, int]]:
    """(processes, id of the connection) on this database."""
    settings = settings_for(database, CA_FILE=ca.cert_file, KEYRING=ground.keyring)
    app = create_app(settings)
    with app.app_context():
        connection = make_oauth_store(app.extensions["storepost"], provider.token_url).email_settings.connection
        assert connection is not None
        connection_id = connection.id
        db.session.rollback()
        plain = {name: value for name, value in settings.items() if not isinstance(value, frozenset)}
        crew = Crew(plain, connection_id)
        try:
            crew.hire(count)
            yield crew, connection_id
        finally:
            crew.close()
            db.session.remove()
            db.engine.dispose()


@both_databases
def test_each_expiry_costs_one_request_and_leaves_nobody_without_a_token(
    database: str,
    ground: Ground,
    ca: CA,
    cert: ServerCert,
    soak: bool,
    figures: Figures,
    request: pytest.FixtureRequest,
) -> None:
    expiries = LONG if soak else SHORT
    with FakeProvider(cert) as provider, crew_of(8, database, ground, ca, provider) as (crew, connection_id):
        provider.pause_s = 0.05
        waits: list[float] = []
        for expiry in range(expiries):
            # Their clocks jump past the end of the token, all at once.
            answers = crew.ask(f"ask {expiry * (LIFE_S + 60) * 1000}")
            assert {answer.split()[:2][1] for answer in answers} == {f"fake-access-{expiry + 1}"}, answers
            waits += [float(answer.split()[2]) for answer in answers]
            assert len(provider.requests) == expiry + 1
        assert not provider.is_ended
        assert token_lease.read(connection_id).connection.health is Health.CONNECTED
    waits.sort()
    words = f"{len(waits)} callers, {expiries} requests, 0 reused; waited {waits[len(waits) // 2] * 1000:.0f} ms"
    print(f"{request.node.callspec.id}: {words} (median), {waits[-1] * 1000:.0f} ms (longest)")


@pytest.mark.parametrize(
    ("database", "point"),
    [("sqlite", "queued"), ("sqlite", "leased"), ("sqlite", "kept"), ("postgres", "leased")],
    indirect=["database"],
)
def test_a_refresher_killed_before_it_asks_or_after_it_wrote_costs_nobody_the_grant(
    database: str, ground: Ground, ca: CA, cert: ServerCert, point: str
) -> None:
    """The provider ends the grant at the first reuse, so these show that no token is ever sent twice."""
    with FakeProvider(cert) as provider, crew_of(2, database, ground, ca, provider) as (crew, connection_id):
        victim, other = crew.members
        assert crew.ask(f"die {point} 0", [victim]) == [""]
        # The next one waits no longer than the lease of the dead one lasts, or finds what it wrote.
        later_ms = round(token_lease.LEASE / timedelta(milliseconds=1)) + 1000 if point == "leased" else 0
        (answer,) = crew.ask(f"ask {later_ms}", [other])
        assert answer.startswith("token fake-access-1"), answer
        assert len(provider.requests) == 1
        assert not provider.is_ended
        (again,) = crew.ask(f"ask {LIFE_S * 1000 + later_ms}", [other])
        assert again.startswith("token fake-access-2"), again
        assert token_lease.read(connection_id).connection.health is Health.CONNECTED


@both_databases
def test_an_answer_that_died_with_its_refresher_is_asked_for_again(
    database: str, ground: Ground, ca: CA, cert: ServerCert
) -> None:
    """Nobody else has the new token then. A provider that forgives the lost answer gives another one."""
    with LenientProvider(cert) as provider, crew_of(2, database, ground, ca, provider) as (crew, connection_id):
        victim, other = crew.members
        assert crew.ask("die answered 0", [victim]) == [""]
        later_ms = round(token_lease.LEASE / timedelta(milliseconds=1)) + 1000
        (answer,) = crew.ask(f"ask {later_ms}", [other])
        assert answer.startswith("token fake-access-2"), answer
        assert token_lease.read(connection_id).connection.health is Health.CONNECTED


@both_databases
def test_kills_at_any_moment_leave_the_next_one_a_token(
    database: str, ground: Ground, ca: CA, cert: ServerCert, soak: bool
) -> None:
    """Three are told to ask and one of them is killed a little later, whatever it is doing then."""
    with LenientProvider(cert) as provider, crew_of(3, database, ground, ca, provider) as (crew, connection_id):
        provider.pause_s = 0.03
        shift_ms = 0
        for number in range(40 if soak else 3):
            victim = crew.members.pop(0)
            victim.told(f"ask {shift_ms}")
            time.sleep(0.004 * (number % 20))
            victim.kill()
            # The others come when the lease of the dead one, if it had one, is over.
            shift_ms += round(token_lease.LEASE / timedelta(milliseconds=1)) + 1000
            answers = crew.ask(f"ask {shift_ms}")
            assert len({answer.split()[1] for answer in answers}) == 1, answers
            assert all(answer.startswith("token ") for answer in answers), answers
            shift_ms += (LIFE_S + 60) * 1000
            crew.hire(1)
        assert token_lease.read(connection_id).connection.health is Health.CONNECTED
