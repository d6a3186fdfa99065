"""A worker is killed at exact points of its messages' way; another worker brings them to their end.

What the copies may be follows from one rule: before the bytes that commit, a message is free to go again as if nothing
had been; from the mark before these bytes on, it may go twice, and then says so. Source: security.md 63-65.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from models.outbox import MessageStatus
from tests.crash import locks
from tests.crash.conftest import both_databases
from tests.crash.harness import Site
from tests.crash.sinks import Sinks, deed

# More than the buffers between two processes of one machine hold.
# Long enough for a busy machine to take the lock before it is due.
DUE_IN_S = 3.0
LONG = "All that you ordered, in one long line of words.\n" * 90_000


@dataclass(frozen=True)
class Point:
    """Where the worker is killed, at a server that offers this; and what then comes of the message."""

    stage: str
    offer: str
    copies: int
    is_marked: bool
    is_long: bool = False


POINTS = {
    "connecting": Point("connect", "full", 1, False),
    "greeting": Point("greeting", "full", 1, False),
    "EHLO": Point("ehlo", "full", 1, False),
    "sign-in": Point("auth", "full", 1, False),
    "MAIL": Point("mail", "plain", 1, False),
    "RCPT": Point("rcpt", "plain", 1, False),
    "RCPT in a group": Point("rcpt", "pipelining", 1, False),
    "content half sent": Point("content", "plain", 1, False, is_long=True),
    "chunk half sent": Point("content", "full", 1, False, is_long=True),
    "final dot": Point("dot", "plain", 2, True),
    "last chunk": Point("dot", "full", 2, True),
    # All of the message has left in one write: the server may go on without its client.
    "MAIL in one write": Point("mail", "full", 2, True),
}


@both_databases
def test_one_kill_meets_messages_at_every_stage(database: str, open_site: Callable[..., Site]) -> None:
    with Sinks(len(POINTS)) as sinks:
        site = open_site(database, sinks=sinks, threads=len(POINTS))
        ports = dict(zip(POINTS, sinks.ports, strict=True))
        shops = {name: site.add_store(f"Store {name}", port=port) for name, port in ports.items()}
        for name, point in POINTS.items():
            sinks.offer(point.offer, port=ports[name])
            sinks.script(ports[name], **{point.stage: deed("hold", times=1)})
        worker = site.start_worker()
        uids = {name: site.hand_in(shops[name], text=LONG if POINTS[name].is_long else "Hi.\n")[0] for name in POINTS}
        for name, point in POINTS.items():
            sinks.wait_held(point.stage, port=ports[name])
        site.kill(worker)
        sinks.release()
        site.start_worker()
        site.wait_until_through()
        fates = {fate.uid: fate for fate in site.fates()}
        found = {name: (len(site.copies_of(fates[uid])), fates[uid].maybe_sent_twice) for name, uid in uids.items()}
        assert found == {name: (point.copies, point.is_marked) for name, point in POINTS.items()}
        site.judge()


@pytest.fixture
def sinks() -> Iterator[Sinks]:
    with Sinks() as running:
        yield running


@both_databases
def test_a_worker_killed_around_its_statements_is_told_apart(
    database: str, sinks: Sinks, open_site: Callable[..., Site]
) -> None:
    """Killed while it claims, it has taken nothing; killed while it writes the result, it leaves a marked message."""
    site = open_site(database, sinks=sinks, threads=1)
    shop = site.add_store("Acme Store", port=sinks.ports[0])
    first = site.start_worker()
    site.wait(first.has_started, "the worker started", 20)
    # It becomes due while nobody can write.
    (uid,) = site.hand_in(shop, due_in_s=DUE_IN_S)
    with locks.writing_blocked() as lock:
        time.sleep(DUE_IN_S)
        lock.wait_until_met()
        site.kill(first)
    assert site.states() == {MessageStatus.QUEUED: 1}
    assert not sinks.ledger()

    sinks.script(dot=deed("hold", times=1))
    second = site.start_worker()
    sinks.wait_held("dot")
    with locks.writing_blocked() as lock:
        sinks.release(answered=deed("hold", times=1))
        sinks.wait_held("answered")
        lock.wait_until_met()
        site.kill(second)
    sinks.release()
    assert site.states() == {MessageStatus.SENDING: 1}
    site.start_worker()
    site.wait_until_through([uid])
    (fate,) = site.fates()
    assert (len(site.copies_of(fate)), fate.maybe_sent_twice) == (2, True)
    site.judge()
