"""Test Email Settings pressed in a browser against faults of real conversations: the page leads to the remedy.

With `--screenshots DIR` a picture of each is taken, wide and narrow, light and dark.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from tests.fakes.installation import Installation
from tests.journeys import faulty, steps
from tests.journeys.conftest import OpenStore
from tests.journeys.faulty import World
from tests.journeys.test_every_page import TURN, WIDTHS, look

pytestmark = pytest.mark.browser

CLIPBOARD = ["clipboard-read", "clipboard-write"]
_QUIET_S = 1.5
Picture = Callable[[Page, str], None]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with faulty.running(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def house(world: World) -> Installation:
    """What the fixtures of all journeys work with."""
    return world.installation


@pytest.fixture(autouse=True)
def well_behaved_sandbox(world: World) -> Iterator[None]:
    world.installation.sandbox.reset()
    yield
    world.installation.sandbox.reset()


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Picture:
    """Looks at the page as it is, narrow and dark; in all ways when pictures are taken.

    The journey through every page looks at a failed test in all ways each time.
    """
    folder = request.config.getoption("--screenshots")

    def look_at(page: Page, name: str) -> None:
        faults: list[str] = []
        for width, pixels in WIDTHS.items():
            page.set_viewport_size({"width": pixels, "height": 900})
            for theme in ("light", "dark"):
                if folder or (width, theme) == ("390", "dark"):
                    page.evaluate(TURN, theme)
                    faults += [f"{name} {width} {theme}: {fault}" for fault in look(page)]
                if folder:
                    take(page, Path(folder) / f"doctor-{name}-{width}-{theme}.png", pixels)
        page.set_viewport_size({"width": 1440, "height": 900})
        page.evaluate(TURN, "light")
        assert faults == [], "\n".join(faults)

    return look_at


def take(page: Page, file: Path, width: int) -> None:
    """Take a picture of the page down to the end of the test and a little of what follows, not of the whole form."""
    end = page.evaluate(
        """() => { scrollTo(0, 0);
             const shown = document.getElementById('test-result') ?? document.querySelector('main');
             return Math.ceil(shown.getBoundingClientRect().bottom + scrollY) + 60; }"""
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    # The bar that sticks to the bottom belongs far below what is shown.
    page.set_viewport_size({"width": width, "height": end + 1200})
    page.screenshot(
        path=str(file), clip={"x": 0, "y": 0, "width": width, "height": end}, animations="allow", caret="initial"
    )
    page.set_viewport_size({"width": width, "height": 900})


@dataclass(frozen=True)
class Case:
    """A fault, and what the page shows of it.

    Attributes:
        name: of the pictures and the test.
        fill: leads the settings on the screen to the fault.
        title: what stands at the top after "Test failed: ".
        step: the one that failed.
        headline: what stands over the explanation.
        mends: the button or link that leads on, "Go to SMTP Port" say.
        field: where such a link puts the focus.
        commands: words of the last command that is offered for copying; empty: no commands.
        passes: once the sandbox behaves again, the remedy ends in a test that passes.
        saved: the settings are saved first, so that secrets hide behind dots.
        done_before: a step further down that was through already.
        sent: what is said about the email.
    """

    name: str
    fill: faulty.Fill
    title: str
    step: str
    headline: str
    mends: str
    field: str = ""
    commands: str = ""
    passes: bool = False
    saved: bool = False
    done_before: str = ""
    sent: str = "No email was sent."


_NO_GREETING, _NO_TLS = "localhost did not answer as a mail server", "no secure connection to localhost"
_NOT_IN = "Microsoft did not accept the sign-in"
CASES = (
    Case(
        "smtp-auth-disabled", faulty.with_microsoft("auth_535_139_tenant"), _NOT_IN, "Signed in",
        "Microsoft switched SMTP sign-in off for the organization", "Test again",
        commands="Set-TransportConfig -SmtpClientAuthenticationDisabled $false",
    ),
    Case(
        "wrong-identity", faulty.with_microsoft("auth_535_3", consented="other"), _NOT_IN, "Signed in",
        f"The token belongs to {faulty.OTHER_MAILBOX}, but the sign-in is for {steps.MAILBOX}",
        "Reconnect Microsoft 365",
        commands=f"Add-RecipientPermission -Identity {steps.MAILBOX} -Trustee {faulty.OTHER_MAILBOX}",
    ),
    Case(
        "grant-revoked", faulty.with_sandbox(grant_revoked=True), "The sandbox did not issue an access token",
        "Access token", "The sandbox no longer accepts the stored authorization", "Reconnect Sandbox",
        passes=True, done_before="Greeted",
    ),
    Case(
        "secret-id", faulty.with_microsoft("sandbox", secret=faulty.SECRET_ID),
        "Microsoft did not issue an access token", "Access token",
        "Client Secret holds the Secret ID instead of the secret", "Go to Client Secret", "client_secret",
        done_before="Greeted",
    ),
    Case(
        "certificate-expired", faulty.with_password("certificate_expired"), _NO_TLS, "Encrypted",
        "The certificate of localhost is out of date", "Test again",
    ),
    Case(
        "not-a-mail-server", faulty.with_password("http_server"), _NO_GREETING, "Greeted",
        "localhost answers on port", "Go to SMTP Server", "smtp_host",
    ),
    Case(
        "implicit-tls", faulty.with_password("tls_from_the_first_byte"), _NO_GREETING, "Greeted",
        "localhost encrypts port", "Go to SMTP Port", "smtp_port",
    ),
    Case(
        "starttls", faulty.with_password("clear_text_at_first"), _NO_TLS, "Encrypted",
        "localhost begins in clear text on port", "Go to SMTP Port", "smtp_port",
    ),
    Case(
        "port-closed", faulty.with_password("closed"), "localhost could not be reached on port", "Connected",
        "Nothing listens at localhost on port", "Go to SMTP Port", "smtp_port",
    ),
    Case(
        "silent", faulty.with_password("says_nothing"), _NO_GREETING, "Greeted",
        "localhost sent no greeting on port", "Go to SMTP Port", "smtp_port",
    ),
    Case(
        "wrong-password", faulty.with_password("auth_535_8"), "localhost did not accept the sign-in", "Signed in",
        "localhost does not accept this user name and password", "Go to Password", "password", saved=True,
    ),
    Case(
        "throttled", faulty.with_sandbox(throttled=True), "The sandbox did not accept the sign-in", "Signed in",
        "Microsoft allows three connections per mailbox", "Test again", passes=True,
    ),
    Case(
        "recipient-refused", faulty.with_sandbox(recipient_refused="*"), "The sandbox did not accept the recipient",
        "Recipient accepted", "The recipient address was refused", "Test again", passes=True,
    ),
    Case(
        "send-as-denied", faulty.with_microsoft("send_as_denied", mailbox="shop@sandbox.example",
        login="orders@acme.example"), "Microsoft did not accept the message", "Message accepted",
        "orders@acme.example may not send as shop@sandbox.example", "Go to From Email Address", "from_email",
        commands="Add-RecipientPermission -Identity shop@sandbox.example -Trustee orders@acme.example",
    ),
    Case(
        "may-have-been-sent", faulty.with_sandbox(hang_after_dot="cut"),
        "localhost did not say whether it took the message", "Message accepted", "The message may have been sent",
        "Test again", passes=True, sent="It is not known whether the email was sent.",
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_fault_is_explained_and_leads_to_its_remedy(
    world: World, open_store: OpenStore, picture: Picture, case: Case
) -> None:
    page = open_store(permissions=CLIPBOARD)
    case.fill(page, world)
    if case.saved:
        steps.press_save(page)
    polls: list[Request] = []
    page.on("request", lambda request: polls.append(request) if "/tests/" in request.url else None)
    panel = press(page)
    ended, asked = time.monotonic(), len(polls)

    expect(panel.get_by_role("heading", level=2)).to_contain_text(f"Test failed: {case.title}")
    expect(panel).to_contain_text(case.sent)
    check_steps(panel, case)
    told = panel.locator(".explain")
    expect(told.get_by_role("heading")).to_contain_text(case.headline)
    assert told.locator("ol > li").count() >= 1
    picture(page, case.name)
    check_copying(page, told, case)
    page.wait_for_timeout(max(0.0, _QUIET_S - (time.monotonic() - ended)) * 1000)
    assert len(polls) == asked, "somebody still asks how a test goes that has ended"
    follow(page, told, world, case)


def press(page: Page) -> Locator:
    """Press the button at the top and return the panel, once the test has failed and ended."""
    page.get_by_role("button", name="Test Email Settings").click()
    panel = page.locator("#test-result")
    expect(panel.locator("li.step.failed")).to_be_visible()
    expect(panel).not_to_have_attribute("aria-busy", re.compile(".*"))
    return panel


def check_steps(panel: Locator, case: Case) -> None:
    rows: list[tuple[str, str, str]] = panel.locator("ol.steps > li").evaluate_all(
        """rows => rows.map(row => [row.querySelector('b').textContent, row.className.replace('step ', ''),
             row.querySelector('.step-ms').textContent])"""
    )
    failed = [label for label, state, _ in rows].index(case.step)
    assert rows[failed][1] == "failed", rows
    assert "ms" in rows[failed][2]
    for label, state, took in rows[failed + 1 :]:
        if label != case.done_before:
            assert (state, took) == ("not_run", "Not run"), label
    assert rows[0][1] == "done"


def check_copying(page: Page, told: Locator, case: Case) -> None:
    """What is offered for copying arrives in the clipboard, and no secret does."""
    expect(told.get_by_role("button", name="Copy", exact=True)).to_have_count(1 if case.commands else 0)
    if case.commands:
        told.get_by_role("button", name="Copy", exact=True).click()
        expect(page.locator("#live")).to_have_text("Copied")
        commands = page.evaluate("navigator.clipboard.readText()")
        assert commands == told.locator("#test-commands").text_content()
        assert commands.startswith("Connect-ExchangeOnline\n")
        assert case.commands in commands.splitlines()[-1]
    report = told.get_by_role("region", name="Technical details")
    expect(report).to_be_hidden()
    told.get_by_text("Technical details").first.click()
    expect(report).to_be_visible()
    told.get_by_role("button", name="Copy report").click()
    expect(told.get_by_role("button", name="Copied").last).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert case.headline in copied
    assert case.step in copied
    for secret in (faulty.SECRET, faulty.SECRET_ID, faulty.PASSWORD, "sandbox-secret", "fake-refresh"):
        assert secret not in copied


def follow(page: Page, told: Locator, world: World, case: Case) -> None:
    """Press what mends the fault; it leads where it says."""
    remedy = told.get_by_role("link" if case.field else "button", name=case.mends, exact=True)
    expect(remedy).to_have_class(re.compile("btn"))
    if case.passes:
        world.installation.sandbox.faults.reset()
    if case.field:
        remedy.click()
        expect(page.locator(f"#{case.field}")).to_be_focused()
        expect(page.locator(f"#{case.field}")).to_be_in_viewport()
    elif case.mends.startswith("Reconnect"):
        if not case.passes:
            # A browser is not sent to one server for consent while the secret goes to another.
            page.get_by_label("Access Token URL").fill("https://login.microsoftonline.com/common/oauth2/v2.0/token")
        remedy.click()
        expect(page.get_by_role("heading", name=f"Continue to {case.mends.split()[1]}")).to_be_visible()
        if case.passes:
            page.get_by_role("link", name="Continue").click()
            page.get_by_role("button", name="Allow").click()
            steps.expect_test_passed(page)
    else:
        with page.expect_response(re.compile(r"/test/(advanced_)?smtp$")):
            remedy.click()
        if case.passes:
            steps.expect_test_passed(page)
        else:
            expect(page.locator("#test-result .explain h3")).to_contain_text(case.headline)


def test_from_switched_off_by_microsoft_to_a_test_that_passes(
    world: World, open_store: OpenStore, picture: Picture, request: pytest.FixtureRequest
) -> None:
    sandbox = world.installation.sandbox
    page = open_store(permissions=CLIPBOARD)
    faulty.with_sandbox(smtp_auth_disabled="tenant")(page, world)
    panel = press(page)
    expect(panel.locator(".explain")).to_contain_text("535 5.7.139")
    expect(panel.locator("#test-commands")).to_contain_text(f"Set-CASMailbox -Identity {steps.MAILBOX}")
    panel.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#live")).to_have_text("Copied")

    # What these commands do at Microsoft.
    sandbox.faults.reset()
    takes_pictures = request.config.getoption("--screenshots")
    sandbox.faults.set(slow_token=8 if takes_pictures else 1)
    panel.get_by_role("button", name="Test again").click()
    expect(panel.get_by_role("button", name="Cancel test")).to_be_visible()
    expect(panel.locator("li.step.running")).to_be_visible()
    if takes_pictures:
        picture(page, "running")
    steps.expect_test_passed(page)
    expect(panel.locator("li.step.done")).to_have_count(10)
    expect(page.locator(".explain")).to_have_count(0)
    assert [message.recipients for message in sandbox.messages()] == [(steps.ADMIN,)]
    picture(page, "passed")
    steps.press_save(page)

    page.goto(re.sub(r"/advanced-smtp.*", "/tests", page.url))
    rows = page.get_by_role("table").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("Passed")
    expect(rows.nth(2)).to_contain_text("Failed")
    picture(page, "test-results")
    rows.nth(2).get_by_role("link").click()
    expect(page.locator("#test-result")).to_contain_text("535 5.7.139")
    picture(page, "kept-result")
