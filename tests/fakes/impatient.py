"""Storepost for journeys through many faults: the same application, which waits for servers for a short time only.

gunicorn runs it as "tests.fakes.impatient:create_app()". A person may start as many tests as a journey needs.
"""

from __future__ import annotations

from functools import partial

from flask import Flask

import app
from mail.doctor import examination as doctor_run
from mail.doctor import probes, runs
from mail.smtp import Timeouts

_SHORT = Timeouts(connect_s=2, command_s=1.2, data_s=2, final_s=2, attempt_s=30)


def create_app() -> Flask:
    """Return the application; the process has its limits from then on."""
    runs.PER_MINUTE = 1000
    Timeouts.for_test = classmethod(lambda _: _SHORT)  # type: ignore[method-assign,assignment]
    doctor_run.probe = partial(probes.probe, timeout_s=0.8)
    return app.create_app()
