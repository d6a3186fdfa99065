"""The door: HTTP only. Who may, which form, which call, which page."""

from __future__ import annotations

from typing import Any

from flask import Flask
from werkzeug.routing import IntegerConverter

# The largest id that a row can have; PostgreSQL and SQLite both fail on numbers beyond their columns.
_ID_MAX = 2**31 - 1


class RowIntegerConverter(IntegerConverter):
    """A row's id in a URL: ASCII digits, none beyond what a column holds, so that others are missing pages."""

    regex = r"[0-9]{1,10}"

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **{"max": _ID_MAX, **kw})


def register(app: Flask) -> None:
    """The menu of blueprints."""
    app.url_map.converters["int"] = RowIntegerConverter
    from blueprints import health, navigation
    from blueprints.api import views as api
    from blueprints.api_keys import views as api_keys
    from blueprints.auth import views as auth
    from blueprints.brand import views as brand
    from blueprints.connection_tests import views as connection_tests
    from blueprints.consent import views as consent
    from blueprints.domain_check import views as domain_check
    from blueprints.email_settings import views as email_settings
    from blueprints.messages import views as messages
    from blueprints.sending_rate import views as sending_rate
    from blueprints.stores import views as stores
    from blueprints.templates import views as templates

    app.register_blueprint(health.bp)
    app.register_blueprint(auth.bp)
    app.register_blueprint(stores.bp)
    app.register_blueprint(email_settings.bp)
    app.register_blueprint(messages.bp)
    app.register_blueprint(api_keys.bp)
    app.register_blueprint(api.bp)
    app.register_blueprint(consent.bp)
    app.register_blueprint(connection_tests.bp)
    app.register_blueprint(domain_check.bp)
    app.register_blueprint(sending_rate.bp)
    app.register_blueprint(templates.bp)
    app.register_blueprint(brand.bp)
    navigation.register(app)
