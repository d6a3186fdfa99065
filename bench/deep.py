"""Deep tables: a million messages that were sent and a hundred thousand that wait, against tables that are empty."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.figures import BUDGETS_HEAD, at_most
from bench.installation import Installation
from bench.processes import Child, Failed, progress
from bench.servers import start_postgres

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
STEPS = {
    "accept": "Accept a message",
    "claim": "Claim 20",
    "list": "List page of a store",
    "due": "Find the stores that have due mail",
    "sweep": "Sweep",
}
FILL_TIMEOUT_S = 900.0
TIMES = 10


Milliseconds = dict[str, list[float]]


@dataclass
class Results:
    """By database: milliseconds of each step, round by round, in empty and in deep tables."""

    rounds: int
    sent: int
    queued: int
    empty: dict[str, Milliseconds] = field(default_factory=dict)
    deep: dict[str, Milliseconds] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def run(*, rounds: int, sent: int, queued: int) -> list[str]:
    """Measure everything and return the section as Markdown lines."""
    results = Results(rounds, sent, queued)
    for kind, name in DATABASES.items():
        try:
            _measure(kind, results)
        except Failed as reason:
            results.missing[name] = str(reason)
            progress(f"deep tables on {name}: not measured: {reason}")
    return section(results)


def _measure(kind: str, results: Results) -> None:
    with contextlib.ExitStack() as stack:
        postgres = start_postgres() if kind == "postgresql" else None
        if postgres is not None:
            stack.callback(postgres.stop)

        def child() -> Child:
            url = postgres.new_database() if postgres is not None else ""
            environment = stack.enter_context(Installation(database_url=url)).environment
            return stack.enter_context(Child.module("bench.deep_child", environment=environment, timeout_s=120))

        empty, deep = child(), child()
        began = time.monotonic()
        deep.ask(f"fill {results.sent} {results.queued}", timeout_s=FILL_TIMEOUT_S)
        progress(f"{kind}: filled in {time.monotonic() - began:.0f} s")
        found: dict[str, Milliseconds] = {"empty": {step: [] for step in STEPS}, "deep": {step: [] for step in STEPS}}
        for turn in range(results.rounds):
            for name, one in (("empty", empty), ("deep", deep)):
                answer = one.ask(f"measure {TIMES}", timeout_s=300)
                for step in STEPS:
                    found[name][step].append(answer[step])
                words = ", ".join(f"{step} {answer[step]:.2f}" for step in STEPS)
                progress(f"{kind}, {name}, round {turn + 1}: {words} ms")
        results.empty[kind], results.deep[kind] = found["empty"], found["deep"]


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about deep tables."""
    lines = [
        f"## Deep ({results.sent:,} messages sent before and {results.queued:,} waiting, in 100 stores)",
        "",
        f"Milliseconds in one process, beside the same in tables that hold next to nothing; {results.rounds} "
        f"alternating rounds of {TIMES} times each. A ratio is the median of the ratios of each round.",
        "",
        "| | SQLite, empty | deep | PostgreSQL, empty | deep |",
        "|---|---:|---:|---:|---:|",
        *_rows(results),
        "",
        *(f"Not measured: {key} ({reason})." for key, reason in results.missing.items()),
        *([""] * bool(results.missing)),
    ]
    return [*lines, "### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]


def _rows(results: Results) -> Iterator[str]:
    for step, name in STEPS.items():
        cells = []
        for kind in DATABASES:
            for tables in (results.empty, results.deep):
                cells.append(f"{statistics.median(tables[kind][step]):.2f}" if kind in tables else "–")
        yield f"| {name} | " + " | ".join(cells) + " |"


def times_slower(deep: list[float], empty: list[float]) -> float:
    """The median of the ratios of each round."""
    return statistics.median(one / other for one, other in zip(deep, empty, strict=True))


def _budgets(results: Results) -> Iterator[str]:
    for kind, name in DATABASES.items():
        for step in ("claim", "accept", "list"):
            yield at_most(
                f"{name}: {STEPS[step].lower()}, × empty",
                1.5,
                lambda k=kind, s=step: times_slower(results.deep[k][s], results.empty[k][s]),
            )
        yield at_most(f"{name}: sweep, ms", 10, lambda k=kind: statistics.median(results.deep[k]["sweep"]))
        yield at_most(
            f"{name}: find the stores with due mail, ms", 10, lambda k=kind: statistics.median(results.deep[k]["due"])
        )
