"""Every page, light and dark, 1440 and 390 px wide: no accessibility fault, no complaint, no sideways scroll."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.fakes.installation import Installation
from tests.journeys import tour
from tests.journeys.conftest import Watched

pytestmark = pytest.mark.browser

AXE = (Path(__file__).resolve().parents[1] / "vendor" / "axe.min.js").read_text(encoding="utf-8")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# A window that nobody looks at may draw no frame: colours on their way from one theme to the other would stay there.
TURN = """theme => new Promise(done => {
  document.documentElement.dataset.theme = theme;
  getComputedStyle(document.body).color;
  requestAnimationFrame(() => {
    for (const each of document.getAnimations()) if (each instanceof CSSTransition) each.finish();
    setTimeout(done, 100);
  });
})"""
WIDTHS = {"1440": 1440, "390": 390}


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page(
    chromium: Browser, tmp_path: Path, watched: Watched, width: str, request: pytest.FixtureRequest
) -> None:
    pictures = request.config.getoption("--screenshots")
    faults: list[str] = []
    with Installation(tmp_path) as installation:
        context = chromium.new_context(
            viewport={"width": WIDTHS[width], "height": 900}, locale="en-GB", timezone_id="UTC"
        )
        context.set_default_timeout(20_000)
        page = watched.watch(context.new_page())
        # axe looks at the finished page from an isolated session of the debugger: our CSP lets no foreign script in.
        page.emulate_media(color_scheme="light", reduced_motion="reduce")
        for name in tour.pages(page, installation):
            page.wait_for_load_state()  # a page that is being left has no document for a moment
            for theme in ("dark", "light"):
                # As the theme cookie does it; the state of the page stays, which a reload would lose.
                page.evaluate(TURN, theme)
                found = look(page) if theme == "dark" else colour_faults(page)
                faults += [f"{name} {width} {theme}: {fault}" for fault in found]
                if pictures:
                    take(page, Path(pictures) / f"{name}-{width}-{theme}.png", WIDTHS[width])
        context.close()
    assert faults == [], "\n".join(faults)


def look(page: Page) -> list[str]:
    """What axe finds, and what a page must not do."""
    faults = _words_of(axe(page))
    if page.evaluate("() => document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        faults.append("scrolls sideways")
    missing = page.evaluate(
        """() => [...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => a.name.startsWith('hx-'))
                 && !e.hasAttribute('hx-nonce') && e.tagName !== 'HX-PARTIAL').map(e => e.outerHTML.slice(0, 80))"""
    )
    return faults + [f"hx- without nonce: {element}" for element in missing]


def colour_faults(page: Page) -> list[str]:
    """What axe finds in the colours alone: nothing else changes with the theme."""
    return _words_of(axe(page, {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}))


def _words_of(violations: list[dict[str, Any]]) -> list[str]:
    return [
        f"{found['id']} at {node['target']}: {node['failureSummary']}"
        for found in violations
        for node in found["nodes"]
    ]


def axe(page: Page, only: Any = RULES) -> list[dict[str, Any]]:
    session = page.context.new_cdp_session(page)
    try:
        session.send("Runtime.evaluate", {"expression": AXE, "silent": True})
        # It is in no frame, so it has nobody to ask there; a frame that shows a mail is nobody's, and Chromium would
        # complain of the question.
        options = json.dumps({"runOnly": only, "resultTypes": ["violations"], "iframes": False})
        run = f"axe.run(document, {options}).then(found => JSON.stringify(found.violations))"
        answer = session.send("Runtime.evaluate", {"expression": run, "awaitPromise": True, "returnByValue": True})
        return list(json.loads(answer["result"]["value"]))
    finally:
        session.detach()


def take(page: Page, file: Path, width: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    height = page.evaluate("() => document.documentElement.scrollHeight")
    # The sticky save bar belongs at the end of the picture, not in its middle.
    page.set_viewport_size({"width": width, "height": max(900, min(height, 4000))})
    if len(page.frames) > 1:
        # A frame that was out of sight is painted by a process of its own, a little after the page; nothing tells when.
        page.wait_for_timeout(500)
    # Playwright's usual helpers inject a style, which our CSP rightly refuses.
    page.screenshot(path=str(file), animations="allow", caret="initial")
    page.set_viewport_size({"width": width, "height": 900})
