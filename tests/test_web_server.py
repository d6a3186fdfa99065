"""The web server as gunicorn.conf.py has it: what its log never holds."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from pathlib import Path

from tests.fakes.installation import free_port

ROOT = Path(__file__).resolve().parent.parent


def test_no_request_is_written_down_even_where_somebody_asks_for_it(tmp_path: Path) -> None:
    """The callback's query string carries an authorization code. Source: security.md 41."""
    port, log = free_port(), tmp_path / "log"
    command = [Path(sys.executable).parent / "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, "--access-logfile", "-", "--log-level", "debug", "wsgiref.simple_server:demo_app"],
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
    try:
        for _ in range(2):  # the first one's line is written after its answer
            assert _status(port, "/oauth/callback?code=shown-to-nobody") == 200
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    words = log.read_text()
    assert "Listening at" in words
    assert "shown-to-nobody" not in words
    assert "/oauth/callback" not in words


def _status(port: int, path: str) -> int:
    deadline = time.monotonic() + 30
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)
        finally:
            connection.close()
