"""What an administrator does, step by step; every step waits for what it should see."""

from __future__ import annotations

import json
import re
import urllib.request
from email.message import EmailMessage
from typing import Any

from playwright.sync_api import Page, expect

from tests.fakes.installation import Installation

ADMIN = "maya.chen@shop.example"
PASSWORD = "quiet harbour lamp seventeen"
MAILBOX = "orders@acmestore.example"
COPY = "records@acmestore.example"


def become_administrator(page: Page, installation: Installation) -> None:
    """From an empty installation to signed in, by the one-time link."""
    page.goto(installation.flask("admin", "link"))
    page.get_by_label("Your name").fill("Maya Chen")
    page.get_by_label("Email", exact=True).fill(ADMIN)
    page.locator("#password").fill(PASSWORD)
    page.get_by_role("button", name="Create administrator").click()
    expect(page.get_by_role("heading", name="Manage Stores")).to_be_visible()


def add_store(page: Page, name: str = "Acme Store", code: str = "acme-store") -> None:
    page.get_by_role("main").get_by_role("link", name="New store").click()
    fill_new_store(page, name, code)


def fill_new_store(page: Page, name: str, code: str) -> None:
    page.get_by_label("Store name").fill(name)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Create store").click()
    expect(page).to_have_url(re.compile(r"/advanced-smtp$"))


def fill_general(page: Page) -> None:
    page.get_by_label("From Display Name").fill("Acme Störe 🛍")
    page.get_by_label("From Email Address").fill(MAILBOX)
    page.get_by_label("Bcc Email Address").fill(COPY)


def pick_provider(page: Page, name: str, expected_host: str) -> None:
    page.locator("label.tile", has_text=name).first.click()  # the national clouds of Microsoft 365 come after it
    expect(page.get_by_label("SMTP Server")).to_have_value(expected_host)


def fill_sandbox_app(page: Page) -> None:
    """Everything a store needs to send through the sandbox without anybody's consent. Not saved yet."""
    fill_general(page)
    pick_provider(page, "Sandbox", "localhost")
    with page.expect_response(re.compile("/field/grant_type$")):
        page.get_by_label("Grant Type").select_option("client_credentials")
    page.get_by_label("Client Id").fill("storepost-sandbox")
    page.locator("#client_secret").fill("sandbox-secret")
    page.get_by_label("Scope").fill("smtp.send")


def press_save(page: Page) -> None:
    page.locator("#save-btn").click()
    expect(page.locator("[data-save-text]")).to_contain_text("All changes saved")


def connect_through_sandbox(page: Page, *, allow: bool = True) -> None:
    page.locator("#connection-card").get_by_role("button", name=re.compile("^(Connect|Reconnect)")).click()
    expect(page.get_by_role("heading", name="Continue to Sandbox")).to_be_visible()
    page.get_by_role("link", name="Continue").click()
    page.get_by_role("button", name="Allow" if allow else "Cancel").click()


def expect_test_passed(page: Page) -> None:
    panel = page.locator("#test-result")
    expect(panel).to_contain_text("Test email sent successfully", timeout=30_000)
    expect(panel.locator("li.step.failed")).to_have_count(0)
    # Polling has ended: the panel no longer asks.
    expect(panel).not_to_have_attribute("hx-get", re.compile(".+"))


def make_api_key(page: Page) -> str:
    page.get_by_role("navigation", name=re.compile("^Pages of")).get_by_role("link", name="API keys").click()
    page.get_by_label("Name").fill("Shop")
    page.get_by_role("button", name=re.compile("Create")).click()
    key = re.compile(r"sp_[A-Za-z0-9_-]{43}")
    expect(page.get_by_role("main")).to_contain_text(key)
    found = key.search(page.get_by_role("main").inner_text())
    assert found, "the new key is shown once"
    return found.group(0)


def send_by_api(installation: Installation, key: str, **message: Any) -> dict[str, Any]:
    body = {
        "to": ["lena.brandt@inbox.example"],
        "subject": "Your order #90127 is confirmed",
        "text": "Thank you.\n.A line that starts with a dot\n",
        "html": "<p>Thank you.</p>",
        **message,
    }
    return _post(installation, key, body)


def send_by_template(
    installation: Installation, key: str, template: str, data: dict[str, Any], **more: Any
) -> dict[str, Any]:
    body = {"to": ["lena.brandt@inbox.example"], "template": template, "data": data, **more}
    return _post(installation, key, body)


def _post(installation: Installation, key: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{installation.url}/api/v1/messages",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 202
        return dict(json.load(answer))


def received(installation: Installation, count: int) -> list[Any]:
    """The sandbox's inbox once it holds that many messages, oldest first."""
    installation.sandbox.wait_for_messages(count)
    return list(installation.sandbox.messages())


def parsed(message: Any) -> EmailMessage:
    return message.parsed


def expect_order_mail(message: Any) -> None:
    """The store's sender, the customer and the Bcc copy in the envelope, and no trace of the copy in the headers."""
    mail = parsed(message)
    assert str(mail["From"].addresses[0].display_name) == "Acme Störe 🛍"
    assert mail["From"].addresses[0].addr_spec == MAILBOX
    assert mail["Subject"] == "Your order #90127 is confirmed"
    assert mail["To"] == "lena.brandt@inbox.example"
    assert "Bcc" not in mail
    assert COPY.encode() not in message.content
    assert set(message.recipients) == {"lena.brandt@inbox.example", COPY}
    body = mail.get_body(preferencelist=("plain",))
    assert body is not None
    assert ".A line that starts with a dot" in body.get_content()
