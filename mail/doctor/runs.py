"""Test Email Settings: a press becomes a row and a thread that fills it; pages read the row.

One test per store at a time, and a few per person and minute (security.md 55). A run holds a lease: when the process
that ran it is gone, the lease runs out, and readers call the run stopped without writing anything.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select

from extensions import db
from mail import audit
from mail.audit import Actor
from mail.doctor import draft as doctor_draft
from mail.doctor import rows as doctor_rows
from mail.doctor.examination import run, stages_of
from mail.doctor.rows import LEASE
from mail.doctor.steps import Step, as_row
from mail.drafts import AdvancedDraft, Draft, SecretsNeeded, current, current_advanced
from mail.equipment import Equipment
from mail.settings import binding_conflicts
from mail.smtp import Timeouts
from mail.tokens import end_transaction
from models import clock
from models.database import reading, writing
from models.email_settings import EmailSettings, Method
from models.store import Store
from models.test_run import TestRun, TestStatus
from models.types import new_uid
from models.user import User

logger = logging.getLogger(__name__)

PER_MINUTE = 10
KEPT_PER_STORE = 20

# What a thread has to be inside of to use the database; the application's context.
Context = Callable[[], AbstractContextManager[object]]


class TooManyTests(Exception):
    """Tests are started faster than anybody reads their results; `wait_s` until the next may begin."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"wait {wait_s} seconds")
        self.wait_s = wait_s


@dataclass(frozen=True)
class Started:
    """The run to look at. `is_new` is False when another one of this store was still under way: then it is that."""

    uid: str
    is_new: bool


@dataclass(frozen=True)
class Found:
    """A run as it is now, and its status as far as anybody can know it: running means that somebody is at it."""

    run: TestRun
    status: TestStatus


@dataclass(frozen=True)
class Listed:
    """A run in the list of a store's tests. `by`: who started it; empty when that person is not here any more."""

    found: Found
    by: str


def start_run(
    settings: EmailSettings,
    draft: Draft,
    *,
    recipient: str,
    actor: Actor,
    equipment: Equipment,
    context: Context,
    timeouts: Timeouts | None = None,
) -> Started:
    """Begin a test of what is on the screen and return at once. Commits; no network in here.

    Args:
        recipient: one checked address.
        context: gives the context in which the thread may use the database.
        timeouts: by default those of a test, 30 seconds in all.

    Raises:
        SecretsNeeded: stored secrets would go to another place than they were given for (security.md 35).
        TooManyTests: over the limit of this person or this store.
    """
    if conflicts := binding_conflicts(settings, draft, equipment):
        raise SecretsNeeded(conflicts)
    store, store_id = settings.store, settings.store_id
    method = Method.ADVANCED_SMTP if isinstance(draft, AdvancedDraft) else Method.SMTP
    with writing():
        doctor_rows.end_dead()
        # Of two presses at the same moment, the second waits here and then sees the run of the first.
        db.session.execute(select(Store.id).where(Store.id == store_id).with_for_update())
        under_way = select(TestRun.uid).where(TestRun.store_id == store_id, TestRun.status == TestStatus.RUNNING)
        uid = db.session.scalar(under_way)
        if uid is not None:
            db.session.commit()
            return Started(uid, is_new=False)
        _check_limit(store_id, actor)
        row = TestRun(
            uid=new_uid(),
            store_id=store_id,
            user_id=actor.user_id,
            method=method,
            provider=draft.provider if isinstance(draft, AdvancedDraft) else "other",
            recipient=recipient,
            tests_unsaved=draft != current(settings, method, equipment),
            steps=[as_row(Step(stage)) for stage in stages_of(method)],
            started_at=clock.now(),
            lease=new_uid(),
            lease_until=clock.now(LEASE),
        )
        row.settings_sealed = doctor_draft.seal(draft, row, equipment)
        uid, lease = row.uid, row.lease or ""
        db.session.add(row)
        audit.record(actor, "test_started", store, detail=f"{method} to {recipient}")
        _drop_old(store_id)
        db.session.commit()
    thread = threading.Thread(
        target=_run_in, args=(context, uid, lease, equipment, timeouts), name=f"test-{uid}", daemon=True
    )
    thread.start()
    return Started(uid, is_new=True)


def start_after_consent(
    settings: EmailSettings, *, recipient: str, actor: Actor, equipment: Equipment, context: Context
) -> Started:
    """Begin a test of the stored Advanced SMTP settings, right after Connect; as `start_run`.

    The caller has committed: the callback is a GET, whose reading transaction cannot turn into a writing one safely.
    """
    with writing():
        end_transaction()
        draft = current_advanced(settings, equipment)
        return start_run(settings, draft, recipient=recipient, actor=actor, equipment=equipment, context=context)


def find(store_id: int, uid: str) -> Found | None:
    """Return a run of this store as it is now, None when there is none of that name."""
    query = select(TestRun, clock.now()).where(TestRun.store_id == store_id, TestRun.uid == uid)
    row = db.session.execute(query.execution_options(populate_existing=True)).one_or_none()
    return None if row is None else _found(*row)


def last_runs(store_id: int, limit: int = 1, method: Method | None = None) -> list[Found]:
    """Return the newest runs of this store, newest first."""
    query = select(TestRun, clock.now()).where(TestRun.store_id == store_id)
    if method is not None:
        query = query.where(TestRun.method == method)
    rows = db.session.execute(query.order_by(TestRun.id.desc()).limit(limit))
    return [_found(*row) for row in rows]


def history(store_id: int) -> list[Listed]:
    """Return the runs that are kept of this store with who started them, newest first. One query."""
    query = select(TestRun, clock.now(), User.name, User.email).outerjoin(User, User.id == TestRun.user_id)
    query = query.where(TestRun.store_id == store_id).order_by(TestRun.id.desc()).limit(KEPT_PER_STORE)
    return [Listed(_found(row, now), name or email or "") for row, now, name, email in db.session.execute(query)]


def cancel(store: Store, uid: str, *, actor: Actor) -> bool:
    """End a test at once and tell whether that was possible. Commits.

    True: it has ended, and no email was or will be sent. False: it had ended before, or its message is already on its
    way to the server, or there is none of that name.
    """
    if not doctor_rows.cancel(store.id, uid):
        db.session.rollback()
        return False
    audit.record(actor, "test_cancelled", store)
    db.session.commit()
    return True


def sweep() -> None:
    """Close the runs whose process is gone, and wipe what was typed for them. Commits; writes only when there are any.

    For a worker's round: a test that nobody looks at would keep what was typed for it.
    """
    with reading():
        is_needed = doctor_rows.any_dead()
        db.session.rollback()
    if is_needed:
        with writing():
            doctor_rows.end_dead()
            db.session.commit()


def _found(row: TestRun, now: datetime) -> Found:
    is_dead = row.status is TestStatus.RUNNING and (row.lease_until is None or row.lease_until <= now)
    return Found(row, TestStatus.STOPPED if is_dead else row.status)


def _check_limit(store_id: int, actor: Actor) -> None:
    window = timedelta(minutes=1)
    of_person = [TestRun.user_id == actor.user_id] if actor.user_id is not None else []
    for whose in (TestRun.store_id == store_id, *of_person):
        recent = select(func.count(), func.min(TestRun.started_at), clock.now())
        count, oldest, now = db.session.execute(recent.where(whose, TestRun.started_at > clock.now(-window))).one()
        if count >= PER_MINUTE:
            raise TooManyTests(max(1, round((oldest + window - now).total_seconds())))


def _drop_old(store_id: int) -> None:
    db.session.flush()  # the new row counts among those that stay
    newest = select(TestRun.id).where(TestRun.store_id == store_id).order_by(TestRun.id.desc()).limit(KEPT_PER_STORE)
    ids = list(db.session.scalars(newest))
    if len(ids) == KEPT_PER_STORE:
        db.session.execute(delete(TestRun).where(TestRun.store_id == store_id, TestRun.id < ids[-1]))


def _run_in(context: Context, uid: str, lease: str, equipment: Equipment, timeouts: Timeouts | None) -> None:
    """The thread. Nobody is above it, so what goes wrong with the database itself ends in the log."""
    try:
        with context():
            run(uid, lease, equipment=equipment, timeouts=timeouts)
    except Exception:
        logger.exception("test %s ended without a result", uid)
