"""Tests, questions, held mail, lists: how they behave with a keyboard, with htmx, and with JavaScript off."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Dialog, Page, Request, expect

from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import OpenStore

pytestmark = pytest.mark.browser

CLIPBOARD = ["clipboard-read", "clipboard-write"]


@pytest.fixture(autouse=True)
def well_behaved_sandbox(house: Installation) -> Iterator[None]:
    house.sandbox.reset()
    yield
    house.sandbox.reset()


def tab(page: Page, name: str) -> None:
    links = page.get_by_role("navigation", name=re.compile("^Pages of"))
    links.get_by_role("link", name=re.compile(rf"^{name}( \(in use\))?$")).click()


def requests_of(page: Page, pattern: str) -> list[Request]:
    """Requests of this page to addresses that match, from now on."""
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request) if re.search(pattern, request.url) else None)
    return seen


# --- The test panel


def test_a_test_is_followed_until_it_ends_and_then_nobody_asks_any_more(
    open_store: OpenStore, house: Installation
) -> None:
    page = open_store()
    steps.fill_sandbox_app(page)
    house.sandbox.faults.set(slow_token=1.5)
    polls = requests_of(page, r"/tests/")
    panel = page.locator("#test-result")
    page.get_by_role("button", name="Test Email Settings").click()
    expect(panel).to_have_attribute("aria-busy", "true")
    expect(page.locator("#test-btn")).to_be_focused()
    expect(page.locator("#live")).not_to_contain_text("Test")
    steps.expect_test_passed(page)
    expect(panel).to_contain_text("unsaved")
    expect(page.locator("[data-save-text]")).to_contain_text("unsaved change")
    expect(page.locator("#live")).to_have_text("Test email sent successfully")
    expect(page.locator("#test-btn")).to_be_focused()
    assert len(polls) > 1
    asked = len(polls)
    page.wait_for_timeout(1500)
    assert len(polls) == asked, "the final answer ends the polling"

    page.get_by_role("link", name="Close the test result").click()
    expect(panel).to_be_hidden()
    expect(page.locator("#test-btn")).to_be_focused()
    page.get_by_role("button", name="Choose who gets the test email").click()
    page.get_by_label("Send the test to").fill("lena.brandt@inbox.example")
    page.get_by_role("button", name="Send test email").click()
    expect(page.locator("#test-to")).to_be_hidden()
    expect(panel).to_be_visible()
    steps.expect_test_passed(page)
    expect(panel).to_contain_text("lena.brandt@inbox.example")


def test_the_form_is_refused_beside_its_fields_when_it_cannot_be_tested(open_store: OpenStore) -> None:
    page = open_store()
    page.get_by_label("From Email Address").fill("nonsense")
    page.locator("#client_secret").fill("fake-typed-secret")
    page.get_by_role("button", name="Test Email Settings").click()
    expect(page.locator("#err-sum")).to_be_focused()
    expect(page.locator("#client_secret")).to_have_value("fake-typed-secret")
    expect(page.locator("#test-result")).to_be_hidden()
    expect(page.locator("[data-save-text]")).to_have_text("2 unsaved changes")


def test_what_is_offered_for_copying_is_copied(open_store: OpenStore, house: Installation) -> None:
    page = open_store(permissions=CLIPBOARD)
    copy = page.locator("[data-copy=redirect-uri]")
    copy.click()
    expect(copy).to_have_text("Copied")
    expect(page.locator("#live")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == f"{house.url}/oauth/callback"
    expect(copy).to_have_text("Copy")

    steps.fill_sandbox_app(page)
    house.sandbox.faults.set(smtp_auth_disabled=True)
    page.get_by_role("button", name="Test Email Settings").click()
    page.locator("#test-result summary", has_text="Technical details").click()
    page.get_by_role("button", name="Copy report").click()
    expect(page.locator("#live")).to_have_text("Copied")
    report = page.evaluate("navigator.clipboard.readText()")
    assert "5.7.139" in report
    assert "sandbox-secret" not in report


# --- Questions, keyboard


def test_connect_is_a_plain_post_that_saves_without_asking_about_unsaved_changes(open_store: OpenStore) -> None:
    page = open_store()
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    steps.fill_general(page)
    steps.pick_provider(page, "Sandbox", "localhost")
    button = page.locator("#connect-btn")
    assert not [name for name in button.evaluate("e => e.getAttributeNames()") if name.startswith("hx-")]
    with page.expect_request(re.compile("/connect$")) as sent:
        button.click()
    assert sent.value.method == "POST"
    assert sent.value.is_navigation_request()
    assert "hx-request" not in sent.value.headers
    expect(page.get_by_role("heading", name="Continue to Sandbox")).to_be_visible()
    expect(page.get_by_role("link", name="Continue", exact=True)).to_have_attribute("href", re.compile("^http"))
    page.get_by_role("link", name="Cancel").click()
    expect(page.get_by_label("From Email Address")).to_have_value(steps.MAILBOX)
    assert asked == []


def test_the_whole_page_is_reached_by_the_keyboard(open_store: OpenStore) -> None:
    page = open_store()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    walk_to(page, "test-btn")
    walk_to(page, "from_name")
    page.keyboard.type("Acme Europe")
    walk_to(page, "from_email")
    page.keyboard.type(steps.MAILBOX)
    walk_to(page, "emails_off")
    page.keyboard.press("Space")
    expect(page.locator("#emails_off-then")).to_be_visible()
    page.keyboard.press("Space")
    walk_to(page, "add-field")
    page.keyboard.press("Enter")
    expect(page.locator("#custom_fields-0-key")).to_be_focused()
    page.keyboard.type("note")
    walk_to(page, "save-btn")
    page.keyboard.press("Enter")
    expect(page.locator("[data-save-text]")).to_have_text("All changes saved just now")
    expect(page.locator("#save-btn")).to_be_focused()
    walk_to(page, "connect-btn")
    page.reload()
    expect(page.get_by_label("From Display Name")).to_have_value("Acme Europe")
    expect(page.locator("#custom_fields-0-key")).to_have_value("note")


def walk_to(page: Page, id: str) -> None:
    """Press Tab until the control has the focus; none on the way may hide under the bar that sticks to the bottom."""
    for _ in range(80):
        page.keyboard.press("Tab")
        at = page.evaluate(
            """() => { const e = document.activeElement, bar = document.querySelector('[data-savebar]');
                const box = e.getBoundingClientRect(), over = bar.getBoundingClientRect();
                return {id: e.id, covered: !bar.contains(e) && getComputedStyle(bar).position === 'sticky'
                  && box.top >= over.top && box.bottom <= over.bottom && box.left < over.right && box.right > over.left,
                  shown: e.matches(':focus-visible')} }"""
        )
        assert not at["covered"], at
        if at["id"] == id:
            assert at["shown"]
            return
    raise AssertionError(f"{id} is not reached")


def test_escape_closes_questions_and_popovers_and_gives_the_focus_back(open_store: OpenStore) -> None:
    page = open_store()
    for opener, opened, first in (
        (page.get_by_role("button", name="Switch to SMTP").first, page.locator("#switch-method"), "Keep Advanced SMTP"),
        (page.get_by_role("button", name="Choose who gets the test email"), page.locator("#test-to"), ""),
    ):
        opener.focus()
        page.keyboard.press("Enter")
        expect(opened).to_be_visible()
        if first:
            expect(page.get_by_role("button", name=first)).to_be_focused()
        page.keyboard.press("Escape")
        expect(opened).to_be_hidden()
        expect(opener).to_be_focused()
    page.goto(page.url.split("/stores/")[0] + "/stores")
    opener = page.get_by_role("button", name="Actions for Acme Store").first
    opener.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".pop.menu:popover-open")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".pop.menu:popover-open")).to_have_count(0)
    expect(opener).to_be_focused()


# --- Emails off, lists


@pytest.mark.parametrize("choice", ["send", "discard"])
def test_mail_waits_while_emails_are_off_and_switching_on_asks_what_becomes_of_it(
    open_store: OpenStore, house: Installation, choice: str
) -> None:
    page = open_store()
    steps.fill_sandbox_app(page)
    page.get_by_label("Turn Off Emails").check()
    expect(page.locator("#emails_off-then")).to_be_visible()
    steps.press_save(page)
    before_any_mail = page.context.new_page()
    before_any_mail.goto(page.url)
    tab(page, "API keys")
    steps.send_by_api(house, steps.make_api_key(page))
    tab(page, "Messages")
    expect(page.get_by_role("row", name=re.compile("Your order #90127"))).to_contain_text("Held")
    expect(page.get_by_role("main")).to_contain_text("1 message is held")

    page = before_any_mail  # this one was opened before there was anything to ask about
    page.get_by_label("Turn Off Emails").uncheck()
    page.locator("#save-btn").click()
    expect(page.locator("#err-sum")).to_contain_text("Choose what happens to the 1 email that waited")
    expect(page.get_by_label("Turn Off Emails")).not_to_be_checked()
    page.get_by_label(re.compile("^Send what waited" if choice == "send" else "^Discard what waited")).check()
    steps.press_save(page)
    expect(page.get_by_text("Emails are on again. 1 that waited is")).to_be_visible()
    if choice == "send":
        steps.expect_order_mail(steps.received(house, 1)[0])
    tab(page, "Messages")
    wait_for_row(page, "Accepted" if choice == "send" else "Cancelled")
    assert len(house.sandbox.messages()) == (1 if choice == "send" else 0)


def wait_for_row(page: Page, words: str) -> None:
    """Load the list again until the worker has written down what became of the message."""
    for _ in range(40):
        if page.get_by_role("row", name=re.compile(words)).count():
            return
        page.wait_for_timeout(500)
        page.reload()
    raise AssertionError(words)


def test_back_to_a_filtered_list_is_a_full_page(open_store: OpenStore, house: Installation) -> None:
    page = open_store()
    steps.fill_sandbox_app(page)
    page.get_by_label("Turn Off Emails").check()
    steps.press_save(page)
    tab(page, "API keys")
    key = steps.make_api_key(page)
    for name in ("lena", "omar"):
        steps.send_by_api(house, key, to=[f"{name}@inbox.example"], subject=f"For {name}")
    tab(page, "Messages")
    rows = page.locator("#log-table .rowlink")
    expect(rows).to_have_count(2)
    page.locator("#q").press_sequentially("lena")
    expect(rows).to_have_count(1)
    expect(page.locator("#q")).to_be_focused()
    expect(page.locator("#log-table [role=status]")).to_have_text("1 message shown")
    expect(page).to_have_url(re.compile(r"[?&]q=lena"))
    rows.first.click()
    expect(page.get_by_role("heading", name="For lena")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="Messages", level=1)).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    expect(page.locator("#q")).to_have_value("lena")
    expect(rows).to_have_count(1)

    # The session ends in another window; the next thing typed here leads to the sign-in, and from there back.
    page.context.clear_cookies()
    page.locator("#q").fill("omar")
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(page).to_have_url(re.compile(r"/sign-in\?next=.*messages"))


# --- JavaScript off


def test_without_javascript_rows_provider_and_refusals_work(open_store: OpenStore) -> None:
    page = open_store(java_script_enabled=False)
    expect(page.get_by_role("button", name="Show Client Secret")).to_have_count(0)
    steps.fill_general(page)
    page.get_by_role("button", name="Add Field").click()
    page.locator("#custom_fields-0-key").fill("header.X-Shop")
    page.get_by_role("button", name="Add Field").click()
    page.locator("#custom_fields-1-key").fill("note")
    page.get_by_role("button", name="Remove field 1, header.X-Shop").click()
    expect(page.locator(".kv-row")).to_have_count(1)
    expect(page.locator("#custom_fields-0-key")).to_have_value("note")
    page.locator("label.tile", has_text="Google Workspace").click()
    page.get_by_role("button", name="Fill in for this provider").click()
    expect(page.get_by_label("SMTP Server")).to_have_value("smtp.gmail.com")
    expect(page.get_by_label("From Display Name")).to_have_value("Acme Störe 🛍")

    page.get_by_label("From Email Address").fill("nonsense")
    page.locator("#client_secret").fill("fake-typed-secret")
    with page.expect_response(lambda answer: answer.request.method == "POST") as refused:
        page.get_by_role("button", name="Save changes").click()
    assert refused.value.status == 422
    expect(page).to_have_title(re.compile("^Error: "))
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    expect(page.locator("#err-sum")).to_contain_text("1 setting needs attention")
    expect(page.locator("#from_email")).to_have_value("nonsense")
    expect(page.locator("#retype")).to_contain_text("Type the secrets again")
    page.get_by_label("From Email Address").fill(steps.MAILBOX)
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_text("All changes saved.")).to_be_visible()
    expect(page.locator("#custom_fields-0-key")).to_have_value("note")


def test_without_javascript_a_stale_save_shows_both_versions(open_store: OpenStore) -> None:
    first = open_store(java_script_enabled=False)
    second = first.context.new_page()
    second.goto(first.url)
    for page, name in ((second, "Saved in the other tab"), (first, "Typed in this tab")):
        steps.fill_general(page)
        page.get_by_label("From Display Name").fill(name)
        page.locator("#client_secret").fill("fake-typed-secret")
        page.get_by_role("button", name="Save changes").click()
    expect(second.get_by_text("All changes saved.")).to_be_visible()
    row = first.locator("#conflict").get_by_role("row", name=re.compile("From Display Name"))
    expect(row).to_contain_text("Typed in this tab")
    expect(row).to_contain_text("Saved in the other tab")
    expect(first.locator("#retype")).to_be_visible()


def test_without_javascript_a_test_shows_itself_until_it_has_ended(open_store: OpenStore, house: Installation) -> None:
    page = open_store(java_script_enabled=False)
    steps.fill_general(page)
    page.locator("label.tile", has_text="Sandbox").click()
    page.get_by_role("button", name="Fill in for this provider").click()
    page.get_by_label("Grant Type").select_option("refresh_token")
    page.get_by_label("Client Id").fill("storepost-sandbox")
    page.locator("#client_secret").fill("sandbox-secret")
    page.locator("#refresh_token").fill(house.sandbox.state.issue_refresh_token(steps.MAILBOX))
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_text("All changes saved.")).to_be_visible()

    house.sandbox.faults.set(slow_token=3)
    loads = requests_of(page, r"/tests/")
    page.get_by_role("button", name="Test Email Settings").click()
    expect(page).to_have_url(re.compile("/tests/"))
    expect(page.locator("#test-result")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#test-result")).to_contain_text("Test email sent successfully", timeout=30_000)
    assert len(loads) > 1, "the page loads itself again while the test runs"
    page.wait_for_timeout(1500)
    asked = len(loads)
    page.wait_for_timeout(2000)
    assert len(loads) == asked, "and stops when it has ended"
    page.get_by_role("link", name="Back to Advanced SMTP").click()

    page.get_by_role("link", name="Switch to SMTP").click()
    page.get_by_role("button", name="Switch to SMTP").click()
    expect(page.get_by_role("main")).to_contain_text("Acme Store sends with SMTP now.")
    tab(page, "Advanced SMTP")
    page.locator("#connection-card").get_by_role("button", name="Disconnect").click()
    page.get_by_role("dialog").get_by_role("button", name="Disconnect").click()
    expect(page.locator("#connection-card")).to_contain_text("Not connected")
    assert house.sandbox.messages()[0].recipients == (steps.ADMIN,)
