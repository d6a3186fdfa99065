"""What was on the screen, as text that can be sealed into a test's row and read back by the thread that runs it.

Typed secrets are in it in clear: the text exists only between here and the vault.
"""

from __future__ import annotations

import json
from datetime import date
from typing import Any

from mail.drafts import AdvancedDraft, Draft, General, SecretAction, SecretEdit, SMTPDraft
from mail.equipment import Equipment
from models.connection import ClientAuth, GrantType
from models.test_run import TestRun
from security.secret import Secret
from security.vault import Place

_GENERAL = ("from_name", "from_email", "use_ssl", "emails_off")
_SMTP = ("smtp_host", "smtp_port", "username")
_ADVANCED = (
    *("provider", "smtp_host", "smtp_port", "client_id", "tenant_id", "authorization_url", "token_url"),
    *("scope", "login", "issuer", "iss_required", "revocation_url", "pkce_method"),
)


def seal(draft: Draft, run: TestRun, equipment: Equipment) -> str:
    """Return the draft sealed for this run's row."""
    return equipment.vault.seal(json.dumps(_plain(draft)), _place(run))


def unseal(run: TestRun, equipment: Equipment) -> Draft:
    """Return the draft of a run that has not ended.

    Raises:
        security.vault.Unreadable: it does not open.
    """
    return _draft(json.loads(equipment.vault.open(run.settings_sealed or "", _place(run))))


def _place(run: TestRun) -> Place:
    return Place("test_runs", run.uid, "settings_sealed")


def _plain(draft: Draft) -> dict[str, Any]:
    general = {name: getattr(draft.general, name) for name in _GENERAL} | {"bcc": list(draft.general.bcc)}
    if isinstance(draft, SMTPDraft):
        values = {name: getattr(draft, name) for name in _SMTP}
        return {"kind": "smtp", "general": general, **values, "password": _plain_secret(draft.password)}
    expires = draft.client_secret_expires_on
    return {
        "kind": "advanced_smtp",
        "general": general,
        **{name: getattr(draft, name) for name in _ADVANCED},
        "grant_type": draft.grant_type.value,
        "client_auth": draft.client_auth.value,
        "client_secret_expires_on": expires.isoformat() if expires else None,
        "client_secret": _plain_secret(draft.client_secret),
        "refresh_token": _plain_secret(draft.refresh_token),
        "custom_fields": None if draft.custom_fields is None else [list(pair) for pair in draft.custom_fields],
    }


def _draft(plain: dict[str, Any]) -> Draft:
    values = dict(plain["general"])
    general = General(**{**values, "bcc": tuple(values["bcc"])})
    if plain["kind"] == "smtp":
        return SMTPDraft(general, **{name: plain[name] for name in _SMTP}, password=_secret(plain["password"]))
    expires, fields = plain["client_secret_expires_on"], plain["custom_fields"]
    return AdvancedDraft(
        general,
        **{name: plain[name] for name in _ADVANCED},
        grant_type=GrantType(plain["grant_type"]),
        client_auth=ClientAuth(plain["client_auth"]),
        client_secret_expires_on=date.fromisoformat(expires) if expires else None,
        client_secret=_secret(plain["client_secret"]),
        refresh_token=_secret(plain["refresh_token"]),
        custom_fields=None if fields is None else tuple((key, value) for key, value in fields),
    )


def _plain_secret(edit: SecretEdit) -> dict[str, str | None]:
    return {"action": edit.action.value, "value": None if edit.value is None else edit.value.reveal()}


def _secret(plain: dict[str, Any]) -> SecretEdit:
    value = plain["value"]
    return SecretEdit(SecretAction(plain["action"]), None if value is None else Secret(value))
