"""What arrived from a settings page, read once for save, Connect and Test: the form, and the draft if it is right."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from flask import request
from werkzeug.datastructures import MultiDict

from blueprints.email_settings import issuers
from blueprints.email_settings.forms import ROWS_WORDS, AdvancedForm, SettingsForm, SMTPForm
from blueprints.fields import PAGE_NOT_WHOLE, whole_number
from blueprints.web import equipment
from mail import presets
from mail.drafts import AdvancedDraft, Draft, SMTPDraft, current_advanced, current_smtp
from mail.providers import Provider, tenant_in
from models import EmailSettings, Store
from models.email_settings import CUSTOM_FIELDS_MAX

ROWS_NOT_WHOLE = "The custom fields did not arrive whole. Load the page again, then repeat what you changed."

_ROW = re.compile(r"custom_fields-(0|[1-9][0-9]{0,2})-(key|value)", re.ASCII)
_ROWS_PRESENT = "custom_fields-present"


@dataclass(frozen=True)
class Posted:
    """A settings page as it was posted.

    Attributes:
        draft: None when something in the form is wrong; the form says what.
        stored: what the database holds, to compare with.
        version: the version the page was filled from.
    """

    store: Store
    settings: EmailSettings
    form: SettingsForm
    draft: Draft | None
    stored: Draft
    version: int


def read_smtp(store: Store) -> Posted:
    """Return the posted SMTP tab."""
    settings = store.email_settings
    stored = current_smtp(settings, equipment())
    form = smtp_form(stored, settings.version, request.form)
    valid = _is_whole(form)
    return Posted(store, settings, form, form.draft() if valid else None, stored, whole_number(form.version.data) or 0)


def read_advanced(store: Store) -> Posted:
    """Return the posted Advanced SMTP tab, its preset values following provider, tenant and grant."""
    settings = store.email_settings
    stored = current_advanced(settings, equipment())
    typed = MultiDict(request.form)
    problem = mend_rows(typed, stored)
    _follow(typed, stored)
    form = advanced_form(stored, settings.version, typed)
    valid = _is_whole(form)
    if problem:
        form.custom_fields.errors = [problem]
        valid = False
    facts = issuers.facts(form, stored, store.id) if valid else issuers.NO_FACTS
    if isinstance(facts, str):
        form.issuer.errors, valid = [facts], False
    draft = None
    if valid and not isinstance(facts, str):
        keeps_rows = stored.custom_fields is None and _ROWS_PRESENT not in request.form
        draft = form.draft(authorization_url=_authorization_url(form, stored), keeps_rows=keeps_rows, facts=facts)
    return Posted(store, settings, form, draft, stored, whole_number(form.version.data) or 0)


def smtp_form(stored: SMTPDraft, version: int, typed: MultiDict[str, str] | None = None) -> SMTPForm:
    """The SMTP form with what is stored, and over it what was typed."""
    values = _general_values(stored, version) | {
        "smtp_host": stored.smtp_host,
        "smtp_port": "" if stored.smtp_port is None else str(stored.smtp_port),
        "username": stored.username,
    }
    return SMTPForm(formdata=typed, data=values)


def advanced_form(stored: AdvancedDraft, version: int, typed: MultiDict[str, str] | None = None) -> AdvancedForm:
    """The Advanced SMTP form with what is stored, and over it what was typed."""
    expires = stored.client_secret_expires_on
    provider = equipment().providers.get(stored.provider)
    named = tenant_in(stored.token_url, provider) if provider else None
    values = _general_values(stored, version) | {
        "provider": stored.provider,
        "smtp_host": stored.smtp_host,
        "smtp_port": "" if stored.smtp_port is None else str(stored.smtp_port),
        "client_id": stored.client_id,
        "tenant_id": stored.tenant_id,
        "client_secret_expires_on": expires.isoformat() if expires else "",
        "grant_type": str(stored.grant_type),
        # A preset's is never typed: it follows provider and tenant.
        "issuer": stored.issuer,
        "client_auth": str(stored.client_auth),
        "authorization_url": stored.authorization_url if stored.provider == "other" else "",
        "token_url": stored.token_url,
        "scope": stored.scope,
        "login": stored.login,
        "custom_fields": [{"key": key, "value": value} for key, value in stored.custom_fields or ()],
        "filled_for": stored.provider,
        # Another tenant than Tenant Id was written there by hand, and stays.
        "urls_tenant": stored.tenant_id if named == stored.tenant_id else "",
    }
    return AdvancedForm(formdata=typed, data=values, catalogue=equipment().providers)


def _general_values(stored: Draft, version: int) -> dict[str, Any]:
    general = stored.general
    return vars(general) | {"bcc": ", ".join(general.bcc), "version": str(version), "waiting_mail": ""}


def _is_whole(form: SettingsForm) -> bool:
    valid = bool(form.validate())
    # The hidden version always comes along; without it nobody can tell whether this save is stale.
    if whole_number(form.version.data) is None or "version" not in request.form:
        form.form_errors.append(PAGE_NOT_WHOLE)
        return False
    return valid


# --- Custom field rows, before the form is built: FieldList crashes on odd indexes and drops what it does not know.


def mend_rows(typed: MultiDict[str, str], stored: AdvancedDraft) -> str:
    """Leave only rows that the form can take, and return what was wrong with the others; empty when nothing was."""
    names = [name for name in typed if name.startswith("custom_fields")]
    odd = [name for name in names if not _ROW.fullmatch(name) and name != _ROWS_PRESENT]
    if not names:
        # A form without its rows is not a form whose rows were removed.
        put_rows(typed, stored.custom_fields or ())
        return ""
    for name in odd:
        del typed[name]
    if odd or any(len(typed.getlist(name)) > 1 for name in names if name in typed):
        return ROWS_NOT_WHOLE
    # Rows without any text count too: 100 is what the page holds.
    count = len({match.group(1) for name in names if (match := _ROW.fullmatch(name))})
    return f"{ROWS_WORDS}; {count} were sent." if count > CUSTOM_FIELDS_MAX else ""


def put_rows(typed: MultiDict[str, str], rows: Iterable[tuple[str, str]]) -> None:
    for index, (key, value) in enumerate(rows):
        typed[f"custom_fields-{index}-key"], typed[f"custom_fields-{index}-value"] = key, value


# --- Presets follow


def _follow(typed: MultiDict[str, str], stored: AdvancedDraft) -> None:
    """Without JavaScript the page could not follow what was picked; catch up here (product.md 13.3)."""
    provider = equipment().providers.get(typed.get("provider", stored.provider))
    if provider is None:
        return
    if typed.get("filled_for", provider.key) != provider.key and provider.key != "other":
        fill(typed, provider, stored)
    follow_tenant(typed, provider, stored)
    grant = typed.get("grant_type", "")
    if grant != stored.grant_type and "scope" in typed:
        typed["scope"] = presets.follow_grant(typed["scope"].strip(), provider, grant)


def fill(typed: MultiDict[str, str], provider: Provider, stored: AdvancedDraft) -> list[str]:
    """Put the preset's values into what was typed, where that is empty or another preset's; names of what changed."""
    tenant = presets.tenant_for(provider, _tenant(typed, stored), equipment().providers)
    now = {name: typed.get(name, "").strip() for name in presets.FILLED}
    # What an issuer's metadata filled in, nobody typed.
    for name in ("authorization_url", "token_url"):
        if stored.issuer and now[name] == getattr(stored, name):
            now[name] = ""
    values = presets.fill(provider, tenant, typed.get("grant_type", ""), now, equipment().providers)
    for name, value in values.items():
        typed[name] = value
    typed["filled_for"] = provider.key
    named = tenant if provider.has_tenant else ""
    typed["urls_tenant"] = named if tenant_in(typed.get("token_url", ""), provider) == named else ""
    return [name for name in values if name not in ("authorization_url", "tenant_id")]


def follow_tenant(typed: MultiDict[str, str], provider: Provider, stored: AdvancedDraft) -> bool:
    """Rewrite the tenant in the token URL if it still is the one the page wrote there; True when it changed."""
    tenant, url = _tenant(typed, stored), typed.get("token_url", "").strip()
    followed = typed.get("urls_tenant", stored.tenant_id if url == stored.token_url else "")
    changed = presets.follow_tenant(url, provider, tenant, followed)
    if not followed or changed == url:
        return False
    typed["token_url"], typed["urls_tenant"] = changed, tenant
    return True


def _tenant(typed: MultiDict[str, str], stored: AdvancedDraft) -> str:
    return typed.get("tenant_id", stored.tenant_id).strip() or "common"


def _authorization_url(form: AdvancedForm, stored: AdvancedDraft) -> str:
    """The posted URL for `other`; a preset's follows provider and tenant, and is never typed."""
    provider = equipment().providers.get(form.provider.data)
    if provider is None or provider.key == "other":
        return str(form.authorization_url.parsed)
    if stored.provider == provider.key and stored.authorization_url:
        return presets.follow_tenant(stored.authorization_url, provider, form.tenant_id.parsed, stored.tenant_id)
    return presets.values_of(provider, form.tenant_id.parsed, "")["authorization_url"]
