"""Storepost that waits for servers for a short time only, so that a test sees the end of the wait.

Workers run it as FLASK_APP="tests.crash.impatient:create_app()".
"""

from __future__ import annotations

from dataclasses import replace

from flask import Flask

import app
from mail.smtp import Timeouts

# Long enough for a machine that stands still for a moment: that is no fault of the server.
COMMAND_S, ATTEMPT_S = 3.0, 10.0
SHORT = Timeouts(connect_s=COMMAND_S, command_s=COMMAND_S, data_s=COMMAND_S, final_s=COMMAND_S, attempt_s=ATTEMPT_S)


def create_app() -> Flask:
    """Return the application with short limits for every step of a conversation."""
    application = app.create_app()
    application.extensions["storepost"] = replace(application.extensions["storepost"], timeouts=SHORT)
    return application
