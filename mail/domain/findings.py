"""What the domain check hands to whoever shows it: plain records, words included. Pure; no I/O."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """From good to bad; UNKNOWN says nothing about the domain."""

    OK = "ok"
    HINT = "hint"
    UNKNOWN = "unknown"
    MEND = "mend"


_ORDER = list(Verdict)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the one that a reader has to know first; OK of none."""
    return max(verdicts, key=_ORDER.index, default=Verdict.OK)


@dataclass(frozen=True)
class Point:
    """One sentence about what was found, and how much it matters."""

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Publish:
    """A DNS record to publish; without a `value`, `source` says where to read it."""

    kind: str
    name: str
    value: str
    source: str = ""
    replaces: bool = False


@dataclass(frozen=True)
class Finding:
    """What was found about one kind of record.

    Attributes:
        subject: "SPF", "DKIM", "DMARC" or "Domain".
        title: the outcome in a few words.
        meaning: what follows for the mail of the store.
        points: everything found, the worst first.
        found: the records as they are published, as (name, text).
        publish: records to publish.
        steps: what to do beside publishing, in order.
        command: PowerShell that belongs to the steps.
        asks_selector: typing a DKIM selector would tell more.
    """

    subject: str
    verdict: Verdict
    title: str
    meaning: str = ""
    points: tuple[Point, ...] = ()
    found: tuple[tuple[str, str], ...] = ()
    publish: tuple[Publish, ...] = ()
    steps: tuple[str, ...] = ()
    command: str = ""
    asks_selector: bool = False


@dataclass(frozen=True)
class DomainReport:
    """The answer to one check.

    Attributes:
        domain: as people write it; `name` as it stands in DNS.
        verdict: of the domain as a whole. UNKNOWN: nothing could be learned, which is no fault of the domain.
        provider: whose rules it was judged by; empty when they are not known.
        asked: questions put to the name server.
    """

    domain: str
    name: str
    verdict: Verdict
    headline: str
    sentence: str
    provider: str = ""
    findings: tuple[Finding, ...] = ()
    asked: int = 0

    @property
    def asks_selector(self) -> bool:
        return any(finding.asks_selector for finding in self.findings)


def sorted_points(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the points, each once, the worst first."""
    return tuple(sorted(dict.fromkeys(points), key=lambda point: -_ORDER.index(point.verdict)))
