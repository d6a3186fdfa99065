"""The queue of nudges is emptied, stopped, started again: mail never depends on it. Source: performance.md 1, 6."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis

from tests.crash.figures import Figures
from tests.crash.harness import Site
from tests.crash.sinks import Sinks
from tests.fakes.redis import Redis

# performance.md 6, line 12; workers look every second, and a busy machine may be late.
FIRST_WITHIN_S = 6.0


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    with Sinks() as running:
        yield running


def test_mail_outlives_the_queue(
    database: str, redis_server: Redis, sinks: Sinks, open_site: Callable[..., Site], figures: Figures
) -> None:
    site = open_site(database, redis_server.url, sinks=sinks)
    shop = site.add_store("Acme Store", port=sinks.ports[0])
    worker = site.start_worker()
    site.wait(worker.has_started, "the worker started", 20)

    def first_after(accident: Callable[[], None]) -> float:
        before, began = len(sinks.ledger()), time.monotonic()
        accident()
        uids = site.hand_in(shop, 20)
        accepted_s = time.monotonic() - began
        assert accepted_s < 5, "accepting waited for the queue"
        site.wait(lambda: len(sinks.ledger()) > before, "the first message is out", FIRST_WITHIN_S)
        first_s = time.monotonic() - began
        site.wait_until_through(uids)
        return first_s

    emptied_s = first_after(redis_server.flush)
    stopped_s = first_after(redis_server.stop)
    # Nobody is told while it is away; everybody finds by looking.
    again_s = first_after(lambda: None)
    redis_server.start()
    site.wait(lambda: _is_listened_to(redis_server), "the worker is back at the queue", 15)
    assert site.judge().doubles == 0
    figures.add_fault(
        "Redis emptied; stopped; stopped for longer",
        f"100 % delivered, the first after {emptied_s:.1f}, {stopped_s:.1f}, {again_s:.1f} s",
    )


def test_a_nudge_lost_between_commit_and_worker_delays_a_message_by_a_look(
    database: str, redis_server: Redis, sinks: Sinks, open_site: Callable[..., Site]
) -> None:
    """The flag says that a worker was told, and the queue forgot it: nobody will be told again."""
    site = open_site(database, redis_server.url, sinks=sinks)
    shop = site.add_store("Acme Store", port=sinks.ports[0])
    site.hand_in(shop, 5)
    redis_server.flush()
    site.hand_in(shop, 5)
    with redis.Redis(port=redis_server.port) as client:
        assert not client.keys("*"), "the second nudge was kept back, as it should, because of the first"
    site.start_worker()
    site.wait_until_through()
    assert site.judge().doubles == 0


def _is_listened_to(server: Redis) -> bool:
    """Whether somebody waits at the queue, or takes from it."""
    with redis.Redis(port=server.port) as client:
        return any(one["cmd"].startswith(("brpop", "bzpop", "rpop", "eval")) for one in client.client_list())
