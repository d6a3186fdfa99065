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

    def lines(self) -> list[str]:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        return [
            "## Soak (worker processes killed with -9 at random, and faults of everything around them)",
            "",
            f"{now}, Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores. "
            "Written by `make soak`. Lost is what was accepted and reached no server; every double is identical, and "
            "its message is marked.",
            "",
            "| run | workers × threads | messages | kills | lost | doubles | marked | parked | all through after, s |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            *self.kills,
            "",
            "| fault | what came of it |",
            "|---|---|",
            *self.faults,
        ]

    def write(self) -> None:
        """Put the part into the document; the other parts stay as they are."""
        old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
        DOCUMENT.write_text(with_sections(old, {"Soak": self.lines()}), encoding="utf-8")
