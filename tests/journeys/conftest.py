"""A real browser against a real installation. Console errors and CSP violations on any page fail the test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from tests.fakes import tools
from tests.fakes.installation import Installation

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Machines that test are slow and busy; what is asserted is that it happens, not how fast.
expect.set_options(timeout=20_000)

PASSWORD = "quiet harbour lamp seventeen"
ADMIN = "maya.chen@shop.example"


@pytest.fixture(autouse=True)
def no_outside_world() -> None:
    """Browser and installation are processes of their own; the guard of the unit tests would not see them."""


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    if tools.chromium() is None:
        assert not os.environ.get("CI"), "Chromium must be there in CI"
        pytest.skip("Chromium is not installed")
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=tools.chromium(), headless=True, args=FLAGS)
    yield browser
    browser.close()


class Watched:
    """What a browser complained about."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def watch(self, page: Page) -> Page:
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        return page

    def _heard(self, message: Any) -> None:
        # A page that answers 4xx on purpose is reported by Chromium as a failed resource; that is not our fault.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")


@pytest.fixture
def watched() -> Iterator[Watched]:
    watch = Watched()
    yield watch
    assert watch.complaints == []


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    made = chromium.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB", timezone_id="UTC")
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, watched: Watched) -> Page:
    return watched.watch(context.new_page())


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path) as running:
        yield running
