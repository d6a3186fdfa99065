"""The work of one test: the draft, through the same code as delivery, with every step written down as it happens.

Runs in a thread of the web process. The row is changed in short transactions of its own, only while its lease is
ours, and the network is used with none open (house-style 8).
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from extensions import db
from mail import compose, custom_fields, delivery, doctor_draft
from mail import settings as email_settings
from mail.doctor_steps import LABELS, Progress
from mail.drafts import AdvancedDraft, Draft, SecretAction, SMTPDraft, current_advanced
from mail.equipment import Equipment
from mail.errors import Family, MailError, SettingsWrong, Stage, TryLater
from mail.routes import Route, SettingsIncomplete, route_from
from mail.smtp import Timeouts
from mail.token_endpoint import TokenCall
from mail.tokens import AccessToken, access_token_for, try_out
from mail.wire_names import ascii_domain
from models import clock
from models.connection import GrantType
from models.database import reading, writing
from models.email_settings import EmailSettings, Method
from models.test_run import TestRun, TestStatus
from models.types import utcnow
from security.redact import one_line, redact
from security.secret import Secret
from security.vault import Unreadable

logger = logging.getLogger(__name__)

TIME_LIMIT_S = 30.0
# Renewed with every step; longer than any one step can take, so that a run that goes on is never called dead.
LEASE = timedelta(seconds=60)
_LONGEST_TEXT = 2_000
SUBJECT = "Storepost test email"


class Abandoned(Exception):
    """The row is not ours any more: its store was deleted, or somebody declared this run dead."""


def stages_of(method: Method) -> tuple[Stage, ...]:
    """Return the steps that a test of this method has: a password needs no access token."""
    return tuple(stage for stage in LABELS if stage is not Stage.TOKEN or method is Method.ADVANCED_SMTP)


def run(uid: str, lease: str, *, equipment: Equipment, timeouts: Timeouts | None = None) -> None:
    """Run the test of this row to its end, and write down how it went.

    Whatever goes wrong with the test is its result. Commits its own transactions; the draft with its typed secrets is
    wiped with the last one. Does nothing when the row is gone or its lease is somebody else's.
    """
    known: list[Secret] = []
    try:
        row = _load(uid)
        progress = Progress(stages_of(row.method), partial(_keep, uid, lease))
        test = _Test(row, lease, progress, known, equipment, timeouts or Timeouts.for_test())
        failure = test.run()
        status = TestStatus.FAILED if failure else TestStatus.PASSED
        steps = [_fit(step, known) for step in progress.as_rows()]
        ended = {"status": status, "failure": failure and _fit(failure, known), "steps": steps}
        _change(uid, lease, {**ended, **end_values()})
        code = failure["code"] if failure else ""
        logger.info("test %s", status.value, extra={"test": uid, "store_id": row.store_id, "code": code})
    except Abandoned:
        logger.info("test abandoned", extra={"test": uid})
    finally:
        db.session.remove()


def end_values() -> dict[str, Any]:
    """Return what the end of a run puts into its row, however it ended: the sealed draft goes."""
    return {"settings_sealed": None, "lease": None, "lease_until": None, "finished_at": clock.now()}


@dataclass(frozen=True)
class _Plan:
    """Everything a test needs, read before the network is touched."""

    route: Route
    content: bytes
    token: _Tokens | None
    is_off: bool


@dataclass
class _Tokens:
    """Where the access token comes from: the connection as delivery uses it, or a call with unsaved values."""

    connection_id: int | None
    unsaved: TokenCall | None
    uses_stored_token: bool
    known: list[Secret]
    equipment: Equipment
    calls: int = 0

    def __call__(self, *, renew: bool = False, rejected: Secret | None = None) -> AccessToken:
        self.calls += 1
        if self.unsaved is not None:
            token = try_out(
                self.unsaved,
                self.connection_id,
                uses_stored_refresh_token=self.uses_stored_token,
                equipment=self.equipment,
            )
        else:
            assert self.connection_id is not None
            token = access_token_for(
                self.connection_id, equipment=self.equipment, renew=renew, rejected=rejected, urgent=True
            )
        self.known.append(token.value)
        return token

    @property
    def facts(self) -> dict[str, Any]:
        # A pasted token that the provider exchanged during the test is worth nothing afterwards: the page says so.
        return {"renewed": self.calls > 1, "pasted": self.unsaved is not None and not self.uses_stored_token}


@dataclass
class _Test:
    row: TestRun
    lease: str
    progress: Progress
    known: list[Secret] = field(repr=False)
    equipment: Equipment
    timeouts: Timeouts
    tokens: _Tokens | None = None

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

    def _go_through(self) -> None:
        self.progress.start(Stage.SETTINGS)
        plan = self._plan()
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

    def _plan(self) -> _Plan:
        """Read settings and secrets, and end the transaction.

        Raises:
            SettingsIncomplete, Unreadable, SettingsWrong, Refused
        """
        draft = doctor_draft.unseal(self.row, self.equipment)
        self.progress.note(Stage.SETTINGS, _values(draft, self.equipment))
        with reading():
            try:
                query = select(EmailSettings).where(EmailSettings.store_id == self.row.store_id)
                settings = db.session.scalars(query.options(joinedload(EmailSettings.connection))).one_or_none()
                if settings is None:
                    raise Abandoned
                return self._plan_from(draft, settings)
            finally:
                db.session.remove()

    def _plan_from(self, draft: Draft, settings: EmailSettings) -> _Plan:
        opened = email_settings.open_secrets(draft, settings, self.equipment)
        self.known += [one for one in (opened.password, opened.client_secret, opened.refresh_token) if one]
        if email_settings.binding_conflicts(settings, draft, self.equipment):
            # Asked before the run was made; only a save at the same moment leads here.
            words = "Somebody saved other settings while this test began. Start it again."
            raise SettingsWrong("changed_meanwhile", words, stage=Stage.SETTINGS)
        route = route_from(draft, settings, self.equipment)
        is_off = route.emails_off or settings.emails_off
        content = compose.compose(
            _letter(self.row, settings.store.name, route.sender), route.sender, extra_headers=route.headers
        )
        if isinstance(draft, AdvancedDraft):
            self.tokens = self._tokens_for(draft, settings, opened)
        return _Plan(route, content, self.tokens, is_off)

    def _tokens_for(
        self, draft: AdvancedDraft, settings: EmailSettings, opened: email_settings.OpenedSecrets
    ) -> _Tokens:
        fields = draft.custom_fields
        if fields is None:
            fields = email_settings.load_custom_fields(settings, self.equipment)
        app_only = draft.grant_type is GrantType.CLIENT_CREDENTIALS
        keeps_token = draft.refresh_token.action is SecretAction.KEEP
        call = TokenCall(
            provider=draft.provider,
            token_url=draft.token_url,
            client_id=draft.client_id,
            client_secret=opened.client_secret,
            grant_type="client_credentials" if app_only else "refresh_token",
            scope=draft.scope,
            refresh_token=None if app_only else opened.refresh_token,
            extra=custom_fields.effects_of(fields).token_parameters,
        )
        return _Tokens(
            connection_id=settings.connection_id,
            unsaved=None if _is_saved(draft, settings, self.equipment) else call,
            uses_stored_token=keeps_token and not app_only,
            known=self.known,
            equipment=self.equipment,
        )

    def _observe(self, stage: Stage, event: str, facts: dict[str, Any]) -> None:
        if event == "started" and self.progress.now_ms() > TIME_LIMIT_S * 1000:
            words = f"the test timed out after {TIME_LIMIT_S:.0f} seconds"
            raise TryLater("timed_out", words, stage=stage)
        if stage is Stage.TOKEN and event == "done" and self.tokens is not None:
            facts = {**facts, **self.tokens.facts}
        self.progress(stage, event, _fit(facts, self.known))

    def _may_commit(self) -> bool:
        """The last look before the bytes that commit: the run is ours, and nobody turned emails off meanwhile."""
        _keep(self.row.uid, self.lease, self.progress.as_rows())
        query = select(EmailSettings.emails_off).where(EmailSettings.store_id == self.row.store_id)
        with reading(), Session(db.engine) as session:
            return session.scalar(query) is False

    def _failed(self, error: MailError, *, missing: Sequence[dict[str, str]] = ()) -> dict[str, Any]:
        # Settings that were complete a second ago and are not now: the step that noticed is the one that failed.
        is_late = error.stage is Stage.SETTINGS and self.progress.is_done(Stage.SETTINGS)
        stage = self.progress.reached if is_late else error.stage
        self.progress.fail(stage)
        return {
            "stage": stage.value,
            "code": error.code,
            "detail": error.detail,
            "family": (Family.TOKEN if stage is Stage.TOKEN else error.family).value,
            "kind": type(error).__name__,
            "reply_code": error.reply_code,
            "missing": list(missing),
        }


def _values(draft: Draft, equipment: Equipment) -> dict[str, Any]:
    """What the explanations are filled with: the values of the screen, none of them secret."""
    values: dict[str, Any] = {
        "smtp_host": draft.smtp_host,
        "smtp_port": draft.smtp_port,
        "from_email": draft.general.from_email,
        "redirect_uri": equipment.redirect_uri,
    }
    if isinstance(draft, SMTPDraft):
        return {**values, "login": draft.username}
    values |= {"client_id": draft.client_id, "tenant_id": draft.tenant_id, "token_url": draft.token_url}
    return {**values, "login": draft.effective_login}


def _is_saved(draft: AdvancedDraft, settings: EmailSettings, equipment: Equipment) -> bool:
    """Tell whether everything a token call is made of is what is stored, so that the token is delivery's own."""
    if draft.client_secret.action is not SecretAction.KEEP or draft.refresh_token.action is not SecretAction.KEEP:
        return False
    stored = current_advanced(settings, equipment)
    names = ("provider", "client_id", "tenant_id", "token_url", "scope", "grant_type")
    if any(getattr(draft, name) != getattr(stored, name) for name in names):
        return False
    return draft.custom_fields is None or _parameters(draft) == _parameters(stored)


def _parameters(draft: AdvancedDraft) -> tuple[tuple[str, str], ...]:
    return custom_fields.effects_of(draft.custom_fields or ()).token_parameters


def _letter(row: TestRun, store_name: str, sender: compose.Sender) -> compose.Draft:
    """The fixed text of a test (security.md 55)."""
    method = "SMTP" if row.method is Method.SMTP else "Advanced SMTP"
    lines = (
        "This is a test email from Storepost.",
        "",
        f"Somebody pressed Test Email Settings on the {method} page of {store_name}.",
        "It arrived, so these settings can send. There is nothing to do.",
    )
    return compose.Draft(
        message_id=f"<test-{row.uid}@{_id_domain(sender.address.rpartition('@')[2])}>",
        date=utcnow(),
        subject=SUBJECT,
        text="\n".join(lines) + "\n",
        to=(row.recipient,),
        auto_submitted=delivery.AUTO_SUBMITTED,
    )


def _id_domain(domain: str) -> str:
    try:
        return ascii_domain(domain)
    except ValueError:
        return "storepost.invalid"


# The row ------------------------------------------------------------------------------------------------------------


def _load(uid: str) -> TestRun:
    with reading(), Session(db.engine) as session:
        row = session.scalars(select(TestRun).where(TestRun.uid == uid)).one_or_none()
        session.expunge_all()
    if row is None:
        raise Abandoned
    return row


def _keep(uid: str, lease: str, steps: list[dict[str, Any]]) -> None:
    _change(uid, lease, {"steps": steps, "lease_until": clock.now(LEASE)})


def _change(uid: str, lease: str, values: dict[str, Any]) -> None:
    """Change the row in a transaction of its own, if it is still ours."""
    statement = update(TestRun).where(TestRun.uid == uid, TestRun.lease == lease).values(values)
    with writing(), Session(db.engine) as session, session.begin():
        result = session.execute(statement.execution_options(synchronize_session=False))
        if getattr(result, "rowcount", 0) != 1:
            raise Abandoned


def _fit(value: Any, known: Sequence[Secret]) -> Any:
    """Return plain JSON values fit for a row and a page: texts redacted, on one line and cut."""
    if isinstance(value, str):
        return one_line(redact(value, known), limit=_LONGEST_TEXT)
    if isinstance(value, dict):
        return {key: _fit(item, known) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fit(item, known) for item in value[:50]]
    return value
