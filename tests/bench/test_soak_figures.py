"""The long runs may be repeated in parts: what was left out keeps its figures."""

from __future__ import annotations

from tests.crash.figures import Figures


def test_a_run_that_is_repeated_alone_leaves_the_other_rows_as_they_were() -> None:
    first = Figures(kills=["| SQLite | 4 × 4 | 1 |", "| PostgreSQL | 4 × 4 | 2 |"], faults=["| disk full | healed |"])
    document = "\n".join(["# Benchmarks", "", *first.lines(), ""])
    again = Figures(kills=["| PostgreSQL | 4 × 4 | 3 |"], faults=["| Redis emptied | healed |"]).lines(document)
    rows = [line for line in again if line.startswith("| ") and not line.startswith(("| run", "| fault"))]
    assert rows == [
        "| SQLite | 4 × 4 | 1 |",
        "| PostgreSQL | 4 × 4 | 3 |",
        "| disk full | healed |",
        "| Redis emptied | healed |",
    ]
