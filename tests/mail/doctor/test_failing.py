"""Test Email Settings against faults and worse servers: each step that can fail says why and what to do."""

from __future__ import annotations

import re
import socket
import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from extensions import db as database
from mail import doctor
from mail.doctor import draft as doctor_draft
from mail.doctor import examination, probes
from mail.doctor import plan as doctor_plan
from mail.doctor.steps import StepState
from mail.drafts import SecretEdit, current_advanced
from mail.equipment import Equipment
from mail.errors import Stage
from models import Store, TestRun
from models.connection import GrantType
from models.email_settings import EmailSettings
from sandbox import Sandbox
from security.outbound import AllowRule, Door
from security.secret import Secret
from tests.fakes import sandboxed
from tests.fakes.rawserver import Peer, RawServer
from tests.fakes.sandboxed import ACTOR, GENERAL, advanced_draft, smtp_draft
from tests.mail.doctor.pages import ALL_DONE, RECIPIENT, Press, fact, failed_at, report_of, states
from tests.patience import PATIENT
from tests.sandbox.clients import MAILBOX


def test_missing_settings_fail_the_first_step_and_are_named_with_their_fields(press: Press, store: Store) -> None:
    report = press(store)
    assert failed_at(report) is Stage.SETTINGS
    assert states(report) == ["failed"] + ["not_run"] * 9
    assert report.failure is not None
    assert [field for field, _, _ in report.failure.missing] == [
        "from_name",
        "from_email",
        "client_id",
        "client_secret",
        "connect",
    ]
    assert report.title == "Test failed: 5 settings are missing"
    assert re.fullmatch(r"Stopped at step 1 of 10 after \d\.\d s\. No email was sent\.", report.sentence)


def test_when_only_connect_is_missing_connect_is_what_it_offers(press: Press, store: Store, sandbox: Sandbox) -> None:
    draft = replace(
        advanced_draft(sandbox), grant_type=GrantType.AUTHORIZATION_CODE, refresh_token=SecretEdit.replace(Secret(""))
    )
    report = press(store, draft)
    assert report.failure is not None
    assert report.failure.action == "connect"
    assert report.failure.missing[0][2] == f"Press Connect and sign in as {MAILBOX}"


@pytest.mark.parametrize(
    ("fault", "stage", "action", "words"),
    [
        ({"smtp_auth_disabled": "tenant"}, Stage.AUTH, "fix_provider", "5.7.139"),
        ({"wrong_identity": True}, Stage.AUTH, "", "5.7.3"),
        ({"send_as_denied": "sender"}, Stage.SENDER, "", "5.7.60"),
        ({"send_as_denied": "message"}, Stage.MESSAGE, "", "5.2.252"),
        ({"recipient_refused": "*"}, Stage.RECIPIENT, "", "5.1.10"),
        ({"throttled": True}, Stage.AUTH, "throttle", "4.3.2"),
        ({"expired_certificate": True}, Stage.TLS, "", "certificate has expired"),
        ({"grant_revoked": True}, Stage.TOKEN, "reauthorize", "invalid_grant"),
        ({"token_5xx": True}, Stage.TOKEN, "retry", "HTTP 503"),
        ({"hang_after_dot": "cut"}, Stage.MESSAGE, "retry", "Connection unexpectedly closed"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_failure_tells_the_step_the_reason_and_the_servers_words(
    press: Press, connected: Store, sandbox: Sandbox, fault: dict[str, Any], stage: Stage, action: str, words: str
) -> None:
    sandbox.faults.set(**fault)
    report = press(connected)
    assert failed_at(report) is stage
    failure = report.failure
    assert failure is not None
    assert words in failure.words
    assert failure.explanation.headline
    assert failure.explanation.steps
    assert not action or failure.action == action
    assert words in report.support
    number = next(index for index, line in enumerate(report.steps, 1) if line.state is StepState.FAILED)
    assert report.sentence.startswith(f"Stopped at step {number} of 10 after ")
    later = [line.state for line in report.steps[number:] if line.stage is not Stage.GREET]
    assert set(later) <= {StepState.NOT_RUN}


def test_smtp_switched_off_and_a_wrong_identity_are_different_faults(
    press: Press, connected: Store, sandbox: Sandbox
) -> None:
    store_id = connected.id
    sandbox.faults.set(smtp_auth_disabled="tenant")
    off = press(connected)
    sandbox.faults.set(smtp_auth_disabled="", wrong_identity=True)
    store = database.session.get(Store, store_id)
    assert store is not None
    wrong = press(store)
    assert off.failure is not None
    assert wrong.failure is not None
    assert off.failure.explanation.headline != wrong.failure.explanation.headline
    assert off.failure.explanation.steps != wrong.failure.explanation.steps
    assert off.failure.explanation.commands


def test_a_cut_after_the_final_dot_does_not_claim_that_nothing_was_sent(
    press: Press, connected: Store, sandbox: Sandbox
) -> None:
    sandbox.faults.set(hang_after_dot="cut")
    report = press(connected)
    assert report.title == "Test failed: localhost did not say whether it took the message"
    assert report.sentence.endswith("It is not known whether the email was sent.")
    assert len(sandbox.messages()) == 1


def test_a_slow_token_endpoint_is_shown_running_and_then_done(
    connected: Store, sandbox: Sandbox, app: Flask, equipment: Equipment
) -> None:
    sandbox.faults.set(slow_token=1.0)
    store_id = connected.id
    started = doctor.start_run(
        connected.email_settings, current_advanced(connected.email_settings, equipment), recipient=RECIPIENT,
        actor=ACTOR, equipment=equipment, context=app.app_context,
    )  # fmt: skip
    for _ in range(200):
        report = report_of(store_id, started.uid, equipment)
        if report.steps[4].state is StepState.RUNNING:
            break
        threading.Event().wait(0.02)
    # Greeted was done before the token was asked for, and stands in its place all the same.
    assert states(report) == ["done"] * 4 + ["running", "done"] + ["not_run"] * 4
    assert report.title == "Testing Acme Store’s Advanced SMTP settings"
    sandboxed.wait_for(started.uid)
    report = report_of(store_id, started.uid, equipment)
    assert states(report) == ALL_DONE
    assert (report.steps[4].ms or 0) >= 1000


def test_a_port_where_nobody_listens(press: Press, sandbox: Sandbox, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = press(store, smtp_draft(sandbox, smtp_port=port))
    assert failed_at(report) is Stage.CONNECT
    assert report.title == f"Test failed: localhost could not be reached on port {port}"
    assert report.failure is not None
    assert report.failure.cleared == "The settings are complete and the server name is known."


def test_a_name_that_nobody_knows(press: Press, sandbox: Sandbox, store: Store, equipment: Equipment) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    door = Door(AllowRule.parse_list("localhost:*"), resolve=unknown)
    report = press(store, smtp_draft(sandbox, smtp_host="smpt.example.com"), equipment=replace(equipment, door=door))
    assert failed_at(report) is Stage.RESOLVE
    assert report.title == "Test failed: the name smpt.example.com could not be looked up"
    assert report.failure is not None
    assert report.failure.fields == (("smtp_host", "SMTP Server"),)


def test_a_place_that_stores_may_not_reach(press: Press, store: Store, sandbox: Sandbox, equipment: Equipment) -> None:
    door = Door(resolve=lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.8", port))])
    report = press(store, smtp_draft(sandbox, smtp_host="intranet.example"), equipment=replace(equipment, door=door))
    assert report.title == "Test failed: Storepost may not connect to intranet.example"


def test_the_words_of_a_server_that_is_none_are_not_shown(press: Press, store: Store, sandbox: Sandbox) -> None:
    def script(peer: Peer) -> None:
        peer.say("SSH-2.0-OpenSSH_9.6 internal-host-17")

    with RawServer(script) as server:
        report = press(store, smtp_draft(sandbox, smtp_port=server.port))
    assert failed_at(report) is Stage.GREET
    assert report.title == "Test failed: localhost did not answer as a mail server"
    assert report.failure is not None
    assert "internal-host-17" not in report.support + report.failure.words


def test_without_encryption_it_does_not_sign_in(press: Press, store: Store, sandbox: Sandbox) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test ESMTP")
        peer.ehlo("AUTH PLAIN LOGIN")
        peer.hear()

    with RawServer(script) as server:
        draft = smtp_draft(sandbox, smtp_port=server.port, general=replace(GENERAL, use_ssl=False))
        report = press(store, draft)
    assert failed_at(report) is Stage.AUTH
    assert report.title == "Test failed: Storepost does not sign in without encryption"
    assert fact(report, Stage.TLS) == "Not encrypted: the server offers no encryption"


def test_a_relay_without_sign_in_is_tested_without_one(press: Press, store: Store, sandbox: Sandbox) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test ESMTP")
        peer.ehlo("SIZE 1000000")
        for answer in ("250 ok", "250 ok", "354 go on"):
            peer.hear()
            peer.say(answer)
        peer.hear_message()
        peer.say("250 2.0.0 Ok: queued as 4F2B1C")

    with RawServer(script) as server:
        draft = smtp_draft(
            sandbox, smtp_port=server.port, username="", password=SecretEdit.replace(Secret("")),
            general=replace(GENERAL, use_ssl=False),
        )  # fmt: skip
        report = press(store, draft)
    assert report.title == "Test email sent successfully"
    assert fact(report, Stage.AUTH) == "Not needed: no Username is set"
    assert fact(report, Stage.MESSAGE) == "250 2.0.0 Ok: queued as 4F2B1C"


def test_a_silent_server_ends_the_test_in_time(
    press: Press, store: Store, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "probe", partial(probes.probe, timeout_s=0.6))
    with RawServer(lambda peer: peer.hear_message() and None) as server:
        report = press(store, smtp_draft(sandbox, smtp_port=server.port), timeouts=replace(PATIENT, command_s=0.8))
    assert failed_at(report) is Stage.GREET


def test_a_stored_secret_that_does_not_open_is_said_and_left_alone(
    press: Press, classic: Store, equipment: Equipment
) -> None:
    store_id = classic.id
    damaged = equipment.vault.seal("x", doctor_draft._place(TestRun(uid="elsewhere")))
    classic.email_settings.password_sealed = damaged
    database.session.commit()
    report = press(classic)
    assert report.title == "Test failed: A stored secret does not open"
    assert report.failure is not None
    assert report.failure.fields == (("password", "Password"),)
    kept = database.session.scalar(select(EmailSettings.password_sealed).where(EmailSettings.store_id == store_id))
    assert kept == damaged


def test_a_fault_of_ours_ends_the_run_with_an_incident(
    press: Press, connected: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(doctor_plan.compose, "compose", lambda *_, **__: 1 / 0)
    report = press(connected)
    assert failed_at(report) is Stage.SETTINGS
    assert report.failure is not None
    assert "incident" in report.failure.words
    assert "ZeroDivisionError" in caplog.text
