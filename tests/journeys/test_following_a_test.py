"""Following a test in the browser: it survives reloads and a second tab, can be called off, and stops asking."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import OpenStore

pytestmark = pytest.mark.browser

ASKING = re.compile(r"/tests/[0-9a-f]{32}$")


@pytest.fixture
def slow_sandbox(house: Installation) -> Iterator[None]:
    """The token takes as long as anybody needs to look at the running test."""
    house.sandbox.faults.set(slow_token=4)
    yield
    house.sandbox.faults.reset()


def start(page: Page) -> None:
    steps.fill_sandbox_app(page)
    steps.press_save(page)
    page.get_by_role("button", name="Test Email Settings").click()
    expect(page.locator("#test-result")).to_have_attribute("aria-busy", "true")


def asked(page: Page) -> list[str]:
    """The addresses of tests that this page asks for from now on."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url) if ASKING.search(request.url) else None)
    return urls


def announcements(page: Page) -> None:
    """Keep in `said` what the live region says from now on."""
    page.evaluate(
        """() => {
             const words = () => document.getElementById('live')?.textContent ?? '';
             let last = words();
             window.said = [];
             new MutationObserver(() => { if (words() !== last) window.said.push(last = words()); })
               .observe(document.body, { childList: true, characterData: true, subtree: true });
           }"""
    )


def test_it_ends_by_itself_keeps_focus_and_what_was_opened_and_speaks_once(
    open_store: OpenStore, slow_sandbox: None
) -> None:
    page = open_store()
    start(page)
    announcements(page)
    requests = asked(page)
    expect(page.locator("#step-tls")).to_be_visible()
    page.locator("#step-tls > summary").click()
    expect(page.locator("#step-tls")).to_have_attribute("open", "")
    for _ in range(3):
        with page.expect_response(ASKING):
            pass
        expect(page.locator("#step-tls")).to_have_attribute("open", "")
        expect(page.locator("#step-tls > summary")).to_be_focused()
    steps.expect_test_passed(page)
    expect(page.locator("#step-tls")).to_have_attribute("open", "")
    expect(page.locator("#step-tls > summary")).to_be_focused()
    assert page.evaluate("() => window.said") == ["Test email sent successfully"]
    count = len(requests)
    page.wait_for_timeout(1000)
    assert len(requests) == count, "the asking has ended"


def test_a_reload_and_a_second_tab_show_it_going_on_to_its_end(open_store: OpenStore, slow_sandbox: None) -> None:
    page = open_store()
    start(page)
    second = page.context.new_page()
    second.goto(page.url)
    page.reload()
    for each in (page, second):
        expect(each.locator("#test-result")).to_have_attribute("aria-busy", "true")
    for each in (page, second):
        steps.expect_test_passed(each)


def test_a_cancelled_test_says_so_at_once_and_the_next_one_is_a_press_away(
    open_store: OpenStore, house: Installation, slow_sandbox: None
) -> None:
    before = len(house.sandbox.messages())
    page = open_store()
    start(page)
    announcements(page)
    page.get_by_role("button", name="Cancel test").click()
    panel = page.locator("#test-result")
    expect(panel.get_by_role("heading", name="The test was cancelled")).to_be_visible(timeout=3000)
    expect(panel).to_contain_text("No email was sent.")
    expect(panel.locator("li.step.done").first).to_be_visible()
    expect(page.locator("#test-again")).to_be_focused()
    assert page.evaluate("() => window.said") == ["The test was cancelled"]
    requests = asked(page)
    page.wait_for_timeout(1200)
    assert requests == []
    house.sandbox.faults.reset()
    page.keyboard.press("Enter")
    steps.expect_test_passed(page)
    page.wait_for_timeout(3000)  # the token of the cancelled test has come by now
    assert len(house.sandbox.messages()) == before + 1
    page.reload()
    page.get_by_role("link", name="All test results").click()
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("Passed")
    expect(rows.nth(2)).to_contain_text("Cancelled")
    rows.nth(2).get_by_role("link").click()
    expect(page.get_by_role("heading", name="The test was cancelled")).to_be_visible()


def test_the_focus_stays_in_the_panel_when_the_test_ends_under_the_cancel_button(
    open_store: OpenStore, slow_sandbox: None
) -> None:
    page = open_store()
    start(page)
    page.get_by_role("button", name="Cancel test").focus()
    steps.expect_test_passed(page)
    expect(page.locator("#test-result")).to_be_focused()


def test_without_javascript_the_page_refreshes_until_the_end_and_cancels_too(
    open_store: OpenStore, house: Installation, slow_sandbox: None
) -> None:
    page = open_store()
    steps.fill_sandbox_app(page)
    steps.press_save(page)
    state = page.context.storage_state()
    plain_context = page.context.browser.new_context(java_script_enabled=False, storage_state=state)
    try:
        plain = plain_context.new_page()
        plain.goto(page.url)
        plain.get_by_role("button", name="Test Email Settings").click()
        expect(plain).to_have_url(ASKING)
        plain.get_by_role("button", name="Cancel test").click()
        expect(plain.get_by_role("heading", name="The test was cancelled")).to_be_visible()
        expect(plain.locator("meta[http-equiv=refresh]")).to_have_count(0)
        plain.goto(page.url)
        plain.get_by_role("button", name="Test Email Settings").click()
        expect(plain.locator("#test-result")).to_contain_text("Test email sent successfully", timeout=30_000)
        expect(plain.locator("meta[http-equiv=refresh]")).to_have_count(0)
    finally:
        plain_context.close()
