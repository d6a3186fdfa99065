"""What a person may do with a connection that stands: end it, or narrow it to the tenant that consented."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

import requests

from extensions import db
from mail import audit
from mail.audit import Actor
from mail.consent import provider_of
from mail.consent_grant import lock
from mail.equipment import Equipment
from mail.grants import drop_refresh_token, sharers
from mail.providers import Provider, rewrite_tenant, tenant_is_valid
from mail.token_endpoint import DEADLINE_S, LIMIT_BYTES
from mail.tokens import end_transaction, open_sealed
from models.connection import ClientAuth, Connection
from models.email_settings import EmailSettings
from security.outbound import Blocked
from security.vault import Unreadable

# Words that stand for many tenants; the one that consented can take their place.
_MANY_TENANTS = ("common", "organizations")
# The tenant of all personal Microsoft accounts: no directory of anybody's (Entra ID token reference).
_PERSONAL_ACCOUNTS = "9188040d-6c67-4c5b-b112-36a304b66dad"


@dataclass(frozen=True)
class Farewell:
    """What a disconnect did.

    Attributes:
        stores: names of the other stores that were on the connection and have to connect too.
        is_revoked: whether the provider ended the grant; None when it offers no way to ask.
    """

    stores: tuple[str, ...]
    is_revoked: bool | None


def revocation_url(connection: Connection, equipment: Equipment) -> str:
    """Return where the grant can be revoked, or nothing: only beside the token endpoint it came from."""
    if connection.issuer:
        # Discovery kept it only beside the token endpoint; a URL typed since then would have ended the issuer's word.
        return connection.revocation_url
    provider = provider_of(connection, equipment)
    same_server = urlsplit(connection.token_url).netloc == urlsplit(provider.token_url).netloc
    return provider.revocation_url if same_server else ""


def disconnect(settings: EmailSettings, *, actor: Actor, equipment: Equipment) -> Farewell:
    """Revoke the grant where the provider offers that, remove the tokens, and return who is affected.

    The tokens go even if revoking fails: what the person asked for is that mail stops using them. Ends the open
    transaction before the network call; the caller commits the removal.

    Source: RFC 7009 2.1.
    """
    connection = settings.connection
    if connection is None or not _has_tokens(connection):
        return Farewell((), None)
    settings_id = settings.id
    url = revocation_url(connection, equipment)
    form = _revocation_form(connection, equipment) if url else None
    end_transaction()
    is_revoked = _revoke(url, form, equipment) if url else None
    settings = db.session.get_one(EmailSettings, settings_id)
    lock(settings.connection_id)
    connection = settings.connection
    assert connection is not None
    others = tuple(store.name for store in sharers(settings))
    drop_refresh_token(connection)
    connection.refresh_lease, connection.refresh_lease_until = None, None
    connection.version += 1
    connection.edition += 1
    outcome = {True: "revoked at the provider", False: "could not be revoked at the provider", None: "tokens removed"}
    fields_changed = ["refresh_token: removed", "access_token: removed"]
    audit.record(actor, "disconnected", settings.store, fields=fields_changed, detail=outcome[is_revoked])
    return Farewell(others, is_revoked)


def _has_tokens(connection: Connection) -> bool:
    return connection.has_refresh_token or connection.access_token_sealed is not None


class _Form(NamedTuple):
    """What a revocation posts, and id and secret for HTTP Basic where they go there."""

    fields: list[tuple[str, str]]
    basic: tuple[str, str] | None = None


def _revocation_form(connection: Connection, equipment: Equipment) -> _Form | None:
    """Return the form to post, None when a stored secret does not open."""
    try:
        token = open_sealed(connection, "refresh_token_sealed", equipment)
        secret = open_sealed(connection, "client_secret_sealed", equipment)
    except Unreadable:
        return None
    if not token:
        return None
    fields = [("token", token.reveal())]
    if connection.provider == "google":
        return _Form(fields)  # takes the token alone (providers.md 1)
    fields.append(("token_type_hint", "refresh_token"))
    if secret and connection.client_auth is ClientAuth.BASIC:
        return _Form(fields, (connection.client_id, secret.reveal()))
    fields.append(("client_id", connection.client_id))
    return _Form([*fields, *([("client_secret", secret.reveal())] if secret else [])])


def _revoke(url: str, form: _Form | None, equipment: Equipment) -> bool:
    if form is None:
        return False
    try:
        answer = equipment.door.post_form(
            url, form.fields, deadline_s=DEADLINE_S, limit_bytes=LIMIT_BYTES, auth_basic=form.basic
        )
    except (Blocked, OSError, ValueError, requests.exceptions.RequestException):
        return False
    return answer.status == 200


# --- The tenant learned at consent


def learned_tenant(settings: EmailSettings, equipment: Equipment) -> str:
    """Return the tenant that consented, if it could take the place of `common`; else an empty text.

    Not on a shared connection: a change of it would take the store's tokens away. Not over a URL edited by hand.
    """
    connection = settings.connection
    if connection is None or connection.tenant_id not in _MANY_TENANTS or sharers(settings):
        return ""
    tenant = connection.account_tenant
    if not tenant or tenant == _PERSONAL_ACCOUNTS or not tenant_is_valid(tenant):
        return ""
    return tenant if _rewritten(connection, provider_of(connection, equipment), tenant) else ""


def use_learned_tenant(settings: EmailSettings, *, actor: Actor, equipment: Equipment) -> str:
    """Put the learned tenant into the settings and both URLs, and return it; empty when there is none to use.

    The secrets stay: the host is the preset's as before, and the tenant is the one that gave them (security.md 35).
    The caller commits.
    """
    lock(settings.connection_id)
    tenant = learned_tenant(settings, equipment)
    connection = settings.connection
    if not tenant or connection is None:
        return ""
    urls = _rewritten(connection, provider_of(connection, equipment), tenant)
    assert urls is not None  # or it would not have been offered
    connection.tenant_id = tenant
    connection.authorization_url, connection.token_url = urls
    connection.version += 1
    connection.edition += 1
    # A form that was open meanwhile still says common: saving it has to be noticed.
    settings.version += 1
    audit.record(actor, "tenant_learned", settings.store, fields=["tenant_id", "authorization_url", "token_url"])
    return tenant


def _rewritten(connection: Connection, provider: Provider, tenant: str) -> tuple[str, str] | None:
    authorization_url = rewrite_tenant(connection.authorization_url, provider, tenant)
    token_url = rewrite_tenant(connection.token_url, provider, tenant)
    return (authorization_url, token_url) if authorization_url and token_url else None
