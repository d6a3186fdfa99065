"""The row and the thread of a test: one at a time, limits, times, and no secret left anywhere."""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from extensions import db as database
from mail import doctor
from mail.audit import Actor
from mail.doctor import examination as doctor_run
from mail.doctor.steps import Progress
from mail.drafts import SecretEdit, current_smtp
from mail.equipment import Equipment
from mail.errors import Stage
from models import AuditEntry, Connection, Store, TestRun, clock
from models.email_settings import Method
from models.test_run import TestStatus as Status
from models.types import new_uid
from sandbox import Sandbox
from security.secret import Secret
from tests import factories
from tests.fakes import sandboxed
from tests.fakes.rawserver import Peer, RawServer
from tests.fakes.sandboxed import ACTOR, GENERAL, advanced_draft, smtp_draft
from tests.mail.doctor.pages import RECIPIENT, Press, failed_at, report_of
from tests.sandbox.clients import CLIENT_SECRET, OAuthClient


def test_a_step_counts_its_own_time_without_what_interrupts_it_and_without_the_writing() -> None:
    def keep(rows: list[dict[str, Any]]) -> None:
        time.sleep(0.1)

    progress = Progress(list(Stage), keep)
    progress(Stage.GREET, "started", {})
    progress(Stage.TLS, "started", {})
    time.sleep(0.2)
    progress(Stage.TLS, "done", {"version": "TLSv1.3"})
    progress(Stage.GREET, "done", {})
    rows = {row["stage"]: row for row in progress.as_rows()}
    assert 200 <= rows["tls"]["duration_ms"] < 290
    assert rows["greet"]["duration_ms"] < 90
    assert rows["greet"]["state"] == "done"


def test_a_second_round_after_a_renewed_token_leaves_what_stands() -> None:
    progress = Progress(list(Stage), lambda rows: None)
    for stage in (Stage.RESOLVE, Stage.TOKEN):
        progress(stage, "started", {})
        progress(stage, "done", {"round": 1})
    progress(Stage.AUTH, "started", {})
    progress(Stage.TOKEN, "started", {})
    assert [row["state"] for row in progress.as_rows() if row["stage"] in ("token", "auth")] == ["running", "not_run"]
    progress(Stage.TOKEN, "done", {"round": 2})
    progress(Stage.RESOLVE, "started", {})
    progress(Stage.RESOLVE, "done", {"round": 2})
    assert progress.reached is Stage.AUTH
    progress.fail(Stage.CONNECT)
    rows = {row["stage"]: row for row in progress.as_rows()}
    assert (rows["resolve"]["facts"], rows["token"]["facts"]) == ({"round": 1}, {"round": 2})
    assert (rows["connect"]["state"], rows["auth"]["state"]) == ("failed", "not_run")


@pytest.mark.parametrize("fault", [{}, {"wrong_identity": True}, {"grant_revoked": True}])
def test_no_secret_stays_in_row_report_or_log(
    press: Press, store: Store, sandbox: Sandbox, fault: dict[str, Any], caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    token = OAuthClient(sandbox).connect()["refresh_token"]
    caplog.set_level(logging.DEBUG)
    sandbox.faults.set(**fault)
    report = press(store, advanced_draft(sandbox, token))
    row = database.session.scalars(select(TestRun)).one()
    assert row.settings_sealed is None
    assert row.lease is None
    written = json.dumps([row.steps, row.failure]) + report.support
    # The sandbox lives in this process too; what its libraries log is not ours.
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("mail.", "security."))]
    dump = "\n".join(sqlite3.connect(tmp_path / "storepost.sqlite3").iterdump())
    access = list(sandbox.state._access)
    for secret in (token, CLIENT_SECRET, *access):
        for place in (written, "\n".join(ours), dump, repr(report)):
            assert secret not in place


def test_a_server_that_repeats_the_password_is_masked(press: Press, store: Store, sandbox: Sandbox) -> None:
    secret = "Tr0ub4dor-and-3"

    def script(peer: Peer) -> None:
        peer.say("220 mail.test ESMTP")
        peer.ehlo("SIZE 1000000")
        peer.hear()
        peer.say(f"550 5.7.1 nobody here knows {secret}")
        peer.hear()

    with RawServer(script) as server:
        draft = smtp_draft(
            sandbox, smtp_port=server.port, username="", password=SecretEdit.replace(Secret("")),
            general=replace(GENERAL, use_ssl=False),
        )  # fmt: skip
        draft = replace(draft, general=replace(draft.general, from_name="Shop"))
        report = press(store, draft)
        assert failed_at(report) is Stage.SENDER
    found = doctor_run._fit({"a": [f"550 {secret}"]}, [Secret(secret)])
    assert found == {"a": ["550 ***"]}


def running_row(store_id: int, **columns: Any) -> TestRun:
    values: dict[str, Any] = {
        "method": Method.SMTP, "recipient": RECIPIENT, "started_at": clock.now(), "lease": new_uid(),
        "lease_until": clock.now(timedelta(seconds=60)), "steps": [], "settings_sealed": "v1.k1.x",
    }  # fmt: skip
    row = TestRun(uid=new_uid(), store_id=store_id, **{**values, **columns})
    database.session.add(row)
    database.session.commit()
    return row


def start(store: Store, app: Flask, equipment: Equipment, actor: Actor = ACTOR) -> doctor.Started:
    settings = store.email_settings
    return doctor.start_run(
        settings, current_smtp(settings, equipment), recipient=RECIPIENT, actor=actor, equipment=equipment,
        context=app.app_context,
    )  # fmt: skip


def test_a_second_press_shows_the_test_that_is_under_way(store: Store, app: Flask, equipment: Equipment) -> None:
    row = running_row(store.id)
    assert start(store, app, equipment) == doctor.Started(row.uid, is_new=False)


def test_a_run_whose_process_is_gone_is_stopped_for_readers_and_wiped_by_the_next(
    store: Store, app: Flask, equipment: Equipment
) -> None:
    store_id = store.id
    uid = running_row(store_id, lease_until=clock.now(timedelta(seconds=-1))).uid
    report = report_of(store_id, uid, equipment)
    assert report.status is Status.STOPPED
    assert report.sentence == "The server was restarted during the test. Start it again."
    assert database.session.scalars(select(TestRun.status)).one() is Status.RUNNING
    started = start(store, app, equipment)
    sandboxed.wait_for(started.uid)
    database.session.remove()
    assert started.is_new
    row = database.session.scalars(select(TestRun).where(TestRun.uid == uid)).one()
    assert (row.status, row.settings_sealed, row.lease) == (Status.STOPPED, None, None)


def test_a_run_that_lost_its_row_ends_quietly(store: Store, equipment: Equipment) -> None:
    uid = running_row(store.id).uid
    database.session.remove()
    doctor.run(uid, "somebody else’s lease", equipment=equipment)
    assert database.session.scalars(select(TestRun.status)).one() is Status.RUNNING
    doctor.run("no such run", "x", equipment=equipment)


def test_the_eleventh_test_in_a_minute_has_to_wait(store: Store, app: Flask, equipment: Equipment) -> None:
    for _ in range(doctor.PER_MINUTE):
        running_row(store.id, status=Status.PASSED)
    with pytest.raises(doctor.TooManyTests) as refused:
        start(store, app, equipment)
    assert 0 < refused.value.wait_s <= 60


def test_a_person_is_counted_over_all_stores(app: Flask, equipment: Equipment, admin: Any) -> None:
    actor = Actor("Alice Adams", admin.id)
    for number in range(doctor.PER_MINUTE):
        running_row(factories.make_store(f"Store {number}").id, status=Status.PASSED, user_id=admin.id)
    store = factories.make_store("One more")
    with pytest.raises(doctor.TooManyTests):
        start(store, app, equipment, actor)
    database.session.rollback()
    sandboxed.wait_for(start(store, app, equipment).uid)


def test_the_last_twenty_are_kept(store: Store, app: Flask, equipment: Equipment) -> None:
    store_id = store.id
    long_ago = clock.now(timedelta(hours=-1))
    for _ in range(doctor.KEPT_PER_STORE + 3):
        running_row(store_id, status=Status.PASSED, started_at=long_ago)
    started = start(store, app, equipment)
    sandboxed.wait_for(started.uid)
    database.session.remove()
    found = doctor.last_runs(store_id, 50)
    assert len(found) == doctor.KEPT_PER_STORE
    assert found[0].run.uid == started.uid


def test_who_started_it_stands_in_the_trail_without_a_secret(press: Press, store: Store, sandbox: Sandbox) -> None:
    press(store, smtp_draft(sandbox))
    entry = database.session.scalars(select(AuditEntry).where(AuditEntry.action == "test_started")).one()
    assert (entry.actor, entry.detail) == ("Alice Adams", f"smtp to {RECIPIENT}")


def test_after_consent_it_tests_what_is_stored(
    connected: Store, app: Flask, sandbox: Sandbox, equipment: Equipment
) -> None:
    database.session.commit()
    started = doctor.start_after_consent(
        connected.email_settings, recipient=RECIPIENT, actor=ACTOR, equipment=equipment, context=app.app_context
    )
    sandboxed.wait_for(started.uid)
    assert len(sandbox.messages()) == 1
    database.session.remove()
    assert database.session.scalars(select(Connection.health)).first() == "connected"
