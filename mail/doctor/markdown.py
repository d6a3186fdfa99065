"""The support report of a test: Markdown that says to somebody who was not there what was tried and what came of it.

Everything in it was cleaned of secrets before it was stored; it passes the redactor once more on its way out.
Source: security.md 22, product.md 5.
"""

from __future__ import annotations

import platform
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mail.doctor.steps import StepLine, StepState
from mail.explain import Explanation
from security.redact import one_line, redact

_WORDS = {
    StepState.DONE: "done",
    StepState.FAILED: "failed",
    StepState.NOT_RUN: "not run",
    StepState.RUNNING: "running",
}
_TERMS = {
    "token_url": "Access Token URL",
    "grant_type": "Grant Type",
    "scope": "Scope",
    "client_id": "Client Id",
    "tenant_id": "Tenant Id",
    "login": "Signs in as",
    "from_email": "Sends as",
}


@dataclass(frozen=True)
class Finding:
    """What failed: the explanation shown, and what it was found by.

    Attributes:
        row: number of the catalogue row that fits the words, whatever was deduced from more than them.
        seen: what `mail.doctor.probes.probe` saw.
    """

    explanation: Explanation
    row: int | None
    code: str
    deduced: str
    reply_code: int | None
    speaker: str
    words: str
    seen: Mapping[str, Any]


def support_report(
    title: str,
    about: Iterable[tuple[str, str]],
    values: Mapping[str, Any],
    steps: Iterable[StepLine],
    finding: Finding | None,
    *,
    started_at: datetime,
    finished_at: datetime | None,
) -> str:
    """Return the report.

    Args:
        about: what was tested, as (term, value).
        values: the values of the screen (`mail.drafts.values_for_words`); empty ones are left out.
    """
    lines = [f"## {title}", ""]
    ended = f", ended {finished_at:%H:%M:%S}" if finished_at else ""
    versions = f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}"
    times = f"{started_at:%Y-%m-%d %H:%M:%S} UTC{ended}"
    told = (*about, *_tested(values), ("Started", times), ("Runs on", versions))
    lines += [f"- {term}: {_inline(value)}" for term, value in told if value]
    if finding is not None:
        lines += ["", *_finding(finding)]
    steps = tuple(steps)
    lines += ["", "### Steps", "", "| Step | Result | ms | Learned |", "| --- | --- | ---: | --- |"]
    for step in steps:
        ms = "" if step.ms is None else f"{step.ms:.0f}"
        lines.append(f"| {step.label} | {_WORDS[step.state]} | {ms} | {_inline(step.fact).replace('|', '/')} |")
    for step in steps:
        if step.details:
            lines += ["", f"**{step.label}**", "", *(f"- {term}: {_inline(value)}" for term, value in step.details)]
    return redact("\n".join(lines))


def _tested(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if values:
        yield "Mail server", f"{values.get('smtp_host') or 'not set'}, port {values.get('smtp_port') or 'not set'}"
    if values.get("use_ssl") is False:
        yield "Encryption", "Enable SSL For SMTP is off"
    for name, term in _TERMS.items():
        yield term, str(values.get(name) or "")


def _finding(finding: Finding) -> list[str]:
    told, number = finding.explanation, finding.row
    by = [f"row {number} of the error catalogue" if number else "not in the error catalogue", f"code {finding.code}"]
    by += [f"deduced {finding.deduced}"] if finding.deduced else []
    by += [f"reply {finding.reply_code}"] if finding.reply_code else []
    lines = [
        "### Finding",
        "",
        f"{_inline(told.headline)} ({', '.join(by)}). Side: {told.side}.",
        "",
        _inline(told.meaning),
    ]
    if finding.words:
        lines += ["", f"{finding.speaker} said:" if finding.speaker else "In technical words:"]
        lines += ["", "    " + _inline(finding.words)]
    if finding.seen:
        lines += ["", "Seen from outside afterwards: " + ", ".join(f"{k} {v}" for k, v in finding.seen.items())]
    return lines


def _inline(text: str) -> str:
    return one_line(text, limit=2_000)
