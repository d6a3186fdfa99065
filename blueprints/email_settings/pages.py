"""What the two settings pages show: one context for the page, its fragments, and the answers of Connect and Test."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from flask import Response, current_app, url_for
from sqlalchemy import select

from blueprints.email_settings import issuers
from blueprints.email_settings.forms import AdvancedForm, SettingsForm
from blueprints.email_settings.posted import Posted, advanced_form, smtp_form
from blueprints.times import day
from blueprints.web import equipment, respond, signed_in_user, wants_fragment
from extensions import db
from mail import outbox, presets, readable
from mail import settings as email_settings
from mail.custom_fields import DOCUMENTED, describe
from mail.drafts import AdvancedDraft, Draft, SMTPDraft, current
from mail.providers import OTHER, PASSWORD_PROVIDERS
from mail.setup_guide import guide_for, why_redirect_is_refused
from models import AuditEntry, EmailSettings, Store, TestRun
from models.access import Permission, may
from models.connection import TokenSource
from models.email_settings import Method
from models.outbox import HoldReason
from models.types import utcnow

RECENT = 5
# Secrets have no saved value to differ from; their own line says when they were saved.
COMPARED = (
    "from_name", "from_email", "bcc", "use_ssl", "emails_off", "provider", "smtp_host", "smtp_port", "client_id",
    "tenant_id", "client_secret_expires_on", "grant_type", "issuer", "authorization_url", "token_url", "scope",
    "client_auth", "login", "username",
)  # fmt: skip


@dataclass(frozen=True)
class Notice:
    """A sentence above the form: kind as in the note macro."""

    kind: str
    title: str
    text: str = ""


@dataclass(frozen=True)
class Difference:
    """One field of a stale save: what was typed here, and what somebody else saved."""

    id: str
    label: str
    mine: str
    theirs: str


def show(
    store: Store,
    method: Method,
    form: SettingsForm | None = None,
    *,
    status: int = 200,
    template: str = "",
    fragment: str = "email_settings/_saved.html",
    **more: Any,
) -> Response:
    """The tab as a page, or its form for htmx; without a form, as it is stored."""
    page = template or f"email_settings/{method}.html"
    return respond(page, fragment, status, **context(store, method, form, **more))


def show_prefilled(store: Store, key: str) -> Response:
    """The SMTP tab with what is known of a provider that takes no OAuth; as it is stored for an unknown one."""
    chosen = equipment().providers.by_password(key)
    if chosen is None or not may(signed_in_user(), Permission.EDIT_SETTINGS, store):
        return show(store, Method.SMTP)
    settings = store.email_settings
    stored = current(settings, Method.SMTP, equipment())
    assert isinstance(stored, SMTPDraft)
    known = replace(stored, smtp_port=stored.smtp_port or chosen.smtp_port)
    if chosen.smtp_host:
        known = replace(stored, smtp_host=chosen.smtp_host, smtp_port=chosen.smtp_port)
    title = f"Filled in for {chosen.name}, not saved yet" if chosen.smtp_host else f"{chosen.name} by user name"
    notice = Notice("", title, f"{chosen.reason} {chosen.credentials}")
    form = smtp_form(known, settings.version)
    return show(store, Method.SMTP, form, notices=[notice], dirty=known != stored)


def refuse(posted: Posted, method: Method, *, status: int = 422, **more: Any) -> Response:
    """The form with what is wrong and everything that was typed."""
    fragment = "email_settings/_form.html"
    return show(posted.store, method, posted.form, status=status, fragment=fragment, **more)


def context(store: Store, method: Method, form: SettingsForm | None = None, **more: Any) -> dict[str, Any]:
    """Everything that the templates of both tabs use."""
    settings = store.email_settings
    stored = current(settings, method, equipment())
    advanced = isinstance(stored, AdvancedDraft)
    if form is None:
        form = (
            advanced_form(stored, settings.version)
            if isinstance(stored, AdvancedDraft)
            else smtp_form(stored, settings.version)
        )
    user = signed_in_user()
    found = {
        "store": store,
        "settings": settings,
        "tab": str(method),
        "method": str(method),
        "form": form,
        "saved": _saved(stored, settings),
        "readonly": not may(user, Permission.EDIT_SETTINGS, store),
        "has_errors": bool(form.errors),
        "saved_just_now": False,
        "dirty": bool(form.errors),
        "notices": (),
        "differences": (),
        "retype": False,
        "held_while_off": outbox.held_count(store.id, HoldReason.EMAILS_OFF) if settings.emails_off else 0,
        "held": outbox.held_count(store.id),
        "missing": email_settings.missing(settings, equipment(), method=method),
        "other_missing": email_settings.missing(settings, equipment(), method=_other(settings.method)),
        "unreadable": readable.unreadable(settings, equipment(), method=method),
        "recent": _recent(store),
        "password_line": _secret_line("Saved", settings.password_set_at, settings.password_set_by)
        if settings.has_password
        else "",
        "test_url": _test_url(store, method),
        "test_recipient": user.email,
        "last_test": _last_test(store, method),
        "save_url": url_for(f"email_settings.{'edit_advanced' if advanced else 'edit_smtp'}", store_id=store.id),
        "check_endpoint": f"email_settings.check_{'advanced' if advanced else 'smtp'}_field",
        "is_fragment": wants_fragment(),
        "focus_row": None,
        "focus_remove": None,
        "connection": settings.connection,
    }
    if isinstance(stored, AdvancedDraft) and isinstance(form, AdvancedForm):
        found |= _advanced(settings, stored, form)
    else:
        found |= _move(settings)
    return found | more


def _advanced(settings: EmailSettings, stored: AdvancedDraft, form: AdvancedForm) -> dict[str, Any]:
    catalogue, connection = equipment().providers, settings.connection
    provider = catalogue.get(form.provider.data) or catalogue.get("other")
    rows = [[entry.form.key.data or "", entry.form.value.data or ""] for entry in form.custom_fields.entries]
    expires = connection.client_secret_expires_on if connection else None
    shown = provider or OTHER
    guide = {
        "redirect_uri": equipment().redirect_uri,
        "client_id": form.client_id.data or "",
        "tenant": form.tenant_id.data or "",
        "mailbox": form.login.data or form.from_email.data or "",
        "scope": form.scope.data or "",
    }
    return {
        "providers": catalogue,
        "guide": guide_for(shown, guide),
        "redirect_problem": why_redirect_is_refused(shown, equipment().redirect_uri),
        "promises": issuers.promises(form, stored, settings.store_id),
        "provider": provider,
        "sharers": email_settings.sharers(settings),
        "password_providers": PASSWORD_PROVIDERS,
        "rows_unreadable": stored.custom_fields is None and not rows,
        "saved_rows": json.dumps([list(pair) for pair in stored.custom_fields or ()]),
        "effects": describe([(key, value) for key, value in rows]),
        "documented": DOCUMENTED,
        "tenant_warning": ""
        if form.token_url.errors
        else presets.tenant_warning(form.token_url.data or "", provider, form.tenant_id.data or "common"),
        "expiry": countdown(expires) if expires else None,
        "client_secret_line": _secret_line("Saved", connection.client_secret_set_at, connection.client_secret_set_by)
        if connection and connection.has_client_secret
        else "",
        "refresh_token_line": _secret_line(
            "Pasted" if connection.refresh_token_source == TokenSource.PASTED else "Captured by Connect",
            connection.refresh_token_set_at,
            connection.refresh_token_set_by,
        )
        if connection and connection.has_refresh_token
        else "",
    }


def changes_guide(posted: Posted) -> bool:
    """Whether a save changes what stands in the setup guide."""
    before, after = posted.stored, posted.draft
    if not isinstance(before, AdvancedDraft) or not isinstance(after, AdvancedDraft):
        return False
    names = ("provider", "client_id", "tenant_id", "effective_login", "scope")
    return any(getattr(before, name) != getattr(after, name) for name in names)


def _move(settings: EmailSettings) -> dict[str, Any]:
    """How far a store on SMTP has come on its way to Advanced SMTP."""
    lacking = email_settings.missing(settings, equipment(), method=Method.ADVANCED_SMTP)
    test = _last_test(settings.store, Method.ADVANCED_SMTP)
    to_connect = [item for item in lacking if item.field in ("connect", "refresh_token")]
    return {
        "move_filled": len(lacking) == len(to_connect),
        "move_connected": not lacking,
        "move_tested": test is not None and test.status == "passed",
    }


def countdown(expires: date) -> tuple[str, str]:
    """(kind, words) about the day a client secret ends: told 30 days ahead."""
    days = (expires - utcnow().date()).days
    if days < 0:
        return "bad", f"Expired {_days(-days)} ago. Make a new secret at the provider and replace it here."
    if days == 0:
        return "bad", "Expires today. Make a new secret at the provider and replace it here."
    words = f"Expires in {_days(days)}"
    return ("warn", f"{words}. Make a new secret at the provider before that.") if days <= 30 else ("", words)


def differences(posted: Posted) -> list[Difference]:
    """Where a stale save and what somebody saved meanwhile differ; secrets only say that they do."""
    theirs = _saved(posted.stored, posted.settings)
    found = []
    for name in COMPARED:
        if name not in posted.form or name not in theirs:
            continue
        field = posted.form[name]
        mine = field.data if field.data is not None else ""
        if mine != theirs[name]:
            anchor = f"{name}-0" if name == "provider" else name
            found.append(Difference(anchor, field.label.text, _words(mine), _words(theirs[name])))
    if isinstance(posted.form, AdvancedForm) and isinstance(posted.stored, AdvancedDraft):
        mine, other = (_row_words(rows) for rows in (posted.form.rows, posted.stored.custom_fields or ()))
        if mine != other:
            found.append(Difference("custom-fields", "Custom Fields", mine, other))
    return found


def typed_secrets(form: SettingsForm) -> list[str]:
    """Labels of the secrets that were typed and that a page without JavaScript cannot give back."""
    return [field.label.text for field in form if field.type == "SecretField" and field.data]


def _saved(stored: Draft, settings: EmailSettings) -> dict[str, Any]:
    """What is stored, as it stands in the controls."""
    form = (
        advanced_form(stored, settings.version)
        if isinstance(stored, AdvancedDraft)
        else smtp_form(stored, settings.version)
    )
    return {field.name: field.data for field in form if field.type != "FieldList"}


def _secret_line(verb: str, at: Any, by: str) -> str:
    words = f"{verb} {day(at)}".strip()
    return f"{words} by {by}" if by and "by" not in verb else words


def _recent(store: Store) -> list[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.store_id == store.id).order_by(AuditEntry.id.desc()).limit(RECENT)
    return list(db.session.scalars(query))


def _last_test(store: Store, method: Method) -> TestRun | None:
    query = select(TestRun).where(TestRun.store_id == store.id, TestRun.method == method)
    return db.session.scalar(query.order_by(TestRun.started_at.desc(), TestRun.id.desc()).limit(1))


def _test_url(store: Store, method: Method) -> str:
    """Where Test Email Settings posts to; empty while that page is not built."""
    if "connection_tests.start" not in current_app.view_functions:
        return ""
    return url_for("connection_tests.start", store_id=store.id, method=str(method))


def _other(method: Method) -> Method:
    return Method.SMTP if method == Method.ADVANCED_SMTP else Method.ADVANCED_SMTP


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "On" if value else "Off"
    return str(value) or "Empty"


def _row_words(rows: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in rows) or "None"


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"
