"""Accepting: what a durable acceptance costs in process, over HTTP, and in memory."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.figures import BUDGETS_HEAD, Figures, at_least, at_most, in_turn
from bench.http_load import BATCH
from bench.installation import Installation
from bench.processes import Child, Failed, children, forget_peak, memory_bytes, progress
from bench.servers import start_postgres

# The limit for text and files together, without the text.
ATTACHMENT_BYTES = 25 * 1024 * 1024 - 10_000
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
STEPS = {
    "bare": "Insert of the same rows, bare",
    "quiet": "`enqueue` and commit, no worker told",
    "nudged": "`enqueue` and commit, a worker told",
}
KINDS = {"alive": "Route without database (/healthz)", "single": "One message a request", "batch": "Batch of 50"}


@dataclass
class Results:
    """By database: messages a second in process by step, over HTTP by kind; and the memory of one large message."""

    rounds: int
    messages: int
    inside: dict[str, dict[str, Figures]] = field(default_factory=dict)
    http: dict[str, dict[str, Figures]] = field(default_factory=dict)
    memory: list[float] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def run(*, rounds: int, messages: int, seconds: float) -> list[str]:
    """Measure everything and return the section as Markdown lines.

    Args:
        messages: how many are handed in in process for each step of a round.
        seconds: for how long each kind of request is sent in a round.
    """
    results = Results(rounds, messages)
    for kind in DATABASES:
        try:
            with _installation(kind) as installation:
                results.inside[kind] = _measure_inside(installation, results)
                results.http[kind] = _measure_http(installation, kind, results, seconds)
        except Failed as reason:
            results.missing[DATABASES[kind]] = str(reason)
            progress(f"{kind} is not measured: {reason}")
    with _noting(results, "memory"), Installation() as installation:
        results.memory = _measure_memory(installation)
    return section(results)


@contextlib.contextmanager
def _installation(kind: str) -> Iterator[Installation]:
    with contextlib.ExitStack() as stack:
        url = ""
        if kind == "postgresql":
            postgres = start_postgres()
            stack.callback(postgres.stop)
            url = postgres.new_database()
        yield stack.enter_context(Installation(database_url=url))


@contextlib.contextmanager
def _noting(results: Results, what: str) -> Iterator[None]:
    """A part that cannot be measured is missing; the others are not."""
    try:
        yield
    except Failed as reason:
        results.missing[what] = str(reason)
        progress(f"{what} is not measured: {reason}")


def _measure_inside(installation: Installation, results: Results) -> dict[str, Figures]:
    (store,) = installation.ask("stores", port=9)["ids"]
    # The bare rows are copies of a message, which must be there; and caches fill.
    installation.ask("enqueue", stores=[store], count=50)
    figures = {step: Figures() for step in STEPS}
    number = results.messages
    for turn in range(results.rounds):
        for step in in_turn(list(STEPS), turn):
            if step == "bare":
                answer = installation.ask("insert_bare", store=store, count=number)
            else:
                answer = installation.ask("enqueue", stores=[store], count=number, nudge=step == "nudged")
            figures[step].add(number / answer["seconds"], 0)
        progress(f"accepting in process, round {turn + 1}: " + _rates(figures))
    installation.ask("clear")
    return figures


def _measure_http(installation: Installation, database: str, results: Results, seconds: float) -> dict[str, Figures]:
    with load_of(installation, workers=2, threads=4) as load:
        kinds = []
        for kind in KINDS:
            with _noting(results, f"{KINDS[kind]}, {DATABASES[database]}"):
                _ask(load, kind, 0.3)
                kinds.append(kind)
        figures = {kind: Figures() for kind in kinds}
        for turn in range(results.rounds):
            for kind in in_turn(kinds, turn):
                rate = _ask(load, kind, seconds)["per_s"]
                figures[kind].add(rate * (BATCH if kind == "batch" else 1), 0)
                installation.ask("clear")
            progress(f"accepting by HTTP, round {turn + 1}: " + _rates(figures))
    return figures


def _measure_memory(installation: Installation) -> list[float]:
    """How many times its size a large attachment takes at the peak, above a worker that has had a small one."""
    with load_of(installation, workers=1, threads=4) as load:
        _ask(load, "single", 0.3)
        (web,) = children(installation.web_pid)
        before = memory_bytes(web)
        found = []
        for _ in range(3):
            forget_peak(web)
            _ask(load, "large", ATTACHMENT_BYTES)
            found.append((memory_bytes(web, peak=True) - before) / ATTACHMENT_BYTES)
            progress(f"25 MB: {found[-1]:.1f} times its size")
    return found


@contextlib.contextmanager
def load_of(installation: Installation, *, workers: int, threads: int) -> Iterator[Child]:
    """A web server of this installation with a store, and who sends requests to it."""
    (store,) = installation.ask("stores", port=9)["ids"]
    key = installation.ask("api_key", store=store)["key"]
    with installation.start_web(workers=workers, threads=threads):
        arguments = ("--port", str(installation.port), "--host", f"localhost:{installation.port}", "--key", key)
        with Child.module("bench.http_load", *arguments) as load:
            yield load


def _ask(load: Child, kind: str, value: float) -> dict[str, Any]:
    answer = load.ask(f"{kind} {value}")
    wrong = {status: number for status, number in answer["statuses"].items() if not status.startswith("2")}
    if wrong or not answer["statuses"]:
        raise Failed(f"{kind} was answered with {', '.join(wrong) or 'nothing'}")
    return answer


def _rates(figures: dict[str, Figures]) -> str:
    return ", ".join(f"{key} {one.rates[-1]:.0f}/s" for key, one in figures.items() if one.rates)


# What that says ------------------------------------------------------------------------------------------------------


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about accepting."""
    lines = [
        f"## Accepting ({results.rounds} alternating rounds, messages of 5 KB)",
        "",
        "Every message is durable before it counts: SQLite in WAL mode with synchronous=FULL, PostgreSQL with "
        "synchronous_commit=on. HTTP: gunicorn with 2 workers of 4 threads, 8 connections kept open, the client on "
        "the same two cores.",
        "",
        f"### In process, {results.messages:,} messages a round, a commit each",
        "",
        *_table(results.inside, STEPS, "messages/s"),
        "",
        "### By HTTP",
        "",
        *_table(results.http, KINDS, "messages/s"),
        "",
    ]
    if results.memory:
        peaks = ", ".join(f"{one:.1f}" for one in results.memory)
        lines += [f"An attachment of 25 MB takes, at the peak, {peaks} times its size of the web worker’s memory.", ""]
    lines += [f"Not measured: {key} ({reason})." for key, reason in results.missing.items()]
    lines += [""] * bool(results.missing)
    return [*lines, "### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]


def _table(figures: dict[str, dict[str, Figures]], names: dict[str, str], unit: str) -> list[str]:
    kinds = [kind for kind in DATABASES if figures.get(kind)]
    lines = ["| | " + " | ".join(f"{DATABASES[kind]}, {unit}" for kind in kinds) + " |", "|---|" + "---:|" * len(kinds)]
    for key, name in names.items():
        cells = [f"{figures[kind][key].rate:,.0f}" if key in figures[kind] else "–" for kind in kinds]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def nudge_share(figures: dict[str, Figures]) -> float:
    """What telling a worker costs, as a share of the bare insert: the median of all rounds."""
    rounds = zip(*(figures[step].rates for step in STEPS), strict=True)
    return statistics.median((1 / nudged - 1 / quiet) * bare for bare, quiet, nudged in rounds)


def _budgets(results: Results) -> Iterator[str]:
    for kind, share in (("sqlite", 0.20), ("postgresql", 0.30)):
        name = DATABASES[kind]
        yield at_most(
            f"In process, {name}: the nudge, × bare insert", share, lambda k=kind: nudge_share(results.inside[k])
        )
    for kind, name in DATABASES.items():
        yield at_least(
            f"HTTP, {name}: one message a request, × route without database",
            0.6,
            lambda k=kind: results.http[k]["single"].faster_than(results.http[k]["alive"]),
        )
        yield at_least(
            f"HTTP, {name}: batch of 50, × one message a request",
            12,
            lambda k=kind: results.http[k]["batch"].faster_than(results.http[k]["single"]),
        )
    yield at_most("Memory for an attachment of 25 MB, × its size", 4, lambda: _largest(results.memory))


def _largest(memory: list[float]) -> float:
    if not memory:
        raise KeyError("memory")
    return max(memory)
