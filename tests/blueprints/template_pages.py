"""A template's editor as a test sees it: what its form holds, and how it is posted."""

from __future__ import annotations

import html
import re
from typing import Any

from models import Store
from tests.conftest import Browser

PARTS = ("subject", "preheader", "html", "text", "sample")


def url_of(store: Store, kind: str = "password-reset", locale: str = "en", *more: str) -> str:
    return "/".join((f"/stores/{store.id}/templates/{kind}/{locale}", *more))


def fields(page: str) -> dict[str, str]:
    """What the form would post."""
    found = {"expected": re.search(r'name="expected" value="([^"]*)"', page)}
    found |= {name: re.search(rf'<input type="text" value="([^"]*)" id="{name}"', page) for name in PARTS[:2]}
    # A browser takes away the line break behind the tag.
    found |= {name: re.search(rf'<textarea[^>]* id="{name}"[^>]*>\n(.*?)</textarea>', page, re.S) for name in PARTS[2:]}
    assert all(found.values()), [name for name, value in found.items() if not value]
    return {name: html.unescape(value[1]) for name, value in found.items() if value}


def open_(browser: Browser, store: Store, **where: str) -> dict[str, str]:
    answer = browser.get(url_of(store, **where))
    assert answer.status_code == 200
    return fields(answer.text)


def save(browser: Browser, store: Store, change: dict[str, Any], **where: str) -> Any:
    """Open the editor, change some of its fields, save."""
    return browser.post(url_of(store, **where), open_(browser, store, **where) | change)


def problems(page: str, part: str) -> str:
    """The words below a field."""
    found = re.search(rf'<ul class="problems" id="{part}-problems">(.*?)</ul>', page, re.S)
    assert found, page[:300]
    return html.unescape(re.sub(r"\s+", " ", re.sub("<[^>]+>", "", found[1]))).strip()
