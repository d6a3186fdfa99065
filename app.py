"""create_app: config, extensions, headers, blueprints, error pages, commands. Nothing else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from flask import Flask, request
from flask_principal import Principal
from flask_security import Security, SQLAlchemyUserDatastore
from werkzeug.middleware.proxy_fix import ProxyFix

import blueprints
import cli
import config
from blueprints import errors, headers
from blueprints.sessions import StoredSessions
from extensions import csrf, db, htmx, migrate
from mail import keys
from mail.equipment import Equipment
from mail.nudges import HueyNudges, NoNudges, open_queue
from mail.providers import Provider, catalogue, sandbox_provider
from models import Role, User
from models.database import prepare_engine
from security.outbound import AllowRule, Door
from security.redact import JSONFormatter
from security.vault import Keyring, KeyringError, Vault


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """The application, checked and ready to serve; `overrides` replace settings of the environment in tests.

    Raises:
        config.ConfigError: a setting or key is missing, weak or wrong; one sentence for the operator.
    """
    app = Flask(__name__)
    if cli.makes_keys(sys.argv):
        # `flask secrets init` runs before there is a key, so it must not need one.
        cli.register_key_making(app)
        return app
    app.config.update(config.load() if overrides is None else overrides)
    _set_up_logging(app)
    _bind_extensions(app)
    app.extensions["storepost"] = _equip(app)
    headers.register(app)
    errors.register(app)
    blueprints.register(app)
    cli.register(app)
    if not cli.mends_keys(sys.argv):
        with app.app_context():
            _check_keys(app)
    return app


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


def _bind_extensions(app: Flask) -> None:
    plain_http = app.config["PUBLIC_URL"].startswith("http://")
    # As many connections as a worker's threads may want at the same moment; each is held for a transaction only. The
    # one that was used last goes first: it still has SQLite's pages, or PostgreSQL's prepared statements.
    app.config.setdefault(
        "SQLALCHEMY_ENGINE_OPTIONS",
        {"hide_parameters": True, "pool_size": 16, "max_overflow": 48, "pool_use_lifo": True},
    )
    app.config.update(
        WTF_CSRF_TIME_LIMIT=None,  # the token lives as long as the session
        SESSION_COOKIE_NAME="storepost" if plain_http else "__Host-storepost",
        SESSION_COOKIE_SECURE=not plain_http,
        PREFERRED_URL_SCHEME="http" if plain_http else "https",
        MAX_CONTENT_LENGTH=headers.FORM_BYTES_MAX,  # settings pages and the API have limits of their own
        MAX_FORM_MEMORY_SIZE=headers.SETTINGS_BYTES_MAX,
        MAX_FORM_PARTS=1000,
        SECURITY_PASSWORD_HASH="argon2",  # noqa: S106  the name of a method
        SECURITY_PASSWORD_SCHEMES=["argon2"],
        SECURITY_PASSWORD_SINGLE_HASH=["argon2"],
        SECURITY_PASSWORD_SALT=app.config["SECRET_KEY"],
        SECURITY_DEFAULT_REMEMBER_ME=False,
        SECURITY_SEND_REGISTER_EMAIL=False,
        SECURITY_EMAIL_VALIDATOR_ARGS={"check_deliverability": False},
    )
    if plain_http and not config.is_loopback_host(app.config["TRUSTED_HOSTS"][0]):
        logging.getLogger("storepost").warning(
            "serving plain http beyond this machine, as STOREPOST_ALLOW_PLAIN_HTTP asks"
        )
    if proxies := app.config.get("PROXY_COUNT", 0):
        # Flask documents this very assignment; its types call wsgi_app a method.
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)  # type: ignore[method-assign]  # Flask's own way
    db.init_app(app)
    # SQLite changes a table by copying it; 0002 and later need batch mode, and see migrations/env.py for foreign keys.
    migrate.init_app(app, db, render_as_batch=True)
    csrf.init_app(app)
    htmx.init_app(app)
    app.session_interface = StoredSessions()
    # Its blueprint stays off: our pages sign people in with its functions. Second factors will switch parts of it on.
    Security(app, SQLAlchemyUserDatastore(db, User, Role), register_blueprint=False)
    _ask_only_pages_who_is_signed_in(app)
    # It would also take a person's token from any query string or JSON body, and read every body for it.
    app.login_manager.request_loader(lambda request: None)  # type: ignore[attr-defined]  # set by Flask-Login
    with app.app_context():
        prepare_engine(db.engine)


def _ask_only_pages_who_is_signed_in(app: Flask) -> None:
    """Flask-Principal asks before each request; programs come with keys, and many of them with each message."""
    hooks = app.before_request_funcs[None]
    (asks,) = (hook for hook in hooks if isinstance(getattr(hook, "__self__", None), Principal))
    hooks[hooks.index(asks)] = lambda: None if request.blueprint == "api" else asks()


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
