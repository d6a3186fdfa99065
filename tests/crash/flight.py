"""Callers of tokens, each in a process of its own: they ask when told, and can be made to die at a point of a refresh.

    python -m tests.crash.flight PORT SETTINGS CONNECTION_ID

Each line on stdin is a wish for one more caller: a fork of this process, which has everything imported and nothing
open. It connects to PORT, says "ready PID", and takes orders: "ask SHIFT_MS" or "die POINT SHIFT_MS". Each answer is
one line.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TextIO

from app import create_app
from extensions import db
from mail import token_endpoint, token_lease, tokens
from mail.errors import MailError
from models import clock


def main() -> None:
    port, settings, connection_id = int(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who were killed
    for _ in sys.stdin:
        if os.fork() == 0:
            with socket.create_connection(("127.0.0.1", port)) as to_test, to_test.makefile("rw") as line:
                serve(line, settings, connection_id)
            os._exit(0)


def serve(line: TextIO, settings: dict[str, Any], connection_id: int) -> None:
    application = create_app(settings | {"PLAINTEXT_AUTH_HOSTS": frozenset()})
    # The context is kept for all of the process: each question is a short transaction of its own.
    with application.app_context():
        equipment = application.extensions["storepost"]
        db.session.rollback()
        say(line, f"ready {os.getpid()}")
        for wish in line:
            order, *words = wish.split()
            if order == "die":
                die_at(words.pop(0))
            with clock.shifted(timedelta(milliseconds=int(words[0]))):
                began = time.monotonic()
                try:
                    token = tokens.access_token_for(connection_id, equipment=equipment)
                    say(line, f"token {token.value.reveal()} {time.monotonic() - began:.3f}")
                except MailError as error:
                    say(line, f"error {error.code}")


def say(line: TextIO, words: str) -> None:
    line.write(f"{words}\n")
    line.flush()


def die_at(point: str) -> None:
    """Let this process be killed at a point of its next refresh, as a machine that loses its power."""
    if point == "leased":
        token_endpoint.call = before(token_endpoint.call)
    elif point == "answered":
        token_endpoint.call = after(token_endpoint.call)
    elif point == "kept":
        tokens._keep = after(tokens._keep)
    elif point == "queued":
        token_lease.take = before(token_lease.take)
    else:
        raise ValueError(point)


def before(step: Callable[..., Any]) -> Callable[..., Any]:
    def stopped(*arguments: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    return stopped


def after(step: Callable[..., Any]) -> Callable[..., Any]:
    def stopped(*arguments: Any, **named: Any) -> Any:
        step(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    return stopped


if __name__ == "__main__":
    main()
