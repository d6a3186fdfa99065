"""The menu beside every signed-in page, and what all templates may use."""

from __future__ import annotations

from typing import Any

from flask import Flask, request, url_for
from jinja2 import StrictUndefined

from blueprints import times
from blueprints.web import nonce
from mail import workers

THEMES = ("light", "dark")
STORE_ROOMS = (
    "stores", "email_settings", "connection_tests", "consent", "domain_check", "messages", "api_keys", "templates",
    "brand",
)  # fmt: skip


def register(app: Flask) -> None:
    # A misspelt name in a template is a fault, not an empty space.
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.context_processor(_context)
    # A function: only pages with the banner pay for its query, and fragments never do.
    app.jinja_env.globals.update(worker_presence=workers.presence)
    times.register(app)


def _context() -> dict[str, Any]:
    theme = request.cookies.get("theme", "")
    return {
        "product_name": "Storepost",
        "theme": theme if theme in THEMES else "",
        "nav": _menu(),
        "nonce": nonce(),
        "N": nonce(),
    }


def _menu() -> list[dict[str, Any]]:
    """Groups of links; an item appears when its page is built."""
    return [
        {
            "title": "Stores",
            "items": [
                {
                    "label": "Manage Stores",
                    "icon": "store",
                    "endpoint_url": url_for("stores.index"),
                    "current": bool(request.blueprint) and request.blueprint in STORE_ROOMS,
                    "count": 0,
                }
            ],
        }
    ]
