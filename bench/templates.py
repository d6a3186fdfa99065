"""Templates: how fast a shop's mails are made of data, beside Jinja's sandbox, and what that costs when they come in.

Jinja fills in a page of the same size, compiled to Python, with the order's names and rows. It counts no steps, checks
no data, writes no amounts as a locale wants them, inlines no styles and derives no text; so ours is measured without
those two steps as well.
"""

from __future__ import annotations

import contextlib
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Template
from jinja2.sandbox import SandboxedEnvironment

from bench.accepting import load_of
from bench.figures import BUDGETS_HEAD, Figures, at_least, in_turn
from bench.installation import Installation
from bench.processes import Child, Failed, progress
from mail.templates import finishing, kinds, rendering
from mail.templates.rendering import Look, Rendered

KIND = kinds.ORDER_CONFIRMATION
LOOK = Look("Acme Store", address=("1 Quay", "Dublin"), legal=("VAT IE0000000X",), locale="en-IE")
SOURCE = kinds.default_source(KIND, "en")
REPEAT = 40
LINES = (5, 50)
WAYS = {
    "whole": "Storepost, a whole mail",
    "unlined": "Storepost without inlining",
    "textless": "Storepost with a written text, none derived",
    "alone": "Storepost, the page alone: neither inlined nor with a derived text",
    "jinja": "Jinja SandboxedEnvironment, the page alone",
}
KINDS = {"written": "Subject, text and HTML sent as they are", "template": "The same by template and data"}


@dataclass
class Results:
    """By number of lines and way, mails a second; by kind of request, messages a second."""

    rounds: int
    made: dict[int, dict[str, Figures]] = field(default_factory=dict)
    http: dict[str, Figures] = field(default_factory=dict)
    size_bytes: dict[int, int] = field(default_factory=dict)
    missing: str = ""


def run(*, rounds: int, seconds: float) -> list[str]:
    """Measure everything and return the section as Markdown lines.

    Args:
        seconds: for how long each kind of request is sent in a round.
    """
    results = Results(rounds)
    for lines in LINES:
        results.made[lines] = _measure_making(lines, results)
    try:
        results.http = _measure_http(rounds, seconds)
    except Failed as reason:
        results.missing = str(reason)
        progress(f"accepting by template is not measured: {reason}")
    return section(results)


def order_of(lines: int) -> dict[str, Any]:
    """The sample order with so many lines."""
    data = copy.deepcopy(kinds.sample(KIND, "en"))
    some = data["order"]["lines"]
    data["order"]["lines"] = [{**some[number % len(some)], "quantity": number + 1} for number in range(lines)]
    return data


def _measure_making(lines: int, results: Results) -> dict[str, Figures]:
    data = order_of(lines)
    whole = rendering.render(KIND, SOURCE, data, LOOK, "en")
    results.size_bytes[lines] = len(whole.html.encode())
    page = jinja_page(whole, data)
    written = kinds.Source(SOURCE.subject, SOURCE.preheader, SOURCE.html, "Your order {{ order.number }}")
    ways: dict[str, Callable[[], object]] = {
        "whole": lambda: rendering.render(KIND, SOURCE, data, LOOK, "en"),
        "unlined": lambda: _without_inlining(SOURCE, data),
        "textless": lambda: rendering.render(KIND, written, data, LOOK, "en"),
        "alone": lambda: _without_inlining(written, data),
        "jinja": lambda: page.render(data),
    }
    figures = {way: Figures() for way in ways}
    for turn in range(results.rounds):
        for way in in_turn(list(ways), turn):
            began = time.process_time()
            for _ in range(REPEAT):
                ways[way]()
            spent = time.process_time() - began
            figures[way].add(REPEAT / spent, spent / REPEAT * 1000)
    progress(f"{lines} lines: " + ", ".join(f"{way} {one.rate:.0f}/s" for way, one in figures.items()))
    return figures


def _without_inlining(source: kinds.Source, data: dict[str, Any]) -> Rendered:
    inlined = finishing.inlined
    finishing.inlined = str
    try:
        return rendering.render(KIND, source, data, LOOK, "en")
    finally:
        finishing.inlined = inlined


def jinja_page(mail: Rendered, data: dict[str, Any]) -> Template:
    """The page of a mail as somebody would write it for Jinja: the rows of the order in a loop, a name in each place.

    Its words and markup are those of the finished page, so that both write as much.
    """
    head, _, rest = mail.html.partition(data["order"]["number"])
    name = data["order"]["lines"][0]["name"]
    before, _, behind = rest.partition(name)
    rows = behind.rpartition(data["order"]["lines"][-1]["name"])
    row_size = len(rows[0]) // max(len(data["order"]["lines"]) - 1, 1)
    row = (
        "{% for line in order.lines %}<p>{{ line.name }} {{ line.variant }} {{ line.quantity }} × "
        "{{ '%.2f' | format(line.total | float) }} {{ order.currency }}</p>"
        + "x" * max(row_size - 100, 0)
        + "{% endfor %}"
    )
    environment = SandboxedEnvironment(autoescape=True)
    raw = ("{% raw %}", "{% endraw %}")
    source = head.join(raw) + "{{ order.number }}" + before.join(raw) + row + rows[2].join(raw) + "{{ order.total }}"
    return environment.from_string(source)


def _measure_http(rounds: int, seconds: float) -> dict[str, Figures]:
    figures = {kind: Figures() for kind in KINDS}
    with contextlib.ExitStack() as stack:
        installation = stack.enter_context(Installation())
        load: Child = stack.enter_context(load_of(installation, workers=2, threads=4))
        for kind in KINDS:
            _ask(load, kind, 1.0)
        for turn in range(rounds):
            for kind in in_turn(list(KINDS), turn):
                figures[kind].add(_ask(load, kind, seconds), 0)
                installation.ask("clear")
            rates = ", ".join(f"{kind} {one.rates[-1]:.0f}/s" for kind, one in figures.items())
            progress(f"accepting by HTTP, round {turn + 1}: {rates}")
    return figures


def _ask(load: Child, kind: str, seconds: float) -> float:
    answer = load.ask(f"{kind} {seconds}")
    if set(answer["statuses"]) != {"202"}:
        raise Failed(f"{kind} was answered with {answer['statuses']}")
    return float(answer["per_s"])


# What that says ------------------------------------------------------------------------------------------------------


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about templates."""
    sizes = ", ".join(f"{size // 1024} KB with {lines} lines" for lines, size in results.size_bytes.items())
    lines = [
        f"## Templates ({results.rounds} alternating rounds of {REPEAT} order confirmations; one process)",
        "",
        f"Each mail is the default order confirmation in a store’s look: {sizes}. Forty lines are shown, further ones "
        "counted. By HTTP: SQLite, gunicorn with 2 workers of 4 threads, 8 connections, the client on the same cores.",
        "",
        "| | " + " | ".join(f"{count} lines, mails/s | CPU ms each" for count in LINES) + " |",
        "|---|" + "---:|---:|" * len(LINES),
    ]
    for way, name in WAYS.items():
        cells = (f"{results.made[count][way].rate:,.0f} | {results.made[count][way].cpu:.2f}" for count in LINES)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| accepted by HTTP, 5 lines | messages/s |", "|---|---:|"]
    lines += [f"| {KINDS[kind]} | {one.rate:,.0f} |" for kind, one in results.http.items()]
    if results.missing:
        lines += ["", f"Not measured: accepting by template ({results.missing})."]
    five = results.made[LINES[0]]
    return [
        *lines,
        "",
        *BUDGETS_HEAD,
        at_least("Whole mails a second, 5 lines", 300, lambda: five["whole"].rate),
        at_least("By HTTP: by template, × the same sent as it is", 0.3, lambda: _http_ratio(results)),
    ]


def _http_ratio(results: Results) -> float:
    if not results.http:
        raise KeyError("HTTP")
    by_template, written = results.http["template"].rates, results.http["written"].rates
    return statistics.median(one / other for one, other in zip(by_template, written, strict=True))
