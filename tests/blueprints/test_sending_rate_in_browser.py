"""The card "Sending rate" in a real browser: it follows what happens, fits, and can be read by everybody."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page
from werkzeug.serving import make_server

from app import create_app
from extensions import db
from mail import pace
from mail.errors import Stage
from mail.pace import Limits
from models.connection import GrantType
from models.database import writing
from security.vault import Place
from tests import factories
from tests.conftest import PASSWORD, settings_for
from tests.fakes import browser

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PICTURES = os.environ.get("RATE_PICTURES", "")
RATE = "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
REFUSED = "ConnectionRefusedError: [Errno 111] Connection refused"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Flask]]:
    """(address, application) of a running Storepost."""
    probe = make_server("127.0.0.1", 0, lambda environ, start: [])
    port = probe.server_port
    probe.server_close()
    settings = settings_for(f"sqlite:///{tmp_path_factory.mktemp('site') / 'storepost.sqlite3'}")
    application = create_app(settings | {"PUBLIC_URL": f"http://localhost:{port}"})
    with application.app_context():
        factories.make_tables()
        factories.make_admin("alice@shop.example", name="Alice Adams", password=PASSWORD)
    server = make_server("127.0.0.1", port, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://localhost:{port}", application
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
def cookies(site: tuple[str, Flask], chromium: Browser) -> Any:
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{site[0]}/sign-in")
        page.fill("[name=email]", "alice@shop.example")
        page.fill("[name=password]", PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"{site[0]}/stores")
        return context.cookies()


@pytest.fixture
def mailbox(site: tuple[str, Flask], request: pytest.FixtureRequest) -> tuple[int, Limits]:
    """A store on Microsoft 365 that can send: its id, and the limits of its mailbox."""
    application = site[1]
    with application.app_context():
        made = factories.make_store(
            "Acme Store", code=f"acme-{id(request)}", from_name="Acme", from_email="a@acme.example"
        )
        settings, connection = made.email_settings, made.email_settings.connection
        settings.advanced_smtp_host, settings.advanced_smtp_port = "smtp.office365.com", 587
        connection.client_id, connection.scope = "app", "https://outlook.office365.com/.default"
        connection.token_url = "https://login.microsoftonline.com/t/oauth2/v2.0/token"
        connection.grant_type = GrantType.CLIENT_CREDENTIALS
        vault = application.extensions["storepost"].vault
        place = Place("connections", connection.uid, "client_secret_sealed")
        connection.client_secret_sealed = vault.seal("not-a-real-secret", place)
        db.session.commit()
        found = pace.stored_limits(settings, application.extensions["storepost"])
        assert found is not None
        return made.id, found


@pytest.fixture
def open_tab(site: tuple[str, Flask], chromium: Browser, cookies: Any, mailbox: tuple[int, Limits]) -> Iterator[Any]:
    """Opens the settings; what the browser complains about fails the test."""
    contexts, complaints = [], []

    def open_(**context: Any) -> Page:
        made = chromium.new_context(**({"viewport": {"width": 1440, "height": 1000}} | context))
        contexts.append(made)
        made.add_cookies(cookies)
        page = made.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.clock.install()
        page.goto(f"{site[0]}/stores/{mailbox[0]}/advanced-smtp")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def spend(limits: Limits, permits: int) -> None:
    with writing(), db.engine.begin() as connection:
        for _ in range(permits):
            assert pace.take_permit(limits, 30, connection)
        pace.add_recipients(limits.lane, 340, connection)


def too_fast(limits: Limits) -> None:
    spend(limits, 30)
    pace.note_throttled(limits, stage=Stage.MESSAGE, code="throttled", detail=RATE, wish_s=None)


def unreachable(limits: Limits) -> None:
    pace.note_failure(limits, code="connect_refused", detail=REFUSED)


def test_it_follows_what_happens_and_leaves_the_rest_of_the_page_alone(
    open_tab: Any, site: tuple[str, Flask], mailbox: tuple[int, Limits]
) -> None:
    page = open_tab()
    card = page.locator("#rate-card")
    page.fill("#from_name", "Half a na")
    assert "0 of 30 messages" in card.inner_text()
    with site[1].app_context():
        spend(mailbox[1], 12)
    page.clock.fast_forward(10_500)
    card.locator("li", has_text="12 of 30").wait_for()
    with site[1].app_context():
        unreachable(mailbox[1])
    page.clock.fast_forward(10_500)
    card.get_by_role("heading", name="smtp.office365.com cannot be used").wait_for()
    assert page.evaluate("document.activeElement.id") == "from_name"
    assert page.input_value("#from_name") == "Half a na"
    with site[1].app_context():
        pace.note_success(mailbox[1])
    page.click("#save-btn")
    page.get_by_text("All changes saved just now").wait_for()
    card.locator("li", has_text="12 of 30").wait_for()
    page.clock.fast_forward(10_500)
    card.locator("li", has_text="0 of 3 connections").wait_for()


def test_it_stands_there_without_javascript(
    open_tab: Any, site: tuple[str, Flask], mailbox: tuple[int, Limits]
) -> None:
    with site[1].app_context():
        too_fast(mailbox[1])
    card = open_tab(java_script_enabled=False).locator("#rate-card")
    card.get_by_role("heading", name="Microsoft asked Storepost to slow down").wait_for()


LOOKS = [(width, scheme) for width in (1440, 390) for scheme in ("light", "dark")]


@pytest.mark.parametrize("trouble", [too_fast, unreachable, lambda limits: spend(limits, 12)])
@pytest.mark.parametrize(("width", "scheme"), LOOKS if PICTURES else [(1440, "light"), (390, "dark")])
def test_it_fits_and_axe_finds_nothing(
    open_tab: Any, site: tuple[str, Flask], mailbox: tuple[int, Limits], width: int, scheme: str, trouble: Any
) -> None:
    with site[1].app_context():
        trouble(mailbox[1])
    page = open_tab(viewport={"width": width, "height": 1000}, color_scheme=scheme, bypass_csp=True)
    page.locator("#rate-card li").first.wait_for()
    if PICTURES:
        name = trouble.__name__.strip("<>")
        page.screenshot(path=f"{PICTURES}/{name}-{width}-{scheme}.png", full_page=True)
        page.locator("#rate-card").screenshot(path=f"{PICTURES}/{name}-card-{width}-{scheme}.png")
    page.add_script_tag(path=str(AXE))
    running = page.evaluate_handle("rules => ({done: axe.run({runOnly: rules})})", RULES)
    page.clock.run_for(5_000)  # axe waits on timers, which stand still here
    found = running.evaluate("async run => (await run.done).violations")
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
