"""A test as people read it: headline, steps with what was learned, the explanation of a failure, a report to copy.

Made from the row each time it is shown, so that better explanations speak about old tests too. Knows no database.
Source: product.md 5, ui.md 7 ("Test result") and 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from mail.doctor_facts import learned
from mail.doctor_steps import LABELS, Step, StepState, from_rows
from mail.errors import Family, Stage
from mail.explain import Explanation, cleared, explain
from mail.providers import OTHER, Catalogue
from models.email_settings import Method
from models.test_run import TestRun, TestStatus
from security.redact import redact

_FIELD_LABELS = {
    "from_name": "From Display Name",
    "from_email": "From Email Address",
    "use_ssl": "Enable SSL For SMTP",
    "smtp_host": "SMTP Server",
    "smtp_port": "SMTP Port",
    "client_id": "Client Id",
    "tenant_id": "Tenant Id",
    "client_secret": "Client Secret",
    "refresh_token": "Refresh Token",
    "grant_type": "Grant Type",
    "authorization_url": "Authorization URL",
    "token_url": "Access Token URL",
    "scope": "Scope",
    "login": "Sign-in address",
    "username": "Username",
    "password": "Password",
}
# The explanations speak of Advanced SMTP; the other tab has these in their place, and nothing in the others'.
_ON_SMTP_TAB = {"login": "username", "client_secret": "password", "refresh_token": "password"}
_ON_BOTH_TABS = ("from_name", "from_email", "use_ssl", "smtp_host", "smtp_port")
# Faults whose own headline says more than who did not do what.
_SPEAK_FOR_THEMSELVES = frozenset({"blocked", "unreadable", "withdrawn", "plaintext_auth", "starttls_injection"})
_METHODS = {Method.SMTP: "SMTP", Method.ADVANCED_SMTP: "Advanced SMTP"}


@dataclass(frozen=True)
class StepLine:
    """One line of the panel. `x` and `width` of its bar are percent of the whole test; `ms` None: it has not run."""

    stage: Stage
    label: str
    state: StepState
    fact: str
    x: float
    width: float
    ms: float | None


@dataclass(frozen=True)
class Failure:
    """What went wrong, for people.

    Attributes:
        cleared: a sentence on what is not the problem, or an empty text.
        speaker: whose words `words` are; empty for ours.
        action: one of `mail.signatures.Action`, or "connect" when only Connect is missing.
        fields: form fields to mend with their labels, the first one first; none when nothing in the form helps.
        missing: sentences on what is still to be filled in, with their fields.
        report: Markdown to hand to somebody who helps, without secrets.
    """

    stage: Stage
    explanation: Explanation
    cleared: str
    speaker: str
    words: str
    action: str
    fields: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str, str], ...]
    report: str


@dataclass(frozen=True)
class Report:
    """Everything the panel shows. `title` is also what is announced when the test has ended."""

    uid: str
    method: Method
    status: TestStatus
    title: str
    sentence: str
    notes: tuple[str, ...]
    steps: tuple[StepLine, ...]
    failure: Failure | None
    recipient: str
    provider_name: str
    who: str
    took: str
    is_off: bool
    is_sandbox: bool
    tests_unsaved: bool
    started_at: datetime
    finished_at: datetime | None

    @property
    def kind(self) -> str:
        """The look of the panel: run, ok, bad or warn."""
        return {"running": "run", "passed": "ok", "failed": "bad", "stopped": "warn"}[self.status.value]

    @property
    def is_running(self) -> bool:
        return self.status is TestStatus.RUNNING


def report_on(run: TestRun, status: TestStatus, *, store_name: str, providers: Catalogue) -> Report:
    """Return a run in words.

    Args:
        status: as `doctor.find` judges it: a stored "running" may be a run whose process is gone.
    """
    steps = from_rows(run.steps)
    return _Writer(run, status, steps, store_name, providers).report()


class _Writer:
    """The words of one run. Values come from the tested screen, as the first step keeps them."""

    def __init__(
        self, run: TestRun, status: TestStatus, steps: list[Step], store_name: str, providers: Catalogue
    ) -> None:
        self.run, self.status, self.steps, self.store_name = run, status, steps, store_name
        self.provider = providers.get(run.provider) or OTHER
        self.values: Mapping[str, Any] = steps[0].facts if steps else {}
        self.host = str(self.values.get("smtp_host") or "the mail server")
        self.is_off = bool(self.values.get("emails_off"))
        self.names_host = run.method is Method.SMTP or self.provider.key == "other"

    def report(self) -> Report:
        failure = self._failure() if self.status is TestStatus.FAILED and self.run.failure else None
        return Report(
            uid=self.run.uid,
            method=self.run.method,
            status=self.status,
            title=self._title(failure),
            sentence=self._sentence(),
            notes=self._notes(),
            steps=self._lines(),
            failure=failure,
            recipient=self.run.recipient,
            provider_name="" if self.names_host else self.provider.name,
            who=self._who(),
            took=self._took(),
            is_off=self.is_off,
            is_sandbox=self.provider.key == "sandbox" and self.run.method is Method.ADVANCED_SMTP,
            tests_unsaved=self.run.tests_unsaved,
            started_at=self.run.started_at,
            finished_at=self.run.finished_at,
        )

    # Head ------------------------------------------------------------------------------------------------------------

    def _title(self, failure: Failure | None) -> str:
        match self.status:
            case TestStatus.RUNNING:
                return f"Testing {self.store_name}’s {_METHODS[self.run.method]} settings"
            case TestStatus.STOPPED:
                return "The test was stopped"
            case TestStatus.PASSED if self.is_off:
                return f"{self._reached_words()}. No email was sent, because emails are turned off."
            case TestStatus.PASSED:
                return "Test email sent successfully"
        return f"Test failed: {self._culprit(failure)}" if failure else "Test failed"

    def _sentence(self) -> str:
        match self.status:
            case TestStatus.RUNNING:
                return f"Sending to {self.run.recipient}"
            case TestStatus.STOPPED:
                return "The server was restarted during the test. Start it again."
            case TestStatus.PASSED:
                # With the recipient set off in bold, so the template puts the sentence together.
                return ""
        number = 1 + [step.stage for step in self.steps].index(self._failed_stage())
        ending = "It is not known whether the email was sent." if self._is_uncertain() else "No email was sent."
        return f"Stopped at step {number} of {len(self.steps)} after {self._took()}. {ending}"

    def _culprit(self, failure: Failure) -> str:
        code = (self.run.failure or {}).get("code", "")
        if failure.missing:
            count = len(failure.missing)
            return "one setting is missing" if count == 1 else f"{count} settings are missing"
        if failure.stage is Stage.SETTINGS or code in _SPEAK_FOR_THEMSELVES:
            return failure.explanation.headline
        if self._is_uncertain():
            return f"{self.host} did not say whether it took the message"
        short = self.host if self.names_host else self.provider.short_name
        sender = self.values.get("from_email") or "the sender"
        issuer = self._token_host() if self.names_host else short
        return {
            Stage.RESOLVE: f"the name {self.host} could not be looked up",
            Stage.CONNECT: f"{self.host} could not be reached on port {self.values.get('smtp_port') or '?'}",
            Stage.TLS: f"no secure connection to {self.host}",
            Stage.TOKEN: f"{issuer} did not issue an access token",
            Stage.GREET: f"{self.host} did not answer as a mail server",
            Stage.AUTH: f"{short} did not accept the sign-in",
            Stage.SENDER: f"{short} did not accept {sender} as sender",
            Stage.RECIPIENT: f"{short} did not accept the recipient",
            Stage.MESSAGE: f"{short} did not accept the message",
        }[failure.stage]

    def _notes(self) -> tuple[str, ...]:
        notes = []
        if self.run.tests_unsaved:
            is_running = self.status is TestStatus.RUNNING
            notes.append(f"{'Testing' if is_running else 'Tested'} with your unsaved changes.")
        if self.status is TestStatus.PASSED and not self.is_off:
            notes.append("The test went to this one recipient only: Bcc was not copied.")
        token = self._facts(Stage.TOKEN)
        if token.get("pasted") and token.get("rotated"):
            notes.append(
                "The provider replaced the refresh token you pasted by a new one during this test, so the pasted one "
                "may not work again. Press Connect, or paste a new one, before you save."
            )
        return tuple(notes)

    def _reached_words(self) -> str:
        signed_in = any(step.stage is Stage.AUTH and step.state is StepState.DONE for step in self.steps)
        return "Signed in" if signed_in else "Connected"

    def _who(self) -> str:
        if self.names_host:
            return self.host
        return "The sandbox" if self.provider.key == "sandbox" else self.provider.name

    def _took(self) -> str:
        return f"{self._end_ms() / 1000:.1f} s"

    def _end_ms(self) -> float:
        return max(((step.started_ms or 0.0) + (step.duration_ms or 0.0) for step in self.steps), default=0.0)

    def _failed_stage(self) -> Stage:
        failed = [step.stage for step in self.steps if step.state is StepState.FAILED]
        return failed[0] if failed else Stage.SETTINGS

    def _is_uncertain(self) -> bool:
        return (self.run.failure or {}).get("kind") == "Uncertain"

    # Steps -----------------------------------------------------------------------------------------------------------

    def _lines(self) -> tuple[StepLine, ...]:
        whole = self._end_ms() or 1.0
        return tuple(self._line(step, whole) for step in self.steps)

    def _line(self, step: Step, whole: float) -> StepLine:
        state = step.state
        if state is StepState.RUNNING and self.status is not TestStatus.RUNNING:
            state = StepState.NOT_RUN
        has_run = state in (StepState.DONE, StepState.FAILED) and step.started_ms is not None
        return StepLine(
            stage=step.stage,
            label=LABELS[step.stage],
            state=state,
            fact=self._fact(step, state),
            x=100 * (step.started_ms or 0.0) / whole,
            width=100 * (step.duration_ms or 0.0) / whole,
            ms=step.duration_ms if has_run else None,
        )

    def _fact(self, step: Step, state: StepState) -> str:
        """What a done step taught; of the others, what they are about."""
        if state is StepState.DONE:
            now = self.run.finished_at or self.run.started_at
            return learned(step.stage, step.facts, host=self.host, now=now)
        if step.stage is Stage.AUTH and self._needs_no_sign_in():
            return "Not needed: no Username is set"
        if self.status is TestStatus.PASSED and state is StepState.NOT_RUN:
            return "Emails are turned off"
        server = f"{self.host}:{self.values['smtp_port']}" if self.values.get("smtp_port") else ""
        return {
            Stage.RESOLVE: self.host if self.values else "",
            Stage.CONNECT: server,
            Stage.TOKEN: self._token_host(),
            Stage.AUTH: str(self.values.get("login") or ""),
            Stage.SENDER: str(self.values.get("from_email") or ""),
            Stage.RECIPIENT: self.run.recipient,
        }.get(step.stage, "")

    def _needs_no_sign_in(self) -> bool:
        is_planned = bool(self.values) and self.status is not TestStatus.FAILED
        return is_planned and self.run.method is Method.SMTP and not self.values.get("login")

    def _facts(self, stage: Stage) -> Mapping[str, Any]:
        return next((step.facts for step in self.steps if step.stage is stage), {})

    def _token_host(self) -> str:
        try:
            return urlsplit(str(self.values.get("token_url") or "")).hostname or ""
        except ValueError:
            return ""

    # Failure ---------------------------------------------------------------------------------------------------------

    def _failure(self) -> Failure:
        failure = self.run.failure or {}
        stage = Stage(failure["stage"])
        explanation = explain(
            failure["detail"],
            stage=stage,
            family=Family(failure["family"]),
            provider=self.run.provider,
            code=failure["code"],
            values=self.values,
        )
        missing = tuple((one["field"], one["label"], one["sentence"]) for one in failure["missing"])
        is_answer = failure["reply_code"] is not None
        speaker = (self._token_host() if stage is Stage.TOKEN else self.host) if is_answer else ""
        return Failure(
            stage=stage,
            explanation=explanation,
            cleared="" if missing else cleared(stage),
            speaker=speaker,
            words="" if missing else failure["detail"],
            action="connect" if [field for field, _, _ in missing] == ["connect"] else explanation.action,
            fields=self._fields(explanation, missing),
            missing=missing,
            report=self._markdown(stage, failure, explanation),
        )

    def _fields(
        self, explanation: Explanation, missing: tuple[tuple[str, str, str], ...]
    ) -> tuple[tuple[str, str], ...]:
        if missing:
            return tuple((field, label) for field, label, _ in missing if field != "connect")
        field = explanation.field or ""
        if self.run.method is Method.SMTP:
            field = _ON_SMTP_TAB.get(field, field if field in _ON_BOTH_TABS else "")
        label = _FIELD_LABELS.get(field)
        return ((field, label),) if label else ()

    def _markdown(self, stage: Stage, failure: Mapping[str, Any], explanation: Explanation) -> str:
        number = 1 + [step.stage for step in self.steps].index(self._failed_stage())
        at = self.run.finished_at or self.run.started_at
        row = f"row {explanation.signature} of the error catalogue" if explanation.signature else "not in the catalogue"
        lines = [
            f"## Storepost test failed at step {number} of {len(self.steps)}, {LABELS[stage]}",
            "",
            f"- Store: {self.store_name}",
            f"- Method: {_METHODS[self.run.method]}, provider {self.provider.name}",
            f"- Mail server: {self.host}, port {self.values.get('smtp_port') or 'not set'}",
            *([f"- Token endpoint: {self._token_host()}"] if self._token_host() else []),
            f"- Time: {at:%Y-%m-%d %H:%M:%S} UTC, after {self._took()}",
            f"- Test: {self.run.uid}{', with unsaved changes' if self.run.tests_unsaved else ''}",
            f"- Finding: {explanation.headline} ({row}, code {failure['code']})",
            "",
            "    " + failure["detail"],
            "",
            "| Step | Result | ms | Learned |",
            "| --- | --- | ---: | --- |",
        ]
        for step in self._lines():
            ms = "" if step.ms is None else f"{step.ms:.0f}"
            result = step.state.value.replace("_", " ")
            lines.append(f"| {step.label} | {result} | {ms} | {step.fact.replace('|', '/')} |")
        # Everything in it was cleaned before it was stored; this is the net under the rope.
        return redact("\n".join(lines))
