"""The door: HTTP only. Who may, which form, which call, which page."""

from __future__ import annotations

from flask import Flask


def register(app: Flask) -> None:
    """The menu of blueprints."""
    from blueprints import health, navigation
    from blueprints.auth import views as auth
    from blueprints.stores import views as stores

    app.register_blueprint(health.bp)
    app.register_blueprint(auth.bp)
    app.register_blueprint(stores.bp)
    navigation.register(app)
