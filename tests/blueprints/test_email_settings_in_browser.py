"""The settings page in a real browser: what htmx swaps, where the focus goes, what never leaves the page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request
from werkzeug.serving import make_server

from app import create_app
from extensions import db
from models import Store
from tests import factories
from tests.conftest import PASSWORD, settings_for
from tests.fakes import browser

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """(address, application) of a running Storepost with one administrator."""
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


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    heard: list[str] = []
    yield heard
    assert heard == []


@pytest.fixture(scope="module")
def cookies(site: tuple[str, Any], chromium: Browser) -> Any:
    """The session of one sign-in, so that the tests do not stumble over the throttle of sign-ins."""
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{site[0]}/sign-in")
        page.fill("[name=email]", "alice@shop.example")
        page.fill("[name=password]", PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(f"{site[0]}/stores")
        return context.cookies()


@pytest.fixture
def open_tab(site: tuple[str, Any], chromium: Browser, cookies: Any, complaints: list[str]) -> Iterator[Any]:
    """Opens a tab of a new store in a context of its own."""
    contexts = []

    def open_(path: str = "advanced-smtp", **context: Any) -> Page:
        made = chromium.new_context(**({"viewport": {"width": 1440, "height": 1000}} | context))
        contexts.append(made)
        made.add_cookies(cookies)
        page = made.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # Chromium calls every 4xx a failed resource; those here are meant.
        page.on("console", lambda message: complaints.append(message.text) if is_complaint(message) else None)
        with site[1].app_context():
            store_id = factories.make_store("Acme Store", code=f"acme-{len(contexts)}-{id(made)}").id
        page.goto(f"{site[0]}/stores/{store_id}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()


def is_complaint(message: ConsoleMessage) -> bool:
    return message.type in ("error", "warning") and "Failed to load resource" not in message.text


def wait_until(page: Page, script: str) -> None:
    """Ask again and again from outside: the page's own policy forbids it to evaluate texts."""
    for _ in range(200):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    raise AssertionError(script)


def requests_of(page: Page) -> list[Request]:
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request) if request.method == "POST" else None)
    return seen


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id"))


def fill_general(page: Page) -> None:
    page.fill("#from_name", "Acme Europe")
    page.fill("#from_email", "orders@acme.example")


def test_a_save_empties_secrets_keeps_the_focus_and_counts_nothing_unsaved(open_tab: Any) -> None:
    page = open_tab()
    fill_general(page)
    page.fill("#client_secret", "fake-typed-secret")
    assert "unsaved change" in page.text_content("[data-save-text]")
    posts = requests_of(page)
    page.dblclick("#save-btn")
    page.get_by_text("All changes saved just now").wait_for()
    assert [request.url.rsplit("/", 1)[1] for request in posts if "field" not in request.url] == ["advanced-smtp"]
    assert focused(page) == "save-btn"
    assert page.locator("details.secret", has_text="by Alice Adams").count() == 1
    assert page.input_value("#client_secret") == ""
    assert "fake-typed-secret" not in page.content()
    page.locator(".rail").get_by_text("Client secret set").wait_for()
    assert page.text_content("#live") == "All changes saved"


def test_a_refused_save_keeps_the_typed_secret_and_moves_to_the_summary(open_tab: Any) -> None:
    page = open_tab()
    fill_general(page)
    page.fill("#from_email", "nonsense")
    page.fill("#client_secret", "fake-typed-secret")
    page.click("#save-btn")
    page.locator("#err-sum").wait_for()
    wait_until(page, "document.activeElement.id === 'err-sum'")
    assert page.input_value("#client_secret") == "fake-typed-secret"
    assert page.input_value("#from_name") == "Acme Europe"
    page.click("#err-sum a")
    assert focused(page) == "from_email"


def test_a_field_check_posts_one_field_and_leaves_focus_and_count_alone(open_tab: Any) -> None:
    page = open_tab()
    posts = requests_of(page)
    page.fill("#client_secret", "fake-typed-secret")
    page.fill("#from_name", "Acme Europe")
    page.fill("#from_email", "nonsense")
    page.focus("#bcc")
    page.locator("#from_email-error").wait_for()
    assert focused(page) == "bcc"
    assert page.text_content("[data-save-text]") == "3 unsaved changes"
    check = next(request for request in posts if request.url.endswith("/field/from_email"))
    assert "nonsense" in (check.post_data or "")
    assert "fake-typed-secret" not in "".join(request.post_data or "" for request in posts)
    page.fill("#from_email", "orders@acme.example")
    page.click("#save-btn")  # the check is under way while this is pressed
    page.get_by_text("All changes saved just now").wait_for()


def test_a_provider_tile_fills_the_parts_and_keeps_typed_secrets(open_tab: Any) -> None:
    page = open_tab()
    page.fill("#client_secret", "fake-typed-secret")
    page.fill("#smtp_port", "465")
    posts = requests_of(page)
    page.get_by_label("Google Workspace").check()
    wait_until(page, "document.getElementById('smtp_host').value === 'smtp.gmail.com'")
    assert page.input_value("#smtp_port") == "465"
    assert page.input_value("#token_url") == "https://oauth2.googleapis.com/token"
    assert page.input_value("#client_secret") == "fake-typed-secret"
    assert "filled in for Google" in str(page.text_content("#live"))
    assert "fake-typed-secret" not in "".join(request.post_data or "" for request in posts)
    page.get_by_label("Other provider").check()
    page.locator("#authorization_url").wait_for()
    assert page.input_value("#token_url") == ""


def test_the_token_url_follows_the_tenant_while_typing(open_tab: Any) -> None:
    page = open_tab()
    for tenant in ("contoso.example", "organizations"):
        page.fill("#tenant_id", tenant)
        page.focus("#client_id")
        wait_until(page, f"document.getElementById('token_url').value.includes('{tenant}')")
    assert "unsaved" in str(page.text_content("[data-save-text]"))


def test_rows_come_and_go_with_the_focus(open_tab: Any) -> None:
    page = open_tab()
    page.click("#add-field")
    wait_until(page, "document.activeElement.id === 'custom_fields-0-key'")
    page.keyboard.type("header.X-Pool")
    page.click("#add-field")
    wait_until(page, "document.activeElement.id === 'custom_fields-1-key'")
    page.fill("#custom_fields-1-key", "note")
    page.click("#custom_fields-0-x")
    wait_until(page, "document.querySelectorAll('.kv-row').length === 1")
    assert focused(page) == "custom_fields-0-x"
    assert page.input_value("#custom_fields-0-key") == "note"
    page.click("#custom_fields-0-x")
    wait_until(page, "document.activeElement.id === 'add-field'")


def test_the_switch_works_right_after_a_save(open_tab: Any) -> None:
    page = open_tab()
    fill_general(page)
    page.click("#save-btn")
    page.get_by_text("All changes saved just now").wait_for()
    page.get_by_role("button", name="Switch to SMTP").click()
    dialog = page.locator("#switch-method")
    assert "SMTP is not complete" in str(dialog.text_content())
    dialog.get_by_role("button", name="Switch to SMTP").click()
    page.get_by_text("Acme Store sends with SMTP now.").wait_for()


def test_enter_saves(open_tab: Any) -> None:
    page = open_tab()
    fill_general(page)
    page.press("#from_email", "Enter")
    page.get_by_text("All changes saved just now").wait_for()


def test_a_stale_save_keeps_what_was_typed(open_tab: Any, site: tuple[str, Any]) -> None:
    page = open_tab()
    fill_general(page)
    page.fill("#client_secret", "fake-typed-secret")
    with site[1].app_context():
        row = db.session.get(Store, int(page.url.split("/")[4])).email_settings
        row.from_name, row.version, row.updated_by = "Theirs", row.version + 1, "Bob Baker"
        db.session.commit()
    page.click("#save-btn")
    page.get_by_text("Bob Baker saved this page while you were editing it").wait_for()
    assert page.locator("#conflict td", has_text="Theirs").count() == 1
    assert page.input_value("#client_secret") == "fake-typed-secret"
    page.click("#save-btn")
    page.get_by_text("All changes saved just now").wait_for()
    assert page.input_value("#from_name") == "Acme Europe"


def test_connect_is_a_plain_post_that_lands_on_the_page_naming_the_hosts(open_tab: Any) -> None:
    page = open_tab()
    fill_general(page)
    page.fill("#client_id", "client-1")
    page.fill("#client_secret", "fake-typed-secret")
    page.click("#connect-btn")
    page.wait_for_url("**/connect")
    link = page.get_by_role("link", name="Continue", exact=True).get_attribute("href")
    assert str(link).startswith("https://login.microsoftonline.com/common/oauth2/v2.0/authorize?")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("path", ["smtp", "advanced-smtp", "method"])
def test_axe_finds_nothing(open_tab: Any, path: str, width: int, scheme: str) -> None:
    page = open_tab(path, viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    if path == "advanced-smtp":
        page.click("#add-field")
        page.locator("#custom_fields-0-key").wait_for()
        page.fill("#from_email", "nonsense")
        page.click("#save-btn")
        page.locator("#err-sum").wait_for()
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)["violations"]
    assert [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_it_all_works_without_javascript(open_tab: Any) -> None:
    page = open_tab(java_script_enabled=False)
    fill_general(page)
    page.get_by_label("Google Workspace").check()
    page.get_by_role("button", name="Fill in for this provider").click()
    assert page.input_value("#smtp_host") == "smtp.gmail.com"
    assert page.input_value("#from_name") == "Acme Europe"
    page.get_by_role("button", name="Add Field").click()
    page.fill("#custom_fields-0-key", "note")
    page.fill("#client_id", "client-1")
    page.fill("#client_secret", "fake-typed-secret")
    page.click("#save-btn")
    page.get_by_text("All changes saved.").wait_for()
    assert page.input_value("#custom_fields-0-key") == "note"
    page.get_by_role("link", name="Switch to SMTP").click()
    page.get_by_role("button", name="Switch to SMTP").click()
    page.get_by_text("Acme Store sends with SMTP now.").wait_for()
