"""The list of a store's tests, and cancelling from the door."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import event, select

from extensions import db as database
from mail import doctor
from mail.errors import Stage
from models import Store, TestRun, User, clock
from models.email_settings import Method
from models.test_run import TestStatus as Status
from models.types import new_uid
from tests import factories
from tests.conftest import Browser

RECIPIENT = "lena.hoff@acme.example"


def step(stage: Stage, state: str, **facts: Any) -> dict[str, Any]:
    return {"stage": stage.value, "state": state, "started_ms": 0.0, "duration_ms": 400.0, "facts": facts}


DONE = [step(Stage.SETTINGS, "done", smtp_host="smtp.office365.com", smtp_port=587)]
PASSED = {"status": Status.PASSED, "steps": [*DONE, step(Stage.MESSAGE, "done", committing=True)]}
FAILED = {
    "status": Status.FAILED,
    "steps": [*DONE, step(Stage.TOKEN, "failed")],
    "failure": {
        "stage": "token", "code": "invalid_grant", "detail": "invalid_grant AADSTS700082", "family": "token",
        "kind": "ConnectionLost", "reply_code": 400, "missing": [],
    },
}  # fmt: skip


def make_run(store_id: int, **columns: Any) -> str:
    """A test that runs, unless the columns say something else."""
    values: dict[str, Any] = {
        "method": Method.ADVANCED_SMTP, "provider": "microsoft365", "recipient": RECIPIENT, "steps": DONE,
        "started_at": clock.now(), "lease": new_uid(), "lease_until": clock.now(timedelta(seconds=60)),
        "settings_sealed": "v1.k1.x",
    }  # fmt: skip
    run = TestRun(uid=new_uid(), store_id=store_id, **{**values, **columns})
    database.session.add(run)
    database.session.commit()
    return run.uid


def rows(browser: Browser, store_id: int) -> list[str]:
    """The lines of the list, as text without tags."""
    body = unescape(browser.get(f"/stores/{store_id}/tests").text).partition("<tbody")[2]
    lines = re.findall(r"<tr .*?</tr>", body, re.S)
    return [" ".join(re.sub(r"<[^>]+>", " ", line).split()) for line in lines]


def test_it_lists_the_tests_newest_first_in_words_with_who_and_how_long(
    alice: Browser, store: Store, admin: User
) -> None:
    store_id, user_id, name = store.id, admin.id, admin.display_name
    make_run(store_id, **PASSED, user_id=user_id)
    make_run(store_id, status=Status.CANCELLED)
    make_run(store_id, **FAILED, user_id=user_id, tests_unsaved=True)
    failed, cancelled, passed = rows(alice, store_id)
    assert failed.startswith("Failed ")
    assert "Step 2 of 2, Access token, after 0.4 s · Unsaved changes" in failed
    assert "Advanced SMTP Microsoft 365 · smtp.office365.com" in failed
    assert name in failed
    assert cancelled.startswith("Cancelled It ended. No email was sent.")
    assert "Not known" in cancelled
    assert passed.startswith(f"Passed Accepted for {RECIPIENT} All 2 steps in 0.4 s")


def test_each_line_leads_to_its_result(alice: Browser, store: Store) -> None:
    uid = make_run(store.id, **FAILED)
    assert f'href="/stores/{store.id}/tests/{uid}"' in alice.get(f"/stores/{store.id}/tests").text


def test_an_empty_list_says_where_results_come_from(alice: Browser, store: Store) -> None:
    text = alice.get(f"/stores/{store.id}/tests").text
    assert "No tests yet" in text
    assert "Test Email Settings" in text


def test_tests_of_other_stores_are_not_in_it(alice: Browser, store: Store) -> None:
    make_run(factories.make_store("Other").id, **PASSED)
    assert rows(alice, store.id) == []


def test_its_queries_do_not_grow_with_the_list(alice: Browser, store: Store, admin: User) -> None:
    store_id, user_id = store.id, admin.id

    def count() -> int:
        statements: list[str] = []

        def watch(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
            statements.append(statement)

        event.listen(database.engine, "before_cursor_execute", watch)
        try:
            alice.get(f"/stores/{store_id}/tests")
        finally:
            event.remove(database.engine, "before_cursor_execute", watch)
        return len(statements)

    make_run(store_id, **PASSED, user_id=user_id)
    count()  # the first request of a session asks more
    one = count()
    for number in range(doctor.KEPT_PER_STORE - 1):
        make_run(store_id, **FAILED, user_id=factories.make_user(f"{number}@shop.example").id)
    assert count() == one
    assert len(rows(alice, store_id)) == doctor.KEPT_PER_STORE


# Cancelling ---------------------------------------------------------------------------------------------------------


def status_of(uid: str) -> Status:
    database.session.rollback()
    return database.session.scalars(select(TestRun.status).where(TestRun.uid == uid)).one()


def test_the_running_panel_has_a_button_that_works_without_javascript_too(alice: Browser, store: Store) -> None:
    url = f"/stores/{store.id}/tests/{make_run(store.id)}"
    panel = alice.htmx_get(url).text
    form = re.search(rf'<form method="post" action="{url}/cancel"[^>]*>.*?</form>', panel, re.S)
    assert form is not None
    assert 'name="csrf_token"' in form[0]
    assert f'hx-post="{url}/cancel"' in form[0]
    answer = alice.post(f"{url}/cancel", {})
    assert (answer.status_code, answer.location) == (303, url)
    page = alice.get(url).text
    assert "The test was cancelled" in page
    assert "http-equiv" not in page


def test_by_htmx_the_answer_is_the_ended_panel_announced_with_the_focus_on_what_is_next(
    alice: Browser, store: Store
) -> None:
    uid = make_run(store.id)
    answer = alice.htmx_post(f"/stores/{store.id}/tests/{uid}/cancel", {})
    assert answer.status_code == 200
    assert status_of(uid) is Status.CANCELLED
    assert "aria-busy" not in answer.text
    assert 'hx-trigger="every' not in answer.text
    assert re.search(r'id="live"[^>]*>The test was cancelled<', answer.text)
    assert re.search(r'id="test-again" autofocus', answer.text)


def test_a_message_on_its_way_answers_409_with_the_panel_that_says_so(alice: Browser, store: Store) -> None:
    uid = make_run(store.id, settings_sealed=None, steps=[*DONE, step(Stage.MESSAGE, "running", committing=True)])
    answer = alice.htmx_post(f"/stores/{store.id}/tests/{uid}/cancel", {})
    assert answer.status_code == 409
    assert "cannot be cancelled any more" in answer.text
    assert "test-cancel" not in answer.text
    assert 'hx-trigger="every' in answer.text
    assert status_of(uid) is Status.RUNNING


def test_what_has_ended_stays_as_it_ended(alice: Browser, store: Store) -> None:
    uid = make_run(store.id, **PASSED)
    answer = alice.htmx_post(f"/stores/{store.id}/tests/{uid}/cancel", {})
    assert answer.status_code == 200
    assert "Test email sent successfully" in answer.text
    assert status_of(uid) is Status.PASSED


def test_a_test_of_another_store_is_not_cancelled(alice: Browser, store: Store) -> None:
    uid = make_run(store.id)
    answer = alice.htmx_post(f"/stores/{factories.make_store('Other').id}/tests/{uid}/cancel", {})
    assert answer.status_code == 404
    assert status_of(uid) is Status.RUNNING


def test_without_its_token_a_post_cancels_nothing(alice: Browser, store: Store) -> None:
    uid = make_run(store.id)
    answer = alice.open("POST", f"/stores/{store.id}/tests/{uid}/cancel", data={})
    assert answer.status_code in (400, 403)
    assert status_of(uid) is Status.RUNNING


@pytest.mark.parametrize("alone", ["", "?alone=1"])
def test_the_page_of_the_run_stays_what_it_is_after_cancelling(alice: Browser, store: Store, alone: str) -> None:
    uid = make_run(store.id)
    text = alice.htmx_post(f"/stores/{store.id}/tests/{uid}/cancel{alone}", {}).text
    assert ("Back to the settings" in text) is bool(alone)
    assert ('id="connection-card"' in text) is not bool(alone)


# Released -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 held message is going out now."), (1204, "1,204 held messages are going out now.")]
)
def test_it_says_how_much_held_mail_goes_out(alice: Browser, store: Store, count: int, words: str) -> None:
    uid = make_run(store.id, status=Status.PASSED, steps=[*DONE, step(Stage.MESSAGE, "done", released=count)])
    assert words in alice.htmx_get(f"/stores/{store.id}/tests/{uid}").text
