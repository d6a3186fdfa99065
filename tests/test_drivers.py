"""Which drivers a process leaves out, and that the web server does it before it loads the application."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import drivers

ROOT = Path(__file__).resolve().parents[1]
SQLITE, POSTGRES, REDIS = (
    "sqlite:////srv/storepost.sqlite3",
    "postgresql+psycopg://db/storepost",
    "redis://queue:6379/0",
)
SETTINGS = {
    "PATH": os.environ["PATH"],
    "STOREPOST_PUBLIC_URL": "http://localhost:8025",
    "STOREPOST_SECRET_KEY": "0f3b9a7c1d5e8f2a4b6c0d9e8f7a6b5c-test",
    "STOREPOST_KEYRING": '{"current": "none"}',
    "STOREPOST_DATABASE_URL": SQLITE,
}


@pytest.mark.parametrize(
    ("database", "queue", "left_out"),
    [
        (SQLITE, SQLITE, {"redis", "psycopg"}),
        (SQLITE, REDIS, {"psycopg"}),
        (POSTGRES, POSTGRES, {"redis"}),
        (POSTGRES, REDIS, set()),
        (SQLITE, POSTGRES, {"redis"}),
    ],
)
def test_what_no_setting_needs_is_left_out(
    monkeypatch: pytest.MonkeyPatch, database: str, queue: str, left_out: set[str]
) -> None:
    loaded: dict[str, object] = {}
    monkeypatch.setattr(sys, "modules", loaded)
    drivers.leave_out_unused({"SQLALCHEMY_DATABASE_URI": database, "QUEUE_URL": queue})
    monkeypatch.undo()
    assert loaded == dict.fromkeys(left_out)


@pytest.mark.parametrize(
    ("settings", "left_out"),
    [
        pytest.param(SETTINGS, "['psycopg', 'redis']", id="complete"),
        # The application says what is wrong; until then nothing is left out.
        pytest.param(SETTINGS | {"STOREPOST_SECRET_KEY": ""}, "[]", id="wrong"),
    ],
)
def test_the_web_server_leaves_drivers_out(settings: dict[str, str], left_out: str) -> None:
    program = (
        "import runpy, sys; runpy.run_path('gunicorn.conf.py');"
        "print(sorted(name for name in ('redis', 'psycopg') if sys.modules.get(name, 0) is None))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert (said.stdout.strip(), said.returncode) == (left_out, 0), said.stderr
