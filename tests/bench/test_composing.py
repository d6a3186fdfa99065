"""The composing benchmark compares like with like, and its budget holds."""

from __future__ import annotations

import re

import pytest

from bench import composing


def test_all_composers_write_a_message_of_5_kb_that_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in composing.SCENES.values():
        letter = composing.Letter(1, *composing.bodies(line))
        assert 4900 < len((letter.text + letter.html).encode()) <= composing.MESSAGE_BYTES
        composing.check(letter)
    other = composing.COMPOSERS["Storepost"](composing.Letter(2, "another", "another"))
    monkeypatch.setitem(composing.COMPOSERS, "Storepost", lambda letter: other)
    with pytest.raises(AssertionError):
        composing.check(letter)


def test_it_measures_each_composer_and_stays_within_the_budget() -> None:
    lines = composing.run(rounds=1)
    rows = [line for line in lines if re.match(r"\| (?:ASCII|some)", line)]
    assert len(rows) == len(composing.SCENES) * len(composing.COMPOSERS)
    ratios = [float(row.split("|")[-2]) for row in rows if "Storepost" in row]
    assert all(0 < ratio <= composing.BUDGET for ratio in ratios)
