"""A real browser against a real installation. Console errors and CSP violations on any page fail the test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect

from tests.fakes import browser
from tests.fakes.installation import Installation
from tests.journeys import steps

# Machines that test are slow and busy; what is asserted is that it happens, not how fast.
expect.set_options(timeout=20_000)

ADMIN, PASSWORD = steps.ADMIN, steps.PASSWORD
_codes = itertools.count(1)


@pytest.fixture(autouse=True)
def no_outside_world() -> None:
    """Browser and installation are processes of their own; the guard of the unit tests would not see them."""


# For a module and not for the session: while one is open in this process, no other test could open its own.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with browser.started_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    with browser.launched(playwright) as started:
        yield started


class Watched:
    """What a browser complained about."""

    def __init__(self) -> None:
        self.complaints: list[str] = []

    def watch(self, page: Page) -> Page:
        page.on("console", self._heard)
        page.on("pageerror", self._failed)
        return page

    def forgive(self, words: str) -> None:
        """Drop what was said about a failure that the test itself brought about."""
        self.complaints = [complaint for complaint in self.complaints if words not in complaint]

    def _failed(self, error: Any) -> None:
        # A test that resizes the window amid the fade from one page to the next ends the fade; no script of ours did.
        if not str(error).startswith("Transition was "):
            self.complaints.append(f"page error: {error}")

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


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests of a file; each of them works on a store of its own."""
    with Installation(tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.fixture(scope="module")
def cookies(house: Installation, chromium: Browser) -> Any:
    """The session of its administrator: one sign-in for the whole file."""
    with chromium.new_context() as context:
        context.set_default_timeout(20_000)
        page = context.new_page()
        steps.become_administrator(page, house)
        return context.cookies()


OpenStore = Callable[..., Page]


@pytest.fixture
def open_store(house: Installation, cookies: Any, chromium: Browser, watched: Watched) -> Iterator[OpenStore]:
    """Opens a tab of a new store, "Acme Store", in a browser context of its own."""
    contexts: list[BrowserContext] = []

    def open_(tab: str = "advanced-smtp", **options: Any) -> Page:
        usual = {"viewport": {"width": 1440, "height": 900}, "locale": "en-GB", "timezone_id": "UTC"}
        context = chromium.new_context(**usual | options)
        contexts.append(context)
        context.set_default_timeout(20_000)
        context.add_cookies(cookies)
        page = watched.watch(context.new_page())
        page.goto(f"{house.url}/stores/new")
        steps.fill_new_store(page, "Acme Store", f"acme-{next(_codes)}")
        if tab != "advanced-smtp":
            page.goto(page.url.replace("advanced-smtp", tab))
        return page

    yield open_
    for context in contexts:
        context.close()
