"""Whatever the OpenAPI document allows is answered as it says, and whatever it does not allow is refused.

Schemathesis asks by the document alone, with a real key over HTTP, the same questions each time, all checks on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from app import create_app
from extensions import db as database
from mail import api_keys
from mail.audit import SYSTEM
from tests import factories
from tests.conftest import settings_for
from tests.fakes.installation import free_port

HERE = Path(__file__).parent
EXAMPLES = int(os.environ.get("STOREPOST_API_EXAMPLES", "100"))


@pytest.fixture
def running(database_url: str) -> Iterator[tuple[str, str]]:
    """(address, API key) of a server whose faults are answers, as in production."""
    port = free_port()
    url = f"http://localhost:{port}"
    more = {"PUBLIC_URL": url, "API_REQUESTS_PER_MINUTE": 1_000_000, "PROPAGATE_EXCEPTIONS": False}
    application = create_app(settings_for(database_url) | more)
    with application.app_context():
        factories.make_tables()
        store = factories.make_store("Acme Store", from_email="orders@acme.example")
        _, key = api_keys.create(store, "Schemathesis", actor=SYSTEM)
        database.session.commit()
    server = make_server("127.0.0.1", port, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield url, key.reveal()
    server.shutdown()
    thread.join()
    server.server_close()
    with application.app_context():
        database.session.remove()
        database.engine.dispose()


def test_every_operation_keeps_to_its_description(running: tuple[str, str], tmp_path: Path) -> None:
    url, key = running
    command = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        f"--config-file={HERE / 'schemathesis.toml'}",
        "run",
        f"{url}/api/v1/openapi.json",
        f"--header=Authorization: Bearer {key}",
        f"--max-examples={EXAMPLES}",
        "--generation-deterministic",
    ]
    hooks = {"SCHEMATHESIS_HOOKS": "tests.blueprints.api.schemathesis_hooks", "PYTHONPATH": str(HERE.parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | hooks, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 selected / 6 total" in done.stdout
    # A key that is refused everywhere would find no fault either.
    assert "WARNINGS" not in done.stdout, done.stdout
