"""The pages in a real browser: no script of theirs, nothing blocked, nothing axe complains about."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page

from sandbox import Sandbox
from tests.fakes.browser import chromium
from tests.sandbox.clients import MAILBOX, OAuthClient, dial, letter, parameters_of

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def callback() -> Iterator[str]:
    """The client's side of the redirect: a page on another origin."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Back</title><link rel=icon href=data:,><p>Back at the client")

        def log_message(self, format: str, *args: Any) -> None:
            """Not a word on the test output."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://localhost:{server.server_port}/oauth/callback"
    server.shutdown()
    thread.join()
    server.server_close()


def authorize_url(oauth: OAuthClient, **changes: str) -> str:
    return f"{oauth.sandbox.authorize_url}?{urlencode(oauth.query(**changes))}"


def complaints(page: Page) -> list[str]:
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


@pytest.mark.parametrize("button", ["Allow", "Cancel"])
def test_consent_leads_back_to_the_client_without_javascript(
    browser: Browser, oauth: OAuthClient, callback: str, button: str
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    said = complaints(page)
    page.goto(authorize_url(oauth, redirect_uri=callback))
    assert page.get_by_label("Mailbox").input_value() == MAILBOX
    page.get_by_role("button", name=button).click()
    page.wait_for_url(f"{callback}?*")
    back = parameters_of(page.url)
    assert ("code" in back) is (button == "Allow")
    assert back["state"] == "fake-state"
    assert context.cookies() == []
    assert said == []
    context.close()


def test_a_person_can_switch_a_fault_and_switch_it_off(browser: Browser, sandbox: Sandbox) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{sandbox.web_url}/")
    page.get_by_role("navigation").get_by_role("link", name="Faults").click()
    page.get_by_label("Throttled").check()
    page.get_by_label("Send as denied").select_option(label="After the message (554 5.2.252)")
    page.get_by_role("button", name="Save faults").click()
    page.wait_for_url("**/faults")
    assert page.get_by_label("Throttled").is_checked()
    assert sandbox.faults.word("send_as_denied") == "message"
    page.get_by_role("button", name="Switch all off").click()
    page.wait_for_url("**/faults")
    assert not page.get_by_label("Throttled").is_checked()
    assert not any(sandbox.faults.as_dict().values())
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_and_the_console_have_nothing_to_say(
    browser: Browser, sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext, theme: Any, width: int
) -> None:
    with dial(sandbox, trusting) as server:
        server.login(MAILBOX, "sandbox-password")
        server.sendmail(MAILBOX, ["ann@customer.example", "hidden@customer.example"], letter(subject="Order " * 12))
    number = sandbox.wait_for_messages(1)[0].number
    sandbox.faults.set(throttled=True, slow_token=2)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page = context.new_page()
    said = complaints(page)
    for path in ("/", "/inbox", f"/inbox/{number}", "/faults"):
        page.goto(sandbox.web_url + path)
        examine(page)
    page.get_by_label("Slow answers").fill("soon")
    page.get_by_role("button", name="Save faults").click()
    page.get_by_text("slow_token is a number").wait_for()
    examine(page)
    page.goto(authorize_url(oauth))
    examine(page)
    page.get_by_label("Mailbox").fill("nobody")
    page.get_by_role("button", name="Allow").click()
    page.get_by_text("Enter a full email address").wait_for()
    examine(page)
    page.goto(authorize_url(oauth, client_id="stranger"))
    examine(page)
    sandbox.inbox.clear()
    page.goto(f"{sandbox.web_url}/inbox")
    examine(page)
    # Chromium reports every answer of 400 and above as an error of the page; those three were asked for.
    assert [line for line in said if "status of 4" not in line] == []
    context.close()


def examine(page: Page) -> None:
    page.evaluate(AXE.read_text())
    found = page.evaluate("tags => axe.run(document, {runOnly: tags})", RULES)
    problems = [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]
    assert problems == [], page.url
    usual = page.viewport_size
    assert usual is not None
    page.set_viewport_size({"width": 320, "height": usual["height"]})
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, page.url
    page.set_viewport_size(usual)
