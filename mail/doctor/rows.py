"""The row of a test: changed by its thread only while it is the thread's own, ended at once by whoever cancels it.

A run and its cancelling meet in one place. Before the bytes that commit a message, the thread wipes the sealed draft
of its row; cancelling ends a row only while the draft is still there. Both are conditional updates of one row, so one
of them comes first and the other one finds out: nothing is sent after somebody was told that a test is cancelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Executable, exists, select, update
from sqlalchemy.orm import Session

from extensions import db
from models import clock
from models.database import reading, writing
from models.test_run import TestRun, TestStatus

Rows = list[dict[str, Any]]

# Renewed with every step; longer than any one step can take, so that a run that goes on is never called dead.
LEASE = timedelta(seconds=60)


class Abandoned(Exception):
    """The row is not the thread's any more: the test was cancelled, its store deleted, or the run declared dead."""


def load(uid: str) -> TestRun:
    """Return the row, detached from any session.

    Raises:
        Abandoned: there is none.
    """
    with reading(), Session(db.engine) as session:
        row = session.scalars(select(TestRun).where(TestRun.uid == uid)).one_or_none()
        session.expunge_all()
    if row is None:
        raise Abandoned
    return row


def keep(uid: str, lease: str, steps: Rows, **more: Any) -> None:
    """Write the steps down and renew the lease, in a transaction of its own.

    Raises:
        Abandoned: the row is not ours any more.
    """
    with writing(), Session(db.engine) as session, session.begin():
        change(session, uid, lease, {"steps": steps, "lease_until": clock.now(LEASE), **more})


def keep_committing(uid: str, lease: str, steps: Rows) -> None:
    """As `keep`, and from here on the test cannot be cancelled: called right before the bytes that commit.

    Raises:
        Abandoned: somebody cancelled it first; nothing may be sent.
    """
    keep(uid, lease, steps, settings_sealed=None)


def change(session: Session, uid: str, lease: str, values: Mapping[str, Any]) -> None:
    """Change the row in the caller's transaction, if it is still ours.

    Raises:
        Abandoned: it is not; nothing was changed.
    """
    if not _changed(session, update(TestRun).where(TestRun.uid == uid, TestRun.lease == lease).values(values)):
        raise Abandoned


def end_values() -> dict[str, Any]:
    """Return what the end of a run puts into its row, however it ended: the sealed draft goes."""
    return {"settings_sealed": None, "lease": None, "lease_until": None, "finished_at": clock.now()}


def cancel(store_id: int, uid: str) -> bool:
    """End a test that has not begun to commit its message, and tell whether it did; the caller commits.

    False: it has ended, its message is on its way, or there is none of that name.
    """
    values = {**end_values(), "status": TestStatus.CANCELLED, "cancel_requested_at": clock.now()}
    running = (TestRun.status == TestStatus.RUNNING, TestRun.settings_sealed.is_not(None))
    return _changed(
        db.session(), update(TestRun).where(TestRun.store_id == store_id, TestRun.uid == uid, *running).values(values)
    )


def end_dead() -> None:
    """Close the runs whose process is gone, and wipe what was typed for them; the caller commits."""
    values = {**end_values(), "status": TestStatus.STOPPED}
    _changed(db.session(), update(TestRun).where(*_dead()).values(values))


def any_dead() -> bool:
    """Tell whether there is a run whose process is gone. Only reads."""
    return bool(db.session.scalar(select(exists().where(*_dead()))))


def _dead() -> tuple[Any, Any]:
    return TestRun.status == TestStatus.RUNNING, TestRun.lease_until <= clock.now()


def _changed(session: Session, statement: Executable) -> bool:
    result = session.execute(statement.execution_options(synchronize_session=False))
    return bool(getattr(result, "rowcount", 0))
