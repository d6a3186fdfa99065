"""Two workers on machines of their own, with PostgreSQL and with Redis as queue: killed, and cut off.

Machines are network namespaces where those may be made, and plain processes elsewhere.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.crash.conftest import Ground
from tests.crash.figures import Figures
from tests.crash.harness import Site, Worker
from tests.crash.networks import Networks, are_possible
from tests.crash.sinks import Sinks, deed
from tests.crash.test_random_kills import LONG, SHORT, kill_at_random
from tests.fakes import tools
from tests.fakes.postgres import Postgres
from tests.fakes.redis import Redis

STORES = 4


class Machines:
    """Two machines with one worker each, and a third with all that they share."""

    def __init__(self, stack: ExitStack) -> None:
        self._networks = stack.enter_context(Networks(2)) if are_possible() else None
        self.address = self._networks.address if self._networks else "127.0.0.1"
        self._also_on = self.address if self._networks else ""
        self._stack = stack
        self._on: dict[int, int] = {}

    @property
    def kind(self) -> str:
        return "network namespaces" if self._networks else "processes"

    def postgres(self) -> Postgres:
        server = Postgres(also_on=self._also_on)
        self._stack.callback(server.stop)
        return server

    def redis(self) -> Redis:
        server = Redis(also_on=self._also_on)
        self._stack.callback(server.close)
        return server

    def start_worker(self, site: Site, machine: int | None = None) -> Worker:
        """Start a worker on this machine, or on one that has none."""
        if machine is None:
            taken = [self._on[worker.pid] for worker in site.workers]
            machine = next(number for number in (0, 1) if number not in taken)
        names = ("STOREPOST_DATABASE_URL", "STOREPOST_QUEUE_URL")
        there = {name: site.environment[name].replace("127.0.0.1", self.address) for name in names}
        before = self._networks.enter(machine) if self._networks else ()
        worker = site.start_worker(before=before, environment=there)
        self._on[worker.pid] = machine
        return worker

    def cut_off(self, worker: Worker) -> None:
        """Let the worker reach nobody any more. As a plain process it stands still instead."""
        if self._networks:
            self._networks.unplug(self._on[worker.pid])
        else:
            os.kill(worker.pid, signal.SIGSTOP)

    def bring_back(self, worker: Worker) -> None:
        if self._networks:
            self._networks.plug_in(self._on[worker.pid])
        else:
            os.kill(worker.pid, signal.SIGCONT)


@pytest.fixture
def machines() -> Iterator[Machines]:
    if tools.postgres_bin() is None:
        assert not os.environ.get("CI"), "PostgreSQL must be there in CI"
        pytest.skip("PostgreSQL is not installed")
    with ExitStack() as stack:
        yield Machines(stack)


@pytest.mark.parametrize("queue", ["postgres", "redis"])
def test_random_kills_on_two_machines(
    queue: str, machines: Machines, ground: Ground, open_site: Callable[..., Site], soak: bool, figures: Figures
) -> None:
    run = replace(LONG if soak else SHORT, workers=2, messages=2_000 if soak else 60, kills=100 if soak else 2)
    database = ground.postgres(machines.postgres())
    queue_url = database.replace("+psycopg", "") if queue == "postgres" else machines.redis().url
    with Sinks(STORES, host=machines.address, seed=run.seed) as sinks:
        site = open_site(database, queue_url, sinks=sinks, threads=run.threads)
        shops = [site.add_store(f"Store {number}", port=port) for number, port in enumerate(sinks.ports)]
        verdict, healed_s = kill_at_random(site, shops, run, start=lambda: machines.start_worker(site))
    figures.add_kills(f"two {machines.kind}, queue in {queue}", run, verdict, healed_s)


def test_a_machine_that_is_cut_off_loses_its_claims_and_comes_back(
    machines: Machines, ground: Ground, open_site: Callable[..., Site], figures: Figures
) -> None:
    database = ground.postgres(machines.postgres())
    with Sinks(host=machines.address) as sinks:
        site = open_site(database, machines.redis().url, sinks=sinks)
        shop = site.add_store("Acme Store", port=sinks.ports[0])
        sinks.script(dot=deed("hold", times=1))
        first = machines.start_worker(site, 0)
        (uid,) = site.hand_in(shop)
        sinks.wait_held("dot")
        machines.cut_off(first)
        sinks.release()
        second = machines.start_worker(site, 1)
        site.wait(second.has_started, "the other worker started", 40)
        uids = site.hand_in(shop, 10)
        site.wait_until_through([uid, *uids], within_s=40)
        machines.bring_back(first)
        uids = site.hand_in(shop, 10)
        site.wait_until_through(uids)
        site.kill(second)
        # Alone, it has to work again; what it believed to have in hand is written nowhere.
        uids = site.hand_in(shop, 10)
        site.wait_until_through(uids, within_s=40)
        verdict = site.judge(uncertain=1)
        assert (verdict.doubles, verdict.marked) == (1, 1)
        figures.add_fault(
            f"One of two workers cut off ({machines.kind}) with a message in flight, and back again",
            f"0 lost, {verdict.doubles} double, marked",
        )
