"""The banners about a connection in a real browser: they fit on wide and narrow screens, and all can read them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser

from extensions import db
from mail import health, outbox
from mail.health import Finding
from mail.outbox import NewMessage
from models import Message
from models.connection import Connection, Health
from models.email_settings import Method
from models.types import utcnow
from tests.blueprints import served
from tests.fakes import browser
from tests.fakes.oauth import make_oauth_store

pytestmark = pytest.mark.browser
PICTURES = os.environ.get("ALERT_PICTURES", "")
DETAIL = "HTTP 400 invalid_grant: AADSTS50173: The provided grant has expired due to it being revoked."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Flask]]:
    with served.site(tmp_path_factory.mktemp("site")) as (address, app):
        with app.app_context():
            make_stores(app)
        yield address, app


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def cookies(site: tuple[str, Flask], chromium: Browser) -> Any:
    return served.sign_in(site[0], chromium)


def make_stores(app: Flask) -> None:
    """1 and 2 share a lost grant, 3 is refused the sign-in, 4 is about to end in two ways."""
    equipment = app.extensions["storepost"]
    url = "https://localhost:1/token"
    lost = make_oauth_store(equipment, url, name="Acme Store", provider="microsoft365")
    sharer = make_oauth_store(equipment, url, name="Bluebird Home", provider="microsoft365")
    refused = make_oauth_store(equipment, url, name="Northwind Tools", provider="microsoft365")
    soon = utcnow().date() + timedelta(days=6)
    ends = utcnow() + timedelta(days=1, hours=-1)
    ending = make_oauth_store(
        equipment, url, name="Trial", provider="google", client_secret_expires_on=soon, grant_ends_at=ends
    )
    sharer.email_settings.connection = lost.email_settings.connection
    for store in (lost, sharer, refused, ending):
        store.email_settings.method = Method.ADVANCED_SMTP
    for _ in range(12):
        new = NewMessage(to=("lena@shop.example",), subject="Order", text="Thanks")
        outbox.enqueue(lost.id, new, equipment=equipment)
    db.session.query(Message).update({"created_at": utcnow() - timedelta(hours=3)})
    ids = [store.email_settings.connection_id for store in (lost, refused)]
    db.session.commit()
    health.report(ids[0], Finding(Health.NEEDS_REAUTHORIZATION, "token", "invalid_grant", DETAIL))
    words = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox."
    health.report(ids[1], Finding(Health.SETTINGS_WRONG, "auth", "auth_refused", words))
    db.session.query(Connection).filter_by(id=ids[0]).update({"health_since": utcnow() - timedelta(hours=4)})
    db.session.commit()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_banners_fit_and_can_be_read_by_everybody(
    site: tuple[str, Flask], chromium: Browser, cookies: Any, scheme: Any, width: int
) -> None:
    with chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    ) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        for store_id, words in ((1, "12 messages are held"), (3, "refuses the sign-in"), (4, "ends this connection")):
            page.goto(f"{site[0]}/stores/{store_id}/advanced-smtp")
            banner = page.locator(".above .note").first
            assert words in banner.inner_text()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
            assert served.faults(page) == []
            if PICTURES:
                page.screenshot(path=Path(PICTURES) / f"alerts-{store_id}-{width}-{scheme}.png")
        assert complaints == []
