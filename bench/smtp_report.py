"""What the SMTP figures say: tables, and each budget with its figure and whether it is reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from bench.figures import BUDGETS_HEAD, Figures, at_least, at_most

if TYPE_CHECKING:
    from bench.smtp import Results

ROUND_TRIPS_PER_S = 1000 / 40

NAMES = {
    "ours": "Storepost, 1 in flight",
    "ours-8": "Storepost, window of 8",
    "noop": "(NOOP instead of a message: one round trip)",
    "smtplib": "smtplib, kept open",
    "smtplib-each": "smtplib, connection per message",
    "aiosmtplib": "aiosmtplib, kept open",
    "nodemailer": "Nodemailer, pool of 1",
    "smtp-source": "Postfix smtp-source, kept open (no AUTH)",
    "ours-tls": "context kept",
    "ours-new-tls": "new default context each time",
}


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about SMTP."""
    sink = results.sink
    lines = [
        f"## SMTP ({results.rounds} alternating rounds, 5 KB messages, XOAUTH2, one connection)",
        "",
        "Every client is a process of its own and sends the same messages to the same sink, which compares each one "
        f"byte for byte: {sink['messages']:,} arrived, {sink['damaged']} damaged, {sink['violations']} violations of "
        f"the protocol. The sink spends {results.sink_cpu_ms:.3f} ms of CPU on a message of ours. Sign-in and start-up "
        "are not counted; a ratio is the median of the ratios of each round. "
        + ("The clients have one core, server and proxy another." if results.cores > 1 else "All share one core."),
        "“40 ms” is a proxy that holds every byte for 20 ms each way. What a round trip really takes on this machine "
        f"is measured beside the clients: {1000 / results.figures['far']['noop'].rate:.1f} ms.",
        "",
    ]
    headings = {
        "near": "0 ms, server with PIPELINING and CHUNKING",
        "far": "40 ms, server with PIPELINING and CHUNKING",
        "far-pipelining": "40 ms, server with PIPELINING only",
        "far-plain": "40 ms, server with neither",
    }
    for key, heading in headings.items():
        lines += [f"### {heading}", "", *_table(results.figures[key]), ""]
    lines += ["### Opening a connection with TLS, signing in, closing", "", *_tls_table(results.figures["tls"]), ""]
    for client, reason in results.missing.items():
        lines.append(f"Not measured: {NAMES[client]} ({reason}).")
    if results.missing:
        lines.append("")
    lines += ["### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]
    return lines


def _table(figures: Mapping[str, Figures]) -> list[str]:
    lines = [
        "| client | messages/s | CPU ms per message | × smtplib kept open | × Nodemailer |",
        "|---|---:|---:|---:|---:|",
    ]
    for client, own in figures.items():
        ratios = [
            f"{own.faster_than(figures[other]):.2f}" if other in figures else "–" for other in ("smtplib", "nodemailer")
        ]
        lines.append(f"| {NAMES[client]} | {own.rate:,.1f} | {own.cpu:.3f} | {ratios[0]} | {ratios[1]} |")
    return lines


def _tls_table(figures: Mapping[str, Figures]) -> list[str]:
    lines = ["| | connections/s | CPU ms per connection |", "|---|---:|---:|"]
    return lines + [f"| {NAMES[client]} | {own.rate:,.1f} | {own.cpu:.2f} |" for client, own in figures.items()]


def _budgets(results: Results) -> Iterator[str]:
    near, far = results.figures["near"], results.figures["far"]
    some, none, tls = (results.figures[key] for key in ("far-pipelining", "far-plain", "tls"))

    def faster(figures: Mapping[str, Figures], client: str, other: str) -> Callable[[], float]:
        return lambda: figures[client].faster_than(figures[other])

    def cpu(figures: Mapping[str, Figures], client: str, other: str) -> Callable[[], float]:
        return lambda: figures[client].cpu_against(figures[other])

    yield at_least("40 ms, 1 in flight: of one message per round trip as measured", 0.92, faster(far, "ours", "noop"))
    yield at_least("40 ms, 1 in flight: of 25 messages/s", 0.92, lambda: far["ours"].rate / ROUND_TRIPS_PER_S)
    yield at_least("40 ms, 1 in flight: × smtplib kept open", 3.8, faster(far, "ours", "smtplib"))
    yield at_least("40 ms, 1 in flight: × Nodemailer", 2, faster(far, "ours", "nodemailer"))
    yield at_least("40 ms, window of 8: × smtplib kept open", 10, faster(far, "ours-8", "smtplib"))
    yield at_least("40 ms, window of 8: × Nodemailer", 5, faster(far, "ours-8", "nodemailer"))
    yield at_least(
        "40 ms, PIPELINING only: of half a message per round trip as measured",
        0.93,
        lambda: 2 * some["ours"].faster_than(some["noop"]),
    )
    yield at_least(
        "40 ms, PIPELINING only: of 12.5 messages/s", 0.93, lambda: some["ours"].rate / ROUND_TRIPS_PER_S * 2
    )
    yield at_least("40 ms, neither: × smtplib kept open", 1, faster(none, "ours", "smtplib"))
    yield at_least("0 ms, 1 in flight: × smtp-source", 3, faster(near, "ours", "smtp-source"))
    yield at_least("0 ms, 1 in flight: × smtplib kept open", 4, faster(near, "ours", "smtplib"))
    yield at_least("0 ms, 1 in flight: × Nodemailer", 5, faster(near, "ours", "nodemailer"))
    yield at_least("0 ms, window of 8: × smtp-source", 3, faster(near, "ours-8", "smtp-source"))
    yield at_least("0 ms, window of 8: × smtplib kept open", 4, faster(near, "ours-8", "smtplib"))
    yield at_least("0 ms, window of 8: × Nodemailer", 5, faster(near, "ours-8", "nodemailer"))
    yield at_most("0 ms, 1 in flight: CPU × smtplib kept open", 0.25, cpu(near, "ours", "smtplib"))
    yield at_most("0 ms, window of 8: CPU × smtplib kept open", 0.25, cpu(near, "ours-8", "smtplib"))
    yield at_most("40 ms, 1 in flight: CPU × smtplib kept open", 1, cpu(far, "ours", "smtplib"))
    yield at_most("TLS and AUTH: CPU × a new default context", 0.1, cpu(tls, "ours-tls", "ours-new-tls"))
