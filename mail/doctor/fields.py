"""What a failed test points at, and what it shows to be in order."""

from __future__ import annotations

from collections.abc import Collection

from mail.errors import Stage
from mail.explain import cleared
from models.email_settings import Method

_LABELS = {
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
_CLEAR_HOST_AND_PORT = (Stage.TLS, Stage.TOKEN, Stage.GREET, Stage.AUTH, Stage.SENDER)


def field_to_mend(field: str, method: Method) -> tuple[tuple[str, str], ...]:
    """Return name and label of the field as the tab of this method has it; empty when it has none of that kind."""
    if method is Method.SMTP:
        field = _ON_SMTP_TAB.get(field, field if field in (*_ON_BOTH_TABS, *_ON_SMTP_TAB.values()) else "")
    elif field in _ON_SMTP_TAB.values():
        field = ""
    label = _LABELS.get(field)
    return ((field, label),) if label else ()


def what_is_fine(stage: Stage, field: str, done: Collection[Stage]) -> str:
    """Return a sentence on what is not the problem, or an empty text.

    Args:
        stage: the step that failed.
        field: what people are asked to mend: server and port are not called fine in the same breath.
        done: the steps that this test has behind it. With everything in one write, a message can get no answer before
            its sender has one.
    """
    if field in ("smtp_host", "smtp_port") and stage in _CLEAR_HOST_AND_PORT:
        return ""
    unanswered = [one for one in (Stage.SENDER, Stage.RECIPIENT) if one not in done]
    return cleared(unanswered[0] if stage is Stage.MESSAGE and unanswered else stage)
