"""An application behind a port of this machine, and a browser in it: what Chromium tests of pages start from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from app import create_app
from extensions import db
from tests import factories
from tests.conftest import PASSWORD, settings_for

AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def site(directory: Path) -> Iterator[tuple[str, Flask]]:
    """(address, application) of a running Storepost whose administrator is alice@shop.example."""
    probe = make_server("127.0.0.1", 0, lambda environ, start: [])
    port = probe.server_port
    probe.server_close()
    settings = settings_for(f"sqlite:///{directory / 'storepost.sqlite3'}")
    application = create_app(settings | {"PUBLIC_URL": f"http://localhost:{port}"})
    with application.app_context():
        factories.make_tables()
        factories.make_admin("alice@shop.example", name="Alice Adams", password=PASSWORD)
    server = make_server("127.0.0.1", port, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://localhost:{port}", application
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        with application.app_context():
            db.engine.dispose()


def sign_in(address: str, browser: Browser) -> Any:
    """The cookies of one sign-in, for all tabs of a file: sign-ins are throttled."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{address}/sign-in")
        page.fill("[name=email]", "alice@shop.example")
        page.fill("[name=password]", PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"{address}/stores")
        return context.cookies()


def faults(page: Page) -> list[Any]:
    """What axe finds on a page whose context bypasses our policy."""
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
    return [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found]
