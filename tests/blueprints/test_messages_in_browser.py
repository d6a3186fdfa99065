"""The Messages pages in a real browser: a message that is watched as it goes, questions, and every state of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from extensions import db
from mail import workers
from models import Message
from models.outbox import MessageStatus
from models.types import utcnow
from tests import factories
from tests.blueprints import served
from tests.fakes import browser
from tests.message_states import change, fill

pytestmark = pytest.mark.browser

PICTURES = os.environ.get("MESSAGE_PICTURES", "")
WORKER = "a" * 32


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Flask]]:
    with served.site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def cookies(site: tuple[str, Flask], chromium: Browser) -> Any:
    return served.sign_in(site[0], chromium)


@pytest.fixture
def house(site: tuple[str, Flask]) -> Iterator[Flask]:
    """The application's own context, for rows that a worker would write."""
    with site[1].app_context():
        yield site[1]
        db.session.remove()


@pytest.fixture
def shop(house: Flask) -> tuple[int, dict[str, str]]:
    """(id, name → uid) of a store with a message in every state."""
    code = f"acme-{utcnow().timestamp():.6f}".replace(".", "-")
    store = factories.make_store("Acme Store", code=code, from_email="orders@acmestore.example").id
    return store, fill(store, house.extensions["storepost"])


@pytest.fixture
def open_page(site: tuple[str, Flask], chromium: Browser, cookies: Any) -> Iterator[Any]:
    """Opens an address of the site; what the browser complains about fails the test."""
    contexts, complaints = [], []

    def open_(path: str, **options: Any) -> Page:
        context = chromium.new_context(**({"viewport": {"width": 1440, "height": 900}} | options))
        contexts.append(context)
        context.add_cookies(cookies)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(site[0] + path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def path_of(shop: tuple[int, dict[str, str]], name: str = "") -> str:
    store, uids = shop
    return f"/stores/{store}/messages" + (f"/{uids[name]}" if name else "")


def write(uid: str, **values: Any) -> None:
    change(uid, **values)
    db.session.commit()


def test_a_waiting_message_is_seen_going_until_it_has_ended(open_page: Any, shop: Any) -> None:
    page = open_page(path_of(shop, "waiting"))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.method == "GET" else None)
    status = page.locator("#message .meta-line .badge").first
    expect(status).to_have_text("Waiting")
    uid = shop[1]["waiting"]
    write(uid, status=MessageStatus.SENDING)
    expect(status).to_have_text("Sending")
    expect(page.get_by_role("button", name="Cancel message")).to_have_count(0)
    write(uid, status=MessageStatus.SENT, ended_at=utcnow())
    expect(status).to_have_text("Accepted")
    expect(page.locator("#live")).to_have_text("Accepted by the server")
    expect(page.locator("aside.rail")).to_contain_text("Ended")
    del asked[:]
    page.get_by_role("button", name="Send again").click()
    expect(page.locator("dialog#resend")).to_be_visible()
    page.wait_for_timeout(2500)
    assert asked == [], "it stops asking in an end state"


def test_what_was_opened_in_a_message_stays_open_while_it_is_followed(open_page: Any, shop: Any) -> None:
    uid = shop[1]["retrying"]
    write(uid, due_at=utcnow())
    page = open_page(path_of(shop, "retrying"))
    box = page.locator("#server-words-box")
    box.locator("summary").click()
    with page.expect_response(lambda answer: answer.url.endswith(uid)):
        pass
    write(uid, maybe_sent_twice=True)
    expect(page.get_by_text("May have been sent twice")).to_be_visible()
    expect(box).to_have_attribute("open", "")


def test_a_message_for_later_is_not_followed(open_page: Any, shop: Any) -> None:
    page = open_page(path_of(shop, "scheduled"))
    expect(page.get_by_text("Waiting, scheduled for")).to_be_visible()
    assert page.locator("#message").get_attribute("hx-get") is None


def test_an_accepted_message_is_sent_again_after_a_question(open_page: Any, shop: Any) -> None:
    page = open_page(path_of(shop, "sent"))
    page.get_by_role("button", name="Send again").click()
    dialog = page.locator("dialog#resend")
    expect(dialog).to_contain_text("recipients get it twice")
    expect(dialog.get_by_role("button", name="Do not send")).to_be_focused()
    dialog.get_by_role("button", name="Send again").click()
    page.get_by_role("link", name="the message of").click()
    expect(page.get_by_text("Sent again as")).to_be_visible()
    assert page.url.endswith(shop[1]["sent"])


@pytest.mark.parametrize("scripting", [True, False])
def test_a_person_says_that_it_arrived(open_page: Any, shop: Any, scripting: bool) -> None:
    page = open_page(path_of(shop, "unanswered"), java_script_enabled=scripting)
    page.get_by_role("button", name="It arrived: mark as sent").click()
    expect(page.get_by_text("so it is not sent again")).to_be_visible()
    status = db.session.scalars(select(Message.status).where(Message.uid == shop[1]["unanswered"])).one()
    assert status is MessageStatus.SENT


def test_the_choice_for_unanswered_messages_is_saved_in_its_card(open_page: Any, shop: Any) -> None:
    page = open_page(path_of(shop))
    page.get_by_label("Hold it and ask me").check()
    card = page.locator("#uncertain-card")
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("Saved just now")
    assert page.evaluate("document.activeElement.id") == "uncertain-btn"
    page.reload()
    expect(page.get_by_label("Hold it and ask me")).to_be_checked()


def test_without_javascript_a_message_can_be_sent_at_once_and_the_choice_saved(open_page: Any, shop: Any) -> None:
    page = open_page(path_of(shop, "retrying"), java_script_enabled=False)
    page.get_by_role("button", name="Send now").click()
    expect(page.get_by_text("The message is next in line.")).to_be_visible()
    expect(page.get_by_role("link", name="Load again to see where it stands")).to_be_visible()
    page.goto(page.url.rsplit("/", 1)[0])
    page.get_by_label("Hold it and ask me").check()
    page.locator("#uncertain-btn").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    expect(page.get_by_label("Hold it and ask me")).to_be_checked()


def test_counts_in_the_list_of_stores_lead_to_the_messages(open_page: Any, shop: Any) -> None:
    page = open_page("/stores")
    row = page.locator("tr", has=page.locator(f'a[href="/stores/{shop[0]}/messages?status=held"]'))
    expect(row).to_contain_text("4 waiting")
    row.get_by_role("link", name="1 held").click()
    expect(page.get_by_role("link", name="Invoice INV-2261")).to_be_visible()


def test_the_banner_goes_when_a_worker_speaks(open_page: Any, shop: Any) -> None:
    page = open_page("/stores")
    expect(page.get_by_text("No worker is running")).to_be_visible()
    try:
        workers.say_alive(WORKER, name="here 1", threads=4)
        page.reload()
        expect(page.get_by_role("heading", name="Manage Stores")).to_be_visible()
        expect(page.get_by_text("No worker is running")).to_have_count(0)
    finally:
        workers.sign_off(WORKER)
    page.reload()
    expect(page.get_by_text("One was last seen just now")).to_be_visible()


# Pictures show them all; the rest of the states is made of the same parts.
STATES = ("waiting", "scheduled", "retrying", "uncertain", "unanswered", "sent", "failed", "expired", "cancelled")
LOOKS = [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"), (320, "light")]


@pytest.mark.parametrize(("width", "scheme"), LOOKS if PICTURES else [(1440, "light"), (320, "dark")])
def test_every_state_fits_and_axe_finds_nothing(open_page: Any, shop: Any, width: int, scheme: str) -> None:
    page = open_page("/stores", viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    names = STATES if PICTURES else ("retrying", "unanswered")
    for path in ("/stores", path_of(shop), *(path_of(shop, name) for name in names)):
        page.goto(page.url.split("/stores")[0] + path)
        for summary in page.locator("main summary").all():
            summary.click()
        assert served.faults(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        if PICTURES:
            take(
                page,
                f"{next((name for name in names if path == path_of(shop, name)), path.split('/')[-1])}",
                width,
                scheme,
            )


def take(page: Page, name: str, width: int, scheme: str) -> None:
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size({"width": width, "height": max(900, height)})
    page.screenshot(path=f"{PICTURES}/{name}-{width}-{scheme}.png")
    page.set_viewport_size({"width": width, "height": 900})


def test_the_menu_of_a_store_lies_above_its_row(open_page: Any, shop: Any) -> None:
    page = open_page("/stores")
    page.get_by_role("button", name="Actions for Acme Store").first.click()
    page.get_by_role("link", name="Copy", exact=True).click()
    expect(page.get_by_role("heading", name="Copy Acme Store")).to_be_visible()
