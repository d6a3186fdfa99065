"""A test as people read it: headline, steps with what was learned, the explanation of a failure, a report to copy.

Made from the row each time it is shown, so that better explanations speak about old tests too. Knows no database.
Source: product.md 5, ui.md 7 ("Test result") and 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from mail.doctor.facts import details, failed_check, learned
from mail.doctor.fields import field_to_mend, what_is_fine
from mail.doctor.markdown import Finding, support_report
from mail.doctor.records import Failure, Report
from mail.doctor.steps import LABELS, Step, StepLine, StepState, from_rows
from mail.errors import Family, Stage
from mail.explain import Explanation, explain
from mail.providers import OTHER, Catalogue
from models.email_settings import Method
from models.test_run import TestRun, TestStatus

# Faults whose own headline says more than who did not do what.
_SPEAK_FOR_THEMSELVES = frozenset({"blocked", "unreadable", "withdrawn", "plaintext_auth", "starttls_injection"})
_METHODS = {Method.SMTP: "SMTP", Method.ADVANCED_SMTP: "Advanced SMTP"}


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
        title, lines = self._title(failure), self._lines()
        is_running = self.status is TestStatus.RUNNING
        return Report(
            uid=self.run.uid,
            method=self.run.method,
            status=self.status,
            title=title,
            outcome=self._outcome(failure),
            sentence=self._sentence(),
            notes=self._notes(),
            steps=lines,
            failure=failure,
            recipient=self.run.recipient,
            provider_name="" if self.names_host else self.provider.name,
            host=str(self.values.get("smtp_host") or ""),
            who=self._who(),
            took=self._took(),
            is_off=self.is_off,
            is_sandbox=self.provider.key == "sandbox" and self.run.method is Method.ADVANCED_SMTP,
            tests_unsaved=self.run.tests_unsaved,
            can_cancel=is_running and self.run.settings_sealed is not None,
            support="" if is_running else self._support(title, failure, lines),
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
            case TestStatus.CANCELLED:
                return "The test was cancelled"
            case TestStatus.PASSED if self.is_off:
                return f"{self._reached_words()}. No email was sent, because emails are turned off."
            case TestStatus.PASSED:
                return "Test email sent successfully"
        return f"Test failed: {self._culprit(failure)}" if failure else "Test failed"

    def _outcome(self, failure: Failure | None) -> str:
        """What a list says of it beside its mark."""
        match self.status:
            case TestStatus.RUNNING:
                return f"Sending to {self.run.recipient}"
            case TestStatus.PASSED if self.is_off:
                return f"{self._reached_words()}, without sending"
            case TestStatus.PASSED:
                return f"Accepted for {self.run.recipient}"
            case TestStatus.FAILED if failure is not None:
                return failure.explanation.headline
        return self._sentence()

    def _sentence(self) -> str:
        match self.status:
            case TestStatus.RUNNING if self._is_committing():
                return "The message is on its way to the server, so the test cannot be cancelled any more."
            case TestStatus.RUNNING:
                return f"Sending to {self.run.recipient}"
            case TestStatus.STOPPED if self._is_committing():
                return "The server was restarted during the test. It is not known whether the email was sent."
            case TestStatus.STOPPED:
                return "The server was restarted during the test. Start it again."
            case TestStatus.CANCELLED:
                running = [number for number, step in enumerate(self.steps, 1) if step.state is StepState.RUNNING]
                where = f" at step {running[0]} of {len(self.steps)}" if running else ""
                return f"It ended{where}. No email was sent."
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
        if released := self._facts(Stage.MESSAGE).get("released"):
            waited = "1 held message is" if released == 1 else f"{released:,} held messages are"
            notes.append(f"{waited} going out now.")
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
        # Nothing takes no time at all, so "0.0 s" is never said.
        return f"{max(self._end_ms() / 1000, 0.1):.1f} s"

    def _end_ms(self) -> float:
        return max(((step.started_ms or 0.0) + (step.duration_ms or 0.0) for step in self.steps), default=0.0)

    def _failed_stage(self) -> Stage:
        failed = [step.stage for step in self.steps if step.state is StepState.FAILED]
        return failed[0] if failed else Stage.SETTINGS

    def _is_committing(self) -> bool:
        return bool(self._facts(Stage.MESSAGE).get("committing"))

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
            details=self._details(step) if has_run else (),
        )

    def _details(self, step: Step) -> tuple[tuple[str, str], ...]:
        facts: Mapping[str, Any] = step.facts
        if step.stage is Stage.RESOLVE:
            # Which of the addresses was used is known one step later.
            facts = {**facts, "used": self._facts(Stage.CONNECT).get("address", "")}
        return details(step.stage, facts, host=self.host, now=self.run.finished_at or self.run.started_at)

    def _fact(self, step: Step, state: StepState) -> str:
        """What a done step taught; of the others, what they are about."""
        if state is StepState.DONE:
            now = self.run.finished_at or self.run.started_at
            return learned(step.stage, step.facts, host=self.host, now=now)
        if step.stage is Stage.AUTH and self._needs_no_sign_in():
            return "Not needed: no Username is set"
        if self.status is TestStatus.PASSED and state is StepState.NOT_RUN:
            return "Emails are turned off"
        detail = (self.run.failure or {}).get("detail", "")
        is_about_tls = step.stage is Stage.TLS or (step.stage is Stage.TOKEN and "SSL" in detail)
        if state is StepState.FAILED and is_about_tls and (check := failed_check(detail)):
            return check
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
        explanation = self._explained(failure.get("deduced") or failure["code"])
        missing = tuple((one["field"], one["label"], one["sentence"]) for one in failure["missing"])
        done = [step.stage for step in self.steps if step.state is StepState.DONE]
        to_fill_in = tuple((field, label) for field, label, _ in missing if field != "connect")
        fields = to_fill_in if missing else field_to_mend(explanation.field or "", self.run.method)
        is_answer = failure["reply_code"] is not None
        speaker = (self._token_host() if stage is Stage.TOKEN else self.host) if is_answer else ""
        return Failure(
            stage=stage,
            explanation=explanation,
            cleared="" if missing else what_is_fine(stage, explanation.field or "", done),
            speaker=speaker,
            words="" if missing else failure["detail"],
            action="connect" if [field for field, _, _ in missing] == ["connect"] else explanation.action,
            fields=fields,
            missing=missing,
        )

    def _explained(self, code: str) -> Explanation:
        """What is known about the failure under this code: what was deduced, or the error's own."""
        failure = self.run.failure or {}
        return explain(
            failure["detail"],
            stage=Stage(failure["stage"]),
            family=Family(failure["family"]),
            provider=self.run.provider,
            code=code,
            values={**self.values, **failure.get("deduced_values", {})},
        )

    # For support -----------------------------------------------------------------------------------------------------

    def _support(self, title: str, failure: Failure | None, lines: tuple[StepLine, ...]) -> str:
        stored = self.run.failure or {}
        if failure is not None:
            number = 1 + [step.stage for step in self.steps].index(self._failed_stage())
            title = f"Storepost test failed at step {number} of {len(self.steps)}, {LABELS[failure.stage]}"
        about = (
            ("Store", self.store_name),
            ("Method", f"{_METHODS[self.run.method]}, provider {self.provider.name}"),
            ("Test", f"{self.run.uid}{', with unsaved changes' if self.run.tests_unsaved else ''}, {self._took()}"),
        )
        finding = None
        if failure is not None:
            finding = Finding(
                explanation=failure.explanation,
                row=self._explained(stored["code"]).signature,
                code=stored["code"],
                deduced=str(stored.get("deduced") or ""),
                reply_code=stored["reply_code"],
                speaker=failure.speaker,
                words=stored["detail"],
                seen=stored.get("probe") or {},
            )
        return support_report(
            title,
            about,
            self.values,
            lines,
            finding,
            started_at=self.run.started_at,
            finished_at=self.run.finished_at,
        )
