"""Storepost for journeys through many faults: the same application, which does not wait long for silent servers.

gunicorn runs it as "tests.fakes.impatient:create_app()", with their ports in SILENT_PORTS: every other server gets the
time that it gets from people. A person may start as many tests as a journey needs.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from flask import Flask

import app
from mail import signing_in
from mail.doctor import examination as doctor_run
from mail.doctor import probes, runs
from mail.smtp import Conversation, Endpoint, Timeouts

SILENT_PORTS = "TEST_SILENT_PORTS"
_ANSWER_S, _SECOND_LOOK_S = 1.2, 0.8


def create_app() -> Flask:
    """Return the application; the process has its limits from then on."""
    runs.PER_MINUTE = 1000
    silent = {int(port) for port in os.environ[SILENT_PORTS].split(",")}

    def converse(endpoint: Endpoint, *, timeouts: Timeouts, **more: Any) -> Conversation:
        limits = replace(timeouts, command_s=_ANSWER_S) if endpoint.port in silent else timeouts
        return Conversation(endpoint, timeouts=limits, **more)

    def look_again(endpoint: Endpoint, *arguments: Any, **more: Any) -> dict[str, Any]:
        limits = {"timeout_s": _SECOND_LOOK_S} if endpoint.port in silent else {}
        return probes.probe(endpoint, *arguments, **limits, **more)

    signing_in.Conversation = converse  # type: ignore[misc,assignment]
    doctor_run.probe = look_again
    return app.create_app()
