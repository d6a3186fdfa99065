"""What a provider granted at Connect: judged, then written into the store's connection. The caller commits."""

from __future__ import annotations

from sqlalchemy import select

from extensions import db
from mail import id_token
from mail.audit import Actor
from mail.consent_faults import refusal
from mail.drafts import connection_place
from mail.equipment import Equipment
from mail.health import set_by_person
from mail.id_token import Identity, WrongIDToken
from mail.providers import Provider, scopes_missing
from mail.token_endpoint import TokenAnswer
from mail.tokens import access_token_values
from models.authorization_request import AuthorizationRequest
from models.connection import Connection, Health, TokenSource
from models.types import utcnow

_CLOCK_TOLERANCE_S = 120


def lock(connection_id: int | None) -> None:
    """Wait for whoever writes this connection, and see what they wrote; SQLite's one writer is us already."""
    query = select(Connection).where(Connection.id == connection_id)
    db.session.execute(query.with_for_update().execution_options(populate_existing=True))


def judge(
    granted: TokenAnswer, request: AuthorizationRequest, *, connection: Connection, login: str, provider: Provider
) -> tuple[Identity, tuple[str, ...]]:
    """Return who consented, and what is odd about the grant but can be lived with, as sentences.

    Args:
        connection: the one in use until now; a working one is not exchanged for somebody else's mailbox.
        login: the sign-in address.

    Raises:
        ConsentFailed: it proves another sign-in, or is not enough to send mail with.
    """

    def refuse(code: str, **words: str) -> Exception:
        return refusal(code, store_id=request.store_id, provider=provider.name, **words)

    try:
        who = id_token.identity(granted.id_claims, client_id=request.client_id, issuer=request.expected_issuer)
    except WrongIDToken as error:
        raise refuse("id_token_wrong", reason=str(error)) from None
    if granted.refresh_token is None:
        raise refuse("refresh_token_missing")
    warnings = []
    missing = scopes_missing(request.scope, granted.scope)
    if missing and (set(missing) & _real(provider.scope) or set(missing) == _real(request.scope)):
        raise refuse("scope_missing", scopes=", ".join(missing))
    if missing:
        warnings.append(f"{provider.name} did not grant {', '.join(missing)}. A test shows whether mail goes out.")
    if who.address and login and not _same(who.address, login):
        if connection.has_refresh_token and not _same(who.address, connection.account):
            raise refuse("other_mailbox", account=who.address, login=login)
        # A shared mailbox is connected by a person who may use it (providers.md 2), so the first time is not refused.
        warnings.append(
            f"You signed in as {who.address}, but mail signs in as {login}. That works only if {who.address} may use "
            f"that mailbox. Otherwise enter {who.address} as Sign-in address, or press Reconnect and sign in as "
            f"{login}."
        )
    if granted.clock_skew_s is not None and abs(granted.clock_skew_s) > _CLOCK_TOLERANCE_S:
        warnings.append("The clocks of this server and of the provider differ by more than two minutes.")
    return who, tuple(warnings)


def write(
    connection: Connection, granted: TokenAnswer, who: Identity, *, login: str, actor: Actor, equipment: Equipment
) -> None:
    """Store the tokens and who gave them."""
    assert granted.refresh_token is not None  # `judge` refused everything else
    place = connection_place(connection, "refresh_token_sealed")
    connection.refresh_token_sealed = equipment.vault.seal(granted.refresh_token, place)
    connection.refresh_token_set_at, connection.refresh_token_set_by = utcnow(), actor.name
    connection.refresh_token_source = TokenSource.CONNECT
    for column, value in access_token_values(connection, granted, equipment, is_new=True).items():
        setattr(connection, column, value)
    # From now on a change of From does not silently change who signs in.
    connection.login = login or who.address
    connection.account, connection.account_tenant = who.address, who.tenant
    connection.connected_at, connection.connected_by = utcnow(), actor.name
    set_by_person(connection, Health.CONNECTED)
    # Whoever is refreshing right now started from the version before, and finds that out.
    connection.refresh_lease, connection.refresh_lease_until = None, None
    connection.version += 1
    connection.edition += 1


def _real(scope: str) -> set[str]:
    """Return the scopes that say what a token may do: not the ones about who signed in."""
    return set(scopes_missing(scope, "no-such-scope"))


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
