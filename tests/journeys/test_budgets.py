"""What the pages cost to load, how large they grow, and that they fit the narrowest screen."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Response, expect

from tests.fakes.installation import Installation
from tests.journeys import steps
from tests.journeys.conftest import OpenStore, Watched

pytestmark = pytest.mark.browser

STATIC = Path(__file__).resolve().parents[2] / "static"
KB = 1024
FIRST_VISIT, FIRST_REQUESTS = 100 * KB, 10
NEXT_PAGE, FRAGMENT = 10 * KB, 5 * KB
CSS, OWN_SCRIPT, NODES = 14 * KB, 4 * KB, 1500
MESSAGES = 26  # one more than a page of the list holds


def packed(body: bytes) -> int:
    """Bytes as a reverse proxy sends them."""
    return min(len(gzip.compress(body, 6)), len(body))


@pytest.fixture
def furnished(open_store: OpenStore, house: Installation) -> Page:
    """The settings page of a store that has everything: a connection, rows, a passed test, a full list of messages."""
    page = open_store()
    steps.fill_general(page)
    steps.pick_provider(page, "Sandbox", "localhost")
    for number in range(3):
        page.get_by_role("button", name="Add Field").click()
        page.locator(f"#custom_fields-{number}-key").fill(f"header.X-Shop-{number}")
        page.locator(f"#custom_fields-{number}-value").fill("acme")
    steps.connect_through_sandbox(page)
    steps.expect_test_passed(page)
    settings_url = re.sub(r"\?.*", "", page.url)
    key = steps.make_api_key(page)
    for number in range(MESSAGES):
        steps.send_by_api(house, key, subject=f"Your order #{90100 + number} is confirmed")
    page.goto(settings_url)
    return page


@contextmanager
def visitor(chromium: Browser, watched: Watched, cookies: Any) -> Iterator[tuple[Page, list[Response]]]:
    """A browser that was never here, and every answer that comes to it over the network and not from its cache."""
    with chromium.new_context(viewport={"width": 1440, "height": 900}) as context:
        context.set_default_timeout(20_000)
        if cookies:
            context.add_cookies(cookies)
        page = watched.watch(context.new_page())
        answers: list[Response] = []
        page.on("response", lambda answer: answers.append(answer))
        yield page, answers
        assert all(answer.status < 400 for answer in answers)


def from_cache(context: BrowserContext, page: Page) -> set[str]:
    """Addresses that the browser answered by itself, as its debugger tells."""
    session = context.new_cdp_session(page)
    session.send("Network.enable")
    found: dict[str, str] = {}
    cached: set[str] = set()

    def answered(event: dict[str, Any]) -> None:
        found[event["requestId"]] = event["response"]["url"]
        if event["response"].get("fromDiskCache"):
            cached.add(event["response"]["url"])

    session.on("Network.requestWillBeSent", lambda event: found.update({event["requestId"]: event["request"]["url"]}))
    session.on("Network.responseReceived", answered)
    session.on("Network.requestServedFromCache", lambda event: cached.add(found[event["requestId"]]))
    return cached


def test_a_first_visit_costs_little_and_every_later_page_one_small_answer(
    furnished: Page, chromium: Browser, watched: Watched, house: Installation, cookies: Any
) -> None:
    costs: dict[str, tuple[int, int]] = {}
    with visitor(chromium, watched, None) as (page, answers):
        page.goto(f"{house.url}/sign-in", wait_until="networkidle")
        costs["sign-in"] = (len(answers), sum(packed(answer.body()) for answer in answers))
    with visitor(chromium, watched, cookies) as (page, answers):
        cached = from_cache(page.context, page)
        page.goto(furnished.url, wait_until="networkidle")
        costs["settings"] = (len(answers), sum(packed(answer.body()) for answer in answers))
        for name, (requests, size) in costs.items():
            assert requests <= FIRST_REQUESTS, (name, requests)
            assert size <= FIRST_VISIT, (name, size)
        store = furnished.url.rsplit("/", 1)[0]
        for url in (f"{house.url}/stores", *(f"{store}/{tab}" for tab in TABS)):
            del answers[:]
            page.goto(url, wait_until="networkidle")
            over_the_network = [answer for answer in answers if answer.url not in cached]
            assert [answer.url for answer in over_the_network] == [url]
            size = packed(over_the_network[0].body())
            assert size <= NEXT_PAGE, (url, size)
            nodes = page.evaluate("document.getElementsByTagName('*').length")
            assert nodes <= NODES, (url, nodes)


TABS = ("advanced-smtp", "smtp", "messages", "templates", "api-keys", "edit", "method", "copy", "delete", "disconnect")


def test_fragments_are_small(furnished: Page) -> None:
    page = furnished
    sizes: dict[str, int] = {}

    def weigh(name: str, pattern: str, act: Any) -> None:
        with page.expect_response(re.compile(pattern)) as answer:
            act()
        assert answer.value.request.headers.get("hx-request") == "true", name
        sizes[name] = packed(answer.value.body())

    def leave_field(value: str) -> None:
        page.get_by_label("From Email Address").fill(value)
        page.get_by_label("From Display Name").focus()

    save = "/advanced-smtp$"
    weigh("field", "/field/from_email$", lambda: leave_field("nonsense"))
    weigh("refused", save, page.locator("#save-btn").click)
    expect(page.locator("#err-sum")).to_be_focused()
    expect_kept_words(page)
    weigh("rows", "/custom-fields$", page.get_by_role("button", name="Add Field").click)
    expect(page.locator("#custom_fields-3-key")).to_be_focused()
    expect_kept_words(page)
    weigh("provider", "/provider$", page.locator("label.tile", has_text="Google Workspace").click)
    expect(page.locator("#setup-steps")).to_contain_text("Google")
    page.locator("label.tile", has_text="Sandbox").click()
    expect(page.get_by_label("SMTP Server")).to_have_value("localhost")
    leave_field(steps.MAILBOX)
    weigh("saved", save, page.locator("#save-btn").click)
    expect(page.locator("[data-save-text]")).to_have_text("All changes saved just now")
    expect_kept_words(page)
    weigh("test", "/test/", page.get_by_role("button", name="Test Email Settings").click)
    weigh("poll", "/tests/", lambda: None)
    steps.expect_test_passed(page)
    page.goto(page.url.replace("advanced-smtp", "messages"))
    weigh("messages", r"[?&]q=order", lambda: page.locator("#q").fill("order"))
    assert {name: size for name, size in sizes.items() if size > FRAGMENT} == {}


def expect_kept_words(page: Page) -> None:
    """What fragments leave out because the page has it, each once and whole."""
    for id, words in (
        ("documented-names", "messages_per_minute"),
        ("setup-steps", "Connect"),
        ("f-provider-more", "Fastmail"),
        ("inbox-preview", "Your order"),
        ("use_ssl-then", "Without it, the connection is encrypted only if"),
        ("emails_off-then", "While this is on, customers of Acme Store"),
    ):
        expect(page.locator(f"[id={id}]")).to_have_count(1)
        expect(page.locator(f"[id={id}]")).to_contain_text(words)


def test_the_style_sheet_and_our_script_are_small() -> None:
    assert packed((STATIC / "app.css").read_bytes()) <= CSS
    assert packed((STATIC / "app.js").read_bytes()) <= OWN_SCRIPT
    assert packed((STATIC / "templates.js").read_bytes()) <= OWN_SCRIPT


def test_the_editor_and_its_answers_are_small(furnished: Page) -> None:
    page = furnished
    store = page.url.rsplit("/", 1)[0]
    for path in ("templates/order-confirmation/en", "templates/invoice/de", "templates/brand"):
        answer = page.goto(f"{store}/{path}")
        assert answer is not None
        assert packed(answer.body()) <= NEXT_PAGE, path
        assert page.evaluate("document.getElementsByTagName('*').length") <= NODES, path
    page.goto(f"{store}/templates/order-confirmation/en")
    for pattern, act in (
        ("/check$", lambda: page.locator("#subject").fill("Thank you")),
        ("/en$", page.locator("#save-btn").click),
    ):
        with page.expect_response(re.compile(pattern)) as fragment:
            act()
        assert packed(fragment.value.body()) <= FRAGMENT, pattern


def test_every_page_fits_320_pixels(furnished: Page, house: Installation) -> None:
    page = furnished
    store = page.url.rsplit("/", 1)[0]
    page.set_viewport_size({"width": 320, "height": 640})
    message = page.context.new_page()
    message.goto(f"{store}/messages")
    address = message.locator("#log-table .rowlink").first.get_attribute("href")
    message.close()
    wide: list[str] = []
    for url in (
        "/stores", "/stores/new", "/no/such/page", str(address), f"{store}/messages?q=nothing",
        *(f"{store}/{tab}" for tab in TABS), f"{store}/templates/invoice/en", f"{store}/templates/brand",
        f"{store}/templates/invoice/en/versions",
    ):  # fmt: skip
        page.goto(url if url.startswith("http") else house.url + url)
        wide += sideways(page, url)
    page.goto(f"{store}/advanced-smtp")
    page.get_by_label("From Email Address").fill("nonsense")
    page.locator("#save-btn").click()
    expect(page.locator("#err-sum")).to_be_visible()
    wide += sideways(page, "a refused save")
    page.get_by_label("From Email Address").fill(steps.MAILBOX)
    page.get_by_role("button", name="Test Email Settings").click()
    steps.expect_test_passed(page)
    wide += sideways(page, "a passed test")
    page.context.clear_cookies()
    page.goto(f"{house.url}/sign-in")
    wide += sideways(page, "sign-in")
    assert wide == []


def sideways(page: Page, name: str) -> list[str]:
    """What sticks out of the page to the right, if anything makes it scroll."""
    return page.evaluate(
        """name => { const root = document.documentElement;
            return root.scrollWidth <= root.clientWidth ? [] : [name, ...[...document.querySelectorAll('main *')]
              .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1).slice(0, 5)
              .map(e => e.outerHTML.slice(0, 90))] }""",
        name,
    )
