"""The settings form in the hands of somebody: focus, caret, typed secrets, the count of unsaved changes, two tabs."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Dialog, Page, Request, Route, expect

from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import OpenStore, Watched

pytestmark = pytest.mark.browser

SECRET = "fake-typed-secret-7Q"


def expect_state(page: Page, words: str) -> None:
    expect(page.locator("[data-save-text]")).to_have_text(words)


def posts_of(page: Page) -> list[Request]:
    """The posts of this page from now on, as they happen."""
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request) if request.method == "POST" else None)
    return seen


def names_in(request: Request) -> set[str]:
    return set(parse_qs(request.post_data or "", keep_blank_values=True))


class Held:
    """Requests to addresses that match, kept on the way until `let_go`."""

    def __init__(self, page: Page, pattern: str):
        self.page = page
        self.routes: list[Route] = []
        page.route(re.compile(pattern), lambda route: self.routes.append(route))

    def wait(self, count: int = 1) -> None:
        for _ in range(400):
            if len(self.routes) >= count:
                return
            self.page.wait_for_timeout(50)
        raise AssertionError("no such request")

    def let_go(self) -> None:
        for route in self.routes:
            with self.page.expect_event("requestfinished", lambda one, sent=route.request: one == sent):
                route.continue_()
        self.routes.clear()


# --- Saving


def test_a_refused_save_moves_to_the_summary_and_keeps_the_typed_secret_out_of_the_html(open_store: OpenStore) -> None:
    page = open_store()
    steps.fill_general(page)
    page.get_by_label("From Email Address").fill("orders@acmestore")
    page.locator("#client_secret").fill(SECRET)
    page.get_by_role("button", name="Show Client Secret").click()
    expect(page.locator("#client_secret")).to_have_attribute("type", "text")
    expect_state(page, "4 unsaved changes")
    with page.expect_response(lambda answer: answer.status == 422 and answer.url.endswith("/advanced-smtp")) as refused:
        page.locator("#save-btn").click()
    expect(page.locator("#err-sum")).to_be_focused()
    expect(page).to_have_title(re.compile("^Error: "))
    expect(page.locator("#client_secret")).to_have_value(SECRET)
    expect(page.locator("#client_secret")).to_have_attribute("type", "password")
    assert SECRET not in refused.value.text()
    assert SECRET not in page.content()
    expect_state(page, "4 unsaved changes")
    page.locator("#err-sum a").click()
    expect(page.get_by_label("From Email Address")).to_be_focused()

    page.get_by_label("From Email Address").fill(steps.MAILBOX)
    steps.press_save(page)
    expect(page).not_to_have_title(re.compile("^Error: "))


def test_a_save_empties_the_secrets_and_leaves_the_focus_on_the_button(open_store: OpenStore) -> None:
    page = open_store()
    steps.fill_general(page)
    page.locator("#client_secret").fill(SECRET)
    posts = posts_of(page)
    page.locator("#save-btn").dblclick()
    expect_state(page, "All changes saved just now")
    expect(page.locator("#save-btn")).to_be_focused()
    expect(page.locator("#live")).to_have_text("All changes saved")
    expect(page.locator("#client_secret")).to_have_value("")
    expect(page.locator("#f-client_secret")).to_contain_text("by Maya Chen")
    assert SECRET not in page.content()
    saves = [post for post in posts if "/field/" not in post.url]
    assert [post.url.rsplit("/", 1)[1] for post in saves] == ["advanced-smtp"], "a double click saves once"
    page.reload()
    expect_state(page, "No unsaved changes")
    assert SECRET not in page.content()


def test_a_save_right_after_a_change_is_not_swallowed_by_the_check_of_the_field(open_store: OpenStore) -> None:
    page = open_store()
    steps.fill_general(page)
    checks = Held(page, "/field/from_name$")
    page.get_by_label("From Display Name").fill("Acme Europe")
    page.locator("#save-btn").click()  # leaves the field, so its check is asked for first
    checks.wait()
    expect_state(page, "All changes saved just now")
    page.get_by_label("From Display Name").fill("Acme Overseas")
    checks.let_go()
    page.wait_for_timeout(300)
    expect(page.get_by_label("From Display Name")).to_have_value("Acme Overseas")
    expect_state(page, "1 unsaved change")


# --- The check of a field


def test_a_field_check_sends_one_field_and_leaves_focus_caret_and_typing_alone(open_store: OpenStore) -> None:
    page = open_store()
    page.locator("#client_secret").fill(SECRET)
    page.get_by_label("From Display Name").fill("Acme Europe")
    page.get_by_label("From Email Address").fill("orders@acmestore.example")
    checks = Held(page, "/field/from_email$")
    page.get_by_label("From Email Address").fill("nonsense")
    page.get_by_label("Bcc Email Address").focus()
    checks.wait()
    assert names_in(checks.routes[0].request) == {"csrf_token", "from_email"}
    page.keyboard.type("records@acmestore.example")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    checks.let_go()
    expect(page.locator("#from_email-error")).to_be_visible()
    expect(page.get_by_label("Bcc Email Address")).to_be_focused()
    page.keyboard.type("!")
    expect(page.get_by_label("Bcc Email Address")).to_have_value("records@acmestore.exa!mple")
    expect_state(page, "4 unsaved changes")


def test_an_answer_that_comes_late_does_not_undo_what_was_typed_meanwhile(open_store: OpenStore) -> None:
    page = open_store()
    checks = Held(page, "/field/from_email$")
    email = page.get_by_label("From Email Address")
    email.fill("nonsense")
    page.get_by_label("From Display Name").focus()
    checks.wait()
    email.focus()
    email.fill("orders@acmestore.example")
    page.keyboard.press("Home")
    checks.let_go()
    page.wait_for_timeout(300)
    page.keyboard.type("x")
    expect(email).to_be_focused()
    expect(email).to_have_value("xorders@acmestore.example")
    expect_state(page, "1 unsaved change")


def test_no_check_and_no_row_carries_a_typed_secret(open_store: OpenStore) -> None:
    page = open_store()
    page.locator("#client_secret").fill(SECRET)
    page.locator("#refresh_token").fill(SECRET)
    posts = posts_of(page)
    with page.expect_response(re.compile("/field/from_name$")):
        page.get_by_label("From Display Name").fill("Acme Europe")
        page.keyboard.press("Tab")
    with page.expect_response(re.compile("/provider$")):
        page.locator("label.tile", has_text="Google Workspace").click()
    page.get_by_role("button", name="Add Field").click()
    expect(page.locator("#custom_fields-0-key")).to_be_focused()
    assert len(posts) >= 3
    assert SECRET not in "".join(post.post_data or "" for post in posts)
    expect(page.locator("#client_secret")).to_have_value(SECRET)


# --- Secrets, rows, provider


def test_a_stored_secret_opens_on_an_empty_input_and_closing_keeps_it(open_store: OpenStore) -> None:
    page = open_store()
    steps.fill_general(page)
    page.locator("#client_secret").fill(SECRET)
    steps.press_save(page)
    summary, secret = page.locator("#f-client_secret summary"), page.locator("#client_secret")
    summary.click()
    expect(secret).to_be_focused()
    page.keyboard.type("another")
    expect_state(page, "1 unsaved change")
    page.get_by_role("button", name="Show Client Secret").click()
    expect(secret).to_have_attribute("type", "text")
    expect(secret).to_be_focused()
    summary.click()
    expect(secret).to_have_value("")
    expect_state(page, "All changes saved just now")

    summary.click()
    expect(secret).to_have_attribute("type", "password")
    page.keyboard.type("another")
    page.get_by_label("Remove the saved Client Secret").check()
    expect(secret).to_have_value("")
    expect_state(page, "1 unsaved change")
    summary.click()
    expect(page.locator("#client_secret-remove")).not_to_be_checked()
    expect_state(page, "All changes saved just now")


def test_rows_come_and_go_with_focus_and_count(open_store: OpenStore) -> None:
    page = open_store()
    page.get_by_role("button", name="Add Field").click()
    expect(page.locator("#custom_fields-0-key")).to_be_focused()
    expect_state(page, "No unsaved changes")
    page.keyboard.type("header.X-Pool")
    expect_state(page, "1 unsaved change")
    page.get_by_role("button", name="Add Field").click()
    expect(page.locator("#custom_fields-1-key")).to_be_focused()
    page.keyboard.type("note")
    page.get_by_role("button", name="Remove field 1").click()
    expect(page.locator(".kv-row")).to_have_count(1)
    expect(page.locator("#custom_fields-0-x")).to_be_focused()
    expect(page.locator("#custom_fields-0-key")).to_have_value("note")
    page.keyboard.press("Enter")
    expect(page.locator(".kv-row")).to_have_count(0)
    expect(page.locator("#add-field")).to_be_focused()
    expect_state(page, "No unsaved changes")


def test_a_provider_fills_what_is_empty_and_keeps_what_was_typed(open_store: OpenStore) -> None:
    page = open_store()
    page.locator("#client_secret").fill(SECRET)
    page.get_by_label("SMTP Port").fill("465")
    steps.pick_provider(page, "Google Workspace", "smtp.gmail.com")
    expect(page.get_by_label("Access Token URL")).to_have_value("https://oauth2.googleapis.com/token")
    expect(page.get_by_label("SMTP Port")).to_have_value("465")
    expect(page.locator("#client_secret")).to_have_value(SECRET)
    expect(page.locator("#live")).to_contain_text("filled in for Google Workspace")
    page.locator("label.tile", has_text="Other provider").click()
    expect(page.get_by_label("Authorization URL")).to_be_visible()
    expect(page.get_by_label("Access Token URL")).to_have_value("")
    expect(page.get_by_label("SMTP Port")).to_have_value("465")


# --- Two tabs, leaving, and requests that fail


def test_a_stale_save_shows_both_versions_and_keeps_the_typed_secret(open_store: OpenStore) -> None:
    first = open_store()
    second = first.context.new_page()
    second.goto(first.url)
    steps.fill_general(second)
    second.get_by_label("From Display Name").fill("Saved in the other tab")
    steps.press_save(second)

    steps.fill_general(first)
    first.get_by_label("From Display Name").fill("Typed in this tab")
    first.locator("#client_secret").fill(SECRET)
    with first.expect_response(lambda answer: answer.status == 409) as refused:
        first.locator("#save-btn").click()
    conflict = first.locator("#conflict")
    expect(conflict).to_be_focused()
    expect(conflict).to_contain_text("Maya Chen saved this page while you were editing it")
    row = conflict.get_by_role("row", name=re.compile("From Display Name"))
    expect(row.get_by_role("cell").nth(0)).to_have_text("Typed in this tab")
    expect(row.get_by_role("cell").nth(1)).to_have_text("Saved in the other tab")
    expect(first.locator("#client_secret")).to_have_value(SECRET)
    assert SECRET not in refused.value.text()
    expect_state(first, "2 unsaved changes")
    steps.press_save(first)
    second.reload()
    expect(second.get_by_label("From Display Name")).to_have_value("Typed in this tab")


def test_leaving_with_unsaved_changes_is_asked_about_and_discarding_is_not(open_store: OpenStore) -> None:
    page = open_store()
    asked: list[str] = []

    def stay(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.on("dialog", stay)
    messages = page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="Messages")
    before = page.get_by_label("From Display Name").input_value()
    page.get_by_label("From Display Name").fill("Acme Europe")
    messages.click(no_wait_after=True)
    page.wait_for_timeout(1000)
    assert asked == ["beforeunload"]
    expect(page.get_by_label("From Display Name")).to_have_value("Acme Europe")
    page.get_by_role("link", name="Discard").click()
    expect(page.get_by_label("From Display Name")).to_have_value(before)
    expect_state(page, "No unsaved changes")
    messages.click()
    expect(page).to_have_url(re.compile("/messages$"))
    assert asked == ["beforeunload"], "nothing is unsaved any more, so nobody asks"


def test_a_request_that_does_not_arrive_says_so_and_keeps_the_form(open_store: OpenStore, watched: Watched) -> None:
    page = open_store()
    steps.fill_general(page)
    page.locator("#client_secret").fill(SECRET)
    page.wait_for_load_state("networkidle")  # the checks of the fields just left have their answers
    page.context.set_offline(True)
    page.locator("#save-btn").click()
    expect(page.locator("#net-error")).to_contain_text("That request did not reach the server")
    expect(page.locator("#client_secret")).to_have_value(SECRET)
    expect_state(page, "4 unsaved changes")
    page.context.set_offline(False)
    watched.forgive("Failed to fetch")
    steps.press_save(page)
    expect(page.locator("#net-error")).to_be_empty()


def test_a_fault_of_the_server_says_so_and_keeps_the_form(open_store: OpenStore, house: Installation) -> None:
    page = open_store()
    steps.fill_general(page)
    page.locator("#client_secret").fill(SECRET)
    with broken(house):
        page.locator("#save-btn").click()
        expect(page.locator("#net-error")).to_contain_text("Something went wrong on our side")
    expect(page.locator("#client_secret")).to_have_value(SECRET)
    expect_state(page, "4 unsaved changes")
    steps.press_save(page)
    expect(page.locator("#net-error")).to_be_empty()


@contextmanager
def broken(house: Installation) -> Iterator[None]:
    """A database that lacks a table the settings page reads."""
    rename(house, "custom_fields", "custom_fields_away")
    try:
        yield
    finally:
        rename(house, "custom_fields_away", "custom_fields")


def rename(house: Installation, table: str, name: str) -> None:
    connection = sqlite3.connect(house.directory / "storepost.sqlite3", timeout=20)
    with connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO {name}")
    connection.close()


def test_a_session_that_ended_leads_to_the_sign_in_and_back(open_store: OpenStore) -> None:
    page = open_store()
    settings_url = page.url
    page.context.clear_cookies()
    page.get_by_role("button", name="Add Field").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    page.get_by_label("Email", exact=True).fill(steps.ADMIN)
    page.locator("#password").fill(steps.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(settings_url)
