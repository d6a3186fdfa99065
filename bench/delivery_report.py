"""What the delivery figures say: a table for each scene, and the budgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from bench.figures import BUDGETS_HEAD, at_least, at_most

if TYPE_CHECKING:
    from bench.delivery import Measured, Results

NAMES = {
    "ours": "Storepost",
    "django": "django-post_office",
    "huey": "Huey, a task with Flask-Mailman each",
    "celery": "Celery, a task with Flask-Mailman each",
    "nodemailer": "Nodemailer, pooled, from memory",
}
STORAGES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Redis"}


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about delivery."""
    lines = [
        f"## Delivery ({results.rounds} alternating rounds, {results.messages:,} messages of 5 KB each)",
        "",
        "Handed in one by one, then delivered from a starting signal until the server has the last one. Servers, "
        "databases and brokers have one core, the compared programs another; CPU is that of the programs. SQLite "
        "and PostgreSQL wait for the disk at every commit, on all sides; Redis keeps nothing. Ours signs in, the "
        "others except Nodemailer do not need to. Connections are kept as long as each program keeps them by itself.",
        "",
    ]
    headings = {"near": "0 ms, server with PIPELINING and CHUNKING", "far": "40 ms, 3 connections"}
    for place, heading in headings.items():
        lines += [f"### {heading}", "", *_table(results.figures[place]), ""]
    lines += [f"Not measured: {key} ({reason})." for key, reason in results.missing.items()]
    lines += [""] * bool(results.missing)
    return [*lines, "### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]


def _table(figures: dict[str, Measured]) -> list[str]:
    lines = [
        "| program | stored in | connections | accepted/s | delivered/s | both/s | CPU ms: deliver | both |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for key, one in figures.items():
        who, *words = key.split()
        storage = STORAGES.get(words[0], "memory")
        accepted = f"{one.accept.rate:,.0f}" if one.accept.rates else "–"
        both = f"{one.whole.rate:,.0f}" if one.accept.rates else "–"
        whole_cpu = f"{one.whole.cpu:.2f}" if one.accept.rates else "–"
        lines.append(
            f"| {NAMES[who]} | {storage} | {words[-1]} | {accepted} | {one.deliver.rate:,.0f} | {both} | "
            f"{one.deliver.cpu:.2f} | {whole_cpu} |"
        )
    return lines


def _budgets(results: Results) -> Iterator[str]:
    near, far = results.figures["near"], results.figures["far"]

    def faster(figures: dict[str, Measured], one: str, other: str) -> Callable[[], float]:
        return lambda: figures[one].deliver.faster_than(figures[other].deliver)

    def cpu(one: str, other: str) -> Callable[[], float]:
        return lambda: near[one].whole.cpu_against(near[other].whole)

    yield at_least("0 ms, SQLite: × django-post_office", 3, faster(near, "ours sqlite 1", "django sqlite 1"))
    yield at_least(
        "0 ms, PostgreSQL: × django-post_office", 3, faster(near, "ours postgresql 1", "django postgresql 1")
    )
    yield at_least(
        "0 ms, PostgreSQL, 2 connections: × django-post_office with 2",
        5,
        faster(near, "ours postgresql 2", "django postgresql 2"),
    )
    yield at_least(
        "0 ms, PostgreSQL, 2 connections: × django-post_office with 1",
        5,
        faster(near, "ours postgresql 2", "django postgresql 1"),
    )
    yield at_least("0 ms, SQLite: × a Huey task each", 5, faster(near, "ours sqlite 1", "huey sqlite 1"))
    yield at_least("0 ms, SQLite: × a Celery task each", 5, faster(near, "ours sqlite 1", "celery redis 1"))
    yield at_least("40 ms, 3 connections: × django-post_office", 3.8, faster(far, "ours sqlite 3", "django sqlite 3"))
    yield at_most("CPU, both, SQLite: × django-post_office", 0.45, cpu("ours sqlite 1", "django sqlite 1"))
    yield at_most("CPU, both, PostgreSQL: × django-post_office", 0.45, cpu("ours postgresql 1", "django postgresql 1"))
