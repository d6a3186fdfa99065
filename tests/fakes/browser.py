"""A headless Chromium for the tests, without what a browser does for people who sit before it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.fakes import tools

_SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own Playwright: while one is open in a process, no other can be opened there."""
    with started_playwright() as playwright, launched(playwright) as browser:
        yield browser


@contextmanager
def started_playwright() -> Iterator[Playwright]:
    """Skips the test where there is no Chromium, but never in CI."""
    if tools.chromium() is None:
        assert not os.environ.get("CI"), "Chromium must be there in CI"
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        yield playwright


@contextmanager
def launched(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=tools.chromium(), args=_SWITCHES)
    try:
        yield browser
    finally:
        browser.close()
