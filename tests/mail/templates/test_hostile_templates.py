"""No template and no data keeps a process busy or fills its memory: each is refused or cut off within bounds.

They run in a program of their own, each in a fork; processor time counts, which does not depend on who else is at work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from tests.mail.templates import hostile

CPU_S = 0.2
GROWN_BYTES = 50 * 1024 * 1024
ROOT = Path(__file__).parents[3]

# What does no harm as it is, and whole pages that come to nothing much.
HARMLESS = {
    "a loop from far behind",
    "case whose values fit 200 times, 15 deep",
    "conditions without end",
    "{{ within a comment",
    "rules that nest deep",
    "lists set in far",
    "margins without end",
    "preformatted lines in lists",
    "a doctype of 90 KB",
    "attributes without end",
    "entities",
}


@lru_cache(1)
def measured() -> dict[str, dict[str, Any]]:
    """What came of each, by name."""
    command = [sys.executable, "-m", "tests.mail.templates.hostile"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {found["name"]: found for found in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("part", ["html", "text"])
@pytest.mark.parametrize("name", hostile.SOURCES)
def test_a_hostile_template_ends_within_bounds(part: str, name: str) -> None:
    found = measured()[f"{part}: {name}"]
    assert found["cpu_s"] < CPU_S, found
    assert found["grown_bytes"] < GROWN_BYTES, found
    if part == "html" and name not in HARMLESS:
        assert found["outcome"].startswith("refused"), found


@pytest.mark.parametrize("name", hostile.DATA)
def test_hostile_data_ends_within_bounds(name: str) -> None:
    found = measured()[f"data: {name}"]
    assert found["cpu_s"] < CPU_S, found
    assert found["grown_bytes"] < GROWN_BYTES, found


def test_the_measure_would_show_an_explosion() -> None:
    found = measured()["control: 0.3 seconds"], measured()["control: 200 MB"]
    assert found[0]["cpu_s"] > CPU_S
    assert found[1]["grown_bytes"] > GROWN_BYTES
