"""The work of one test: the draft, through the same code as delivery, with every step written down as it happens.

Runs in a thread of the web process. The row is changed in short transactions of its own, only while its lease is
ours, and the network is used with none open (house-style 8).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from extensions import db
from mail import delivery, health, outbox
from mail.doctor import draft as doctor_draft
from mail.doctor import rows as doctor_rows
from mail.doctor.deductions import Situation, deduce
from mail.doctor.plan import Plan, plan_from
from mail.doctor.probes import probe
from mail.doctor.rows import Abandoned, end_values
from mail.doctor.steps import LABELS, Progress
from mail.drafts import values_for_words
from mail.equipment import Equipment
from mail.errors import Family, MailError, SettingsWrong, Stage, TryLater
from mail.routes import SettingsIncomplete
from mail.smtp import Timeouts
from models.connection import Connection, Health
from models.database import reading, writing
from models.email_settings import EmailSettings, Method
from models.test_run import TestRun, TestStatus
from security.redact import one_line, redact
from security.secret import Secret
from security.vault import Unreadable

logger = logging.getLogger(__name__)

TIME_LIMIT_S = 30.0
_LONGEST_TEXT = 2_000


def stages_of(method: Method) -> tuple[Stage, ...]:
    """Return the steps that a test of this method has: a password needs no access token."""
    return tuple(stage for stage in LABELS if stage is not Stage.TOKEN or method is Method.ADVANCED_SMTP)


def run(uid: str, lease: str, *, equipment: Equipment, timeouts: Timeouts | None = None) -> None:
    """Run the test of this row to its end, and write down how it went.

    Whatever goes wrong with the test is its result. Commits its own transactions; the draft with its typed secrets is
    wiped with the last one, if not before. Does nothing when the row is gone or its lease is somebody else's. After a
    message by the settings as they are stored, what was held for trouble with them goes out.
    """
    known: list[Secret] = []
    try:
        row = doctor_rows.load(uid)
        progress = Progress(stages_of(row.method), partial(doctor_rows.keep, uid, lease))
        test = _Test(row, lease, progress, known, equipment, timeouts or Timeouts.for_test())
        failure = test.run()
        test.end(failure)
        status = "failed" if failure else "passed"
        code = failure["code"] if failure else ""
        logger.info("test %s", status, extra={"test": uid, "store_id": row.store_id, "code": code})
    except Abandoned:
        logger.info("test abandoned", extra={"test": uid})
    finally:
        db.session.remove()


@dataclass
class _Test:
    row: TestRun
    lease: str
    progress: Progress
    known: list[Secret] = field(repr=False)
    equipment: Equipment
    timeouts: Timeouts
    plan: Plan | None = None
    values: dict[str, Any] = field(default_factory=dict)

    def run(self) -> dict[str, Any] | None:
        """Return what failed, None when nothing did."""
        try:
            self._go_through()
            return None
        except SettingsIncomplete as trouble:
            missing = [{"field": one.field, "label": one.label, "sentence": one.sentence} for one in trouble.missing]
            error: MailError = SettingsWrong("incomplete", str(trouble), stage=Stage.SETTINGS)
            return self._failed(error, missing=missing)
        except Unreadable as trouble:
            return self._failed(SettingsWrong("unreadable", str(trouble), stage=self.progress.reached))
        except MailError as trouble:
            return self._failed(trouble)
        except Abandoned:
            raise
        except Exception as fault:
            incident = secrets.token_hex(4)
            logger.exception("test failed by a fault of ours", extra={"test": self.row.uid, "incident": incident})
            words = f"{type(fault).__name__} in Storepost, incident {incident}"
            return self._failed(TryLater("fault", words, stage=self.progress.reached))

    def end(self, failure: dict[str, Any] | None) -> None:
        """Write down how it went, and let the mail go that waited for what the test has proved.

        Raises:
            Abandoned: the row is not ours any more; nothing was changed.
        """
        was_sent = failure is None and self.progress.is_done(Stage.MESSAGE)
        with writing():
            if was_sent and self.plan is not None and self.plan.is_saved:
                self.progress.note(Stage.MESSAGE, {"released": self._let_waiting_mail_go()})
            values = {
                "status": TestStatus.FAILED if failure else TestStatus.PASSED,
                "failure": failure and _fit(failure, self.known),
                "steps": [_fit(step, self.known) for step in self.progress.as_rows()],
            }
            doctor_rows.change(db.session(), self.row.uid, self.lease, {**values, **end_values()})
            db.session.commit()

    def _go_through(self) -> None:
        self.progress.start(Stage.SETTINGS)
        self.plan = plan = self._plan()
        self.progress.done(Stage.SETTINGS, {"emails_off": plan.is_off})
        watched: dict[str, Any] = {
            "token": plan.token,
            "equipment": self.equipment,
            "observe": self._observe,
            "timeouts": self.timeouts,
        }
        if plan.is_off:
            with delivery.signed_in(plan.route, **watched):
                return
        delivery.send_through(plan.route, plan.content, [self.row.recipient], before_commit=self._may_commit, **watched)

    def _plan(self) -> Plan:
        """Read settings and secrets, and end the transaction.

        Raises:
            SettingsIncomplete, Unreadable, SettingsWrong, Refused
        """
        draft = doctor_draft.unseal(self.row, self.equipment)
        self.values = values_for_words(draft, self.equipment)
        self.progress.note(Stage.SETTINGS, self.values)
        with reading():
            try:
                query = select(EmailSettings).where(EmailSettings.store_id == self.row.store_id)
                settings = db.session.scalars(query.options(joinedload(EmailSettings.connection))).one_or_none()
                if settings is None:
                    raise Abandoned
                return plan_from(draft, settings, self.row, equipment=self.equipment, known=self.known)
            finally:
                db.session.remove()

    def _observe(self, stage: Stage, event: str, facts: dict[str, Any]) -> None:
        if event == "started" and self.progress.now_ms() > TIME_LIMIT_S * 1000:
            words = f"the test timed out after {TIME_LIMIT_S:.0f} seconds"
            raise TryLater("timed_out", words, stage=stage)
        if stage is Stage.TOKEN and event == "done" and self.plan is not None and self.plan.token is not None:
            facts = {**facts, **self.plan.token.facts}
        self.progress(stage, event, _fit(facts, self.known))

    def _may_commit(self) -> bool:
        """The last look before the bytes that commit: nobody cancelled the test or turned emails off meanwhile."""
        self.progress.note(Stage.MESSAGE, {"committing": True})
        doctor_rows.keep_committing(self.row.uid, self.lease, self.progress.as_rows())
        query = select(EmailSettings.emails_off).where(EmailSettings.store_id == self.row.store_id)
        with reading(), Session(db.engine) as session:
            return session.scalar(query) is False

    def _let_waiting_mail_go(self) -> int:
        """Requeue what was held for trouble with the settings and return how much that is; the caller commits."""
        connection_id = self.plan.route.connection_id if self.plan is not None else None
        if connection_id is not None:
            state = db.session.scalar(select(Connection.health).where(Connection.id == connection_id))
            db.session.rollback()  # SQLite has one writer, and the report is one of its own
            if state is Health.NEEDS_REAUTHORIZATION:
                # The kept token still worked; when it runs out there is no other. Reconnecting releases the mail.
                return 0
            health.report(connection_id, health.TESTED)
        return outbox.release_mended(self.row.store_id, equipment=self.equipment)

    # What failed -----------------------------------------------------------------------------------------------------

    def _failed(self, error: MailError, *, missing: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
        # Settings that were complete a second ago and are not now: the step that noticed is the one that failed.
        is_late = error.stage is Stage.SETTINGS and self.progress.is_done(Stage.SETTINGS)
        stage = self.progress.reached if is_late else error.stage
        self.progress.fail(stage)
        family = Family.TOKEN if stage is Stage.TOKEN else error.family
        return {
            "stage": stage.value,
            "code": error.code,
            "detail": error.detail,
            "family": family.value,
            "kind": type(error).__name__,
            "reply_code": error.reply_code,
            "missing": list(missing),
            **({} if missing else self._deduced(error, stage, family)),
        }

    def _deduced(self, error: MailError, stage: Stage, family: Family) -> dict[str, Any]:
        """What the whole test says beyond its one error. May look at the server once more, from the outside."""
        if self.plan is None:
            return {}
        # Looking around takes seconds: the page shows meanwhile how far it got, and a cancelled test stops here.
        doctor_rows.keep(self.row.uid, self.lease, [_fit(step, self.known) for step in self.progress.as_rows()])
        seen = probe(self.plan.route.endpoint, error, door=self.equipment.door) if family is Family.SMTP else {}
        situation = Situation(
            stage=stage,
            family=family,
            code=error.code,
            detail=error.detail,
            reply_code=error.reply_code,
            provider=self.row.provider,
            method=self.row.method,
            values=self.values,
            facts=self.progress.facts,
            secret_is_id=self.plan.secret_is_id,
            probe=seen,
            connection=self.plan.connection,
        )
        found = deduce(situation)
        deduced = {"deduced": found.code, "deduced_values": dict(found.values)} if found else {}
        return {**deduced, **({"probe": seen} if seen else {})}


def _fit(value: Any, known: Sequence[Secret]) -> Any:
    """Return plain JSON values fit for a row and a page: texts redacted, on one line and cut."""
    if isinstance(value, str):
        return one_line(redact(value, known), limit=_LONGEST_TEXT)
    if isinstance(value, dict):
        return {key: _fit(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(item, known) for item in value[:50]]
    return value
