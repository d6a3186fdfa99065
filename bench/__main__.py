"""Run every benchmark and write the table."""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from bench import pages

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds; the median counts")
    parser.add_argument("--stores", type=int, default=1000)
    arguments = parser.parse_args()
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Absolute figures depend on the machine and its load; compare within one run.",
        f"Python {platform.python_version()} on {platform.machine()}.",
        "",
        *pages.run(rounds=arguments.rounds, stores=arguments.stores),
    ]
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
