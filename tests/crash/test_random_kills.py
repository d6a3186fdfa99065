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
    """So many messages and workers; so many kills, `every_s` seconds or a little more between two.

    Servers take up to `answer_s` for the answer that accepts a message. `last` are kept for the last kill, which waits
    until all others are through; without any, it comes like the others.
    """

    messages: int
    workers: int
    kills: int
    last: int = 0
    every_s: float = 1.0
    answer_s: float = 0.4
    threads: int = 4
    window: int = 1
    seed: int = 4


SHORT = Run(messages=80, workers=3, kills=4)
# Answers take longer there, so that kills meet mail in flight for minutes.
LONG = Run(messages=5_000, workers=4, kills=300, last=24, answer_s=2.0)
# The longest that all the mail that waits after minutes of kills may take with servers that answer at once.
BACKLOG_S = 300


@pytest.mark.parametrize(
    ("database", "queue", "window"),
    [("sqlite", "file", 4), ("postgres", "postgres", 4), ("postgres", "redis", 1)],
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
    _go_slowly(site, run)
    for _ in range(run.workers):
        start()
    # Half of the mail waits from the start, the other half comes in as time goes by.
    left = run.messages - run.last - len(site.hand_in_everywhere(shops, run.messages // 2 // len(shops)))
    kills = run.kills - bool(run.last)
    for number in range(kills):
        began = time.monotonic()
        share = left // (kills - number)
        site.hand_in(dice.choice(shops), share)
        left -= share
        _wait_for_a_crew(site, run)
        _wait_for_senders(site)
        time.sleep(max(0.0, began + run.every_s - time.monotonic()))
        site.kill(dice.choice([worker for worker in site.workers if worker.has_started()]))
        start()
    if run.last:
        _kill_once_more(site, shops, run, dice)
        start()
    last_kill = time.monotonic()
    site.sinks.script()
    site.wait_until_through(within_s=60)
    healed_s = time.monotonic() - last_kill
    verdict = site.judge(may_park=True)
    assert verdict.messages == run.messages
    assert verdict.kills == run.kills
    assert verdict.retried, "no kill met a message on its way"
    return verdict, healed_s


def _go_slowly(site: Site, run: Run) -> None:
    site.sinks.script(**PACE, dot=deed("wait", seconds=run.answer_s))


def _wait_for_a_crew(site: Site, run: Run) -> None:
    """Wait until all workers but one have started.

    Where a start takes longer than the time between two kills, each worker would be killed as soon as it begins.
    """
    site.wait(lambda: sum(worker.has_started() for worker in site.workers) >= run.workers - 1, "a crew is there", 60)


def _wait_for_senders(site: Site) -> list[Worker]:
    """Wait until somebody sends, and return who does."""
    found: list[Worker] = []

    def is_anybody() -> bool:
        found[:] = [worker for worker in site.workers if site.is_sending(worker)]
        return bool(found)

    site.wait(is_anybody, "somebody sends", 60)
    return found


def _kill_once_more(site: Site, shops: list[int], run: Run, dice: random.Random) -> None:
    """Kill a worker that sends the last messages, after everything before them is through.

    Behind a backlog, the time until all is through would tell how fast servers and machine are, and not how soon the
    mail that a dead worker had in hand is in other hands.
    """
    site.sinks.script()
    site.wait_until_through(within_s=BACKLOG_S)
    _go_slowly(site, run)
    taken = len(site.sinks.ledger())
    site.hand_in_everywhere(shops, run.last // len(shops))
    site.wait(lambda: len(site.sinks.ledger()) > taken, "the last mail is on its way", 60)
    site.kill(dice.choice(_wait_for_senders(site)))
