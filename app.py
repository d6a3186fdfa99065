"""create_app: the ground, and on it extensions, headers, blueprints, error pages, commands. Nothing else."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Any

from flask import Flask, request
from flask_migrate import Migrate
from flask_principal import Principal
from flask_security import Security, SQLAlchemyUserDatastore
from werkzeug.middleware.proxy_fix import ProxyFix

import blueprints
import cli
import config
import ground
from blueprints import errors, headers
from blueprints.extensions import csrf, htmx
from blueprints.sessions import StoredSessions
from extensions import db
from models import Role, User


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
    if cli.becomes_worker(sys.argv):
        # It leaves this process before long; what it needs it checks itself.
        cli.register_worker(app)
        return app
    ground.lay(app, config.load() if overrides is None else overrides, checks_keys=not cli.mends_keys(sys.argv))
    _bind_extensions(app)
    headers.register(app)
    errors.register(app)
    blueprints.register(app)
    cli.register(app)
    return app


def _bind_extensions(app: Flask) -> None:
    plain_http = app.config["PUBLIC_URL"].startswith("http://")
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
    # SQLite changes a table by copying it; 0002 and later need batch mode, and see migrations/env.py for foreign keys.
    Migrate(app, db, render_as_batch=True)
    csrf.init_app(app)
    htmx.init_app(app)
    app.session_interface = StoredSessions()
    # Its blueprint stays off: our pages sign people in with its functions. Second factors will switch parts of it on.
    Security(app, SQLAlchemyUserDatastore(db, User, Role), register_blueprint=False)
    _ask_only_pages_who_is_signed_in(app)
    # It would also take a person's token from any query string or JSON body, and read every body for it.
    app.login_manager.request_loader(lambda request: None)  # type: ignore[attr-defined]  # set by Flask-Login


def _ask_only_pages_who_is_signed_in(app: Flask) -> None:
    """Flask-Principal asks before each request; programs come with keys, and many of them with each message."""
    hooks = app.before_request_funcs[None]
    (asks,) = (hook for hook in hooks if isinstance(getattr(hook, "__self__", None), Principal))
    hooks[hooks.index(asks)] = lambda: None if request.blueprint == "api" else asks()
