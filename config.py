"""The environment as one checked mapping. A missing, weak or contradictory setting stops the start in one sentence.

Knows only the standard library. Every `STOREPOST_X` may instead be given as `STOREPOST_X_FILE`, the path of a file
that holds the value.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent

# The values below are samples that appear in documentation; an installation that runs with one is not protected.
SAMPLE_SECRETS = {"changeme", "change-me", "secret", "dev", "development", "password", "storepost"}


class ConfigError(Exception):
    """One sentence for the operator: which setting, what is wrong, what to do."""


class _Environment:
    def __init__(self, variables: Mapping[str, str]):
        self._variables = variables

    def get(self, name: str) -> str:
        """The value of STOREPOST_<name>, from the variable or from the file that STOREPOST_<name>_FILE names."""
        plain = self._variables.get(f"STOREPOST_{name}", "").strip()
        path = self._variables.get(f"STOREPOST_{name}_FILE", "").strip()
        if plain and path:
            raise ConfigError(f"Set either STOREPOST_{name} or STOREPOST_{name}_FILE, not both.")
        if not path:
            return plain
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"STOREPOST_{name}_FILE names {path}, which cannot be read ({type(error).__name__})."
            ) from None

    def flag(self, name: str) -> bool:
        value = self.get(name).lower()
        if value in ("", "0", "no", "false", "off"):
            return False
        if value in ("1", "yes", "true", "on"):
            return True
        raise ConfigError(f"STOREPOST_{name} must be 1 or 0, not “{value}”.")

    def number(self, name: str, default: int, low: int, high: int) -> int:
        value = self.get(name)
        if not value:
            return default
        if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
            raise ConfigError(f"STOREPOST_{name} must be a whole number from {low} to {high}, not “{value}”.")
        return int(value)

    def words(self, name: str) -> list[str]:
        return self.get(name).replace(",", " ").split()


def is_loopback_host(host: str) -> bool:
    """Whether a host name or literal address can only mean this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _public_url(environment: _Environment) -> str:
    url = environment.get("PUBLIC_URL")
    if not url:
        raise ConfigError(
            "STOREPOST_PUBLIC_URL is missing: set it to the address administrators open, "
            "like https://mail.example.com (make run does this for you)."
        )
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ConfigError(f"STOREPOST_PUBLIC_URL must look like https://mail.example.com, not “{url}”.")
    if parts.path not in ("", "/"):
        raise ConfigError("STOREPOST_PUBLIC_URL must not have a path: Storepost lives at the root of its host.")
    if parts.scheme == "http" and not is_loopback_host(parts.hostname) and not environment.flag("ALLOW_PLAIN_HTTP"):
        raise ConfigError(
            "STOREPOST_PUBLIC_URL must start with https://, because sign-in cookies and the OAuth redirect would "
            "travel in clear; STOREPOST_ALLOW_PLAIN_HTTP=1 overrides this on a network you trust."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _secret_key(environment: _Environment) -> str:
    key = environment.get("SECRET_KEY")
    if not key:
        raise ConfigError(
            "STOREPOST_SECRET_KEY is missing: set it (or STOREPOST_SECRET_KEY_FILE) to at least 32 random characters."
        )
    if len(key) < 32 or len(set(key)) < 8 or key.lower() in SAMPLE_SECRETS:
        raise ConfigError("STOREPOST_SECRET_KEY is too weak: use at least 32 random characters.")
    return key


def _database_url(environment: _Environment) -> str:
    url = environment.get("DATABASE_URL")
    if not url:
        return f"sqlite:///{ROOT / 'instance' / 'storepost.sqlite3'}"
    if url.startswith(("postgres://", "postgresql://")):
        return "postgresql+psycopg://" + url.split("://", 1)[1]
    if url.startswith(("postgresql+psycopg://", "sqlite:///")):
        return url
    raise ConfigError("STOREPOST_DATABASE_URL must start with postgresql:// or sqlite:///.")


def _ports(environment: _Environment, name: str, default: str) -> frozenset[int]:
    words = environment.words(name) or default.split(",")
    if not all(word.isascii() and word.isdigit() and 0 < int(word) < 65536 for word in words):
        raise ConfigError(f"STOREPOST_{name} must be port numbers separated by commas, like {default}.")
    return frozenset(int(word) for word in words)


def _dns_servers(environment: _Environment) -> tuple[tuple[str, int], ...]:
    found = []
    for word in environment.words("DNS_SERVERS"):
        try:
            parts = urlsplit(f"//{word}" if "[" in word or word.count(":") < 2 else f"//[{word}]")
            address = str(ipaddress.ip_address(parts.hostname or ""))
            port = 53 if parts.port is None else parts.port
            if not port or parts.path or "@" in word:
                raise ValueError(word)
            found.append((address, port))
        except ValueError:
            raise ConfigError(
                "STOREPOST_DNS_SERVERS must be addresses of name servers, like 9.9.9.9 or [2620:fe::fe]:53, "
                f"not “{word}”."
            ) from None
    return tuple(found)


def _queue_url(environment: _Environment, database: str) -> str:
    """Where nudges for workers are carried: Redis, PostgreSQL, or a file beside an SQLite database."""
    url = environment.get("QUEUE_URL")
    if not url:
        if database.startswith("sqlite:///"):
            return "sqlite:///" + str(Path(database.removeprefix("sqlite:///")).with_suffix(".queue.sqlite3"))
        return f"sqlite:///{ROOT / 'instance' / 'storepost.queue.sqlite3'}"
    if url.startswith(("postgres://", "postgresql://")):
        return "postgresql://" + url.split("://", 1)[1]
    if url.startswith(("redis://", "rediss://", "sqlite:///")):
        return url
    raise ConfigError("STOREPOST_QUEUE_URL must start with redis:// or postgresql://; leave it out for a local file.")


def _keeping(environment: _Environment) -> dict[str, object]:
    """For how many days after its end what a message said is kept, and that there was one."""
    content = environment.number("KEEP_CONTENT_DAYS", 7, 1, 3650)
    metadata = environment.number("KEEP_METADATA_DAYS", max(90, content), 1, 3650)
    if metadata < content:
        raise ConfigError(
            f"STOREPOST_KEEP_METADATA_DAYS must be at least STOREPOST_KEEP_CONTENT_DAYS ({content}), not {metadata}."
        )
    return {"KEEP_CONTENT_DAYS": content, "KEEP_METADATA_DAYS": metadata}


def _relay_certificate(environment: _Environment) -> dict[str, object]:
    """Certificate and key of the relay's STARTTLS; one without the other is a mistake, not a wish."""
    files = {name: environment.get(name) or None for name in ("RELAY_CERT_FILE", "RELAY_KEY_FILE")}
    if len(set(map(bool, files.values()))) > 1:
        raise ConfigError("Set STOREPOST_RELAY_CERT_FILE and STOREPOST_RELAY_KEY_FILE together, or neither of them.")
    return dict(files)


def database_url(variables: Mapping[str, str] | None = None) -> str:
    """The database alone, for the one command that runs before there are keys."""
    return _database_url(_Environment(os.environ if variables is None else variables))


def load(variables: Mapping[str, str] | None = None) -> dict[str, object]:
    """Return the checked settings, ready for `app.config.update`.

    Raises:
        ConfigError: a setting is missing, weak, unreadable or contradicts another one.
    """
    environment = _Environment(os.environ if variables is None else variables)
    public_url = _public_url(environment)
    host = urlsplit(public_url).hostname or ""
    debug = environment.flag("DEBUG")
    if debug and not is_loopback_host(host):
        raise ConfigError("STOREPOST_DEBUG cannot be on while STOREPOST_PUBLIC_URL is a public address.")
    keyring = environment.get("KEYRING")
    if not keyring:
        raise ConfigError(
            "The keyring is missing: set STOREPOST_KEYRING_FILE (or STOREPOST_KEYRING) to your encryption keys; "
            "`flask secrets init` makes the first one beside an empty database."
        )
    database = _database_url(environment)
    return {
        "PUBLIC_URL": public_url,
        "SECRET_KEY": _secret_key(environment),
        "SQLALCHEMY_DATABASE_URI": database,
        "QUEUE_URL": _queue_url(environment, database),
        "LEASE_S": environment.number("LEASE_S", 90, 2, 3600),
        **_keeping(environment),
        "KEYRING": keyring,
        "DEBUG": debug,
        "TRUSTED_HOSTS": [host, *environment.words("TRUSTED_HOSTS")],
        "PROXY_COUNT": environment.number("PROXY_COUNT", 0, 0, 5),
        "EGRESS_ALLOW": environment.get("EGRESS_ALLOW"),
        "PLAINTEXT_AUTH_HOSTS": frozenset(word.lower() for word in environment.words("PLAINTEXT_AUTH_HOSTS")),
        "CA_FILE": environment.get("CA_FILE") or None,
        "TOKEN_PROXY": environment.get("TOKEN_PROXY") or None,
        "IMPLICIT_TLS_PORTS": _ports(environment, "IMPLICIT_TLS_PORTS", "465,2465"),
        "SMTP_WINDOW": environment.number("SMTP_WINDOW", 32, 1, 50),
        "DNS_SERVERS": _dns_servers(environment),
        "API_REQUESTS_PER_MINUTE": environment.number("API_REQUESTS_PER_MINUTE", 12_000, 0, 10_000_000),
        "SANDBOX_WEB_URL": environment.get("SANDBOX_WEB_URL"),
        "SANDBOX_TOKEN_URL": environment.get("SANDBOX_TOKEN_URL"),
        "SANDBOX_SMTP_PORT": environment.number("SANDBOX_SMTP_PORT", 8587, 1, 65535),
        "RELAY_HOST": environment.get("RELAY_HOST") or "127.0.0.1",
        "RELAY_PORT": environment.number("RELAY_PORT", 2525, 1, 65535),
        **_relay_certificate(environment),
        "LOG_LEVEL": environment.get("LOG_LEVEL").upper() or "INFO",
    }
