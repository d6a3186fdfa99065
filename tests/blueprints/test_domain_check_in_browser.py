"""The domain check in a real browser: a press, the result in the card, and the focus where it was."""

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
from tests.fakes.dns import NameServer
from tests.mail.domain.zones import GOOD, WORLD

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PICTURES = os.environ.get("DOMAIN_PICTURES", "")
BROKEN = {
    "broken.example": {"TXT": ["v=spf1 include:_spf.google.com ip4:192.0.2.300 +all"]},
    "selector1._domainkey.broken.example": {"CNAME": ["selector1-broken-example._domainkey.broken.onmicrosoft.com"]},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """(address, application) of a running Storepost that asks a name server on loopback."""
    probe = make_server("127.0.0.1", 0, lambda environ, start: [])
    port = probe.server_port
    probe.server_close()
    with NameServer(WORLD | GOOD | BROKEN) as names:
        settings = settings_for(f"sqlite:///{tmp_path_factory.mktemp('site') / 'storepost.sqlite3'}")
        more = {"PUBLIC_URL": f"http://localhost:{port}", "DNS_SERVERS": names.servers}
        application = create_app(settings | more)
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
def cookies(site: tuple[str, Any], chromium: Browser) -> Any:
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{site[0]}/sign-in")
        page.fill("[name=email]", "alice@shop.example")
        page.fill("[name=password]", PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"{site[0]}/stores")
        return context.cookies()


@pytest.fixture
def open_tab(site: tuple[str, Any], chromium: Browser, cookies: Any) -> Iterator[Any]:
    """Opens a tab of a new store; what the browser complains about fails the test."""
    contexts, complaints = [], []

    def open_(path: str = "advanced-smtp", address: str = "orders@acme.example", **context: Any) -> Page:
        made = chromium.new_context(**({"viewport": {"width": 1440, "height": 1000}} | context))
        contexts.append(made)
        made.add_cookies(cookies)
        page = made.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        application = site[1]
        # Each test presses for itself; the limit of a person has a test of its own.
        application.extensions["storepost_domain_checks"]._passed.clear()
        with application.app_context():
            code = f"acme-{len(contexts)}-{id(made)}"
            store_id = factories.make_store("Acme Store", code=code, from_email=address).id
        page.goto(f"{site[0]}/stores/{store_id}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def test_a_press_shows_the_result_in_the_card(open_tab: Any) -> None:
    page = open_tab()
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.post_data or "") if "domain-check" in request.url else None)
    page.fill("#client_secret", "fake-typed-secret")
    page.fill("#smtp_host", "smtp.office365.com")
    page.click("#domain-btn")
    card = page.locator("#domain-card")
    card.get_by_role("heading", name="Mail from acme.example is set up for Microsoft 365").wait_for()
    assert page.evaluate("document.activeElement.id") == "domain-btn"
    assert page.text_content("#live") == "Mail from acme.example is set up for Microsoft 365"
    assert page.input_value("#client_secret") == "fake-typed-secret"
    [posted] = posts
    assert "from_email" in posted
    assert "fake-typed-secret" not in posted


def test_it_checks_the_address_that_is_typed_and_a_save_keeps_the_result(open_tab: Any) -> None:
    page = open_tab()
    page.fill("#from_name", "Acme")
    page.fill("#from_email", "orders@broken.example")
    page.click("#domain-btn")
    heading = page.locator("#domain-card").get_by_role("heading", name="3 things to mend for broken.example")
    heading.wait_for()
    page.click("#save-btn")
    page.get_by_text("All changes saved just now").wait_for()
    assert heading.is_visible()
    page.get_by_role("button", name="Check again").click()
    heading.wait_for()


def test_it_works_without_javascript(open_tab: Any) -> None:
    page = open_tab("smtp", java_script_enabled=False)
    page.get_by_role("button", name="Check domain").click()
    page.get_by_role("heading", name="acme.example").wait_for()
    page.get_by_role("link", name="Back to SMTP").click()
    assert page.url.endswith("/smtp")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"), (320, "light")]
    if PICTURES
    else [(1440, "light"), (390, "dark"), (320, "light")],
)
def test_the_result_fits_and_axe_finds_nothing(open_tab: Any, width: int, scheme: str) -> None:
    context = {"viewport": {"width": width, "height": 1000}, "color_scheme": scheme, "bypass_csp": True}
    page = open_tab(address="orders@broken.example", **context)
    page.click("#domain-btn")
    page.locator("#domain-card h3").wait_for()
    for summary in page.locator("#domain-card summary").all():
        summary.click()
    if PICTURES:
        page.set_viewport_size({"width": width, "height": int(page.evaluate("document.body.scrollHeight"))})
        page.screenshot(path=f"{PICTURES}/page-{width}-{scheme}.png", full_page=True)
        page.locator("#domain-card").screenshot(path=f"{PICTURES}/card-{width}-{scheme}.png")
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
