"""Calling a test off: it ends at once, what it reached stays, and after the answer nothing is sent any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from extensions import db as database
from mail import doctor
from mail.doctor import rows as doctor_rows
from mail.doctor.examination import _Test
from mail.drafts import SecretEdit
from mail.equipment import Equipment
from mail.errors import Stage
from models import AuditEntry, Store, TestRun, clock
from models.email_settings import Method
from models.test_run import TestStatus as Status
from models.types import new_uid
from sandbox import Sandbox
from security.secret import Secret
from tests.fakes import sandboxed
from tests.fakes.rawserver import Peer, RawServer
from tests.fakes.sandboxed import ACTOR, GENERAL, smtp_draft
from tests.mail.doctor.pages import RECIPIENT, report_of, states


class Waiting:
    """A mail server that stops at one command of the client and goes on when it is told to."""

    def __init__(self, at: str, *extensions: str):
        self.at, self.extensions = at, extensions
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.taken: list[bytes] = []

    def __call__(self, peer: Peer) -> None:
        peer.say("220 mail.test ESMTP")
        while True:
            line = peer.hear()
            if line.startswith(self.at):
                self.reached.set()
                assert self.go_on.wait(10)
            if line.startswith("EHLO"):
                peer.say("250-mail.test", *(f"250-{one}" for one in self.extensions), "250 SIZE 1000000")
            elif line.startswith("DATA"):
                peer.say("354 go on")
                self.taken.append(peer.hear_message())
                peer.say("250 2.0.0 fine")
            elif line.startswith("BDAT"):
                self.taken.append(peer.hear_bytes(int(line.split()[1])))
                peer.say("250 2.0.0 fine")
            else:
                peer.say("250 2.0.0 fine")


@contextmanager
def under_way(
    store: Store, sandbox: Sandbox, app: Flask, equipment: Equipment, server: Waiting
) -> Iterator[Callable[[], str]]:
    """A test that hangs where the server waits. Gives the function that lets it go and waits for its end."""
    with RawServer(server) as raw:
        draft = smtp_draft(
            sandbox, smtp_port=raw.port, username="", password=SecretEdit.replace(Secret("")),
            general=replace(GENERAL, use_ssl=False),
        )  # fmt: skip
        started = doctor.start_run(
            store.email_settings, draft, recipient=RECIPIENT, actor=ACTOR, equipment=equipment, context=app.app_context
        )
        database.session.commit()

        def let_go() -> str:
            server.go_on.set()
            sandboxed.wait_for(started.uid)
            raw.wait()
            database.session.remove()
            return started.uid

        try:
            assert server.reached.wait(10), "the test did not get there"
            yield let_go
        finally:
            server.go_on.set()


PLAIN: tuple[str, ...] = ()
PIPELINED = ("PIPELINING",)
ONE_WRITE = ("PIPELINING", "CHUNKING")


def newest() -> str:
    uid = database.session.scalars(select(TestRun.uid).order_by(TestRun.id.desc())).first()
    database.session.rollback()
    assert uid is not None
    return uid


def cancel(store_id: int) -> bool:
    store = database.session.get_one(Store, store_id)
    return doctor.cancel(store, newest(), actor=ACTOR)


@pytest.mark.parametrize(
    ("at", "extensions"),
    [("EHLO", PLAIN), ("EHLO", PIPELINED), ("EHLO", ONE_WRITE), ("MAIL", PLAIN), ("RCPT", PLAIN), ("RCPT", PIPELINED)],
    ids=["ehlo", "ehlo-pipelining", "ehlo-chunking", "mail", "rcpt", "rcpt-pipelining"],
)
def test_after_the_answer_nothing_is_sent_whatever_the_server_does_then(
    store: Store, sandbox: Sandbox, app: Flask, equipment: Equipment, at: str, extensions: tuple[str, ...]
) -> None:
    store_id, server = store.id, Waiting(at, *extensions)
    with under_way(store, sandbox, app, equipment, server) as let_go:
        assert report_of(store_id, newest(), equipment).can_cancel
        assert cancel(store_id)
        at_once = report_of(store_id, newest(), equipment)
        later = report_of(store_id, let_go(), equipment)
    assert server.taken == []
    assert at_once.status is later.status is Status.CANCELLED
    assert at_once.title == "The test was cancelled"
    assert "No email was sent." in at_once.sentence
    assert states(at_once)[:3] == ["done", "done", "done"], "what it reached stays"
    assert states(later) == states(at_once)
    row = database.session.scalars(select(TestRun)).one()
    assert (row.settings_sealed, row.lease, row.lease_until) == (None, None, None)
    assert row.cancel_requested_at == row.finished_at
    entry = database.session.scalars(select(AuditEntry).where(AuditEntry.action == "test_cancelled")).one()
    assert entry.actor == ACTOR.name


@pytest.mark.parametrize(("at", "extensions"), [("MAIL", ONE_WRITE), ("DATA", PLAIN)], ids=["chunking", "data"])
def test_a_message_that_is_under_way_is_not_called_back_and_the_test_ends_as_it_does(
    store: Store, sandbox: Sandbox, app: Flask, equipment: Equipment, at: str, extensions: tuple[str, ...]
) -> None:
    store_id, server = store.id, Waiting(at, *extensions)
    if at == "DATA":
        server.at = "QUIT"  # the message is committed, its result is not written yet
    with under_way(store, sandbox, app, equipment, server) as let_go:
        assert not cancel(store_id)
        meanwhile = report_of(store_id, newest(), equipment)
        later = report_of(store_id, let_go(), equipment)
    assert meanwhile.is_running
    assert not meanwhile.can_cancel
    assert meanwhile.sentence == "The message is on its way to the server, so the test cannot be cancelled any more."
    assert later.status is Status.PASSED
    assert len(server.taken) == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_cancelling_and_committing_meet_in_the_row_and_the_first_one_wins(
    store: Store, sandbox: Sandbox, app: Flask, equipment: Equipment, monkeypatch: pytest.MonkeyPatch, is_first: bool
) -> None:
    store_id, server, answers = store.id, Waiting("EHLO"), list[bool]()
    server.go_on.set()
    usual = _Test._may_commit

    def cancelled_at_that_moment(test: Any) -> bool:
        if is_first:
            answers.append(cancel(store_id))
        may = usual(test)
        if not is_first:
            answers.append(cancel(store_id))
        return may

    monkeypatch.setattr(_Test, "_may_commit", cancelled_at_that_moment)
    with under_way(store, sandbox, app, equipment, server) as let_go:
        report = report_of(store_id, let_go(), equipment)
    assert answers == [is_first]
    assert report.status is (Status.CANCELLED if is_first else Status.PASSED)
    assert len(server.taken) == (0 if is_first else 1)


def test_a_cancelled_test_is_not_in_the_way_of_the_next(
    store: Store, sandbox: Sandbox, app: Flask, equipment: Equipment
) -> None:
    store_id, server = store.id, Waiting("EHLO")
    with under_way(store, sandbox, app, equipment, server) as let_go:
        cancel(store_id)
        store = database.session.get_one(Store, store_id)
        next_one = doctor.start_run(
            store.email_settings, smtp_draft(sandbox), recipient=RECIPIENT, actor=ACTOR, equipment=equipment,
            context=app.app_context,
        )  # fmt: skip
        assert next_one.is_new
        sandboxed.wait_for(next_one.uid)
        let_go()
    assert report_of(store_id, next_one.uid, equipment).status is Status.PASSED
    assert len(sandbox.messages()) == 1


def running_row(store_id: int, **columns: Any) -> str:
    values: dict[str, Any] = {
        "method": Method.SMTP, "recipient": RECIPIENT, "started_at": clock.now(), "lease": new_uid(),
        "lease_until": clock.now(timedelta(seconds=60)), "steps": [], "settings_sealed": "v1.k1.x",
    }  # fmt: skip
    row = TestRun(uid=new_uid(), store_id=store_id, **{**values, **columns})
    database.session.add(row)
    database.session.commit()
    return row.uid


def test_only_a_running_test_of_this_store_is_cancelled(store: Store) -> None:
    for uid in (running_row(store.id, status=Status.PASSED), running_row(store.id, settings_sealed=None), "no-such"):
        assert not doctor.cancel(store, uid, actor=ACTOR)
    assert not doctor_rows.cancel(store.id + 1, running_row(store.id))
    assert list(database.session.scalars(select(AuditEntry.action))) == []
    assert Status.CANCELLED not in list(database.session.scalars(select(TestRun.status)))


def test_the_sweep_closes_dead_runs_and_wipes_them_and_leaves_the_living(store: Store, equipment: Equipment) -> None:
    store_id = store.id
    dead = running_row(store_id, lease_until=clock.now(timedelta(seconds=-1)))
    living = running_row(store_id)
    doctor.sweep()
    rows = {row.uid: row for row in database.session.scalars(select(TestRun))}
    assert (rows[dead].status, rows[dead].settings_sealed, rows[dead].lease) == (Status.STOPPED, None, None)
    assert rows[living].status is Status.RUNNING
    assert rows[living].settings_sealed is not None


def test_a_test_that_died_amid_its_message_does_not_say_that_nothing_was_sent(
    store: Store, equipment: Equipment
) -> None:
    step = {"stage": Stage.MESSAGE.value, "state": "running", "started_ms": 1.0, "duration_ms": None}
    uid = running_row(
        store.id,
        settings_sealed=None,
        lease_until=clock.now(timedelta(seconds=-1)),
        steps=[{**step, "facts": {"committing": True}}],
    )
    report = report_of(store.id, uid, equipment)
    assert report.sentence == "The server was restarted during the test. It is not known whether the email was sent."
