"""A stored secret stays with the place it was given for (security.md 35).

Whoever may edit settings could otherwise point the host at a server of their own and have the stored password sent
there. So a change of the place needs the secret typed again. Used by save, Test and Connect alike.
"""

from __future__ import annotations

from mail.drafts import AdvancedDraft, Draft, SecretAction, SecretEdit, SMTPDraft, current_advanced
from mail.equipment import Equipment
from models.email_settings import EmailSettings

_CHANGED = {
    "smtp_host": "SMTP Server",
    "username": "Username",
    "token_url": "Access Token URL",
    "authorization_url": "Authorization URL",
    "client_id": "Client Id",
    "tenant_id": "Tenant Id",
    "login": "the sign-in address",
    "use_ssl": "Enable SSL For SMTP",
}


def binding_conflicts(
    settings: EmailSettings, draft: Draft, equipment: Equipment, *, connecting: bool = False, shared: bool = False
) -> dict[str, str]:
    """Return which secrets have to be typed again, with the reason in words; empty when none.

    A value filled in for the first time is no change. Connecting brings a new refresh token, and a store that leaves
    a shared connection starts without the old one, so neither asks for it.
    """
    if isinstance(draft, SMTPDraft):
        return _smtp_conflicts(settings, draft)
    return _advanced_conflicts(settings, draft, equipment, asks_for_token=not (connecting or shared))


def changes_advanced_binding(settings: EmailSettings, draft: AdvancedDraft, equipment: Equipment) -> bool:
    """Tell whether any place that the client secret and refresh token are bound to would change."""
    return bool(_changed_places(settings, draft, equipment))


def _smtp_conflicts(settings: EmailSettings, draft: SMTPDraft) -> dict[str, str]:
    places = []
    if settings.smtp_host and draft.smtp_host != settings.smtp_host:
        places.append("smtp_host")
    if settings.username and draft.username != settings.username:
        places.append("username")
    if settings.use_ssl and not draft.general.use_ssl:
        places.append("use_ssl")
    found = {}
    if places and _is_kept(draft.password, settings.password_sealed):
        found["password"] = f"Type the password again: {_words(places)} changed, and the saved one belongs to the old"
    connection = settings.connection
    if "use_ssl" in places and connection and (connection.has_client_secret or connection.has_refresh_token):
        # One switch, two sets of secrets: neither tab may loosen what the other one holds.
        found["use_ssl"] = (
            "Advanced SMTP keeps secrets that were given for an encrypted connection. "
            "Remove them on the Advanced SMTP tab first."
        )
    return found


def _advanced_conflicts(
    settings: EmailSettings, draft: AdvancedDraft, equipment: Equipment, *, asks_for_token: bool
) -> dict[str, str]:
    found = {}
    places = _changed_places(settings, draft, equipment)
    connection = settings.connection
    if places and connection:
        if _is_kept(draft.client_secret, connection.client_secret_sealed):
            found["client_secret"] = (
                f"Type the client secret again: {_words(places)} changed, and the saved one belongs to the old"
            )
        if asks_for_token and _is_kept(draft.refresh_token, connection.refresh_token_sealed):
            found["refresh_token"] = (
                f"{_capital(_words(places))} changed, and the saved token belongs to the old. "
                "Press Connect to get a new one, paste another, or remove it."
            )
    if settings.use_ssl and not draft.general.use_ssl and settings.has_password:
        found["use_ssl"] = (
            "The SMTP tab keeps a password that was given for an encrypted connection. Remove it there first."
        )
    return found


def _changed_places(settings: EmailSettings, draft: AdvancedDraft, equipment: Equipment) -> list[str]:
    stored = current_advanced(settings, equipment)
    pairs = {
        "smtp_host": (stored.smtp_host, draft.smtp_host),
        "token_url": (stored.token_url, draft.token_url),
        "authorization_url": (stored.authorization_url, draft.authorization_url),
        "client_id": (stored.client_id, draft.client_id),
        "tenant_id": (stored.tenant_id, draft.tenant_id),
        "login": (stored.effective_login, draft.effective_login),
    }
    changed = [name for name, (old, new) in pairs.items() if old and old != new]
    if settings.use_ssl and not draft.general.use_ssl:
        changed.append("use_ssl")
    return changed


def _is_kept(edit: SecretEdit, sealed: str | None) -> bool:
    return sealed is not None and edit.action == SecretAction.KEEP


def _words(places: list[str]) -> str:
    names = [_CHANGED[place] for place in places]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
