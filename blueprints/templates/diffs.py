"""What changed between two texts, line by line, for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final

from mail.templates.drafts import LIMITS, Draft

# Comparing takes time that grows with the square of the lines; the defaults have about a hundred.
LINES_MAX: Final = 1500
_AROUND: Final = 2
_SHOWN_MAX: Final = 300


@dataclass(frozen=True)
class Line:
    """kind: "same", "added", "removed" or "skipped"; `text` of skipped lines says how many."""

    kind: str
    text: str


@dataclass(frozen=True)
class PartDiff:
    part: str
    lines: tuple[Line, ...]
    is_cut: bool = False


def compare(before: Draft, after: Draft) -> list[PartDiff]:
    """The parts that differ, each with its changed lines and a few around them."""
    return [
        _compare(part, getattr(before, part), getattr(after, part))
        for part in LIMITS
        if getattr(before, part) != getattr(after, part)
    ]


def _compare(part: str, before: str, after: str) -> PartDiff:
    old, new = before.split("\n"), after.split("\n")
    is_long = max(len(old), len(new)) > LINES_MAX
    lines = list(_lines(old[:LINES_MAX], new[:LINES_MAX]))
    return PartDiff(part, tuple(lines[:_SHOWN_MAX]), is_cut=is_long or len(lines) > _SHOWN_MAX)


def _lines(old: list[str], new: list[str]) -> Iterator[Line]:
    for tag, old_from, old_to, new_from, new_to in SequenceMatcher(None, old, new).get_opcodes():
        if tag == "equal":
            yield from _same(old[old_from:old_to], is_first=old_from == 0, is_last=old_to == len(old))
            continue
        yield from (Line("removed", line) for line in old[old_from:old_to])
        yield from (Line("added", line) for line in new[new_from:new_to])


def _same(lines: list[str], *, is_first: bool, is_last: bool) -> Iterator[Line]:
    head = 0 if is_first else _AROUND
    tail = 0 if is_last else _AROUND
    skipped = len(lines) - head - tail
    if skipped < 2:  # one line takes as much room as the words that it is left out
        yield from (Line("same", line) for line in lines)
        return
    yield from (Line("same", line) for line in lines[:head])
    yield Line("skipped", f"{skipped} lines the same")
    yield from (Line("same", line) for line in lines[len(lines) - tail :])
