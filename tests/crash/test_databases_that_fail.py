"""The database goes away, is locked by somebody else, or has no room left, while mail is on its way.

Workers keep what servers answered, and write it down when they can: nothing is lost, and nothing is sent again for it.
Source: security.md 61, 66, 73.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError
from werkzeug.test import TestResponse

from extensions import db
from mail import api_keys
from mail.audit import Actor
from models import Store
from models.outbox import MessageStatus
from tests.crash import locks
from tests.crash.conftest import Ground
from tests.crash.disks import small_disk
from tests.crash.figures import Figures
from tests.crash.harness import Site
from tests.crash.sinks import Sinks, deed
from tests.fakes import tools
from tests.fakes.postgres import Postgres

MESSAGES = 40
# Messages of a slow server: there is always one whose answer has not come yet.
SLOW = deed("wait", seconds=0.3)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server that this module may crash: the one of the session belongs to other tests too."""
    if tools.postgres_bin() is None:
        assert not os.environ.get("CI"), "PostgreSQL must be there in CI"
        pytest.skip("PostgreSQL is not installed")
    server = Postgres()
    yield server
    server.stop()


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    with Sinks() as running:
        yield running


@pytest.mark.parametrize(("workers", "lease_s", "away_s"), [(2, 6, 2), (1, 3, 6)], ids=["short", "beyond the lease"])
def test_a_restart_of_postgresql_doubles_nothing(
    workers: int,
    lease_s: int,
    away_s: float,
    own_postgres: Postgres,
    ground: Ground,
    sinks: Sinks,
    open_site: Callable[..., Site],
    figures: Figures,
) -> None:
    site = open_site(ground.postgres(own_postgres), sinks=sinks, lease_s=lease_s)
    shop = site.add_store("Acme Store", port=sinks.ports[0])
    sinks.script(dot=SLOW)
    # One that is still starting would end with the database: whoever starts it sees that.
    for worker in [site.start_worker() for _ in range(workers)]:
        site.wait(worker.has_started, "the workers started", 40)
    site.hand_in(shop, MESSAGES)
    site.wait(lambda: len(sinks.ledger()) >= 5, "mail is on its way", 20)
    own_postgres.crash()
    time.sleep(away_s)
    own_postgres.start()
    sinks.script()
    healed_s = site.wait_until_through(within_s=25)
    assert site.judge().doubles == 0
    fault = f"PostgreSQL crashed and away for {away_s} s, lease {lease_s} s, workers: {workers}"
    figures.add_fault(fault, f"0 lost, 0 doubles, through after {healed_s:.1f} s")


def test_a_locked_sqlite_database_is_waited_for(
    ground: Ground, tmp_path: Path, sinks: Sinks, open_site: Callable[..., Site], soak: bool, figures: Figures
) -> None:
    # Beyond the time for which SQLite waits by itself in the long run; beyond the lease in both.
    locked_s = 30.0 if soak else 5.0
    site = open_site(ground.sqlite(tmp_path), sinks=sinks)
    shop = site.add_store("Acme Store", port=sinks.ports[0])
    sinks.script(dot=SLOW)
    site.start_worker()
    site.hand_in(shop, MESSAGES)
    site.wait(lambda: len(sinks.ledger()) >= 5, "mail is on its way", 20)
    with locks.sqlite_locked():
        time.sleep(locked_s)
    sinks.script()
    healed_s = site.wait_until_through(within_s=25)
    assert site.judge().doubles == 0
    figures.add_fault(f"SQLite locked for {locked_s:.0f} s", f"0 lost, 0 doubles, through after {healed_s:.1f} s")


def test_a_full_disk_refuses_mail_and_keeps_results(
    ground: Ground, tmp_path: Path, sinks: Sinks, open_site: Callable[..., Site], figures: Figures
) -> None:
    with small_disk(tmp_path) as disk:
        site = open_site(ground.sqlite(disk.directory), sinks=sinks)
        shop = site.add_store("Acme Store", port=sinks.ports[0])
        program = _Program(site, shop)
        sinks.script(dot=SLOW)
        worker = site.start_worker()
        site.hand_in(shop, MESSAGES)
        assert program.hand_in().status_code == 202
        site.wait(lambda: len(sinks.ledger()) >= 5, "mail is on its way", 20)
        disk.fill(worker.pid)
        with pytest.raises(OperationalError):
            site.hand_in(shop)
        db.session.rollback()
        answer = program.hand_in()
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)
        # What was answered while nothing could be written is at most what was in flight: nothing new was begun.
        time.sleep(1)
        taken = len(sinks.ledger())
        time.sleep(2)
        assert len(sinks.ledger()) == taken
        assert site.states()[MessageStatus.SENT] < taken
        disk.make_room(worker.pid)
        sinks.script()
        healed_s = site.wait_until_through(within_s=25)
        assert program.hand_in().status_code == 202
        site.wait_until_through(within_s=10)
        assert site.judge().doubles == 0
    figures.add_fault("Disk full", f"503 with Retry-After; 0 lost, 0 doubles, through after {healed_s:.1f} s")


class _Program:
    """A program that hands mail in by HTTP."""

    def __init__(self, site: Site, store_id: int) -> None:
        self._app, self._url = site.app, site.environment["STOREPOST_PUBLIC_URL"]
        store = db.session.get_one(Store, store_id)
        _, key = api_keys.create(store, "Web shop", actor=Actor("Alice Adams"))
        db.session.commit()
        self._headers = {"Authorization": f"Bearer {key.reveal()}"}

    def hand_in(self) -> TestResponse:
        message = {"to": ["lena@shop.example"], "subject": "Order", "text": "Thank you.\n"}
        with self._app.app_context():
            return self._app.test_client().post(
                "/api/v1/messages", json=message, headers=self._headers, base_url=self._url
            )
