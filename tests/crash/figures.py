"""What the long runs measured, for docs/benchmarks.md."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bench.__main__ import DOCUMENT, with_sections

if TYPE_CHECKING:
    from tests.crash.harness import Verdict
    from tests.crash.test_random_kills import Run

KILLS_HEAD = "| run | workers × threads | messages | kills | lost | doubles | marked | parked | all through after, s |"
FAULTS_HEAD = "| fault | what came of it |"


@dataclass
class Figures:
    """Rows of the tables, in the order of the tests."""

    kills: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add_kills(self, name: str, run: Run, verdict: Verdict, healed_s: float) -> None:
        self.kills.append(
            f"| {name} | {run.workers} × {run.threads} | {verdict.messages:,} | {verdict.kills} | 0 | "
            f"{verdict.doubles} | {verdict.marked} | {verdict.parked} | {healed_s:.1f} |"
        )

    def add_fault(self, fault: str, came: str) -> None:
        self.faults.append(f"| {fault} | {came} |")

    def lines(self, document: str = "") -> list[str]:
        """The part as Markdown. Runs that were left out this time keep the rows that the document has of them."""
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return [
            "## Soak (worker processes killed with -9 at random, and faults of everything around them)",
            "",
            f"{now}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores. "
            "Written by `make soak`. Lost is what was accepted and reached no server; every double is identical, and "
            "its message is marked. A run that was left out this time keeps its figures.",
            "",
            KILLS_HEAD,
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            *_with_earlier(self.kills, document, KILLS_HEAD),
            "",
            FAULTS_HEAD,
            "|---|---|",
            *_with_earlier(self.faults, document, FAULTS_HEAD),
        ]

    def write(self) -> None:
        """Put the part into the document; the other parts stay as they are."""
        old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
        DOCUMENT.write_text(with_sections(old, {"Soak": self.lines(old)}), encoding="utf-8")


def _with_earlier(rows: list[str], document: str, head: str) -> list[str]:
    """These rows among those below this head in the document: a row of the same name takes the place of the old one."""
    _, _, below = document.partition(f"{head}\n")
    table = below.partition("\n\n")[0].splitlines()[1:]  # without the line of dashes
    named = {row.split("|")[1]: row for row in table}
    return list((named | {row.split("|")[1]: row for row in rows}).values())
