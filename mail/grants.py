"""The connection row as the settings form sees it: who shares it, when a store needs its own, what a change drops.

Part of `mail/settings`; tokens that providers hand out are written by `mail/tokens` and `mail/consent`.
"""

from __future__ import annotations

import json
from typing import Any, cast

from sqlalchemy import select

from extensions import db
from mail.audit import Actor
from mail.bindings import changes_advanced_binding
from mail.custom_fields import effects_of
from mail.drafts import AdvancedDraft, SecretAction, connection_place, password_place
from mail.equipment import Equipment
from mail.health import set_by_person
from mail.providers import MICROSOFT365, urls_for
from models.connection import Connection, GrantType, Health, TokenSource
from models.email_settings import EmailSettings
from models.store import Store
from models.types import new_uid, utcnow
from security.secret import Secret
from security.vault import Unreadable

PLAIN_COLUMNS = (
    "provider",
    "client_id",
    "tenant_id",
    "grant_type",
    "authorization_url",
    "token_url",
    "scope",
    "login",
    "client_auth",
    "issuer",
    "iss_required",
    "revocation_url",
    "pkce_method",
)
# What a token call is made of: an access token obtained with other values is not the one these settings mean.
_TOKEN_CALL = {"client_id", "tenant_id", "grant_type", "token_url", "scope", "client_secret", "refresh_token"}
_TOKEN_CALL |= {"token_parameters", "client_auth"}


def fresh() -> tuple[Connection, str, int]:
    """Return a new connection as the first preset fills it, with that preset's SMTP server and port."""
    authorization_url, token_url = urls_for(MICROSOFT365)
    connection = Connection(
        uid=new_uid(),
        provider=MICROSOFT365.key,
        tenant_id=MICROSOFT365.default_tenant,
        grant_type=GrantType.AUTHORIZATION_CODE,
        authorization_url=authorization_url,
        token_url=token_url,
        scope=MICROSOFT365.scope,
    )
    return connection, MICROSOFT365.smtp_host, MICROSOFT365.smtp_port


def sharers(settings: EmailSettings) -> list[Store]:
    """Return the other stores on the same connection, by name."""
    if settings.connection_id is None:
        return []
    query = (
        select(Store)
        .join(Store.email_settings)
        .where(EmailSettings.connection_id == settings.connection_id, EmailSettings.id != settings.id)
        .order_by(Store.name)
    )
    return list(db.session.scalars(query))


def is_shared(settings: EmailSettings) -> bool:
    return bool(sharers(settings))


def needs_own(settings: EmailSettings, draft: AdvancedDraft, changed: list[str], equipment: Equipment) -> bool:
    """Tell whether these changes give one of several sharers a connection of its own: all but the client secret."""
    names = {name.split(":")[0] for name in changed}
    if names & {*PLAIN_COLUMNS, "refresh_token"}:
        return True
    connection = settings.connection
    # Not "custom_fields: entered again": the sharers all have the same ones, so it mends the connection for all.
    if "custom_fields" not in changed or draft.custom_fields is None or connection is None:
        return False
    return bool(_token_parameters(draft) != _load_token_parameters(connection, equipment))


def opens_to(value: Secret | None, name: str, settings: EmailSettings, equipment: Equipment) -> bool:
    """Tell whether the stored secret of this name is the value; one that does not open is not."""
    if name == "password":
        sealed, place = settings.password_sealed, password_place(settings)
    elif settings.connection is None:
        return False
    else:
        sealed = getattr(settings.connection, f"{name}_sealed")
        place = connection_place(settings.connection, f"{name}_sealed")
    try:
        return sealed is not None and value is not None and equipment.vault.open_secret(sealed, place) == value
    except Unreadable:
        return False


def own_connection(
    settings: EmailSettings, equipment: Equipment, *, with_secret: bool = True, with_parameters: bool = True
) -> Connection:
    """Return the store's own connection: a shared one is copied first, with the client secret and without the tokens.

    Raises:
        Unreadable: the client secret or the `token.*` parameters do not open.
    """
    old = settings.connection
    if old is not None and not is_shared(settings):
        return old
    new, _, _ = fresh()
    if old is not None:
        for column in PLAIN_COLUMNS:
            setattr(new, column, getattr(old, column))
        if with_secret:
            _move_client_secret(old, new, equipment)
        if with_parameters and old.token_parameters_sealed:
            place = connection_place(old, "token_parameters_sealed")
            text = equipment.vault.open(old.token_parameters_sealed, place)
            new.token_parameters_sealed = equipment.vault.seal(text, connection_place(new, "token_parameters_sealed"))
    db.session.add(new)
    settings.connection = new
    # Whoever asks next who shares what must see the new row.
    db.session.flush()
    return new


def pin_login(settings: EmailSettings, from_email: str) -> list[str]:
    """Keep who signs in to Advanced SMTP when the SMTP tab changes the From Email Address it came from.

    Returns the names of what changed. Only for secrets that exist, and only on a connection of the store's own: the
    sign-in address of sharers is each one's From.
    """
    connection = settings.connection
    if connection is None or connection.login or not settings.from_email or from_email == settings.from_email:
        return []
    if not (connection.has_client_secret or connection.has_refresh_token) or is_shared(settings):
        return []
    connection.login = settings.from_email
    _count_change(connection)
    return ["login"]


def write(
    settings: EmailSettings,
    draft: AdvancedDraft,
    changed: list[str],
    actor: Actor,
    equipment: Equipment,
    *,
    connecting: bool,
    split: bool,
) -> list[str]:
    """Write what the draft says about the connection, and return all names that changed.

    The caller has checked rule 35 and decided about the split.
    """
    names = {name.split(":")[0] for name in changed}
    bound_elsewhere = changes_advanced_binding(settings, draft, equipment)
    old = settings.connection
    if split or old is None:
        keeps_secret = draft.client_secret.action == SecretAction.KEEP or "client_secret" not in names
        keeps_parameters = draft.custom_fields is None  # else they are written from the draft
        connection = own_connection(settings, equipment, with_secret=keeps_secret, with_parameters=keeps_parameters)
        changed = [*changed, "connection"]
    else:
        connection = old
    for column in PLAIN_COLUMNS:
        setattr(connection, column, getattr(draft, column))
    if _write_token_parameters(connection, draft, equipment):
        names.add("token_parameters")
    _write_client_secret(connection, draft, changed, actor, equipment)
    if draft.refresh_token.value and ("refresh_token" in names or split):
        _store_pasted_token(connection, draft.refresh_token.value, actor, equipment)
    elif draft.refresh_token.action == SecretAction.REMOVE:
        drop_refresh_token(connection)
    elif connecting and bound_elsewhere and connection.has_refresh_token:
        drop_refresh_token(connection)
        changed = [*changed, "refresh_token: removed"]
    if names & _TOKEN_CALL:
        drop_access_token(connection)
        _forget_trouble(connection, has_new_token=draft.refresh_token.is_typed)
    if names & {*PLAIN_COLUMNS, *_TOKEN_CALL, "client_secret_expires_on"}:
        _count_change(connection)
    return changed


def drop_access_token(connection: Connection) -> None:
    connection.access_token_sealed, connection.access_token_expires_at = None, None


def drop_refresh_token(connection: Connection) -> None:
    """Remove the grant: both tokens, and what they told us about who consented."""
    drop_access_token(connection)
    connection.refresh_token_sealed, connection.refresh_token_source = None, None
    connection.refresh_token_set_at, connection.refresh_token_set_by = None, ""
    connection.account, connection.account_tenant, connection.granted_scope = "", "", ""
    connection.connected_at, connection.connected_by = None, ""
    connection.grant_ends_at, connection.idle_limit_s = None, None
    set_by_person(connection, Health.NOT_CONNECTED)


def _move_client_secret(old: Connection, new: Connection, equipment: Equipment) -> None:
    if not old.client_secret_sealed:
        return
    secret = equipment.vault.open_secret(old.client_secret_sealed, connection_place(old, "client_secret_sealed"))
    new.client_secret_sealed = equipment.vault.seal(secret, connection_place(new, "client_secret_sealed"))
    for column in ("client_secret_set_at", "client_secret_set_by", "client_secret_expires_on"):
        setattr(new, column, getattr(old, column))


def _write_client_secret(
    connection: Connection, draft: AdvancedDraft, changed: list[str], actor: Actor, equipment: Equipment
) -> None:
    if draft.client_secret.action == SecretAction.REMOVE:
        connection.client_secret_sealed, connection.client_secret_set_at = None, None
        connection.client_secret_set_by = ""
    elif draft.client_secret.value and any(name.startswith("client_secret:") for name in changed):
        place = connection_place(connection, "client_secret_sealed")
        connection.client_secret_sealed = equipment.vault.seal(draft.client_secret.value, place)
        connection.client_secret_set_at, connection.client_secret_set_by = utcnow(), actor.name
    connection.client_secret_expires_on = draft.client_secret_expires_on


def _store_pasted_token(connection: Connection, token: Secret, actor: Actor, equipment: Equipment) -> None:
    place = connection_place(connection, "refresh_token_sealed")
    drop_refresh_token(connection)
    connection.refresh_token_sealed = equipment.vault.seal(token, place)
    connection.refresh_token_set_at, connection.refresh_token_set_by = utcnow(), actor.name
    connection.refresh_token_source = TokenSource.PASTED


def _write_token_parameters(connection: Connection, draft: AdvancedDraft, equipment: Equipment) -> bool:
    """Keep the `token.*` custom fields beside the grant, where token calls find them; True when they changed."""
    if draft.custom_fields is None:
        return False
    wanted = _token_parameters(draft)
    place = connection_place(connection, "token_parameters_sealed")
    if wanted == _load_token_parameters(connection, equipment):
        return False
    connection.token_parameters_sealed = equipment.vault.seal(json.dumps(wanted), place) if wanted else None
    return True


def _token_parameters(draft: AdvancedDraft) -> list[list[str]]:
    return [list(pair) for pair in effects_of(draft.custom_fields or ()).token_parameters]


def _load_token_parameters(connection: Connection, equipment: Equipment) -> Any:
    if not connection.token_parameters_sealed:
        return []
    place = connection_place(connection, "token_parameters_sealed")
    try:
        return json.loads(equipment.vault.open(connection.token_parameters_sealed, place))
    except Unreadable:
        return None


def _forget_trouble(connection: Connection, *, has_new_token: bool) -> None:
    """Changed credentials have not failed yet; a grant that is gone comes back only with a new token."""
    lost = connection.health == Health.NEEDS_REAUTHORIZATION
    if connection.health in (Health.SETTINGS_WRONG, Health.TEMPORARILY_FAILING) or (lost and has_new_token):
        set_by_person(connection, Health.NOT_CONNECTED)


def _count_change(connection: Connection) -> None:
    """Count in the database: a refresh going on beside this save must see that its version is outdated."""
    connection.version = cast(Any, Connection.version + 1)
    connection.edition = cast(Any, Connection.edition + 1)
