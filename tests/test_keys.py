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
from security.vault import Keyring, Place
from tests import factories
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


def test_the_operator_adds_a_key_rotates_and_drops_the_old_one(tmp_path: Path) -> None:
    keyring = tmp_path / "keyring"
    environment = {
        "STOREPOST_DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "STOREPOST_KEYRING_FILE": str(keyring),
        "STOREPOST_SECRET_KEY": "0f3b9a7c1d5e8f2a4b6c0d9e8f7a6b5c-test",
        "STOREPOST_PUBLIC_URL": "http://localhost:8025",
    }
    old, new = Keyring.generate("k1"), Keyring.generate("k2")
    keyring.write_text(old)
    assert _flask(environment, "db", "upgrade").returncode == 0
    uid, sealed = _store_a_password(environment["STOREPOST_DATABASE_URL"], old)

    keyring.write_text(new + old)
    status = _flask(environment, "secrets", "status")
    assert "k2: in the keyring, seals new values; 0 values" in status.stdout
    assert "k1: in the keyring; 1 value" in status.stdout
    keyring.write_text(new)
    doctor = _flask(environment, "secrets", "doctor")
    assert doctor.returncode == 1, "it starts even with the wrong keys"
    assert "The keyring lacks the key “k1”" in doctor.stdout
    assert f"Acme Store (acme-store): The value email_settings.password_sealed of row {uid}" in doctor.stdout
    assert "Enter the credentials again" in doctor.stdout
    refused = _flask(environment, "secrets", "rotate")
    assert refused.returncode == 1
    assert "The keyring lacks the key “k1”" in refused.stderr
    assert _flask(environment, "admin", "link").returncode != 0, "nothing else starts"

    keyring.write_text(new + old)
    rotated = _flask(environment, "secrets", "rotate")
    assert rotated.returncode == 0, rotated.stderr
    assert "email_settings.password_sealed: 1 sealed anew" in rotated.stdout
    assert "Nothing needs the key “k1” any more: you may drop it from the keyring." in rotated.stdout
    assert "k1: in the keyring, may be dropped; 0 values" in _flask(environment, "secrets", "status").stdout
    keyring.write_text(new)
    healthy = _flask(environment, "secrets", "doctor")
    assert (healthy.returncode, healthy.stdout) == (0, "Every stored value opens.\n")
    assert _flask(environment, "admin", "link").returncode == 0
    printed = "".join(run.stdout + run.stderr for run in (status, doctor, refused, rotated, healthy))
    for secret in ("fake-password", sealed, old.split(":")[1].strip(), new.split(":")[1].strip()):
        assert secret not in printed


def _store_a_password(url: str, keyring: str) -> tuple[str, str]:
    """The uid of a store's settings with a password, and the password as it is stored."""
    application = create_app(settings_for(url, KEYRING=keyring))
    with application.app_context():
        settings = factories.make_store("Acme Store").email_settings
        place = Place("email_settings", settings.uid, "password_sealed")
        sealed = application.extensions["storepost"].vault.seal("fake-password", place)
        settings.password_sealed = sealed
        uid = settings.uid
        db.session.commit()
        db.session.remove()
        db.engine.dispose()
    return uid, sealed
