"""A missing, weak or contradictory setting stops the start, in one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

import config
from security.vault import Keyring

GOOD = {
    "STOREPOST_PUBLIC_URL": "https://mail.shop.example",
    "STOREPOST_SECRET_KEY": "0f3b9a7c1d5e8f2a4b6c0d9e8f7a6b5c-test",
    "STOREPOST_KEYRING": Keyring.generate("k1"),
}


def test_it_takes_a_complete_environment() -> None:
    settings = config.load(GOOD)
    assert settings["PUBLIC_URL"] == "https://mail.shop.example"
    assert settings["TRUSTED_HOSTS"] == ["mail.shop.example"]
    assert settings["IMPLICIT_TLS_PORTS"] == {465, 2465}


def test_it_keeps_contents_for_a_week_and_the_rest_for_ninety_days() -> None:
    settings = config.load(GOOD)
    assert (settings["KEEP_CONTENT_DAYS"], settings["KEEP_METADATA_DAYS"]) == (7, 90)
    longer = config.load({**GOOD, "STOREPOST_KEEP_CONTENT_DAYS": "365"})
    assert (longer["KEEP_CONTENT_DAYS"], longer["KEEP_METADATA_DAYS"]) == (365, 365)


def test_it_refuses_to_forget_a_message_before_its_content() -> None:
    with pytest.raises(config.ConfigError) as refusal:
        config.load({**GOOD, "STOREPOST_KEEP_CONTENT_DAYS": "30", "STOREPOST_KEEP_METADATA_DAYS": "14"})
    assert "STOREPOST_KEEP_METADATA_DAYS" in str(refusal.value)


@pytest.mark.parametrize("missing", sorted(GOOD))
def test_it_refuses_to_start_without(missing: str) -> None:
    with pytest.raises(config.ConfigError) as refusal:
        config.load({name: value for name, value in GOOD.items() if name != missing})
    assert missing in str(refusal.value) or missing.removeprefix("STOREPOST_").lower() in str(refusal.value).lower()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STOREPOST_SECRET_KEY", "short"),
        ("STOREPOST_SECRET_KEY", "a" * 40),
        ("STOREPOST_PUBLIC_URL", "http://mail.shop.example"),
        ("STOREPOST_PUBLIC_URL", "mail.shop.example"),
        ("STOREPOST_PUBLIC_URL", "https://mail.shop.example/sub"),
        ("STOREPOST_PUBLIC_URL", "https://user@mail.shop.example"),
        ("STOREPOST_DATABASE_URL", "mysql://x"),
        ("STOREPOST_PROXY_COUNT", "-1"),
        ("STOREPOST_PROXY_COUNT", "٣"),
        ("STOREPOST_IMPLICIT_TLS_PORTS", "465,smtps"),
        ("STOREPOST_KEEP_CONTENT_DAYS", "0"),
        ("STOREPOST_KEEP_METADATA_DAYS", "4000"),
        ("STOREPOST_DEBUG", "1"),
        ("STOREPOST_DEBUG", "perhaps"),
        ("STOREPOST_SECRET_KEY_FILE", "/nowhere/at/all"),
    ],
)
def test_it_refuses(name: str, value: str) -> None:
    with pytest.raises(config.ConfigError) as refusal:
        config.load({**GOOD, name: value})
    assert value not in str(refusal.value) or "KEY" not in name


def test_it_reads_a_value_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(GOOD["STOREPOST_SECRET_KEY"] + "\n")
    environment = {**GOOD, "STOREPOST_SECRET_KEY_FILE": str(file)}
    del environment["STOREPOST_SECRET_KEY"]
    assert config.load(environment)["SECRET_KEY"] == GOOD["STOREPOST_SECRET_KEY"]


def test_postgres_urls_name_their_driver() -> None:
    settings = config.load({**GOOD, "STOREPOST_DATABASE_URL": "postgresql://db/storepost"})
    assert settings["SQLALCHEMY_DATABASE_URI"] == "postgresql+psycopg://db/storepost"


def test_plain_http_is_for_this_machine_only() -> None:
    assert (
        config.load({**GOOD, "STOREPOST_PUBLIC_URL": "http://localhost:8025"})["PUBLIC_URL"] == "http://localhost:8025"
    )


def test_the_relay_listens_on_this_machine_unless_told_otherwise() -> None:
    settings = config.load(GOOD)
    assert (settings["RELAY_HOST"], settings["RELAY_PORT"], settings["RELAY_CERT_FILE"]) == ("127.0.0.1", 2525, None)


@pytest.mark.parametrize("name", ["STOREPOST_RELAY_CERT_FILE", "STOREPOST_RELAY_KEY_FILE"])
def test_the_relays_certificate_and_key_come_together(name: str) -> None:
    with pytest.raises(config.ConfigError, match="STOREPOST_RELAY_CERT_FILE and STOREPOST_RELAY_KEY_FILE together"):
        config.load(GOOD | {name: "/etc/storepost/relay.pem"})
