"""The connection card: what a store's connection is, how it is, and what can be done about it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from blueprints.web import equipment, signed_in_user
from mail import settings as email_settings
from mail.connection_care import learned_tenant, revocation_url
from mail.consent import provider_of
from mail.drafts import current_advanced, values_for_words
from mail.errors import Family, Stage
from mail.explain import Explanation, explain
from mail.providers import Provider
from mail.setup_guide import why_redirect_is_refused
from models import Store
from models.access import Permission, may
from models.connection import Connection, GrantType, Health

# state -> words on the badge, its colour, its icon
_BADGES = {
    "not_connected": ("Not connected", "", "unplug"),
    "untried": ("Not used yet", "", "clock"),
    "connected": ("Connected", "ok", "check"),
    "expiring": ("Expires soon", "warn", "clock"),
    "needs_reauthorization": ("Revoked", "bad", "unplug"),
    "settings_wrong": ("Settings refused", "bad", "circle-alert"),
    "temporarily_failing": ("Retrying", "warn", "rotate-ccw"),
    "app_only": ("No sign-in needed", "acc", "key-round"),
}
_NUMBER = re.compile(r"AADSTS[0-9]{5,7}")
_TROUBLE = {Health.NEEDS_REAUTHORIZATION, Health.SETTINGS_WRONG, Health.TEMPORARILY_FAILING}


@dataclass(frozen=True)
class ConnectionCard:
    """What the card shows.

    Attributes:
        state: key of the badge.
        trouble: what went wrong last, explained; None when nothing did.
        scopes: as granted, or as asked for; each without the address in front of it.
        tenant: the one that consented, when it can take the place of `common`.
    """

    connection: Connection | None
    provider: Provider
    state: str
    trouble: Explanation | None
    login: str
    account: str
    scopes: tuple[str, ...]
    sharers: tuple[str, ...]
    tenant: str
    redirect_uri: str
    redirect_problem: str
    revokes: bool
    may_connect: bool

    @property
    def badge(self) -> tuple[str, str, str]:
        return _BADGES[self.state]

    @property
    def trouble_code(self) -> str:
        """What support asks for: Microsoft's number, or the OAuth error."""
        number = _NUMBER.search(self.connection.health_detail) if self.connection else None
        return number.group() if number else self.connection.health_code if self.connection else ""

    @property
    def is_app_only(self) -> bool:
        return self.connection is not None and self.connection.grant_type is GrantType.CLIENT_CREDENTIALS

    @property
    def has_grant(self) -> bool:
        return self.connection is not None and self.connection.has_refresh_token


def card_of(store: Store) -> ConnectionCard:
    """The card of a store, from what is stored; unsaved changes on the page do not show."""
    settings = store.email_settings
    connection = settings.connection
    draft = email_settings.current_advanced(settings, equipment())
    scope = (connection.granted_scope or connection.scope) if connection else ""
    provider = provider_of(connection or Connection(provider=draft.provider), equipment())
    return ConnectionCard(
        connection=connection,
        provider=provider,
        state=_state(connection),
        trouble=_trouble(store, connection),
        login=draft.effective_login,
        account=connection.account if connection else "",
        scopes=tuple(word.rstrip("/").rpartition("/")[2] for word in scope.split()),
        sharers=tuple(other.name for other in email_settings.sharers(settings)),
        tenant=learned_tenant(settings, equipment()),
        redirect_uri=equipment().redirect_uri,
        redirect_problem=why_redirect_is_refused(provider, equipment().redirect_uri),
        revokes=bool(connection and revocation_url(connection, equipment())),
        may_connect=may(signed_in_user(), Permission.CONNECT, store),
    )


def _state(connection: Connection | None) -> str:
    if connection is None:
        return "not_connected"
    if connection.grant_type is GrantType.CLIENT_CREDENTIALS:
        return str(connection.health) if connection.health is not Health.NOT_CONNECTED else "app_only"
    if not connection.has_refresh_token:
        return "not_connected"
    return "untried" if connection.health is Health.NOT_CONNECTED else str(connection.health)


def _trouble(store: Store, connection: Connection | None) -> Explanation | None:
    if connection is None or connection.health not in _TROUBLE:
        return None
    return explain(
        connection.health_detail,
        stage=Stage.AUTH if connection.health_stage == Stage.AUTH else Stage.TOKEN,
        family=Family.SMTP if connection.health_stage == Stage.AUTH else Family.TOKEN,
        provider=connection.provider,
        code=connection.health_code,
        values=values_for_words(current_advanced(store.email_settings, equipment()), equipment()),
    )
