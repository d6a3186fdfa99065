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
# Of the dead worker's lease, and of the lease that is given to all when a jump is seen.
LEASES = 2


@pytest.fixture
def shared_clock() -> Iterator[SharedClock]:
    one = SharedClock()
    yield one
    one.close()


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_jump_of_an_hour_delays_and_doubles_nothing(
    kind: str,
    jump: timedelta,
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
            server = Postgres(more=shared_clock.environment)
            stack.callback(server.stop)
            database = ground.postgres(server)
        site = open_site(database, sinks=sinks, more=shared_clock.environment)
        shop, lost = (site.add_store(f"Store {port}", port=port) for port in sinks.ports)
        first, second = sinks.ports
        # One worker dies with a message whose answer it never had; two others go on.
        sinks.script(second, dot=deed("hold", times=1))
        sinks.script(first, dot=deed("wait", seconds=0.6))
        dying = site.start_worker()
        site.hand_in(lost)
        sinks.wait_held("dot", port=second)
        for _ in range(2):
            worker = site.start_worker()
            site.wait(worker.has_started, "the workers started", 20)
        site.hand_in(shop, 30)
        site.wait(lambda: len(sinks.ledger()) > 3, "mail is on its way", 10)
        site.kill(dying)
        shared_clock.put(jump)
        if kind == "sqlite":
            stack.enter_context(clock.shifted(jump))
        sinks.release(second)
        site.hand_in(shop, 5)
        healed_s = site.wait_until_through(within_s=LEASES * site.lease_s + 12)
        verdict = site.judge()
        assert verdict.marked == 1, "only the dead worker's message may have gone twice"
        direction = "forward" if jump > timedelta() else "back"
        figures.add_fault(
            f"Clock an hour {direction}, {kind}",
            f"0 lost, {verdict.doubles} double (of a killed worker), through after {healed_s:.1f} s",
        )
