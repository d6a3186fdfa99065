"""What changed between two texts: each change once, a few lines around it, and an end to it."""

from __future__ import annotations

import time
from dataclasses import replace

from blueprints.templates.diffs import compare
from mail.templates.drafts import Draft

TEXTS = Draft("Subject", "", "\n".join(f"line {n}" for n in range(1, 41)), "", "{}")


def shown(before: Draft, after: Draft) -> list[tuple[str, str]]:
    [found] = compare(before, after)
    return [(line.kind, line.text) for line in found.lines]


def test_equal_texts_have_no_difference() -> None:
    assert compare(TEXTS, TEXTS) == []


def test_a_changed_line_stands_between_its_neighbours() -> None:
    assert shown(TEXTS, replace(TEXTS, html=TEXTS.html.replace("line 20\n", "line twenty\n"))) == [
        ("skipped", "17 lines the same"), ("same", "line 18"), ("same", "line 19"), ("removed", "line 20"),
        ("added", "line twenty"), ("same", "line 21"), ("same", "line 22"), ("skipped", "18 lines the same"),
    ]  # fmt: skip


def test_every_part_that_differs_is_named_once() -> None:
    parts = compare(TEXTS, Draft("Other", "New", TEXTS.html, "", "[]"))
    assert [one.part for one in parts] == ["subject", "preheader", "sample"]


def test_texts_made_to_be_slow_are_cut_off_soon() -> None:
    one = "\n".join("ab"[n % 2] for n in range(50_000))
    two = "\n".join("ba"[n % 3 % 2] for n in range(50_000))
    other = "\n".join(f"{n * 7919 % 1500}" for n in range(1500)), "\n".join(f"{n * 7907 % 1500}" for n in range(1500))
    began = time.perf_counter()
    assert compare(replace(TEXTS, html=one), replace(TEXTS, html=two))[0].is_cut
    assert compare(replace(TEXTS, html=other[0]), replace(TEXTS, html=other[1]))
    assert time.perf_counter() - began < 3
