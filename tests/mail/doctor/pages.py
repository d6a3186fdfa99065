"""What the page shows of a run, for the tests of the doctor."""

from __future__ import annotations

from collections.abc import Callable

from extensions import db as database
from mail import doctor
from mail.doctor.records import Report
from mail.doctor.report import report_on
from mail.doctor.steps import StepState
from mail.equipment import Equipment
from mail.errors import Stage
from models.database import reading
from models.test_run import TestStatus as Status

RECIPIENT = "maya.chen@acme.example"
ALL_DONE = [str(StepState.DONE)] * 10


Press = Callable[..., Report]


def report_of(store_id: int, uid: str, equipment: Equipment) -> Report:
    """What a page shows now. A reader, like a page: it keeps no writer waiting."""
    database.session.rollback()
    with reading():
        found = doctor.find(store_id, uid)
        assert found is not None
        report = report_on(found.run, found.status, store_name="Acme Store", providers=equipment.providers)
        database.session.rollback()
    return report


def states(report: Report) -> list[str]:
    return [str(line.state) for line in report.steps]


def fact(report: Report, stage: Stage) -> str:
    return next(line.fact for line in report.steps if line.stage is stage)


def failed_at(report: Report) -> Stage:
    assert report.status is Status.FAILED, report.title
    assert report.failure is not None
    return report.failure.stage
