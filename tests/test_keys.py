"""Wrong keys are noticed at start; nothing is written with them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from config import ConfigError
from extensions import db
from mail import keys
from models import KeyringCheck
from security.vault import Keyring
from tests.conftest import settings_for

ROOT = Path(__file__).resolve().parents[1]


def test_it_remembers_the_key_it_encrypts_with(app: Flask) -> None:
    keys.check(app.extensions["storepost"].vault)
    assert [row.key_id for row in db.session.query(KeyringCheck)] == ["k1"]


@pytest.mark.parametrize("other", ["k1", "k2"], ids=["another key of that name", "the key is gone"])
def test_it_does_not_start_with_the_wrong_keyring(app: Flask, other: str) -> None:
    keys.check(app.extensions["storepost"].vault)
    before = [(row.key_id, row.sealed) for row in db.session.query(KeyringCheck)]
    db.session.remove()
    with pytest.raises(ConfigError, match="key"):
        create_app(settings_for(app.config["SQLALCHEMY_DATABASE_URI"], KEYRING=Keyring.generate(other)))
    assert [(row.key_id, row.sealed) for row in db.session.query(KeyringCheck)] == before


@pytest.mark.parametrize("keyring", ["k1:short", "k1", "k1:" + "A" * 43 + "=", "", "nonsense here"])
def test_it_does_not_start_with_a_malformed_or_sample_keyring(database_url: str, keyring: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        create_app(settings_for(database_url, KEYRING=keyring))
    assert "A" * 20 not in str(refusal.value)


def _flask(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "FLASK_APP": "app", **environment},
        capture_output=True,
        text=True,
    )


def test_the_first_key_is_made_once_and_only_beside_an_empty_database(tmp_path: Path) -> None:
    url = {"STOREPOST_DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    keyring = tmp_path / "keyring"
    first = _flask(url, "secrets", "init", str(keyring))
    assert first.returncode == 0, first.stderr
    assert keyring.stat().st_mode & 0o777 == 0o600
    text = keyring.read_text()
    assert text.split(":")[1].strip() not in first.stdout

    again = _flask(url, "secrets", "init", str(keyring))
    assert again.returncode != 0
    assert keyring.read_text() == text

    environment = {
        **url,
        "STOREPOST_KEYRING_FILE": str(keyring),
        "STOREPOST_SECRET_KEY": "0f3b9a7c1d5e8f2a4b6c0d9e8f7a6b5c-test",
        "STOREPOST_PUBLIC_URL": "http://localhost:8025",
    }
    assert _flask(environment, "db", "upgrade").returncode == 0
    beside_data = _flask(url, "secrets", "init", str(tmp_path / "another"))
    assert beside_data.returncode != 0
    assert "not empty" in beside_data.stderr
    assert not (tmp_path / "another").exists()
