"""`flask worker` becomes a process that has what delivery needs, and nothing of the pages."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from app import create_app
from extensions import db
from security.vault import Keyring
from tests.conftest import settings_for
from tests.patience import SOON_S

ROOT = Path(__file__).resolve().parents[1]
FLASK = Path(sys.executable).parent / "flask"
PAGES = {"app", "blueprints", "cli", "flask_migrate", "htmx_flask"}
# Parts of them: a driver that is left out is still asked for by its name.
DRIVERS = {"psycopg.connection", "redis.client"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings of an installation whose tables are there."""
    keyring, url = Keyring.generate("k1"), f"sqlite:///{tmp_path / 'storepost.sqlite3'}"
    application = create_app(settings_for(url, KEYRING=keyring))
    with application.app_context():
        db.create_all()
        db.engine.dispose()
    return {
        "PATH": os.environ["PATH"],
        "FLASK_APP": "app",
        "STOREPOST_PUBLIC_URL": "http://localhost:8025",
        "STOREPOST_SECRET_KEY": "0f3b9a7c1d5e8f2a4b6c0d9e8f7a6b5c-test",
        "STOREPOST_DATABASE_URL": url,
        "STOREPOST_KEYRING": keyring,
    }


def test_the_command_becomes_a_worker_without_pages_and_drivers_it_does_not_use(
    environment: dict[str, str], tmp_path: Path
) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as out:
        # Each of the two programs tells what it loads, in the order of its loading.
        process = subprocess.Popen(
            [FLASK, "worker", "--threads", "3"],
            cwd=ROOT,
            env=environment | {"PYTHONPROFILEIMPORTTIME": "1"},
            stdout=out,
            stderr=out,
        )
    try:
        _wait_for(log, "worker started with 3 threads", process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    said = log.read_text()
    command, worker = said.rsplit(" encodings\n", 1)
    assert _loaded(command) >= PAGES | DRIVERS
    assert "worker" in _loaded(worker)
    assert _loaded(worker) & (PAGES | DRIVERS) == set()
    assert "worker stopped" in worker


def test_a_wrong_setting_ends_the_command_with_one_sentence(environment: dict[str, str]) -> None:
    del environment["STOREPOST_SECRET_KEY"]
    ended = subprocess.run(
        [FLASK, "worker"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [
        "STOREPOST_SECRET_KEY is missing: set it (or STOREPOST_SECRET_KEY_FILE) to at least 32 random characters."
    ]


def _loaded(log: str) -> set[str]:
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", log, re.MULTILINE))


def _wait_for(log: Path, words: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + 30 + SOON_S
    while words not in log.read_text():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < ends, "the worker did not start"
        time.sleep(0.1)
