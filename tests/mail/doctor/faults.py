"""Test Email Settings pressed against one fault after another, and what has to hold after each of them.

One application serves all faults of a process: each has a store of its own, so that nothing is shared but time.
"""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app import create_app
from extensions import db as database
from mail import doctor
from mail.doctor.records import Report
from mail.doctor.report import report_on
from mail.doctor.steps import StepState
from mail.drafts import Draft, SecretEdit
from mail.equipment import Equipment
from mail.errors import Stage
from mail.smtp import Timeouts
from models import TestRun
from models.test_run import TestStatus as Status
from sandbox import Sandbox
from security.outbound import AllowRule, Door
from security.secret import Secret
from tests import factories
from tests.conftest import PASSWORD as ADMIN_PASSWORD
from tests.conftest import Browser, settings_for
from tests.fakes import sandboxed
from tests.fakes.hostile_smtp import Contexts, make_contexts
from tests.fakes.rawserver import RawServer
from tests.mail.doctor.pages import RECIPIENT
from tests.patience import PATIENT
from tests.sandbox.clients import CLIENT_SECRET, MAILBOX

# For faults that wait for the clock: short where the server keeps silent, everything before it as long as usual.
IMPATIENT_FOR_ANSWERS = replace(PATIENT, command_s=0.8)
IMPATIENT_AT_THE_END = replace(PATIENT, final_s=0.8)
_TEST_LIMIT_S = 30.0
_FAILED = "Test failed: "

PASSWORD = "s3cret-of-the-mailbox-Xq7"
# What a test goes through when encryption begins after the greeting; in the order of time.
_ORDER = (
    Stage.SETTINGS,
    Stage.RESOLVE,
    Stage.CONNECT,
    Stage.TLS,
    Stage.GREET,
    Stage.TOKEN,
    Stage.AUTH,
    Stage.SENDER,
    Stage.RECIPIENT,
    Stage.MESSAGE,
)

_CLEARED_BY = {
    "encryption": Stage.TLS,
    "sign-in": Stage.AUTH,
    "sender": Stage.SENDER,
    "recipient": Stage.RECIPIENT,
}


@dataclass(frozen=True)
class Fault:
    """One row of the table: a fault and what the page has to say about it.

    Attributes:
        name: of the server in the library, or what else happens; the id of the test.
        title: what stands at the top, after "Test failed: ".
        headline: what stands over the explanation.
        action: what kind of step mends it (`mail.signatures.Action`).
        mend: the first field of the form that is offered for mending; empty when none is.
        says: what the explanation holds besides, in meaning, steps or commands.
        leaves_unsaid: what it must not hold, because it is not true here.
        shown: words of the server that must be on the page; empty when there are none to show.
        hidden: words that must be nowhere.
        not_done: steps before the failed one that this fault leaves out.
        provider: with a key of the catalogue the store signs in by token, without by password.
        settings: what is different on the screen.
        may_be_sent: the message was handed over, and nobody knows what became of it.
    """

    name: str
    stage: Stage
    title: str
    headline: str
    action: str
    mend: str = ""
    says: tuple[str, ...] = ()
    leaves_unsaid: tuple[str, ...] = ()
    shown: str = ""
    hidden: tuple[str, ...] = ()
    not_done: frozenset[Stage] = frozenset()
    provider: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    timeouts: Timeouts = PATIENT
    may_be_sent: bool = False


def table(*faults: Fault) -> pytest.MarkDecorator:
    """Return the mark that runs a test for each fault, named by it."""
    return pytest.mark.parametrize("fault", faults, ids=[fault.name for fault in faults])


@dataclass
class Result:
    """A run that has ended, in every form in which anybody can see it."""

    report: Report
    row: TestRun
    page: str
    took_s: float

    @property
    def explanation_text(self) -> str:
        assert self.report.failure is not None
        told = self.report.failure.explanation
        return "\n".join((told.headline, told.meaning, *told.steps, *told.commands))


class Arena:
    """An application, its sandbox, and the certificates of hostile servers, all trusted as if they were public."""

    def __init__(self, directory: Path, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.directory = directory
        self.tls: Contexts = make_contexts(directory / "certificates")
        trusted = directory / "trusted.pem"
        trusted.write_text(sandbox.ca_file.read_text() + Path(self.tls.ca_file).read_text())
        settings = sandboxed.configuration(sandbox) | {"CA_FILE": str(trusted)}
        self.app: Flask = create_app(settings_for(f"sqlite:///{directory / 'storepost.sqlite3'}", **settings))
        self.door = Door(AllowRule.parse_list("127.0.0.1:* localhost:*"), ca_file=str(trusted), resolve=_only_v4)
        with self.app.app_context():
            factories.make_tables()
            factories.make_admin("ada@shop.example", password=ADMIN_PASSWORD)
            self.browser = Browser(self.app.test_client())
            self.browser.post("/sign-in", {"email": "ada@shop.example", "password": ADMIN_PASSWORD})
            database.session.remove()

    @property
    def equipment(self) -> Equipment:
        found: Equipment = self.app.extensions["storepost"]
        return replace(found, door=self.door)

    def draft(self, fault: Fault, port: int, **changes: Any) -> Draft:
        """Return what is on the screen: the SMTP tab with a password, or Advanced SMTP with a pasted token."""
        changes = {"smtp_port": port, **fault.settings, **changes}
        if not fault.provider:
            secret = SecretEdit.replace(Secret(PASSWORD))
            return sandboxed.smtp_draft(self.sandbox, **{"password": secret, **changes})
        token = self.sandbox.state.issue_refresh_token(MAILBOX)
        return sandboxed.advanced_draft(self.sandbox, token, **{"provider": fault.provider, **changes})

    def press(self, fault: Fault, draft: Draft, equipment: Equipment | None = None) -> Result:
        """Press Test Email Settings in a store of its own, and wait for the end."""
        equipment = equipment or self.equipment
        store = factories.make_store("Acme Store", code=f"acme-{time.monotonic_ns()}")
        store_id, began = store.id, time.monotonic()
        started = doctor.start_run(
            store.email_settings,
            draft,
            recipient=RECIPIENT,
            actor=sandboxed.ACTOR,
            equipment=equipment,
            context=self.app.app_context,
            timeouts=fault.timeouts,
        )
        sandboxed.wait_for(started.uid)
        took_s = time.monotonic() - began
        page = self.browser.get(f"/stores/{store_id}/tests/{started.uid}")
        assert page.status_code == 200
        row = database.session.scalars(select(TestRun).where(TestRun.uid == started.uid)).one()
        report = report_on(row, row.status, store_name="Acme Store", providers=equipment.providers)
        return Result(report, row, unescape(page.text), took_s)

    def everything_kept(self) -> bytes:
        """Return the database as it lies on the disk, of all faults so far."""
        return b"".join(file.read_bytes() for file in sorted(self.directory.glob("storepost.sqlite3*")))

    def close(self) -> None:
        with self.app.app_context():
            database.session.remove()
            database.engine.dispose()


def check(fault: Fault, result: Result) -> None:
    """The step, its reason and its remedy are the right ones, and nothing after it is claimed to have run."""
    report = result.report
    assert report.status is Status.FAILED, report.title
    failure = report.failure
    assert failure is not None
    assert failure.stage is fault.stage, failure.words
    assert {line.stage: str(line.state) for line in report.steps} == _states(fault)
    number = 1 + [line.stage for line in report.steps].index(fault.stage)
    assert report.sentence.startswith(f"Stopped at step {number} of {len(report.steps)} after ")
    fate = "It is not known whether the email was sent." if fault.may_be_sent else "No email was sent."
    assert report.sentence.endswith(fate)
    assert report.title == _FAILED + fault.title
    told, text = failure.explanation, result.explanation_text
    assert fault.headline in told.headline, text
    for words in fault.says:
        assert words in text, text
    for words in fault.leaves_unsaid:
        assert words not in text, text
    assert told.steps
    _check_what_is_said_to_be_fine(failure.cleared, fault)
    offered = failure.fields[0][0] if failure.fields else ""
    assert (failure.action, offered) == (fault.action, fault.mend), (failure.action, offered)
    assert fault.shown in failure.words, failure.words
    assert fault.shown in report.support
    for words in (report.title, told.headline, told.meaning, *told.steps, *told.commands, fault.shown):
        assert words in result.page
    assert report.support in result.page
    assert result.took_s < _TEST_LIMIT_S


def _check_what_is_said_to_be_fine(cleared: str, fault: Fault) -> None:
    """Nothing is cleared that the page sends people to mend, or that this run never came to."""
    if fault.mend in ("smtp_host", "smtp_port"):
        assert "port" not in cleared, "the page sends people to server or port and says that they are fine"
    states = _states(fault)
    for word, stage in _CLEARED_BY.items():
        assert word not in cleared or states[stage] == StepState.DONE, f"{word} is said to be fine and was not reached"


def check_secrecy(
    fault: Fault, result: Result, log: str, arena: Arena, server: RawServer | None = None, more: Iterable[str] = ()
) -> None:
    """No credential in any form, and nothing that was said in another protocol, is in what anybody can read."""
    assert result.row.settings_sealed is None
    columns = {column.key: getattr(result.row, column.key) for column in TestRun.__mapper__.column_attrs}
    places = {
        "row": json.dumps(columns, default=str),
        "page": result.page,
        "report": result.report.support,
        "log": _own(log),
    }
    secrets = (*_secrets(arena, server), *more)
    for words in (*secrets, *fault.hidden):
        for place, text in places.items():
            assert words not in text, f"{words[:8]}… is in the {place}"
    # All faults share one database, in which what one peer may say another may not; a secret may be nowhere.
    kept = arena.everything_kept()
    assert not [secret[:8] for secret in secrets if secret.encode() in kept]


def check_nothing_was_sent(arena: Arena, server: RawServer | None = None) -> None:
    """No message arrived anywhere: neither in the sandbox's inbox nor, to its end, at a hostile server."""
    assert arena.sandbox.messages() == ()
    heard = server.dialogue if server is not None else []
    assert not [line for line in heard if line == "C: ." or (line.startswith("C: BDAT") and line.endswith("LAST"))]


def _states(fault: Fault) -> dict[Stage, str]:
    place = _ORDER.index(fault.stage)
    done = set(_ORDER[:place]) - fault.not_done
    states = {stage: str(StepState.DONE if stage in done else StepState.NOT_RUN) for stage in _ORDER}
    states[fault.stage] = str(StepState.FAILED)
    if not fault.provider:
        del states[Stage.TOKEN]
    return states


def _secrets(arena: Arena, server: RawServer | None) -> set[str]:
    """Every credential of this run, as it is and as it travels."""
    state = arena.sandbox.state
    plain = {PASSWORD, CLIENT_SECRET, *state._access, *state._refresh}
    travelling = {base64.b64encode(value.encode()).decode().rstrip("=") for value in plain}
    heard = server.said_by_client if server is not None else []
    after_auth = {answer for line, answer in pairwise(heard) if line.startswith("AUTH ")}
    return plain | travelling | {answer for answer in after_auth if len(answer) > 8}


def _own(log: str) -> str:
    """Return the log without the lines of the sandbox, which plays the provider in the same process."""
    return "\n".join(line for line in log.splitlines() if "oauthlib" not in line)


def _only_v4(host: str, port: int, **more: Any) -> Any:
    # The servers listen on 127.0.0.1 only; "localhost" may also mean ::1.
    return socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)


__all__ = [
    "IMPATIENT_AT_THE_END",
    "IMPATIENT_FOR_ANSWERS",
    "PASSWORD",
    "Arena",
    "Fault",
    "Result",
    "check",
    "check_nothing_was_sent",
    "check_secrecy",
    "table",
]
