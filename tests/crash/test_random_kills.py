"""Workers are killed at random, again and again, while mail comes in and goes out.

The short form is the same run with fewer messages and kills. The dice are seeded; which moment a kill meets is left to
the machine.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from tests.crash.figures import Figures
from tests.crash.harness import Site, Verdict, Worker
from tests.crash.sinks import Sinks, deed

STORES = 4
# Time for a kill to happen in, at every stage.
PACE = {
    stage: deed("wait", seconds=0.1) for stage in ("connect", "greeting", "ehlo", "auth", "mail", "rcpt", "content")
}


@dataclass(frozen=True)
class Run:
    """So many messages and workers; so many kills, `every_s` seconds or a little more between two."""

    messages: int
    workers: int
    kills: int
    every_s: float = 1.0
    threads: int = 4
    window: int = 1
    seed: int = 4


SHORT = Run(messages=80, workers=3, kills=4)
LONG = Run(messages=5_000, workers=4, kills=300)


@pytest.mark.parametrize(
    ("database", "queue", "window"),
    [("sqlite", "file", 4), ("postgres", "postgres", 1), ("postgres", "redis", 1)],
    ids=["SQLite", "PostgreSQL", "PostgreSQL and Redis"],
    indirect=["database", "queue"],
)
def test_random_kills_lose_nothing_and_leave_no_unmarked_double(
    database: str,
    queue: str,
    window: int,
    open_site: Callable[..., Site],
    soak: bool,
    figures: Figures,
    request: pytest.FixtureRequest,
) -> None:
    run = replace(LONG if soak else SHORT, window=window)
    with Sinks(STORES, seed=run.seed) as sinks:
        site = open_site(database, queue, sinks=sinks, threads=run.threads, window=run.window)
        shops = [site.add_store(f"Store {number}", port=port) for number, port in enumerate(sinks.ports)]
        verdict, healed_s = kill_at_random(site, shops, run, start=site.start_worker)
    figures.add_kills(request.node.callspec.id, run, verdict, healed_s)
    if soak:
        assert healed_s <= site.lease_s + 2


def kill_at_random(site: Site, shops: list[int], run: Run, start: Callable[[], Worker]) -> tuple[Verdict, float]:
    """Do a run and return its verdict, and how long after the last kill all mail was through."""
    dice = random.Random(run.seed)
    # In the long run mail must not run out while workers are killed for minutes.
    site.sinks.script(**PACE, dot=deed("wait", seconds=2.0 if run.kills > 100 else 0.4))
    for _ in range(run.workers):
        start()
    # Half of the mail waits from the start, the other half comes in as time goes by.
    left = run.messages - len(site.hand_in_everywhere(shops, run.messages // 2 // len(shops)))
    for number in range(run.kills):
        began = time.monotonic()
        share = left // (run.kills - number)
        site.hand_in(dice.choice(shops), share)
        left -= share
        site.wait(lambda: any(site.is_sending(worker) for worker in site.workers), "somebody sends", 60)
        time.sleep(max(0.0, began + run.every_s - time.monotonic()))
        site.kill(dice.choice([worker for worker in site.workers if worker.has_started()]))
        start()
    last_kill = time.monotonic()
    site.sinks.script()
    site.wait_until_through(within_s=60)
    healed_s = time.monotonic() - last_kill
    verdict = site.judge(may_park=True)
    assert verdict.messages == run.messages
    assert verdict.retried, "no kill met a message on its way"
    return verdict, healed_s
