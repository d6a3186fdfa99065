"""What is still missing before mail can go out (product.md 13.1)."""

from __future__ import annotations

from dataclasses import dataclass

from mail.drafts import AdvancedDraft, Draft, SecretAction, SecretEdit, SMTPDraft, current
from mail.equipment import Equipment
from models.connection import GrantType
from models.email_settings import EmailSettings, Method


@dataclass(frozen=True)
class Missing:
    """One thing to fill in: form field, its label, and a sentence that says what to do."""

    field: str
    label: str
    sentence: str


def missing(
    settings: EmailSettings,
    equipment: Equipment,
    *,
    draft: Draft | None = None,
    method: Method | None = None,
    to_connect: bool = False,
) -> tuple[Missing, ...]:
    """Return what stands between these settings and sending, in the order of the form; empty when complete.

    Args:
        draft: what is on the screen; without it, what is stored for `method` (without that, for the active one).
        to_connect: ask only for what Connect needs, so neither a refresh token nor a finished Connect.
    """
    looked_at = draft or current(settings, method or settings.method, equipment)
    found = _general(looked_at)
    if isinstance(looked_at, SMTPDraft):
        return tuple(found + _smtp(looked_at, settings))
    return tuple(found + _advanced(looked_at, settings, equipment, to_connect=to_connect))


def _general(draft: Draft) -> list[Missing]:
    found = []
    if not draft.general.from_name:
        found.append(Missing("from_name", "From Display Name", "Enter the name that recipients see"))
    if not draft.general.from_email:
        found.append(Missing("from_email", "From Email Address", "Enter the address that mail is sent from"))
    if not draft.smtp_host:
        found.append(Missing("smtp_host", "SMTP Server", "Enter the name of the provider’s SMTP server"))
    if draft.smtp_port is None:
        found.append(Missing("smtp_port", "SMTP Port", "Enter the port, mostly 587"))
    return found


def _smtp(draft: SMTPDraft, settings: EmailSettings) -> list[Missing]:
    # Neither user name nor password: a relay that knows us by our address needs no sign-in.
    has_password = _will_exist(draft.password, settings.password_sealed)
    if draft.username and not has_password:
        return [Missing("password", "Password", "Enter the password of this user name")]
    if has_password and not draft.username:
        return [Missing("username", "Username", "Enter the user name that the password belongs to")]
    return []


def _advanced(
    draft: AdvancedDraft, settings: EmailSettings, equipment: Equipment, *, to_connect: bool
) -> list[Missing]:
    connection = settings.connection
    provider = equipment.providers.get(draft.provider)
    found = []
    if not draft.client_id:
        found.append(Missing("client_id", "Client Id", "Enter the id of the app registered at the provider"))
    has_secret = _will_exist(draft.client_secret, connection.client_secret_sealed if connection else None)
    if not has_secret and not (provider and provider.public_client):
        found.append(
            Missing("client_secret", "Client Secret", "Enter the secret of the app registered at the provider")
        )
    has_token = _will_exist(draft.refresh_token, connection.refresh_token_sealed if connection else None)
    if draft.grant_type == GrantType.REFRESH_TOKEN and not has_token and not to_connect:
        found.append(Missing("refresh_token", "Refresh Token", "Paste a refresh token, or press Connect to get one"))
    by_consent = to_connect or (draft.grant_type == GrantType.AUTHORIZATION_CODE and not has_token)
    if by_consent and not draft.authorization_url:
        found.append(Missing("authorization_url", "Authorization URL", "Enter where the provider asks for consent"))
    if not draft.token_url:
        found.append(Missing("token_url", "Access Token URL", "Enter the provider’s token endpoint"))
    if not draft.scope and (to_connect or draft.grant_type != GrantType.REFRESH_TOKEN):
        found.append(Missing("scope", "Scope", "Enter the permission for sending by SMTP"))
    if draft.grant_type == GrantType.AUTHORIZATION_CODE and not has_token and not to_connect:
        found.append(
            Missing("connect", "Connect", f"Press Connect and sign in as {draft.effective_login or 'the mailbox'}")
        )
    return found


def _will_exist(edit: SecretEdit, sealed: str | None) -> bool:
    if edit.action == SecretAction.KEEP:
        return sealed is not None
    return bool(edit.value)
