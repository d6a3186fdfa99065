"""Outboxes and queues side by side: the same 2,000 messages handed in, then delivered to the same server.

Each side is a process of its own, kept through all rounds. Handing in and delivering are measured apart: a side gets
its queue filled while nobody delivers, then a starting signal; the server says when the last message came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import delivery_report
from bench.delivery_sides import CeleryMail, DjangoOutbox, HueyMail, Nodemailer, Ours, Side, Took
from bench.figures import Figures, in_turn
from bench.processes import Failed, progress
from bench.scenery import FAR, NEAR, Scenery

# At 40 ms each side gets about what it sends in a few seconds; ours needs enough for a long backlog.
FAR_MESSAGES = {"ours": 300, "nodemailer": 150, "django": 100}


@dataclass
class Measured:
    """One side, round by round: delivering alone, and from handing in to delivered."""

    deliver: Figures = field(default_factory=Figures)
    whole: Figures = field(default_factory=Figures)
    accept: Figures = field(default_factory=Figures)


@dataclass
class Results:
    """What one run found out; `missing` says why a side was not measured."""

    rounds: int
    messages: int
    figures: dict[str, dict[str, Measured]] = field(default_factory=lambda: {NEAR: {}, FAR: {}})
    missing: dict[str, str] = field(default_factory=dict)


def sides(scenery: Scenery, place: str) -> dict[str, Callable[[], Side]]:
    """How to make each side of a scene, by its key: who, on which database, with how many connections."""
    ports = scenery.ports[place]

    def ours(kind: str, connections: int) -> Callable[[], Side]:
        url = "" if kind == "sqlite" else scenery.new_database(kind, "ours")
        return lambda: Ours(scenery.sink, ports["signed"], url, connections)

    def django(kind: str, connections: int) -> Callable[[], Side]:
        name = f"django-{place}-{connections}"
        return lambda: DjangoOutbox(
            scenery.sink, ports["open"], scenery.new_database(kind, name), connections, scenery.directory / name
        )

    if place == FAR:
        return {
            "ours sqlite 3": ours("sqlite", 3),
            "django sqlite 3": django("sqlite", 3),
            "nodemailer 3": lambda: Nodemailer(scenery.sink, ports["signed"], scenery.directory, 3),
        }
    return {
        "ours sqlite 1": ours("sqlite", 1),
        "django sqlite 1": django("sqlite", 1),
        "ours postgresql 1": ours("postgresql", 1),
        "django postgresql 1": django("postgresql", 1),
        "ours postgresql 2": ours("postgresql", 2),
        "django postgresql 2": django("postgresql", 2),
        "huey sqlite 1": lambda: HueyMail(scenery.sink, ports["open"], scenery.new_database("sqlite", "huey")),
        "celery redis 1": lambda: CeleryMail(scenery.sink, ports["open"], scenery.redis.url, scenery.directory),
        "nodemailer 1": lambda: Nodemailer(scenery.sink, ports["signed"], scenery.directory, 1),
    }


def run(*, rounds: int, messages: int, cores: int) -> list[str]:
    """Measure everything and return the section as Markdown lines."""
    results = Results(rounds, messages)
    with Scenery(cores=cores) as scenery:
        for place in (NEAR, FAR):
            _play(scenery, place, results)
    return delivery_report.section(results)


def _play(scenery: Scenery, place: str, results: Results) -> None:
    with contextlib.ExitStack() as stack:
        running: dict[str, Side] = {}
        for key, make in sides(scenery, place).items():
            try:
                side = make()
                stack.callback(side.close)
                _round(side, 20)
            except Failed as reason:
                results.missing[f"{key}, {place}"] = str(reason)
                progress(f"{key} is not measured: {reason}")
                continue
            running[key], results.figures[place][key] = side, Measured()
        for turn in range(results.rounds):
            for key in in_turn(list(running), turn):
                number = results.messages if place == NEAR else FAR_MESSAGES[key.split()[0]]
                try:
                    accept, deliver = _round(running[key], number)
                except Failed as reason:
                    # Compared are only those who went all rounds.
                    results.missing[f"{key}, {place}"] = f"round {turn + 1}: {reason}"
                    del running[key], results.figures[place][key]
                    continue
                note(results.figures[place][key], number, accept, deliver)
                progress(f"{place}, round {turn + 1}: {key} {number / deliver.seconds:.0f}/s")


def _round(side: Side, number: int) -> tuple[Took, Took]:
    accept = side.queue(number)
    deliver = side.deliver(number)
    side.clear()
    return accept, deliver


def note(measured: Measured, number: int, accept: Took, deliver: Took) -> None:
    """Add one round; a side that has nothing to be handed in has no such figures."""
    whole = Took(accept.seconds + deliver.seconds, accept.cpu_s + deliver.cpu_s)
    for figures, took in ((measured.accept, accept), (measured.deliver, deliver), (measured.whole, whole)):
        if took.seconds:
            figures.add(number / took.seconds, took.cpu_s / number * 1000)
