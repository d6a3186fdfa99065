"""Some stores' servers hang or refuse: nobody else waits for it, and those servers are left alone.

Source: performance.md 6 (17), security.md 71.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from models.outbox import MessageStatus
from tests.crash.figures import Figures
from tests.crash.harness import Site
from tests.crash.sinks import Sinks, deed

STORES = 200
EACH = 2
# No store waits longer than this on top of what its mail takes when all servers are well.
LATER_S = 5.0
# One per cent of the servers.
REFUSING = STORES // 100


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    with Sinks(STORES) as running:
        yield running


def test_a_hanging_server_and_two_that_refuse_delay_nobody_else(
    database: str, sinks: Sinks, open_site: Callable[..., Site], figures: Figures
) -> None:
    site = open_site(database, sinks=sinks, threads=8, lease_s=20)
    shops = [site.add_store(f"Store {number}", port=port) for number, port in enumerate(sinks.ports)]
    hanging, *refusing = range(1 + REFUSING)
    sinks.script(dot=deed("wait", seconds=0.1))
    worker = site.start_worker()
    site.wait(worker.has_started, "the worker started", 20)

    alone_s = _deliver(site, shops[1 + REFUSING :])

    sinks.script(sinks.ports[hanging], connect=deed("hold"))
    for number in refusing:
        sinks.script(sinks.ports[number], greeting=deed("say", reply="421 4.3.2 Service not available"))
    troubled = site.hand_in_everywhere([shops[number] for number in (hanging, *refusing)], 20)
    sinks.wait_held("connect", port=sinks.ports[hanging])
    began = time.monotonic()
    beside_s = _deliver(site, shops[1 + REFUSING :])
    assert beside_s <= alone_s + LATER_S
    seconds = time.monotonic() - began
    asked = {number: sinks.counts()[sinks.ports[number]]["connections"] for number in (hanging, *refusing)}
    # A refusing server is asked again after ten seconds at the earliest, then ever less often.
    assert all(count <= 2 + seconds / 10 for number, count in asked.items() if number != hanging), asked
    assert MessageStatus.FAILED not in site.states(troubled)
    assert site.states(troubled)[MessageStatus.SENT] == 0
    figures.add_fault(
        f"1 of {STORES} servers hangs, {REFUSING} refuse with 421",
        f"mail of the others out after {beside_s:.1f} s, {alone_s:.1f} s without; "
        f"connections to the refusing ones meanwhile: {max(asked[number] for number in refusing)}",
    )


def _deliver(site: Site, shops: list[int]) -> float:
    """Hand in mail for these stores, and return after how many seconds all of it was out."""
    began = time.monotonic()
    uids = site.hand_in_everywhere(shops, EACH)
    site.wait_until_through(uids, within_s=60)
    return time.monotonic() - began
