"""The time of day jumps by an hour, forward or back, while mail is on its way and after a worker died with some of it.

Everybody's clock jumps: on SQLite that of the workers and of those who hand mail in, on PostgreSQL that of the
database. What counts the seconds between two moments goes on as before. Source: security.md 63, 73.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from models import clock
from tests.crash.clocks import SharedClock
from tests.crash.conftest import Ground
from tests.crash.figures import Figures
from tests.crash.harness import Site
from tests.crash.sinks import Sinks, deed
from tests.fakes.postgres import Postgres

HOUR = timedelta(hours=1)


@pytest.fixture
def shared_clock() -> Iterator[SharedClock]:
    one = SharedClock()
    yield one
    one.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_clock_that_jumps_forward_and_back_delays_and_doubles_nothing(
    kind: str,
    shared_clock: SharedClock,
    ground: Ground,
    tmp_path: Path,
    open_site: Callable[..., Site],
    figures: Figures,
) -> None:
    with ExitStack() as stack:
        sinks = stack.enter_context(Sinks(2))
        if kind == "sqlite":
            database = ground.sqlite(tmp_path)
        else:
            server = Postgres(more=shared_clock.environment_of_postgres)
            stack.callback(server.stop)
            shared_clock.cleans_up_after(server.pids)
            database = ground.postgres(server)
        site = open_site(database, sinks=sinks, more=shared_clock.environment, program="tests.crash.jumping")
        shared_clock.cleans_up_after(site.pids)
        shop, unlucky = (site.add_store(f"Store {port}", port=port) for port in sinks.ports)
        for worker in [site.start_worker() for _ in range(3)]:
            site.wait(worker.has_started, "the workers started", 40)
        lost, healed_s = [], []
        for clock_is in (HOUR, timedelta()):
            lost += _lose_a_worker(site, unlucky)
            sinks.script(sinks.ports[0], dot=deed("wait", seconds=0.6))
            taken = len(sinks.ledger())
            site.hand_in(shop, 20)
            site.wait(lambda taken=taken: len(sinks.ledger()) > taken, "mail is on its way", 20)
            shared_clock.put(clock_is)
            if kind == "sqlite":
                # Those who hand mail in have the same machine's clock.
                stack.enter_context(clock.shifted(HOUR if clock_is else -HOUR))
            sinks.release(sinks.ports[1])
            site.hand_in(shop, 5)
            healed_s.append(site.wait_until_through(within_s=40))
        site.judge()
        assert [fate.uid for fate in site.fates() if fate.maybe_sent_twice] == lost, "only what the dead had in hand"
        figures.add_fault(
            f"Clock an hour forward, then back, {kind}; each time beside a worker that was just killed",
            f"0 lost, 0 doubles beside the dead workers' own, through after {healed_s[0]:.1f} and {healed_s[1]:.1f} s",
        )


def _lose_a_worker(site: Site, store_id: int) -> list[str]:
    """Kill a worker with a message of this store whose answer it never had, and return its id."""
    port = site.sinks.ports[1]
    site.sinks.script(port, dot=deed("hold", times=1))
    uids = site.hand_in(store_id)
    site.kill(site.at_work(site.sinks.wait_held("dot", port=port)))
    return uids
