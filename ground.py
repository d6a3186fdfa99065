"""What every process of ours stands on: checked settings, logs, the database, the equipment of `mail/`, right keys.

`create_app` builds the pages on it. A worker needs nothing more.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Flask

import config
from extensions import db
from mail import keys
from mail.equipment import Equipment
from mail.nudges import HueyNudges, NoNudges, open_queue
from mail.providers import Provider, catalogue, sandbox_provider
from models.database import BUSY_TIMEOUT_MS, prepare_engine
from security.outbound import AllowRule, Door
from security.redact import JSONFormatter
from security.vault import Keyring, KeyringError, Vault

# As many connections as a worker's threads may want at the same moment; each is held for a transaction only. The one
# that was used last goes first: it still has SQLite's pages, or PostgreSQL's prepared statements.
_POOL = {"hide_parameters": True, "pool_size": 16, "max_overflow": 48, "pool_use_lifo": True}
# A worker writes, and SQLite has one writer at a time: more connections than these only wait with a schema and a cache
# of their own, a third of a megabyte each, and half of them would be opened and closed again for every transaction.
# Nobody holds two. Who waits for one does so for longer than a locked database is waited for.
_POOL_OF_SQLITE_WORKER = _POOL | {"pool_size": 8, "max_overflow": 0, "pool_timeout": 3 * BUSY_TIMEOUT_MS / 1000}


def create_ground(settings: Mapping[str, Any]) -> Flask:
    """An application without pages and commands, checked and ready to deliver.

    Raises:
        config.ConfigError: a setting or key is missing, weak or wrong; one sentence for the operator.
    """
    app = Flask(__name__, static_folder=None, template_folder=None)
    if settings["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = _POOL_OF_SQLITE_WORKER
    lay(app, settings)
    return app


def lay(app: Flask, settings: Mapping[str, Any], *, checks_keys: bool = True) -> None:
    """Put the application on its ground; `checks_keys` is False for commands that mend keys.

    Raises:
        config.ConfigError: a setting or key is missing, weak or wrong; one sentence for the operator.
    """
    app.config.update(settings)
    _set_up_logging(app)
    _bind_database(app)
    app.extensions["storepost"] = _equip(app)
    if checks_keys:
        with app.app_context():
            _check_keys(app)


def _set_up_logging(app: Flask) -> None:
    if app.config.get("TESTING"):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(app.config.get("LOG_LEVEL", "INFO"))
    # They write headers, statements and bodies at lower levels; a debug run must not leak a token through them.
    for name in ("requests", "urllib3", "oauthlib", "requests_oauthlib", "sqlalchemy", "alembic", "mail.log"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _bind_database(app: Flask) -> None:
    app.config.setdefault("SQLALCHEMY_ENGINE_OPTIONS", _POOL)
    db.init_app(app)
    with app.app_context():
        prepare_engine(db.engine)


def _equip(app: Flask) -> Equipment:
    settings = app.config
    try:
        vault = Vault(Keyring.parse(settings["KEYRING"]))
    except KeyringError as error:
        raise config.ConfigError(str(error)) from None
    try:
        allow = AllowRule.parse_list(settings.get("EGRESS_ALLOW", ""))
    except ValueError as error:
        raise config.ConfigError(f"STOREPOST_EGRESS_ALLOW: {error}") from None
    try:
        door = Door(allow, ca_file=settings.get("CA_FILE"), token_proxy=settings.get("TOKEN_PROXY"))
    except (OSError, ValueError) as error:
        raise config.ConfigError(str(error)) from None
    return Equipment(
        vault=vault,
        door=door,
        providers=catalogue(_sandbox(settings)),
        public_url=settings["PUBLIC_URL"],
        plaintext_auth_hosts=settings.get("PLAINTEXT_AUTH_HOSTS", frozenset()),
        implicit_tls_ports=settings.get("IMPLICIT_TLS_PORTS", frozenset({465, 2465})),
        dns_servers=settings.get("DNS_SERVERS", ()),
        nudges=HueyNudges(open_queue(settings["QUEUE_URL"])) if settings.get("QUEUE_URL") else NoNudges(),
        lease=timedelta(seconds=settings.get("LEASE_S", 90)),
    )


def _sandbox(settings: Mapping[str, Any]) -> Provider | None:
    web, token = settings.get("SANDBOX_WEB_URL"), settings.get("SANDBOX_TOKEN_URL")
    if not (web and token):
        return None
    return sandbox_provider(
        authorization_url=f"{web}/authorize",
        token_url=f"{token}/token",
        revocation_url=f"{token}/revoke",
        smtp_host="localhost",
        smtp_port=settings["SANDBOX_SMTP_PORT"],
        issuer=token,
    )


def _check_keys(app: Flask) -> None:
    try:
        keys.check(app.extensions["storepost"].vault)
    except KeyringError as error:
        raise config.ConfigError(str(error)) from None
