"""What the page of a test shows, as records without logic: the run as a whole, and what failed in it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mail.doctor.steps import StepLine, StepState
from mail.errors import Stage
from mail.explain import Explanation
from models.email_settings import Method
from models.test_run import TestStatus

_KINDS = {"running": "run", "passed": "ok", "failed": "bad", "stopped": "warn", "cancelled": "off"}


@dataclass(frozen=True)
class Failure:
    """What went wrong, for people.

    Attributes:
        cleared: a sentence on what is not the problem, or an empty text.
        speaker: whose words `words` are; empty for ours.
        action: one of `mail.signatures.Action`, or "connect" when only Connect is missing.
        fields: form fields to mend with their labels, the first one first; none when nothing in the form helps.
        missing: sentences on what is still to be filled in, with their fields.
    """

    stage: Stage
    explanation: Explanation
    cleared: str
    speaker: str
    words: str
    action: str
    fields: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Report:
    """Everything the panel shows. `title` is also what is announced when the test has ended.

    Attributes:
        outcome: the same in a few words, for a list of tests.
        can_cancel: it runs, and its message is not on its way yet.
        support: Markdown to hand to somebody who helps, without secrets; empty while the test runs.
    """

    uid: str
    method: Method
    status: TestStatus
    title: str
    outcome: str
    sentence: str
    notes: tuple[str, ...]
    steps: tuple[StepLine, ...]
    failure: Failure | None
    recipient: str
    provider_name: str
    host: str
    who: str
    took: str
    is_off: bool
    is_sandbox: bool
    tests_unsaved: bool
    can_cancel: bool
    support: str
    started_at: datetime
    finished_at: datetime | None

    @property
    def kind(self) -> str:
        """The look of the panel: run, ok, bad, warn or off."""
        return _KINDS[self.status.value]

    @property
    def failed_step(self) -> tuple[int, str] | None:
        """Number and label of the step that failed."""
        return next(((n, line.label) for n, line in enumerate(self.steps, 1) if line.state is StepState.FAILED), None)

    @property
    def is_running(self) -> bool:
        return self.status is TestStatus.RUNNING
