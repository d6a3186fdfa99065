"""The engine: how fast it works off a queue when sending takes no time, how soon it notices mail, what waiting costs.

Beside ours stand queues with a job per message that keep what ours keeps: a row that says where the message stands,
marked before it is sent and after it (`bench/peers/rows.py`).
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bench.delivery_sides import Peer
from bench.figures import BUDGETS_HEAD, Figures, at_least, at_most, in_turn, percentile
from bench.installation import Installation
from bench.processes import Child, Failed, Program, cpu_s, progress
from bench.scenery import Scenery
from bench.servers import plain_url

IDLE_S = 20.0
WORKERS = {
    "sqlite": "SQLite, nothing beside it",
    "postgresql": "PostgreSQL, nothing beside it",
    "redis": "PostgreSQL, nudges by Redis",
}
DRAINERS = {
    "ours sqlite": "Storepost, SQLite",
    "ours-composing sqlite": "the same, contents read and composed",
    "huey sqlite": "Huey on SQLite, rows in SQLite",
    "celery sqlite": "Celery on Redis, rows in SQLite",
    "ours postgresql": "Storepost, PostgreSQL",
    "ours-composing postgresql": "the same, contents read and composed",
    "huey postgresql": "Huey on PostgreSQL, rows in PostgreSQL",
    "huey-redis postgresql": "Huey on Redis, rows in PostgreSQL",
    "celery postgresql": "Celery on Redis, rows in PostgreSQL",
}


@dataclass
class Results:
    """What one run found out: messages a second by drainer, seconds of each pick-up and share of a core by worker."""

    rounds: int
    messages: int
    drained: dict[str, Figures] = field(default_factory=dict)
    picked_up: dict[str, list[float]] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class Drainer:
    """Ours with a server that takes everything at once; `composes` messages for it, or only says that they went."""

    def __init__(self, database_url: str, *, composes: bool) -> None:
        self._installation = Installation(database_url=database_url).__enter__()
        try:
            self._stores = self._installation.ask("stores", port=9)["ids"]
            self._worker = self._installation.start_worker(instant=[] if composes else ["--engine-alone"])
        except Failed:
            self.close()
            raise

    def drain(self, number: int) -> tuple[float, float]:
        """Messages a second, and milliseconds of CPU for each."""
        self._installation.hold_still(self._worker)
        self._installation.ask("enqueue", stores=self._stores, count=number, timeout_s=180)
        cpu, began = cpu_s(self._worker.pid), time.monotonic()
        self._worker.signal(signal.SIGCONT)
        seconds = self._installation.wait_until_done(timeout_s=120) - began
        used = cpu_s(self._worker.pid) - cpu
        self._installation.ask("clear")
        return number / seconds, used / number * 1000

    def close(self) -> None:
        self._installation.__exit__()


class JobPerMessage(Peer):
    """A queue whose tasks keep a row each."""

    def drain(self, number: int) -> tuple[float, float]:
        self.child.ask(f"queue-rows {number}", timeout_s=180)
        cpu, began = cpu_s(self.child.pid), time.monotonic()
        self.child.ask("deliver")
        answer = self.child.ask(f"wait {number} 120", timeout_s=130)
        if answer["number"] != number:
            raise Failed(f"{answer['number']} of {number} tasks were done")
        used = cpu_s(self.child.pid) - cpu
        self.child.ask("rest")
        since = answer["first_at"] if self.starts_late else began
        return number / (answer["last_at"] - since), used / number * 1000


class CeleryJobs(JobPerMessage):
    starts_late = True


def run(*, rounds: int, messages: int, pick_ups: int) -> list[str]:
    """Measure everything and return the section as Markdown lines."""
    results = Results(rounds, messages)
    with Scenery(cores=2) as scenery:
        _measure_drains(scenery, results)
    with Scenery(cores=0) as scenery:
        _measure_pick_up(scenery, results, pick_ups)
    return section(results)


def _drainers(scenery: Scenery) -> dict[str, Callable[[], Drainer | JobPerMessage]]:
    def ours(kind: str, *, composes: bool = False) -> Callable[[], Drainer]:
        name = "ours-composing" if composes else "ours"
        return lambda: Drainer("" if kind == "sqlite" else scenery.new_database(kind, name), composes=composes)

    def huey(storage: str, rows: str) -> Callable[[], JobPerMessage]:
        def make() -> JobPerMessage:
            url = scenery.redis.url if storage == "redis" else scenery.new_database(storage, f"huey-{rows}")
            rows_url = scenery.new_database(rows, f"huey-rows-{storage}")
            return JobPerMessage(
                scenery.sink, "huey_mail.py", "--storage", plain_url(url), "--rows", plain_url(rows_url)
            )

        return make

    def celery(rows: str) -> Callable[[], JobPerMessage]:
        def make() -> JobPerMessage:
            directory = scenery.directory / f"celery-{rows}"
            directory.mkdir()
            rows_url = plain_url(scenery.new_database(rows, "celery-rows"))
            # A database of Redis each, because the starting signal goes to all workers of one.
            broker = f"redis://127.0.0.1:{scenery.redis.port}/{1 + list(DRAINERS).index(f'celery {rows}')}"
            arguments = ("--broker", broker, "--rows", rows_url)
            return CeleryJobs(scenery.sink, "celery_mail.py", *arguments, "--directory", str(directory))

        return make

    return {
        "ours sqlite": ours("sqlite"),
        "ours-composing sqlite": ours("sqlite", composes=True),
        "huey sqlite": huey("sqlite", "sqlite"),
        "celery sqlite": celery("sqlite"),
        "ours postgresql": ours("postgresql"),
        "ours-composing postgresql": ours("postgresql", composes=True),
        "huey postgresql": huey("postgresql", "postgresql"),
        "huey-redis postgresql": huey("redis", "postgresql"),
        "celery postgresql": celery("postgresql"),
    }


def _measure_drains(scenery: Scenery, results: Results) -> None:
    with contextlib.ExitStack() as stack:
        running: dict[str, Drainer | JobPerMessage] = {}
        for key, make in _drainers(scenery).items():
            try:
                drainer = make()
                stack.callback(drainer.close)
                drainer.drain(20)
            except Failed as reason:
                results.missing[DRAINERS[key]] = str(reason)
                progress(f"{key} is not measured: {reason}")
                continue
            running[key], results.drained[key] = drainer, Figures()
        for turn in range(results.rounds):
            for key in in_turn(list(running), turn):
                try:
                    results.drained[key].add(*running[key].drain(results.messages))
                except Failed as reason:
                    results.missing[DRAINERS[key]] = f"round {turn + 1}: {reason}"
                    del running[key], results.drained[key]
                    continue
                progress(f"draining, round {turn + 1}: {key} {results.drained[key].rates[-1]:.0f}/s")


# Idle workers --------------------------------------------------------------------------------------------------------


def _measure_pick_up(scenery: Scenery, results: Results, pick_ups: int) -> None:
    with contextlib.ExitStack() as stack:
        workers: dict[str, tuple[Installation, int, Program]] = {}
        for kind in WORKERS:
            try:
                database = "" if kind == "sqlite" else scenery.new_database("postgresql", kind)
                queue = {"sqlite": "", "postgresql": database, "redis": scenery.redis.url}[kind]
                installation = stack.enter_context(Installation(database_url=database, queue_url=queue))
                (store,) = installation.ask("stores", port=scenery.ports["near"]["open"])["ids"]
                workers[kind] = (installation, store, installation.start_worker())
                _one(scenery.sink, installation, store)
            except Failed as reason:
                results.missing[WORKERS[kind]] = str(reason)
                progress(f"{kind} is not measured: {reason}")
        before = {kind: cpu_s(worker.pid) for kind, (_, _, worker) in workers.items()}
        time.sleep(IDLE_S)
        for kind, (_, _, worker) in workers.items():
            results.idle[kind] = (cpu_s(worker.pid) - before[kind]) / IDLE_S
            progress(f"{kind}, idle: {results.idle[kind] * 100:.1f} % of a core")
        for kind, (installation, store, _) in workers.items():
            results.picked_up[kind] = [_one(scenery.sink, installation, store) for _ in range(pick_ups)]
            progress(f"{kind}, pick-up: {percentile(results.picked_up[kind], 0.5) * 1000:.0f} ms")


def _one(sink: Child, installation: Installation, store: int) -> float:
    """Seconds from the commit of a message until the server has it, after a pause that ends at no fixed time."""
    time.sleep(random.uniform(0.1, 0.3))
    sink.ask("reset")
    committed_at = installation.ask("enqueue", stores=[store])["last_at"]
    counts = sink.ask("wait 1 30", timeout_s=40)
    if counts["messages"] != 1:
        raise Failed("a message was not delivered within 30 s")
    return float(counts["last_at"]) - float(committed_at)


# What that says ------------------------------------------------------------------------------------------------------


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about the engine."""
    lines = [
        f"## Engine ({results.rounds} alternating rounds of {results.messages:,} messages; "
        f"{len(next(iter(results.picked_up.values()), []))} pick-ups)",
        "",
        "### Working off a queue, sending takes 0 ms, one worker process",
        "",
        "Each of the others has a job per message and a row per message that says where it stands, marked before and "
        "after sending as ours is; no job reads or composes a mail, so neither does ours, but in a row of its own. "
        "Databases and broker have one core, the workers another.",
        "",
        "| | messages/s | CPU ms per message |",
        "|---|---:|---:|",
        *(f"| {DRAINERS[key]} | {one.rate:,.0f} | {one.cpu:.2f} |" for key, one in results.drained.items()),
        "",
        "### Idle: from the commit of one message to the server having it, and what waiting costs",
        "",
        "| worker | p50 ms | p99 ms | of a core while idle |",
        "|---|---:|---:|---:|",
        *_pick_up_rows(results),
        "",
        *(f"Not measured: {key} ({reason})." for key, reason in results.missing.items()),
        *([""] * bool(results.missing)),
    ]
    return [*lines, "### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]


def _pick_up_rows(results: Results) -> Iterator[str]:
    for kind, times in results.picked_up.items():
        middle, late = percentile(times, 0.5) * 1000, percentile(times, 0.99) * 1000
        yield f"| {WORKERS[kind]} | {middle:.0f} | {late:.0f} | {results.idle[kind] * 100:.1f} % |"


def _budgets(results: Results) -> Iterator[str]:
    for key in DRAINERS:
        who, kind = key.split()
        if not who.startswith("ours"):
            yield at_least(
                f"Drain: × {DRAINERS[key]}",
                5,
                lambda k=key, own=f"ours {kind}": results.drained[own].faster_than(results.drained[k]),
            )
    for kind, (middle, late) in {"sqlite": (40, 120), "postgresql": (15, 60), "redis": (15, 60)}.items():
        name = WORKERS[kind]
        for share, most in ((0.5, middle), (0.99, late)):
            yield at_most(
                f"Pick-up, {name}: p{share * 100:.0f}, ms",
                most,
                lambda k=kind, s=share: percentile(results.picked_up[k], s) * 1000,
            )
        yield at_most(f"Idle, {name}: % of a core", 1, lambda k=kind: results.idle[k] * 100)
