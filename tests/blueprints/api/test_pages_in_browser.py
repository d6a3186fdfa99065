"""The description of the API and the form for a key in a real browser: readable, and what was typed stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from app import create_app
from extensions import db
from tests import factories
from tests.conftest import PASSWORD, settings_for
from tests.fakes import browser

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PICTURES = os.environ.get("API_PICTURES", "")
LOOKS = [(1440, "light"), (390, "dark"), (320, "light")] + ([(1440, "dark"), (390, "light")] if PICTURES else [])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running Storepost with one store, of number 1."""
    probe = make_server("127.0.0.1", 0, lambda environ, start: [])
    port = probe.server_port
    probe.server_close()
    settings = settings_for(f"sqlite:///{tmp_path_factory.mktemp('site') / 'storepost.sqlite3'}")
    application = create_app(settings | {"PUBLIC_URL": f"http://localhost:{port}"})
    with application.app_context():
        factories.make_tables()
        factories.make_admin("alice@shop.example", name="Alice Adams", password=PASSWORD)
        factories.make_store("Acme Store")
    server = make_server("127.0.0.1", port, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://localhost:{port}"
    server.shutdown()
    thread.join()
    server.server_close()
    with application.app_context():
        db.engine.dispose()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def cookies(site: str, chromium: Browser) -> Any:
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{site}/sign-in")
        page.fill("[name=email]", "alice@shop.example")
        page.fill("[name=password]", PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"{site}/stores")
        return context.cookies()


@pytest.fixture
def open_page(site: str, chromium: Browser, cookies: Any) -> Iterator[Any]:
    """Opens a page; what the browser complains about fails the test."""
    contexts, complaints = [], []

    def open_(path: str, *, signed_in: bool = True, **context: Any) -> Page:
        made = chromium.new_context(**({"viewport": {"width": 1440, "height": 900}} | context))
        contexts.append(made)
        if signed_in:
            made.add_cookies(cookies)
        page = made.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type == "error" and "Failed to load resource" not in message.text
                else None
            ),
        )
        page.goto(site + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


KEYS = "/stores/1/api-keys"


def test_a_link_leads_to_a_call_and_from_there_to_what_it_takes(open_page: Any) -> None:
    page = open_page("/api/v1/docs", signed_in=False)
    page.get_by_role("navigation", name="On this page").get_by_role("link", name="Hand in several messages").click()
    call = page.get_by_role("region", name="Hand in several messages", exact=True)
    assert call.get_by_role("heading", name="Hand in several messages").is_visible()
    call.get_by_role("link", name="NewBatch").click()
    assert page.url.endswith("#object-NewBatch")
    page.get_by_role("region", name="NewBatch", exact=True).get_by_text("list of NewMessage").wait_for()


def test_the_description_is_read_signed_out_and_leaves_no_cookie(open_page: Any) -> None:
    page = open_page("/api/v1/docs", signed_in=False, java_script_enabled=False)
    page.get_by_role("heading", name="HTTP API").wait_for()
    assert page.context.cookies() == []


def test_what_was_typed_and_unchecked_stays_after_an_error(open_page: Any) -> None:
    page = open_page(KEYS)
    page.get_by_label("Read", exact=True).uncheck()
    page.get_by_role("button", name="Create key").click()
    page.locator("#err-sum").wait_for()
    assert page.evaluate("document.activeElement.id") == "err-sum"
    assert (page.is_checked("#send"), page.is_checked("#read")) == (True, False)
    page.get_by_label("Send", exact=True).uncheck()
    page.fill("#name", "Web shop")
    page.get_by_role("button", name="Create key").click()
    page.get_by_role("link", name="Choose Send, Read or both").wait_for()
    assert page.input_value("#name") == "Web shop"
    assert (page.is_checked("#send"), page.is_checked("#read")) == (False, False)
    page.get_by_label("Read", exact=True).check()
    page.get_by_role("button", name="Create key").click()
    page.get_by_role("heading", name="The key “Web shop” is made").wait_for()
    page.get_by_role("link", name="Done").click()
    row = page.get_by_role("row", name="Web shop")
    assert row.get_by_text("Read", exact=True).is_visible()
    assert not row.get_by_text("Send", exact=True).is_visible()


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.parametrize("path", ["/api/v1/docs", KEYS])
def test_it_fits_and_axe_finds_nothing(open_page: Any, path: str, width: int, scheme: str) -> None:
    look = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "bypass_csp": True}
    page = open_page(path, **look)
    if path == KEYS:
        page.fill("#name", "x" * 81)
        page.get_by_role("button", name="Create key").click()
        page.locator("#err-sum").wait_for()
    if PICTURES:
        page.set_viewport_size({"width": width, "height": int(page.evaluate("document.body.scrollHeight"))})
        page.screenshot(path=f"{PICTURES}/{path.rpartition('/')[2]}-{width}-{scheme}.png", full_page=True)
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
