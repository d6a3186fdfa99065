"""The ten steps of a test as records, and the watcher that fills them while a conversation goes on. No database.

The page shows the steps in the order of product.md 5. Reality is nested: with STARTTLS the encryption happens inside
the greeting, and after a refused token the sign-in is interrupted for a new one. A step that is interrupted goes on
afterwards, and its duration is its own time only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mail.errors import Stage

# What the page calls them, in the order it shows them.
LABELS = {
    Stage.SETTINGS: "Settings complete",
    Stage.RESOLVE: "Name resolved",
    Stage.CONNECT: "Connected",
    Stage.TLS: "Encrypted",
    Stage.TOKEN: "Access token",
    Stage.GREET: "Greeted",
    Stage.AUTH: "Signed in",
    Stage.SENDER: "Sender accepted",
    Stage.RECIPIENT: "Recipient accepted",
    Stage.MESSAGE: "Message accepted",
}


class StepState(StrEnum):
    DONE = "done"
    FAILED = "failed"
    NOT_RUN = "not_run"
    RUNNING = "running"


@dataclass
class Step:
    """One step as it is stored. Times are milliseconds since the test began; None before it has run."""

    stage: Stage
    state: StepState = StepState.NOT_RUN
    started_ms: float | None = None
    duration_ms: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepLine:
    """One line of the panel, and what else the step learned as pairs of term and value.

    `x` and `width` of its bar are percent of the whole test; `ms` None: it has not run.
    """

    stage: Stage
    label: str
    state: StepState
    fact: str
    x: float
    width: float
    ms: float | None
    details: tuple[tuple[str, str], ...] = ()


Keep = Callable[[list[dict[str, Any]]], None]


class Progress:
    """Watches a conversation (it is its observer) and hands all steps to `keep` whenever a person would see a change.

    `keep` writes to a database, which takes longer than some steps: its time is taken out of every duration.
    """

    def __init__(self, stages: Collection[Stage], keep: Keep) -> None:
        self._steps = {stage: Step(stage) for stage in LABELS if stage in stages}
        self._keep = keep
        self._interrupted: list[Stage] = []
        self._running: Stage | None = None
        self._running_since = 0.0
        self._begun = time.monotonic()
        self._spent_keeping = 0.0

    def __call__(self, stage: Stage, event: str, facts: dict[str, Any]) -> None:
        """Take what an observer is told: (stage, "started" | "done", facts)."""
        if event == "started":
            self.start(stage)
        else:
            self.done(stage, facts)

    def start(self, stage: Stage) -> None:
        """Begin a step, or go on with it."""
        step = self._steps.get(stage)
        if step is None or self._running is stage:
            return
        # A second round after a renewed token passes what stands already; only the token is obtained anew.
        if step.state is StepState.DONE and stage is not Stage.TOKEN:
            return
        now = self.now_ms()
        if self._running is not None:
            self._interrupted.append(self._running)
            self._pause(now, StepState.NOT_RUN)
        self._resume(stage, now)
        self._write()

    def done(self, stage: Stage, facts: dict[str, Any]) -> None:
        """End a step well. What it interrupted goes on."""
        step = self._steps.get(stage)
        if step is None or (step.state is StepState.DONE and self._running is not stage):
            return
        now = self.now_ms()
        if self._running is not stage:
            # Told without a beginning: it took no time of its own.
            step.started_ms, step.duration_ms = now, step.duration_ms or 0.0
            step.state, step.facts = StepState.DONE, {**step.facts, **facts}
            return
        self._pause(now, StepState.DONE)
        step.facts = {**step.facts, **facts}
        # The bar ends where the step ended, and is as long as its own time.
        step.started_ms = max(now - (step.duration_ms or 0.0), 0.0)
        if self._interrupted:
            self._resume(self._interrupted.pop(), now)
            self._write()

    def fail(self, stage: Stage, facts: dict[str, Any] | None = None) -> None:
        """End the test at this step; what was under way or waiting is not reached any more."""
        now = self.now_ms()
        if self._running is not None:
            self._pause(now, StepState.NOT_RUN)
        self._interrupted.clear()
        step = self._steps.get(stage) or next(iter(self._steps.values()))
        if step.started_ms is None:
            step.started_ms, step.duration_ms = now, 0.0
        step.state = StepState.FAILED
        step.facts = {**step.facts, **(facts or {})}

    @property
    def reached(self) -> Stage:
        """The step under way, or the first that is not done."""
        if self._running is not None:
            return self._running
        left = [stage for stage, step in self._steps.items() if step.state is not StepState.DONE]
        return left[0] if left else Stage.MESSAGE

    def is_done(self, stage: Stage) -> bool:
        step = self._steps.get(stage)
        return step is not None and step.state is StepState.DONE

    @property
    def facts(self) -> dict[Stage, dict[str, Any]]:
        """What each step has learned so far."""
        return {stage: dict(step.facts) for stage, step in self._steps.items()}

    def note(self, stage: Stage, facts: dict[str, Any]) -> None:
        """Add facts to a step without changing its state."""
        if stage in self._steps:
            self._steps[stage].facts = {**self._steps[stage].facts, **facts}

    def now_ms(self) -> float:
        """Return the milliseconds since the test began, without the time spent on writing steps down."""
        return (time.monotonic() - self._begun - self._spent_keeping) * 1000

    def as_rows(self) -> list[dict[str, Any]]:
        """Return the steps as plain JSON values."""
        return [as_row(step) for step in self._steps.values()]

    def _pause(self, now: float, state: StepState) -> None:
        assert self._running is not None
        step = self._steps[self._running]
        step.duration_ms = (step.duration_ms or 0.0) + now - self._running_since
        step.state = state
        self._running = None

    def _resume(self, stage: Stage, now: float) -> None:
        step = self._steps[stage]
        if step.started_ms is None:
            step.started_ms = now
        step.state = StepState.RUNNING
        self._running, self._running_since = stage, now

    def _write(self) -> None:
        started = time.monotonic()
        try:
            self._keep(self.as_rows())
        finally:
            self._spent_keeping += time.monotonic() - started


def as_row(step: Step) -> dict[str, Any]:
    """Return a step as it is stored: plain values, times to a tenth of a millisecond."""
    row = asdict(step)
    row.update(stage=step.stage.value, state=step.state.value)
    for name in ("started_ms", "duration_ms"):
        row[name] = None if row[name] is None else round(row[name], 1)
    return row


def from_rows(rows: list[dict[str, Any]]) -> list[Step]:
    """Return stored steps as records."""
    return [
        Step(Stage(row["stage"]), StepState(row["state"]), row["started_ms"], row["duration_ms"], row["facts"])
        for row in rows
    ]
