"""Every default mail as a browser draws it: phone and desktop, light and dark, with samples and with hostile data.

Mail programs draw less than a browser does; what they cannot is in tests/mail/templates/test_layout.py. With
--screenshots the pictures go into the folder templates/ there.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route

from mail.templates.kinds import KINDS, sample
from tests.journeys.test_every_page import axe
from tests.mail.templates.shop import DEFAULTS, HOSTILE_TEXTS, LOOKS, data_of, kind_called, mail_of

pytestmark = pytest.mark.browser

HERE = Path(__file__).resolve().parent
PICTURES = (HERE / "shop_pictures", HERE.parents[1] / "static/samples")
FONT = HERE.parents[1] / "static/vendor/geist-5.3.0-latin.woff2"
MAIL = "https://mail.example/"
PHONE, DESKTOP = 360, 640
TOUCH_MIN = 44  # CSS pixels; source: WCAG 2.2, 2.5.5
# What a page must have and a mail has not: landmarks, and a level of headings to start from.
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
COLOURS = {"type": "rule", "values": ["color-contrast"]}
WIDER = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Reader:
    """A tab that shows one mail after the other and asks nobody but our folder of pictures."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[tuple[str, str]] = []
        self.has_pictures = True
        self._html = ""
        page.route("**/*", self._answer)

    def show(self, html: str, *, width: int, scheme: Any = "light") -> None:
        self._html = html
        self.page.set_viewport_size({"width": width, "height": 600})
        self.page.emulate_media(color_scheme=scheme)
        self.page.goto(MAIL)

    def is_wider(self) -> int:
        """CSS pixels by which the mail is wider than its window."""
        return int(self.page.evaluate(WIDER))

    def faults(self, only: Any) -> list[str]:
        return [
            f"{found['id']} at {node['target']}: {node['failureSummary']}"
            for found in axe(self.page, only)
            for node in found["nodes"]
        ]

    def take(self, file: Path) -> None:
        # Machines that take pictures seldom have a font such as people read mail in; ours stands in for one of them.
        font = base64.b64encode(FONT.read_bytes()).decode()
        face = f"@font-face{{font-family:'Segoe UI';font-weight:100 900;src:url(data:font/woff2;base64,{font})}}"
        self.page.add_style_tag(content=face)
        self.page.evaluate("() => document.fonts.ready.then(() => true)")
        file.parent.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(file), full_page=True)

    def _answer(self, route: Route) -> None:
        url = route.request.url
        if url == MAIL:
            route.fulfill(body=self._html, content_type="text/html; charset=utf-8")
            return
        self.asked.append((route.request.resource_type, url))
        found = [file for folder in PICTURES for file in folder.glob(f"{Path(url).stem}.*")]
        if self.has_pictures and found:
            route.fulfill(path=found[0])
        else:
            route.abort()


@contextmanager
def reading(chromium: Browser) -> Iterator[Reader]:
    with chromium.new_context(locale="en-GB", timezone_id="UTC", service_workers="block") as context:
        context.set_default_timeout(20_000)
        yield Reader(context.new_page())


@pytest.fixture(scope="module")
def tab(chromium: Browser) -> Iterator[Reader]:
    with reading(chromium) as found:
        yield found


@pytest.fixture
def reader(tab: Reader) -> Reader:
    """One tab for all tests of this file, as good as new."""
    tab.asked.clear()
    tab.has_pictures = True
    return tab


def html_of(key: str, locale: str, **look: Any) -> str:
    changed = dataclasses.replace(LOOKS[locale], **look)
    return mail_of(key, locale, sample(kind_called(key), locale), changed).html


@pytest.mark.parametrize(
    ("locale", "scheme", "width"), [("en", "light", DESKTOP), ("en", "dark", PHONE), ("de", "light", DESKTOP)]
)
def test_every_default_is_accessible_and_loads_only_pictures(
    reader: Reader, request: pytest.FixtureRequest, locale: str, scheme: str, width: int
) -> None:
    folder = request.config.getoption("--screenshots")
    faults = []
    for kind in KINDS:
        reader.show(html_of(kind.key, locale), width=width, scheme=scheme)
        faults += [f"{kind.key}: {fault}" for fault in reader.faults(RULES)]
        if folder:
            reader.take(Path(folder) / "templates" / f"{kind.key}-{locale}-{scheme}-{width}.png")
    assert faults == [], "\n".join(faults)
    assert {kind for kind, _ in reader.asked} == {"image"}


@pytest.mark.parametrize(("key", "locale"), DEFAULTS)
def test_a_default_fits_a_phone_and_its_buttons_a_thumb(reader: Reader, key: str, locale: str) -> None:
    reader.show(html_of(key, locale), width=PHONE)

    assert reader.is_wider() == 0
    for button in reader.page.locator("a.button-link").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= TOUCH_MIN
        assert box["width"] > PHONE * 0.7


@pytest.mark.parametrize("hostile", ["html", "rtl", "emoji", "long word", "10,000 lines", "ampersands"])
def test_nothing_hostile_makes_a_mail_scroll_sideways(reader: Reader, hostile: str) -> None:
    wider = {}
    for kind in KINDS:
        reader.show(mail_of(kind.key, "de", data_of(kind, HOSTILE_TEXTS[hostile])).html, width=PHONE)
        if by := reader.is_wider():
            wider[kind.key] = by
    assert wider == {}


@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#ffe600", "#777777"])
def test_any_colour_of_a_brand_can_be_read(reader: Reader, colour: str) -> None:
    faults = []
    for header, logo in ((colour, ""), ("#ffffff", ""), ("#ffffff", "https://shop.example/images/missing.png")):
        html = html_of("order_shipped", "en", accent=colour, header_color=header, logo_url=logo)
        for scheme in ("light", "dark"):
            reader.show(html, width=DESKTOP, scheme=scheme)
            faults += [f"{header} {logo} {scheme}: {fault}" for fault in reader.faults(COLOURS)]
    assert faults == [], "\n".join(faults)


def test_what_outlook_com_recolours_can_be_read(reader: Reader) -> None:
    faults = []
    for key in ("order_confirmation", "contact_form", "sign_in_code", "review_request"):  # all parts are in them
        reader.show(html_of(key, "en"), width=DESKTOP)
        # It marks each element that it recolours; what counts is that there is one above.
        reader.page.evaluate("() => ['data-ogsc', 'data-ogsb'].forEach(name => document.body.setAttribute(name, ''))")
        dark = reader.page.evaluate("() => getComputedStyle(document.querySelector('.card')).backgroundColor")
        assert dark == "rgb(23, 24, 28)"
        faults += [f"{key}: {fault}" for fault in reader.faults(COLOURS)]
    assert faults == [], "\n".join(faults)


def test_a_mail_without_its_pictures_can_be_read(reader: Reader) -> None:
    reader.has_pictures = False
    for key in ("order_confirmation", "back_in_stock"):
        reader.show(html_of(key, "en"), width=PHONE)
        logo = reader.page.get_by_role("img", name="Harbour Goods")
        box = logo.bounding_box()
        assert box is not None
        assert box["height"] >= 20
        assert box["width"] > 100
        assert reader.is_wider() == 0
    picture = reader.page.get_by_role("img", name="Waxed canvas backpack").bounding_box()
    assert picture is not None
    assert picture["height"] < 60  # no hole where it would have been
