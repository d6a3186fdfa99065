"""Storepost under libfaketime, whose own sleep fails when only the time of day is changed.

It calls each time.sleep() a wrong argument then. Waiting for an event takes the same time in another way. Workers run
it as FLASK_APP="tests.crash.jumping:create_app()".
"""

from __future__ import annotations

import threading
import time

from flask import Flask

import app


def _sleep(seconds: float) -> None:
    threading.Event().wait(seconds)


def create_app() -> Flask:
    """Return the application; the process sleeps in our way from then on."""
    time.sleep = _sleep
    return app.create_app()
