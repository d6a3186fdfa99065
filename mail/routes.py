"""How a store's mail leaves: the one record that delivery and the Test work from."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from mail.completeness import Missing, missing
from mail.compose import Sender
from mail.custom_fields import Effects, effects_of
from mail.drafts import AdvancedDraft, Draft, SMTPDraft, current, load_custom_fields, open_secrets
from mail.equipment import Equipment
from mail.smtp import Endpoint, PasswordLogin
from models.email_settings import EmailSettings, Method


class SettingsIncomplete(Exception):
    """Something that sending needs is not there; `missing` says what."""

    def __init__(self, missing: tuple[Missing, ...]):
        super().__init__(", ".join(item.label for item in missing))
        self.missing = missing


@dataclass(frozen=True)
class Route:
    """Everything about sending for a store but the message itself.

    `password_login` is None where nobody signs in by password: with Advanced SMTP the access token of
    `connection_id` does, as `bearer_user`; on the SMTP tab without a user name nobody does.
    `mechanism` None: XOAUTH2 where offered, else OAUTHBEARER. Rates None: the provider publishes none.
    """

    store_id: int
    method: Method
    provider: str
    sender: Sender
    bcc: tuple[str, ...]
    endpoint: Endpoint
    password_login: PasswordLogin | None
    connection_id: int | None
    bearer_user: str
    mechanism: str | None
    headers: tuple[tuple[str, str], ...]
    timeout_s: float | None
    max_connections: int | None
    messages_per_minute: int | None
    recipients_per_day: int | None
    emails_off: bool


def route_for(settings: EmailSettings, equipment: Equipment) -> Route:
    """Return the way out by the stored settings of the active method.

    Raises:
        SettingsIncomplete: something is missing.
        Unreadable: a stored secret does not open.
    """
    return route_from(current(settings, settings.method, equipment), settings, equipment)


def route_from(draft: Draft, settings: EmailSettings, equipment: Equipment) -> Route:
    """Return the way out by what is on the screen; kept secrets are the stored ones.

    Raises:
        SettingsIncomplete: something is missing.
        Unreadable: a stored secret that is kept does not open.
    """
    lacking = missing(settings, equipment, draft=draft)
    if lacking or draft.smtp_port is None:
        raise SettingsIncomplete(lacking)
    effects, password_login = Effects(), None
    if isinstance(draft, SMTPDraft):
        password = open_secrets(draft, settings, equipment).password
        password_login = PasswordLogin(draft.username, password) if password else None
    else:
        effects = _effects(draft, settings, equipment)
    provider = equipment.providers.get(draft.provider if isinstance(draft, AdvancedDraft) else "other")
    advanced = draft if isinstance(draft, AdvancedDraft) else None
    mechanisms = provider.mechanisms if provider else ()
    return Route(
        store_id=settings.store_id,
        method=Method.ADVANCED_SMTP if advanced else Method.SMTP,
        provider=provider.key if provider else "other",
        sender=Sender(draft.general.from_name, draft.general.from_email),
        bcc=draft.general.bcc,
        endpoint=_endpoint(draft, draft.smtp_port, provider.key if provider else "other", effects, equipment),
        password_login=password_login,
        connection_id=settings.connection_id if advanced else None,
        bearer_user=advanced.effective_login if advanced else "",
        mechanism=effects.auth_mechanism or (mechanisms[0] if advanced and len(mechanisms) == 1 else None),
        headers=effects.headers,
        timeout_s=effects.timeout_s,
        max_connections=effects.max_connections or (provider.max_connections if provider else None),
        messages_per_minute=effects.messages_per_minute or (provider.messages_per_minute if provider else None),
        recipients_per_day=provider.recipients_per_day if provider else None,
        emails_off=draft.general.emails_off,
    )


def _effects(draft: AdvancedDraft, settings: EmailSettings, equipment: Equipment) -> Effects:
    fields = load_custom_fields(settings, equipment) if draft.custom_fields is None else draft.custom_fields
    return effects_of(fields)


def _endpoint(draft: Draft, port: int, provider: str, effects: Effects, equipment: Equipment) -> Endpoint:
    return Endpoint(
        host=draft.smtp_host,
        port=port,
        encryption=equipment.encryption_for(port, use_ssl=draft.general.use_ssl),
        provider=provider,
        ehlo_hostname=effects.ehlo_hostname or _own_name(equipment.public_url),
        plaintext_auth=draft.smtp_host.lower() in equipment.plaintext_auth_hosts,
    )


def _own_name(public_url: str) -> str:
    """The name we introduce ourselves with: our public host; an address in brackets (RFC 5321 4.1.3)."""
    host = urlsplit(public_url).hostname or "localhost"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return f"[IPv6:{address}]" if address.version == 6 else f"[{address}]"
