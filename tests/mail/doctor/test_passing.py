"""Test Email Settings against the sandbox: what passes, what each step learned, what is on the screen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from extensions import db as database
from mail import doctor
from mail.doctor import draft as doctor_draft
from mail.doctor import examination as doctor_run
from mail.drafts import AdvancedDraft, SecretEdit, SecretsNeeded, current_advanced, current_smtp
from mail.equipment import Equipment
from mail.errors import Stage
from mail.tokens import access_token_for
from models import Store, TestRun
from models.connection import GrantType
from models.email_settings import EmailSettings, Method
from models.test_run import TestStatus as Status
from models.types import new_uid
from sandbox import Sandbox
from security.secret import Secret
from tests.fakes import sandboxed
from tests.fakes.sandboxed import ACTOR, GENERAL, advanced_draft, smtp_draft
from tests.mail.doctor.pages import ALL_DONE, RECIPIENT, Press, fact, failed_at, states
from tests.sandbox.clients import CLIENT_ID, MAILBOX


def test_it_goes_through_all_ten_steps_and_tells_what_each_learned(
    press: Press, connected: Store, sandbox: Sandbox
) -> None:
    report = press(connected)
    assert report.title == "Test email sent successfully"
    assert states(report) == ALL_DONE
    assert [line.label for line in report.steps] == [
        "Settings complete", "Name resolved", "Connected", "Encrypted", "Access token", "Greeted", "Signed in",
        "Sender accepted", "Recipient accepted", "Message accepted",
    ]  # fmt: skip
    assert "127.0.0.1" in fact(report, Stage.RESOLVE)
    assert fact(report, Stage.CONNECT) == f"Reached 127.0.0.1:{sandbox.smtp_port}"
    assert fact(report, Stage.TLS).startswith("TLS 1.3, certificate of localhost, valid to ")
    assert fact(report, Stage.TOKEN).startswith("Granted smtp.send offline_access, valid for 60 min")
    assert "XOAUTH2" in fact(report, Stage.GREET)
    assert fact(report, Stage.AUTH) == f"As {MAILBOX} by XOAUTH2"
    (message,) = sandbox.messages()
    assert message.queue_id in fact(report, Stage.MESSAGE)
    assert all(line.ms is not None and 0 <= line.x <= 100 and line.x + line.width <= 100.1 for line in report.steps)


def test_it_goes_to_its_one_recipient_and_says_that_bcc_was_not_copied(
    press: Press, connected: Store, sandbox: Sandbox
) -> None:
    report = press(connected)
    (message,) = sandbox.messages()
    assert message.recipients == (RECIPIENT,)
    assert b"records@acme.example" not in message.content
    assert "Bcc was not copied" in " ".join(report.notes)
    assert report.who == "The sandbox"


def test_a_password_needs_no_access_token(press: Press, classic: Store, sandbox: Sandbox) -> None:
    report = press(classic)
    assert report.title == "Test email sent successfully"
    assert [line.stage for line in report.steps].count(Stage.TOKEN) == 0
    assert fact(report, Stage.AUTH).startswith(f"As {MAILBOX} by ")
    assert report.who == "localhost"
    assert len(sandbox.messages()) == 1


def test_with_client_credentials_it_needs_no_refresh_token(
    press: Press, sandbox: Sandbox, equipment: Equipment
) -> None:
    store = sandboxed.make_store(
        sandbox, equipment, grant_type=GrantType.CLIENT_CREDENTIALS, scope="smtp.send", refresh_token="unused-token-1"
    )
    assert press(store).title == "Test email sent successfully"


@pytest.mark.parametrize("method", list(Method))
def test_with_emails_off_it_signs_in_sends_nothing_and_says_so(
    press: Press, sandbox: Sandbox, equipment: Equipment, method: Method
) -> None:
    store = sandboxed.make_store(sandbox, equipment, method=method, general=replace(GENERAL, emails_off=True))
    report = press(store)
    assert report.status is Status.PASSED
    assert report.title == "Signed in. No email was sent, because emails are turned off."
    assert states(report)[-4:] == ["done", "not_run", "not_run", "not_run"]
    assert fact(report, Stage.SENDER) == "Emails are turned off"
    assert sandbox.messages() == ()


def test_emails_that_are_off_stay_off_whatever_the_screen_says(
    press: Press, sandbox: Sandbox, equipment: Equipment
) -> None:
    store = sandboxed.make_store(sandbox, equipment, general=replace(GENERAL, emails_off=True))
    draft = current_advanced(store.email_settings, equipment)
    report = press(store, replace(draft, general=replace(draft.general, emails_off=False)))
    assert report.is_off
    assert sandbox.messages() == ()


def test_turning_emails_off_in_the_last_moment_withdraws_the_test(
    press: Press, connected: Store, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = doctor_run._Test._may_commit

    def off_first(self: Any) -> bool:
        with database.engine.begin() as connection:
            connection.execute(update(EmailSettings).values(emails_off=True))
        return usual(self)

    monkeypatch.setattr(doctor_run._Test, "_may_commit", off_first)
    report = press(connected)
    assert failed_at(report) is Stage.MESSAGE
    assert "withdrawn" in report.title
    assert sandbox.messages() == ()


def test_a_refused_token_from_the_cache_is_renewed_once_and_that_is_told(
    press: Press, connected: Store, sandbox: Sandbox, equipment: Equipment
) -> None:
    connection_id = connected.email_settings.connection_id
    assert connection_id is not None
    database.session.commit()
    token = access_token_for(connection_id, equipment=equipment)
    sandbox.state.revoke(token.value.reveal(), CLIENT_ID)
    report = press(connected)
    assert states(report) == ALL_DONE
    assert "renewed because the server refused the kept one" in fact(report, Stage.TOKEN)
    assert len(sandbox.messages()) == 1


def test_it_tests_unsaved_values_and_saves_none_of_them(press: Press, store: Store, sandbox: Sandbox) -> None:
    store_id = store.id
    report = press(store, advanced_draft(sandbox))
    assert report.title == "Test email sent successfully"
    assert report.tests_unsaved
    assert "Tested with your unsaved changes." in report.notes
    settings = database.session.scalar(select(EmailSettings).where(EmailSettings.store_id == store_id))
    assert settings is not None
    assert settings.connection is not None
    assert (settings.from_email, settings.connection.client_id) == ("", "")
    assert settings.connection.refresh_token_sealed is None


def test_saved_values_are_not_called_unsaved(press: Press, connected: Store) -> None:
    assert not press(connected).tests_unsaved


def test_an_unsaved_scope_is_tried_with_the_stored_token_which_stays_good(
    press: Press, connected: Store, sandbox: Sandbox, equipment: Equipment
) -> None:
    sandbox.faults.set(rotation=True)
    draft = replace(current_advanced(connected.email_settings, equipment), scope="smtp.send")
    assert press(connected, draft).title == "Test email sent successfully"
    # The provider replaced the refresh token; the store has the new one, so what is saved works on.
    database.session.remove()
    store = database.session.scalars(select(Store)).one()
    assert press(store).title == "Test email sent successfully"


def test_a_pasted_token_that_the_provider_replaced_is_told(press: Press, store: Store, sandbox: Sandbox) -> None:
    sandbox.faults.set(rotation=True)
    report = press(store, advanced_draft(sandbox))
    assert "may not work again" in " ".join(report.notes)


def test_stored_secrets_do_not_go_to_another_host(connected: Store, app: Flask, equipment: Equipment) -> None:
    draft = replace(current_advanced(connected.email_settings, equipment), smtp_host="collector.example")
    with pytest.raises(SecretsNeeded) as refused:
        doctor.start_run(
            connected.email_settings, draft, recipient=RECIPIENT, actor=ACTOR, equipment=equipment,
            context=app.app_context,
        )  # fmt: skip
    assert set(refused.value.fields) == {"client_secret", "refresh_token"}
    assert database.session.scalars(select(TestRun)).all() == []


def test_a_save_between_press_and_run_does_not_lend_its_secrets_to_the_old_screen(
    press: Press, classic: Store, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = current_smtp(classic.email_settings, equipment)
    usual = doctor_run._Test._plan

    def saved_meanwhile(self: Any) -> Any:
        with database.engine.begin() as connection:
            connection.execute(update(EmailSettings).values(smtp_host="mail.other.example"))
        return usual(self)

    monkeypatch.setattr(doctor_run._Test, "_plan", saved_meanwhile)
    report = press(classic, draft)
    assert failed_at(report) is Stage.SETTINGS
    assert report.title == "Test failed: The settings changed while the test began"


def test_a_draft_survives_its_seal(app: Flask, sandbox: Sandbox, equipment: Equipment) -> None:
    run = TestRun(uid=new_uid())
    fields = (("token.audience", "x"), ("header.X-Shop", "Änne"))
    for draft in (
        smtp_draft(sandbox),
        advanced_draft(sandbox, custom_fields=fields),
        AdvancedDraft(custom_fields=None, client_secret=SecretEdit.replace(Secret(""))),
    ):
        run.settings_sealed = doctor_draft.seal(draft, run, equipment)
        assert doctor_draft.unseal(run, equipment) == draft
