"""Times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from blueprints import times

NOW = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (datetime(2026, 11, 20, 14, 10, tzinfo=UTC), "14:10 UTC"),
        (datetime(2026, 11, 21, 0, 5, tzinfo=UTC), "21 Nov, 00:05 UTC"),
        (datetime(2026, 11, 19, 23, 59, tzinfo=UTC), "19 Nov, 23:59 UTC"),
        (None, ""),
    ],
)
def test_a_moment_names_its_day_only_when_that_is_another_one(at: datetime | None, words: str) -> None:
    assert times.moment(at, NOW) == words
