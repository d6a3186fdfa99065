"""From nothing to a delivered mail, as a new administrator does it in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import ADMIN, PASSWORD, Watched

pytestmark = pytest.mark.browser


def test_from_nothing_to_a_delivered_mail_over_oauth(page: Page, installation: Installation) -> None:
    steps.become_administrator(page, installation)
    steps.add_store(page)
    steps.fill_general(page)
    steps.pick_provider(page, "Sandbox", "localhost")
    steps.connect_through_sandbox(page)

    expect(page).to_have_url(re.compile(r"/stores/1/advanced-smtp"))
    steps.expect_test_passed(page)
    card = page.locator("#connection-card")
    expect(card).to_contain_text("Connected")
    expect(card).to_contain_text(steps.MAILBOX)
    expect(card).to_contain_text("smtp.send")
    expect(card).to_contain_text("Maya Chen")

    key = steps.make_api_key(page)
    answer = steps.send_by_api(installation, key)
    assert set(answer) == {"id", "status"}
    test_mail, order_mail = steps.received(installation, 2)
    assert set(test_mail.recipients) == {ADMIN}, "a test goes to one recipient only"
    assert test_mail.mechanism == order_mail.mechanism == "XOAUTH2"
    steps.expect_order_mail(order_mail)

    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="Messages").click()
    row = page.get_by_role("row", name=re.compile("Your order #90127"))
    expect(row).to_contain_text("Accepted")
    page.goto(f"{installation.sandbox.web_url}/inbox")
    expect(page.get_by_role("main")).to_contain_text("Your order #90127 is confirmed")
    assert "code=" not in installation.log, "an authorization code must be in no log"


def test_classic_smtp(page: Page, installation: Installation) -> None:
    steps.become_administrator(page, installation)
    steps.add_store(page)
    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="SMTP", exact=True).click()
    steps.fill_general(page)
    page.get_by_label("SMTP Server").fill("localhost")
    page.get_by_label("SMTP Port").fill(str(installation.sandbox.smtps_port))
    page.get_by_label("Username").fill(steps.MAILBOX)
    page.locator("#password").fill("sandbox-password")
    steps.press_save(page)
    expect(page.locator("#password")).to_have_value("")
    page.get_by_role("button", name="Test Email Settings").click()
    steps.expect_test_passed(page)

    page.get_by_role("button", name=re.compile("Switch to SMTP|Use SMTP")).or_(
        page.get_by_role("link", name=re.compile("Switch to SMTP|Use SMTP"))
    ).first.click()
    page.get_by_role("dialog").or_(page.get_by_role("main")).get_by_role(
        "button", name=re.compile("Switch")
    ).last.click()
    expect(page.get_by_role("main")).to_contain_text("Acme Store sends with SMTP")

    steps.send_by_api(installation, steps.make_api_key(page))
    _, order_mail = steps.received(installation, 2)
    assert order_mail.mechanism in ("PLAIN", "LOGIN")
    steps.expect_order_mail(order_mail)


@pytest.mark.parametrize("grant", ["client_credentials", "refresh_token"])
def test_grants_without_a_consent(page: Page, installation: Installation, grant: str) -> None:
    steps.become_administrator(page, installation)
    steps.add_store(page)
    steps.fill_general(page)
    steps.pick_provider(page, "Sandbox", "localhost")
    page.get_by_label("Grant Type").select_option(grant)
    page.get_by_label("Client Id").fill("storepost-sandbox")
    page.locator("#client_secret").fill("sandbox-secret")
    if grant == "client_credentials":
        page.get_by_label("Scope").fill("smtp.send")
    else:
        pasted = installation.sandbox.state.issue_refresh_token(steps.MAILBOX)
        page.locator("#refresh_token").fill(pasted)
    steps.press_save(page)
    page.get_by_role("button", name="Test Email Settings").click()
    steps.expect_test_passed(page)
    steps.send_by_api(installation, steps.make_api_key(page))
    steps.expect_order_mail(steps.received(installation, 2)[1])


def test_without_javascript_up_to_the_saved_settings(
    chromium: Browser, installation: Installation, watched: Watched
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    context.set_default_timeout(15_000)
    page = watched.watch(context.new_page())
    steps.become_administrator(page, installation)
    steps.add_store(page)
    steps.fill_general(page)
    page.locator("label.tile", has_text="Sandbox").click()
    page.get_by_role("button", name="Fill in for this provider").click()
    expect(page.get_by_label("SMTP Server")).to_have_value("localhost")
    expect(page.get_by_label("From Display Name")).to_have_value("Acme Störe 🛍")
    page.get_by_role("button", name="Add Field").click()
    page.locator("#custom_fields-0-key").fill("header.X-Shop")
    page.locator("#custom_fields-0-value").fill("acme")
    page.get_by_role("button", name="Save changes").click()
    expect(page.get_by_label("SMTP Server")).to_have_value("localhost")
    expect(page.locator("#custom_fields-0-value")).to_have_value("acme")
    # Connecting needs no JavaScript either, and neither does reading the result of the test.
    steps.connect_through_sandbox(page)
    expect(page.locator("#connection-card")).to_contain_text("Connected")
    context.close()


def test_a_denied_consent_is_a_calm_message(page: Page, installation: Installation) -> None:
    steps.become_administrator(page, installation)
    steps.add_store(page)
    steps.fill_general(page)
    steps.pick_provider(page, "Sandbox", "localhost")
    steps.connect_through_sandbox(page, allow=False)
    expect(page).to_have_url(re.compile(re.escape(installation.url)))
    expect(page.get_by_role("heading", name="Nothing was connected")).to_be_visible()
    assert installation.sandbox.messages() == ()


def test_sign_in_with_the_password_that_was_chosen(page: Page, installation: Installation) -> None:
    steps.become_administrator(page, installation)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Email", exact=True).fill(ADMIN)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Manage Stores")).to_be_visible()
