"""Test Email Settings from the door: by htmx and without JavaScript, what the panel says, when the asking ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from flask import Flask
from flask_login import login_user
from sqlalchemy import select

from app import create_app
from blueprints.connection_tests.views import begin_after_consent
from extensions import db as database
from mail import doctor
from mail.equipment import Equipment
from models import EmailSettings, Store, TestRun, User, clock
from models.email_settings import Method
from models.test_run import TestStatus as Status
from models.types import new_uid
from sandbox import Sandbox
from tests import factories
from tests.blueprints.settings_page import read
from tests.blueprints.settings_tab import Tab
from tests.conftest import PASSWORD, PUBLIC_URL, Browser, settings_for
from tests.fakes import sandboxed
from tests.sandbox.clients import CLIENT_SECRET, MAILBOX, OAuthClient

RECIPIENT = "lena.hoff@acme.example"
PERSON = "alice@shop.example"


@pytest.fixture(scope="session")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Iterator[Sandbox]:
    sandbox_server.reset()
    yield sandbox_server
    sandbox_server.reset()


@pytest.fixture
def app(database_url: str, sandbox: Sandbox) -> Iterator[Flask]:
    application = create_app(settings_for(database_url, **sandboxed.configuration(sandbox)))
    with application.app_context():
        factories.make_tables()
        yield application
        for row in database.session.scalars(select(TestRun.uid)).all():
            sandboxed.wait_for(row)
        database.session.remove()
        database.engine.dispose()


@pytest.fixture
def tab(alice: Browser, sandbox: Sandbox, equipment: Equipment) -> Tab:
    """The Advanced SMTP page of a store that is connected to the sandbox."""
    return Tab(alice, sandboxed.make_store(sandbox, equipment).id, Method.ADVANCED_SMTP)


@pytest.fixture
def classic(alice: Browser, sandbox: Sandbox, equipment: Equipment) -> Tab:
    """The SMTP page of a store with user name and password."""
    return Tab(alice, sandboxed.make_store(sandbox, equipment, method=Method.SMTP).id, Method.SMTP)


def test_a_press_answers_with_a_panel_that_asks_for_itself_until_the_test_has_ended(tab: Tab) -> None:
    answer = tab.press(test_recipient=RECIPIENT)
    assert answer.status_code == 200
    panel = answer.text
    url = tab.finish()
    assert f'hx-get="{url}"' in panel
    assert 'aria-busy="true"' in panel
    assert 'hx-trigger="every 400ms" hx-swap="outerMorph" hx-sync="this:drop"' in panel
    ended = tab.browser.htmx_get(url).text
    assert "hx-get" not in ended
    assert "aria-busy" not in ended
    assert "Test email sent successfully" in ended
    assert "<html" not in ended


def test_success_names_who_accepted_for_whom_and_where_to_look(tab: Tab, sandbox: Sandbox) -> None:
    text = tab.result(test_recipient=RECIPIENT)
    assert re.search(rf"The sandbox accepted it for <b>{RECIPIENT}</b> in \d\.\d s\. Check that inbox to verify", text)
    assert "Bcc was not copied" in text
    assert f'href="{sandbox.web_url}/inbox"' in text
    assert sandbox.messages()[0].recipients == (RECIPIENT,)


def test_the_last_answer_announces_and_brings_the_connection_card_once(tab: Tab) -> None:
    running = tab.press().text
    assert 'id="live"' not in running
    assert 'id="connection-card"' not in running
    ended = tab.browser.htmx_get(tab.finish()).text
    live = re.search(r'<p[^>]*id="live"[^>]*>([^<]*)</p>', ended)
    assert live is not None
    assert live[1] == "Test email sent successfully"
    assert re.search(r'<section[^>]*id="connection-card"[^>]*hx-swap-oob="outerMorph"', ended)


def test_every_element_that_asks_carries_the_nonce(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(throttled=True)
    texts = [tab.press().text, tab.browser.htmx_get(tab.finish()).text, tab.browser.get(tab.url).text]
    tags = [tag for text in texts for tag in re.findall(r"<[a-z-]+ [^>]*hx-(?:get|post|swap-oob)[^>]*>", text)]
    assert tags
    assert all('hx-nonce="' in tag for tag in tags)


def test_without_a_recipient_it_goes_to_who_is_signed_in(tab: Tab, sandbox: Sandbox) -> None:
    tab.result(test_recipient="")
    assert sandbox.messages()[0].recipients == (PERSON,)


@pytest.mark.parametrize("typed", ["lena", "a@b.example, c@d.example", "Lena <lena@acme.example>", "x@y.example\r\nz"])
def test_a_recipient_that_is_no_address_is_refused_in_words(tab: Tab, typed: str) -> None:
    answer = tab.press(test_recipient=typed)
    assert answer.status_code == 422
    assert "Send the test to: Enter a full email address, like admin@yourdomain.com" in answer.text
    assert database.session.scalars(select(TestRun)).all() == []


def test_an_invalid_form_comes_back_with_its_errors_and_what_was_typed(tab: Tab) -> None:
    answer = tab.press(smtp_port="587x", from_name="Other name")
    assert answer.status_code == 422
    assert 'id="smtp-form"' in answer.text
    assert read(answer.text).error_of("smtp_port") == "Use a number from 1 to 65535"
    assert read(answer.text).values["from_name"] == "Other name"
    plain = tab.press_plainly(smtp_port="587x")
    assert plain.status_code == 422
    assert "<html" in plain.text


def test_stored_secrets_are_asked_for_again_beside_their_fields_before_any_network(tab: Tab) -> None:
    answer = tab.press(token_url="https://localhost:1/other")
    assert answer.status_code == 422
    page = read(answer.text)
    assert page.error_of("client_secret").startswith("Type the client secret again: Access Token URL changed")
    assert "Press Connect" in page.error_of("refresh_token")
    assert database.session.scalars(select(TestRun)).all() == []


def test_unsaved_values_are_tested_and_stay_unsaved(classic: Tab, sandbox: Sandbox) -> None:
    text = classic.result(from_name="Autumn sale")
    assert "Tested with your unsaved changes." in text
    assert b"From: Autumn sale <" in sandbox.messages()[0].content
    stored = database.session.scalars(select(EmailSettings.from_name)).one()
    assert stored == "Acme Store"


def test_missing_settings_are_the_first_step_with_a_link_to_each_field(alice: Browser, store: Store) -> None:
    text = Tab(alice, store.id, Method.ADVANCED_SMTP).result(from_name="Acme", from_email=MAILBOX)
    assert "Test failed: 3 settings are missing" in text
    assert '<a href="#client_id">Client Id</a>' in text
    assert f"Press Connect and sign in as {MAILBOX}" in text


def test_a_lost_grant_is_mended_by_one_button_that_submits_the_form_to_connect(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(grant_revoked=True)
    text = tab.result()
    assert "Test failed: The sandbox did not issue an access token" in text
    button = re.search(
        r"<button[^>]*formaction=\"[^\"]*/connect\"[^>]*>(?:(?!</button>).)*Reconnect Sandbox</button>", text
    )
    assert button is not None
    assert 'form="smtp-form"' in button[0]
    assert "hx-" not in button[0]
    assert "The server, port and encryption are fine." in text
    assert "invalid_grant" in text
    # The card beside it knows at once.
    assert "Revoked" in text


def test_smtp_switched_off_comes_with_commands_ready_to_copy(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(smtp_auth_disabled="tenant")
    text = tab.result()
    assert "5.7.139" in text
    assert 'data-copy="test-commands"' in text
    assert "Set-TransportConfig" in text or "Set-CASMailbox" in text


def test_a_failure_offers_a_report_to_copy_without_secrets(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(wrong_identity=True)
    text = tab.result(client_secret=CLIENT_SECRET)
    assert 'data-copy="test-report"' in text
    report = re.search(r'id="test-report">(.*?)</pre>', text, re.S)
    assert report is not None
    assert "## Storepost test failed at step 7 of 10, Signed in" in report[1]
    assert "535 5.7.3" in report[1]
    assert CLIENT_SECRET not in text


def test_a_field_to_mend_is_linked(classic: Tab) -> None:
    text = classic.result(smtp_port="1")
    assert "Test failed: localhost could not be reached on port 1" in text
    assert re.search(r'href="#smtp_(port|host)"', text)


def test_what_throttles_offers_to_test_again(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(throttled=True)
    text = tab.result()
    assert f'id="test-again" form="smtp-form" formaction="{tab.test_url}"' in text


def test_with_emails_off_it_says_that_nothing_was_sent(tab: Tab, sandbox: Sandbox) -> None:
    text = tab.result(emails_off="1")
    assert "Signed in. No email was sent, because emails are turned off." in text
    assert "sent successfully" not in text
    assert sandbox.messages() == ()


# Without JavaScript -------------------------------------------------------------------------------------------------


def test_a_plain_post_leads_to_a_page_that_refreshes_until_the_end(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(slow_token=1)
    answer = tab.press_plainly(test_recipient=RECIPIENT)
    assert answer.status_code == 303
    running = tab.browser.get(answer.location)
    assert running.status_code == 200
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in running.text.split("</head>")[0]
    assert f'hx-get="{answer.location}?alone=1"' in running.text
    tab.finish()
    ended = tab.browser.get(answer.location).text
    assert "http-equiv" not in ended
    assert "hx-trigger" not in ended.split('id="test-result"')[1].split("</section>")[0]
    assert "Test email sent successfully" in ended


def test_the_page_of_a_run_links_back_to_the_form_instead_of_submitting_it(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(grant_revoked=True)
    location = tab.press_plainly().location
    tab.finish()
    for text in (tab.browser.get(location).text, tab.browser.htmx_get(f"{location}?alone=1").text):
        panel = text.split('id="test-result"')[1]
        assert f'href="{tab.url}#connection-card"' in panel
        assert "smtp-form" not in panel
        assert "data-dismiss" not in panel


# Around it ----------------------------------------------------------------------------------------------------------


def test_the_settings_page_tells_how_the_last_test_ended_and_shows_it(tab: Tab) -> None:
    assert '<section id="test-result" hidden></section>' in tab.browser.get(tab.url).text
    tab.press()
    url = tab.finish()
    page = tab.browser.get(tab.url).text
    assert "Last test passed" in page
    assert f'href="{url}"' in page
    other = tab.browser.get(f"/stores/{tab.store_id}/smtp").text
    assert "Last test passed" not in other


def test_a_reload_during_a_test_shows_it_going_on(tab: Tab, sandbox: Sandbox) -> None:
    sandbox.faults.set(slow_token=2)
    tab.press()
    page = tab.browser.get(tab.url).text
    assert "Testing Acme Store’s Advanced SMTP settings" in unescape(page)
    assert 'hx-trigger="every 400ms"' in page
    tab.finish()


def test_connect_may_land_on_a_named_test(tab: Tab) -> None:
    tab.press()
    uid = tab.finish().rpartition("/")[2]
    assert "Test email sent successfully" in tab.browser.get(f"{tab.url}?test={uid}").text
    assert "Test email sent successfully" not in tab.browser.get(f"{tab.url}?test=unknown").text


def test_after_consent_the_address_names_the_test_that_was_begun(
    tab: Tab, app: Flask, sandbox: Sandbox, admin: User
) -> None:
    user_id = admin.id
    with app.test_request_context("/oauth/callback", base_url=PUBLIC_URL):
        login_user(database.session.get(User, user_id))
        store = database.session.get(Store, tab.store_id)
        database.session.commit()
        url = begin_after_consent(store)
    page = tab.finish()
    assert url.endswith(f"{tab.url}?test={page.rpartition('/')[2]}")
    assert sandbox.messages()[0].recipients == (PERSON,)
    assert "Test email sent successfully" in tab.browser.get(url).text


def make_run(store_id: int, **columns: Any) -> str:
    values: dict[str, Any] = {
        "method": Method.ADVANCED_SMTP, "recipient": RECIPIENT, "started_at": clock.now(), "lease": new_uid(),
        "lease_until": clock.now(timedelta(seconds=60)), "steps": [],
    }  # fmt: skip
    run = TestRun(uid=new_uid(), store_id=store_id, **{**values, **columns})
    database.session.add(run)
    database.session.commit()
    return run.uid


def test_a_second_press_shows_the_first_test_and_starts_none(tab: Tab) -> None:
    uid = make_run(tab.store_id)
    assert f"/tests/{uid}" in tab.press().text
    assert len(database.session.scalars(select(TestRun)).all()) == 1


def test_too_many_tests_are_answered_with_the_wait(tab: Tab) -> None:
    for _ in range(doctor.PER_MINUTE):
        make_run(tab.store_id, status=Status.PASSED)
    answer = tab.press()
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert re.search(r"Wait \d+ seconds?, then press Test Email Settings again", answer.text)
    assert 'id="test-result"' in answer.text
    plain = tab.press_plainly(from_name="Kept as typed")
    assert plain.status_code == 429
    assert "Too many tests within a minute" in plain.text
    assert read(plain.text).values["from_name"] == "Kept as typed"


def test_a_run_whose_process_is_gone_says_so_and_ends_the_asking(tab: Tab) -> None:
    uid = make_run(tab.store_id, lease_until=clock.now(timedelta(seconds=-1)))
    text = tab.browser.htmx_get(f"/stores/{tab.store_id}/tests/{uid}").text
    assert "The server was restarted during the test. Start it again." in text
    assert "hx-get" not in text
    assert database.session.scalars(select(TestRun.status)).one() is Status.RUNNING


def test_a_run_that_is_not_kept_any_more_ends_the_asking(tab: Tab) -> None:
    answer = tab.browser.htmx_get(f"/stores/{tab.store_id}/tests/{new_uid()}")
    assert answer.status_code == 404
    assert 'id="test-result"' in answer.text
    assert "hx-get" not in answer.text
    assert tab.browser.get(f"/stores/{tab.store_id}/tests/{new_uid()}").status_code == 404


def test_a_run_is_not_found_under_another_store(tab: Tab) -> None:
    uid = make_run(factories.make_store("Other store").id)
    assert tab.browser.get(f"/stores/{tab.store_id}/tests/{uid}").status_code == 404


def test_strangers_can_neither_start_nor_see_a_test(tab: Tab, app: Flask) -> None:
    uid = make_run(tab.store_id)
    stranger = factories.make_user(password=PASSWORD)
    browser = Browser(app.test_client())
    browser.post("/sign-in", {"email": stranger.email, "password": PASSWORD})
    assert browser.get(f"/stores/{tab.store_id}/tests/{uid}").status_code == 404
    assert browser.post(tab.test_url).status_code == 404


def test_typed_secrets_are_in_no_page_and_no_row(alice: Browser, store: Store, sandbox: Sandbox) -> None:
    token = OAuthClient(sandbox).connect()["refresh_token"]
    tab = Tab(alice, store.id, Method.ADVANCED_SMTP)
    typed = {
        "provider": "sandbox",
        "filled_for": "sandbox",
        "from_name": "Acme",
        "from_email": MAILBOX,
        "smtp_host": "localhost",
        "smtp_port": str(sandbox.smtp_port),
        "client_id": "storepost-sandbox",
        "client_secret": CLIENT_SECRET,
        "refresh_token": token,
        "grant_type": "refresh_token",
        "token_url": sandbox.token_url,
        "scope": "smtp.send offline_access",
    }
    first = tab.press(**typed)
    assert first.status_code == 200, first.text
    last = alice.htmx_get(tab.finish()).text
    assert "Test email sent successfully" in last
    rows = database.session.scalars(select(TestRun)).all()
    texts = (first.text, last, alice.get(tab.url).text, repr([vars(row) for row in rows]))
    assert not [secret for secret in (token, CLIENT_SECRET) for text in texts if secret in text]


def test_the_smtp_tab_tests_with_the_stored_password_and_asks_for_no_token(classic: Tab, sandbox: Sandbox) -> None:
    text = classic.result()
    assert "Test email sent successfully" in text
    assert f"localhost accepted it for <b>{PERSON}</b>" in text
    assert "Access token" not in text
    assert sandbox.messages()[0].user == MAILBOX
