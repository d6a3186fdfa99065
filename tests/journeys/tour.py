"""Every page and state, in an order that makes each one possible: what the accessibility test and the pictures walk."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect

from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import ADMIN, PASSWORD


def pages(page: Page, installation: Installation) -> Iterator[str]:
    """Bring the browser to one page after the other and yield the name of each."""
    yield from _signing_in(page, installation)
    yield from _managing_stores(page, installation)
    yield from _advanced_smtp(page, installation)
    yield from _connecting(page, installation)
    yield from _testing(page, installation)
    key = yield from _sending(page, installation)
    yield from _deciding(page, installation, key)
    yield from _writing_templates(page, installation)
    yield from _around_a_store(page, installation)


def _tab(page: Page, name: str) -> None:
    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name=name).first.click()


def _signing_in(page: Page, installation: Installation) -> Iterator[str]:
    link = installation.flask("admin", "link")
    page.goto(link)
    yield "welcome"
    page.get_by_role("button", name="Create administrator").click()
    expect(page.locator("#err-sum")).to_be_visible()
    yield "welcome-errors"
    steps.become_administrator(page, installation)
    _sign_out(page)
    yield "sign-in"
    page.get_by_label("Email", exact=True).fill(ADMIN)
    page.locator("#password").fill("not the password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#err-sum")).to_be_visible()
    yield "sign-in-wrong"
    page.get_by_label("Email", exact=True).fill(ADMIN)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def _sign_out(page: Page) -> None:
    menu = page.get_by_role("button", name="Menu")
    if menu.is_visible():  # on phones the sidebar is a popover
        menu.click()
    page.get_by_role("button", name="Sign out").click()


def _managing_stores(page: Page, installation: Installation) -> Iterator[str]:
    expect(page.get_by_text("No stores yet")).to_be_visible()
    yield "stores-empty"
    page.get_by_role("main").get_by_role("link", name="New store").click()
    page.get_by_role("button", name="Create store").click()
    expect(page.locator("#err-sum")).to_be_visible()
    yield "new-store-errors"
    for name, code in (
        ("Bluebird Home", "bluebird-home"),
        ("Northwind Tools", "northwind-tools"),
        ("Acme Store", "acme-store"),
    ):
        page.goto(f"{installation.url}/stores")
        steps.add_store(page, name, code)
    yield "advanced-smtp-new"
    yield from _choosing_a_provider(page)


def _choosing_a_provider(page: Page) -> Iterator[str]:
    settings = page.url
    page.get_by_text("More providers").click()
    steps.pick_provider(page, "Fastmail", "smtp.fastmail.com")
    page.locator("#part-setup summary").click()
    yield "advanced-smtp-more-providers"
    page.locator("label.tile", has_text="Other provider").click()
    page.get_by_label("Issuer").fill("https://localhost:1")
    page.locator("#look-up").click()
    expect(page.locator("#issuer-error")).to_be_visible()
    yield "advanced-smtp-issuer"
    page.get_by_role("link", name="SMTP tab for Yahoo Mail").click()
    expect(page.get_by_label("SMTP Server")).to_have_value("smtp.mail.yahoo.com")
    yield "smtp-for-yahoo"
    page.goto(settings)


def _advanced_smtp(page: Page, installation: Installation) -> Iterator[str]:
    steps.fill_general(page)
    page.get_by_label("From Email Address").fill("orders@acmestore")
    page.get_by_label("Bcc Email Address").fill("records@acmestore.example, ops@acme")
    page.get_by_label("Access Token URL").fill("login.microsoftonline.com/token")
    page.locator("#save-btn").click()
    expect(page.locator("#err-sum")).to_be_visible()
    yield "advanced-smtp-errors"
    steps.fill_general(page)
    page.get_by_label("Access Token URL").fill("")  # what was typed by hand, a preset would not overwrite
    page.get_by_label("Turn Off Emails").check()
    steps.pick_provider(page, "Google Workspace", "smtp.gmail.com")
    steps.pick_provider(page, "Sandbox", "localhost")
    page.get_by_role("button", name="Add Field").click()
    page.locator("#custom_fields-0-key").fill("header.X-Shop")
    page.locator("#custom_fields-0-value").fill("acme")
    page.get_by_role("button", name="Add Field").click()
    page.locator("#custom_fields-1-key").fill("X-Mailer-Pool")
    page.locator("#custom_fields-1-value").fill("transactional")
    yield "advanced-smtp-editing"
    page.get_by_label("Turn Off Emails").uncheck()
    steps.press_save(page)
    yield "advanced-smtp-saved"


def _connecting(page: Page, installation: Installation) -> Iterator[str]:
    card = page.locator("#connection-card")
    card.get_by_role("button", name=re.compile("^Connect")).click()
    expect(page.get_by_role("heading", name="Continue to Sandbox")).to_be_visible()
    yield "leave-page"
    page.get_by_role("link", name="Continue").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("heading", name="Nothing was connected")).to_be_visible()
    yield "consent-denied"
    page.get_by_role("link", name=re.compile("^Back to")).click()
    steps.connect_through_sandbox(page)
    steps.expect_test_passed(page)
    yield "connected-test-passed"


def _testing(page: Page, installation: Installation) -> Iterator[str]:
    for fault, name in (("smtp_auth_disabled", "test-failed-sign-in"), ("grant_revoked", "test-failed-revoked")):
        installation.sandbox.faults.set(**{fault: True})
        page.reload()
        page.get_by_role("button", name="Test Email Settings").click()
        expect(page.locator("#test-result .step.failed")).to_be_visible(timeout=30_000)
        expect(page.locator("#test-result")).not_to_have_attribute("aria-busy", "true", timeout=30_000)
        yield name
        installation.sandbox.faults.reset()
    page.reload()
    yield "advanced-smtp-after-failures"
    # The grant is gone, so mail would be held: somebody connects again.
    steps.connect_through_sandbox(page)
    steps.expect_test_passed(page)


def _sending(page: Page, installation: Installation) -> Generator[str, None, str]:
    """The answer is the API key that it made."""
    _tab(page, "API keys")
    yield "api-keys-empty"
    key = steps.make_api_key(page)
    yield "api-key-created"
    _tab(page, "Messages")
    yield "messages-empty"
    installation.sandbox.faults.set(recipient_refused="nobody@inbox.example")
    for number in range(3):
        steps.send_by_api(installation, key, subject=f"Your order #9012{number} is confirmed")
    steps.send_by_api(installation, key, to=["nobody@inbox.example"], subject="To nobody")
    page.wait_for_timeout(3000)
    page.reload()
    yield "messages"
    page.get_by_role("link", name="To nobody").click()
    page.wait_for_url(re.compile(r"/messages/\w{20,}"))  # the list names the recipient too
    expect(page.get_by_text("nobody@inbox.example").first).to_be_visible()
    yield "message"
    page.goto(f"{installation.url}/stores/3/messages?q=nothing-like-this")
    yield "messages-no-match"
    return key


def _deciding(page: Page, installation: Installation, key: str) -> Iterator[str]:
    """Messages in states that a good network does not bring about, while nobody delivers."""
    installation.stop_worker()
    page.goto(f"{installation.url}/stores")
    expect(page.get_by_text("No worker is running")).to_be_visible()
    yield "stores-no-worker"
    in_a_week = datetime.now(UTC) + timedelta(days=7)
    retrying, unanswered, waiting, _ = (
        steps.send_by_api(installation, key, subject=subject, **more)["id"]
        for subject, more in (
            ("Your parcel is on its way", {}),
            ("Invoice INV-2261", {}),
            ("Reset your password", {"priority": "high", "expires_in": 86_400}),
            ("The spring sale starts today", {"priority": "low", "send_at": in_a_week.isoformat(timespec="seconds")}),
        )
    )
    in_minutes = round((datetime.now(UTC) + timedelta(minutes=12)).timestamp() * 1000)
    busy = "451 4.7.500 Server busy. Please try again later"
    installation.execute(
        "UPDATE messages SET status = 'deferred', attempts = 1, due_at = ?, reason_code = 'temporary', "
        "reason_detail = ?, reason_stage = 'message', reason_family = 'smtp', method = 'advanced_smtp' WHERE uid = ?",
        (in_minutes, busy, retrying),
    )
    installation.execute(
        "UPDATE messages SET status = 'held', hold_reason = 'uncertain', committing_at = created_at, attempts = 1, "
        "method = 'advanced_smtp', sender_address = ? WHERE uid = ?",
        (steps.MAILBOX, unanswered),
    )
    messages = f"{installation.url}/stores/3/messages"
    page.goto(messages)
    expect(page.get_by_text("Scheduled for")).to_be_visible()
    yield "messages-waiting"
    for uid, name in ((waiting, "message-waiting"), (retrying, "message-retrying"), (unanswered, "message-held")):
        page.goto(f"{messages}/{uid}")
        yield name
    page.goto(f"{messages}?status=sent")
    page.locator("#log-table .rowlink").first.click()
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("dialog#resend")).to_be_visible()
    yield "message-send-again"
    page.locator("dialog#resend").get_by_role("button", name="Send again").click()
    expect(page.get_by_text("Repeats")).to_be_visible()
    yield "message-repeats"
    installation.start_worker()


def _writing_templates(page: Page, installation: Installation) -> Iterator[str]:
    page.goto(f"{installation.url}/stores/3/templates/brand")
    _expect_mail(page)
    yield "templates-brand"
    page.get_by_label("Currency").fill("Euro")
    page.get_by_label("Logo URL").fill("http://acmestore.example/logo.png")
    page.locator("#save-btn").click()
    expect(page.locator("#err-sum")).to_be_visible()
    yield "templates-brand-errors"
    editor = f"{installation.url}/stores/3/templates/order-confirmation/en"
    page.goto(editor)
    _expect_mail(page)
    yield "template-editor"
    page.locator(".mail-head label", has_text="Dark").click()
    page.locator("#html").fill("<h1>Thank you</h1>\n<p>We received {{ order.numbr }}.</p>\n{% if order %}")
    expect(page.locator("#html-problems li").first).to_be_visible()
    yield "template-editor-problems"
    page.locator("#save-btn").click()
    expect(page.locator("#err-sum")).to_be_visible()
    yield "template-editor-refused"
    for line in ("We have received your order {{ order.number }}.", "Your order {{ order.number }} is with us."):
        page.locator("#html").fill(f"<h1>Thank you</h1>\n<p>{line}</p>\n<p>You hear from us again.</p>")
        page.locator("#save-btn").click()
        expect(page.locator("[data-save-text]")).to_contain_text("All changes saved")
    page.get_by_role("button", name="Send me a sample").click()
    expect(page.locator("#sample-result")).to_contain_text("accepted", timeout=30_000)
    page.locator(".mail-head label", has_text="Phone").click()
    yield "template-editor-sample"
    page.get_by_role("button", name="Reset to default").click()
    yield "template-reset"
    page.goto(f"{editor}/versions?compare=1")
    yield "template-versions"
    page.goto(f"{editor.replace('order-confirmation', 'refund')}/versions")
    yield "template-versions-empty"
    page.goto(f"{installation.url}/stores/3/templates")
    page.get_by_role("switch", name="Send Refund").uncheck()
    page.locator("#kind-refund").get_by_role("button", name="Turn off").click()
    expect(page.locator("#kind-refund")).to_contain_text("Off since")
    page.get_by_role("switch", name="Send Invoice").uncheck()
    yield "templates"


def _expect_mail(page: Page) -> None:
    expect(page.frame_locator(".stage iframe").locator("body")).to_contain_text("Acme Store")


def _around_a_store(page: Page, installation: Installation) -> Iterator[str]:
    page.goto(f"{installation.url}/stores/3/smtp")
    yield "smtp"
    for path, name in (
        ("/stores", "stores"),
        ("/stores?search=nothing-like-this", "stores-no-match"),
        ("/stores/3/method", "switch-method"),
        ("/stores/3/disconnect", "disconnect"),
        ("/stores/3/domain-check/smtp", "domain-check"),
        ("/stores/3/copy", "copy-store"),
        ("/stores/3/delete", "delete-store"),
        ("/stores/3/edit", "store-details"),
        ("/stores/3/tests", "test-results"),
        ("/stores/1/tests", "test-results-empty"),
        ("/no/such/page", "not-found"),
    ):
        page.goto(installation.url + path)
        yield name
