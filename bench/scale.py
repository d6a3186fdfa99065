"""Many stores: one worker, a server that takes its time, and some that hang."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.figures import BUDGETS_HEAD, at_least, at_most, percentile
from bench.installation import Installation
from bench.processes import Failed, cpu_s, memory_bytes, progress
from bench.scenery import Scenery

THREADS = 50
PER_STORE = 2
HANGING_SHARE = 0.01
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Round:
    """One run: messages a second, the seconds each store waited for its first one, memory and CPU of the worker."""

    rate: float
    waits_s: list[float]
    memory_bytes: int
    cpu_ms: float


@dataclass
class Results:
    stores: int
    alone: Round | None = None
    beside_hanging: Round | None = None
    missing: dict[str, str] = field(default_factory=dict)


def run(*, stores: int) -> list[str]:
    """Measure everything and return the section as Markdown lines."""
    results = Results(stores)
    with Scenery(cores=0) as scenery, Installation() as installation:
        try:
            ports = scenery.sink.greeting["ports"]
            healthy = installation.ask("stores", port=ports["slow"], count=stores, timeout_s=300)["ids"]
            results.alone = measure(scenery, installation, healthy, [])
            progress(f"alone: {results.alone.rate:.1f}/s, {results.alone.memory_bytes / 1e6:.0f} MB")
            number = max(round(stores * HANGING_SHARE), 1)
            hanging = installation.ask("stores", port=ports["hanging"], count=number)["ids"]
            results.beside_hanging = measure(scenery, installation, healthy, hanging)
            progress(f"beside hanging ones: {results.beside_hanging.rate:.1f}/s")
        except Failed as reason:
            results.missing["many stores"] = str(reason)
            progress(f"many stores: not measured: {reason}")
    return section(results)


def measure(scenery: Scenery, installation: Installation, healthy: list[int], hanging: list[int]) -> Round:
    """Let one worker deliver what all stores have waiting; the mail of the hanging ones is the oldest."""
    number = len(healthy) * PER_STORE
    worker = installation.start_worker(threads=THREADS)
    try:
        installation.hold_still(worker)
        stores = [*hanging, *healthy]
        installation.ask("enqueue", stores=stores, count=PER_STORE, per_commit=PER_STORE, timeout_s=PATIENCE_S)
        scenery.sink.ask("reset")
        cpu, began = cpu_s(worker.pid), time.monotonic()
        worker.signal(signal.SIGCONT)
        counts = scenery.sink.ask(f"wait {number} {PATIENCE_S}", timeout_s=PATIENCE_S + 30)
        if counts["messages"] < number:
            raise Failed(f"{counts['messages']} of {number} messages arrived in {PATIENCE_S:g} s")
        arrivals = scenery.sink.ask("arrivals")["arrivals"]
        return Round(
            rate=number / (counts["last_at"] - began),
            waits_s=first_waits(arrivals, began),
            memory_bytes=memory_bytes(worker.pid, peak=True),
            cpu_ms=(cpu_s(worker.pid) - cpu) / number * 1000,
        )
    finally:
        worker.kill()
        installation.ask("clear")


def first_waits(arrivals: list[tuple[float, str]], began: float) -> list[float]:
    """The seconds each store waited for its first message, shortest first; stores differ in the sender's domain."""
    first: dict[str, float] = {}
    for at, message_id in arrivals:
        domain = message_id.partition("@")[2]
        first[domain] = min(first.get(domain, at), at)
    return sorted(at - began for at in first.values())


def longest_more(alone: list[float], beside: list[float]) -> float:
    """How much longer the stores waited, place by place in the order of being served, at the worst place."""
    return max(later - earlier for earlier, later in zip(alone, beside, strict=True))


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about many stores."""
    lines = [
        f"## Scale ({results.stores:,} stores with {PER_STORE} messages each, a server that answers after 1 s)",
        "",
        f"One worker process with {THREADS} threads on SQLite, so at most {THREADS} messages a second. The hanging "
        f"servers, {HANGING_SHARE:.0%} more stores, take the connection and say nothing; their mail is the oldest.",
        "",
        "| | messages/s | median wait s | longest wait s | worker MB | CPU ms per message |",
        "|---|---:|---:|---:|---:|---:|",
        *_rows(results),
        "",
        *(f"Not measured: {key} ({reason})." for key, reason in results.missing.items()),
        *([""] * bool(results.missing)),
    ]
    return [*lines, "### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]


def _rows(results: Results) -> Iterator[str]:
    for name, one in (("alone", results.alone), ("beside hanging servers", results.beside_hanging)):
        if one is not None:
            yield (
                f"| {name} | {one.rate:.1f} | {percentile(one.waits_s, 0.5):.1f} | {one.waits_s[-1]:.1f} | "
                f"{one.memory_bytes / 1e6:.0f} | {one.cpu_ms:.1f} |"
            )


def _budgets(results: Results) -> Iterator[str]:
    def alone() -> Round:
        if results.alone is None:
            raise KeyError("run")
        return results.alone

    def beside() -> Round:
        if results.beside_hanging is None:
            raise KeyError("run beside hanging servers")
        return results.beside_hanging

    yield at_least("Of one message a second and connection", 0.9, lambda: alone().rate / THREADS)
    yield at_most("Memory of the worker, MB", 120, lambda: alone().memory_bytes / 1e6)
    yield at_most(
        "Beside hanging servers: longest further wait of a store, s",
        5,
        lambda: longest_more(alone().waits_s, beside().waits_s),
    )
