"""Audit entries in words, for the card of recent changes."""

from __future__ import annotations

from models import AuditEntry

_LABELS = {
    "from_name": "From Display Name",
    "from_email": "From Email Address",
    "bcc": "Bcc Email Address",
    "use_ssl": "Enable SSL For SMTP",
    "provider": "Email provider",
    "smtp_host": "SMTP Server",
    "smtp_port": "SMTP Port",
    "username": "Username",
    "password": "Password",
    "client_id": "Client Id",
    "tenant_id": "Tenant Id",
    "client_secret": "Client secret",
    "client_secret_expires_on": "Secret expiry date",
    "refresh_token": "Refresh token",
    "grant_type": "Grant Type",
    "issuer": "Issuer",
    "client_auth": "Client authentication",
    "authorization_url": "Authorization URL",
    "token_url": "Access Token URL",
    "scope": "Scope",
    "login": "Sign-in address",
    "custom_fields": "Custom fields",
}
_ACTIONS = {
    "store_created": ("Store created", "store"),
    "store_edited": ("Store edited", "pencil"),
    "store_copied": ("Copied from another store", "copy"),
    "connected": ("Mailbox connected", "plug"),
    "disconnected": ("Mailbox disconnected", "unplug"),
    "test_started": ("Settings tested", "send"),
    "test_cancelled": ("Test cancelled", "ban"),
    "connect_denied": ("Consent was not given", "ban"),
    "connect_failed": ("Connect failed", "circle-alert"),
    "api_key_created": ("API key made", "key"),
    "api_key_revoked": ("API key revoked", "ban"),
    "message_resent": ("Message sent again", "repeat"),
    "message_hurried": ("Message sent at once", "send"),
    "message_marked_sent": ("Message marked as sent", "check"),
    "template_saved": ("Template edited", "pencil"),
    "template_restored": ("Earlier template restored", "history"),
    "template_reset": ("Template reset", "undo-2"),
    "template_switched": ("Kind of mail turned on or off", "power"),
    "template_sample_sent": ("Sample mail sent", "send"),
    "brand_saved": ("Brand edited", "pencil"),
    "uncertain_choice_changed": ("Choice for unanswered messages changed", "circle-help"),
}
_SHOWN = 3


def words(entry: AuditEntry) -> str:
    """What happened, in a few words."""
    if entry.action == "method_switched":
        return f"Switched to {'SMTP' if entry.detail == 'smtp' else 'Advanced SMTP'}"
    if entry.action == "settings_saved":
        return _saved(entry)
    known = _ACTIONS.get(entry.action)
    return known[0] if known else entry.action.replace("_", " ").capitalize()


def icon(entry: AuditEntry) -> str:
    """The symbol beside it."""
    if entry.action == "method_switched":
        return "repeat"
    if entry.action == "settings_saved":
        if "emails_off" in entry.fields:
            return "power"
        return "key" if any(":" in name for name in entry.fields) else "pencil"
    known = _ACTIONS.get(entry.action)
    return known[1] if known else "activity"


def _saved(entry: AuditEntry) -> str:
    """ "Client secret replaced, Scope and 2 more changed": secrets by what happened to them, then the others."""
    secrets, others = [], []
    for name in entry.fields:
        field, _, happened = name.partition(": ")
        label = _LABELS.get(field)
        if label and happened:
            secrets.append(f"{label} {happened}")
        elif label:
            others.append(label)
    parts = [entry.detail] if entry.detail else []
    parts += secrets
    if others:
        more = len(others) - _SHOWN
        parts.append(f"{', '.join(others[:_SHOWN])}{f' and {more} more' if more > 0 else ''} changed")
    return "; ".join(parts) or "Settings saved"
