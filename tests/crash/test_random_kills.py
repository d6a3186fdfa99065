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
# A long time for a kill to happen in, at every stage; on average a third of a second for a message.
PACE = {
    stage: deed("wait", seconds=0.1) for stage in ("connect", "greeting", "ehlo", "auth", "mail", "rcpt", "content")
}


@dataclass(frozen=True)
class Run:
    """So many messages and workers; one worker killed every `every_s` for `seconds`."""

    messages: int
    workers: int
    seconds: float
    every_s: float = 1.0
    threads: int = 4
    window: int = 1
    seed: int = 4


SHORT = Run(messages=100, workers=3, seconds=5, every_s=1.2)
LONG = Run(messages=5_000, workers=4, seconds=300)


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
    site.sinks.script(**PACE, dot=deed("wait", seconds=1.0 if run.seconds > 60 else 0.4))
    crew = [start() for _ in range(run.workers)]
    for worker in crew:
        site.wait(worker.has_started, "the workers started", 40)
    uids: list[str] = []
    began = time.monotonic()
    next_kill = began + run.every_s
    while (now := time.monotonic()) < began + run.seconds:
        # Half of the mail waits from the start, the other half comes in as time goes by.
        due = run.messages * min(1.0, 0.5 + 0.5 * (now - began) / run.seconds)
        if len(uids) < due:
            uids += site.hand_in(dice.choice(shops), min(10, run.messages - len(uids)))
        if now >= next_kill:
            site.kill(site.workers[dice.randrange(len(site.workers))])
            start()
            next_kill += run.every_s
        time.sleep(0.02)
    while len(uids) < run.messages:
        uids += site.hand_in(dice.choice(shops), min(50, run.messages - len(uids)))
    last_kill = time.monotonic()
    site.sinks.script()
    site.wait_until_through(within_s=60)
    healed_s = time.monotonic() - last_kill
    verdict = site.judge(may_park=True)
    assert verdict.kills >= run.seconds / run.every_s / 2, "the machine was too busy for a run"
    assert verdict.retried, "no kill met a message on its way"
    return verdict, healed_s
