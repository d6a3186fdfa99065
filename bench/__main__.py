"""Run every benchmark, or one part, and write the tables; the tables of parts that were not run stay as they are."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
HEAD = [
    "# Benchmarks",
    "",
    "Written by `make bench`. Absolute figures depend on the machine and its load; compare within one run.",
]


# The parts import what they measure only when they run: one part does not need the other's packages.
def _pages(arguments: argparse.Namespace) -> list[str]:
    from bench import pages

    return pages.run(rounds=arguments.rounds, stores=arguments.stores)


def _smtp(arguments: argparse.Namespace) -> list[str]:
    from bench import smtp

    return smtp.run(rounds=arguments.rounds, seconds=arguments.seconds, cores=arguments.cores)


def _composing(arguments: argparse.Namespace) -> list[str]:
    from bench import composing

    return composing.run(rounds=arguments.rounds)


def _delivery(arguments: argparse.Namespace) -> list[str]:
    from bench import delivery

    return delivery.run(rounds=_fewer(arguments), messages=arguments.messages, cores=arguments.cores)


def _accepting(arguments: argparse.Namespace) -> list[str]:
    from bench import accepting

    return accepting.run(rounds=_fewer(arguments), messages=arguments.messages // 5, seconds=arguments.seconds)


def _templates(arguments: argparse.Namespace) -> list[str]:
    from bench import templates

    return templates.run(rounds=_fewer(arguments), seconds=arguments.seconds)


def _engine(arguments: argparse.Namespace) -> list[str]:
    from bench import engine

    return engine.run(rounds=_fewer(arguments), messages=arguments.messages, pick_ups=100)


def _faults(arguments: argparse.Namespace) -> list[str]:
    from bench import faults

    return faults.run()


def _scale(arguments: argparse.Namespace) -> list[str]:
    from bench import scale

    return scale.run(stores=arguments.stores)


def _deep(arguments: argparse.Namespace) -> list[str]:
    from bench import deep

    return deep.run(rounds=_fewer(arguments), sent=arguments.sent, queued=arguments.sent // 10)


def _fewer(arguments: argparse.Namespace) -> int:
    """Rounds of the parts whose rounds take a minute: as few as a median still means something with."""
    return min(int(arguments.rounds), 5)


# First word of the part's heading in the document → what measures it, in the order of the document.
PARTS: dict[str, Callable[[argparse.Namespace], list[str]]] = {
    "Pages": _pages,
    "Composing": _composing,
    "SMTP": _smtp,
    "Delivery": _delivery,
    "Accepting": _accepting,
    "Templates": _templates,
    "Engine": _engine,
    "Faults": _faults,
    "Scale": _scale,
    "Deep": _deep,
}
# Takes long: measured only when it is asked for.
LONG = "Deep"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench")
    names = sorted(name.lower() for name in PARTS)
    parser.add_argument("--only", choices=names, help="run this part and keep the other tables")
    parser.add_argument("--deep", action="store_true", help="the part with the large tables too")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds; the median counts; long ones: 5")
    parser.add_argument("--stores", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=2000, help="delivery, engine: in each queue")
    parser.add_argument("--sent", type=int, default=1_000_000, help="deep: messages sent before; a tenth waits")
    parser.add_argument("--seconds", type=float, default=1.0, help="about what a client gets in each round")
    parser.add_argument("--cores", type=int, choices=[1, 2], default=2, help="1 puts servers and clients on one core")
    arguments = parser.parse_args()
    for name, measure in PARTS.items():
        if arguments.only == name.lower() or (arguments.only is None and (name != LONG or arguments.deep)):
            conditions = _conditions()
            heading, *lines = measure(arguments)
            _write(name, [heading, "", conditions, *lines])
    return 0


def _write(name: str, lines: list[str]) -> None:
    """Put one section into the document at once: what was measured stays when a later part breaks."""
    old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else ""
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(with_sections(old, {name: lines}), encoding="utf-8")
    sys.stdout.write("\n".join(lines) + "\n")


def with_sections(document: str, fresh: Mapping[str, list[str]]) -> str:
    """Return the document with the sections in `fresh` put in and all others as they were."""
    sections: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in document.splitlines():
        if line.startswith("## "):
            current = sections[line.split()[1]] = []
        if current is not None:
            current.append(line)
    sections |= fresh
    order = [name for name in PARTS if name in sections] + [name for name in sections if name not in PARTS]
    blocks = [HEAD, *(sections[name] for name in order)]
    return "\n\n".join("\n".join(block).strip() for block in blocks) + "\n"


def _conditions() -> str:
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, Python {platform.python_version()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, load average {load:.1f} at the start."
    )


if __name__ == "__main__":
    sys.exit(main())
