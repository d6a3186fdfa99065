"""A worker that waits for servers for a short time only, so that a test sees the end of the wait.

python -m tests.crash.impatient THREADS
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flask import Flask

import ground
import start_worker
from mail.smtp import Timeouts

# Long enough for a machine that stands still for a moment: that is no fault of the server.
COMMAND_S, ATTEMPT_S = 3.0, 10.0
SHORT = Timeouts(connect_s=COMMAND_S, command_s=COMMAND_S, data_s=COMMAND_S, final_s=COMMAND_S, attempt_s=ATTEMPT_S)

_create_ground = ground.create_ground


def create_ground(settings: Mapping[str, Any]) -> Flask:
    """Return the application with short limits for every step of a conversation."""
    application = _create_ground(settings)
    application.extensions["storepost"] = replace(application.extensions["storepost"], timeouts=SHORT)
    return application


if __name__ == "__main__":
    ground.create_ground = create_ground
    start_worker.main(int(sys.argv[1]))
