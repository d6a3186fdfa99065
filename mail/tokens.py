"""A valid access token for a connection: from the row, or by one refresh at a time across threads and processes.

The right to call the token endpoint is a lease (`mail.token_lease`); results are written only over the version they
started from. Every transaction in here is its own, short, and over before the network is touched; the caller must not
have one open either: SQLite has one writer, and it would be waiting for us.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from extensions import db
from mail import health, lifetimes, token_endpoint, token_lease
from mail.drafts import connection_place
from mail.equipment import Equipment
from mail.errors import ConnectionLost, Family, MailError, SettingsWrong, Stage, TryLater
from mail.token_endpoint import TokenAnswer, TokenCall
from mail.token_lease import Seen
from models import clock
from models.connection import Connection, GrantType
from models.types import utcnow
from security.secret import Secret

# Renewed ahead of expiry: five minutes, or a tenth of a short life (providers.md 12).
EXPIRY_MARGIN = timedelta(seconds=300)
# A token with this much left still serves when it cannot be renewed just now.
LAST_USE = timedelta(seconds=30)
_ROUNDS = 3

Judge = Callable[[Seen], "AccessToken | None"]


@dataclass(frozen=True)
class AccessToken:
    """A bearer token; `fresh` when it was obtained just now, `rotated` when a new refresh token came with it.

    `clock_skew_s`: how far the endpoint's clock was ahead of ours; None when nobody was asked or it told no time.
    """

    value: Secret
    expires_at: datetime
    scope: str
    fresh: bool = False
    rotated: bool = False
    clock_skew_s: float | None = None


def access_token_for(
    connection_id: int,
    *,
    equipment: Equipment,
    renew: bool = False,
    rejected: Secret | None = None,
    urgent: bool = False,
    ahead: bool = False,
) -> AccessToken:
    """Return a token good for at least five more minutes, or a tenth of a shorter life.

    Commits its own short transactions: a rotated refresh token must survive even if the mail that needed it fails.
    Waits a bounded time for a refresh that is under way elsewhere. Records in the row how it went.

    Args:
        renew: the cached token is not good enough. With `rejected` it is renewed only if it is still that one.
        urgent: a person is waiting: ask even while the endpoint is left alone after many failures.
        ahead: nobody is waiting yet: renew it while it still has twice that long.

    Raises:
        ConnectionLost: consent is gone; only an administrator can mend it.
        SettingsWrong: the endpoint refuses client or scope, or something is missing.
        TryLater: endpoint, network, or a refresh elsewhere that takes too long; `.after_s` is the wait, or None.
        security.vault.Unreadable: a stored secret does not open; nothing was overwritten.

    Source: RFC 6749 5.2 and 6; security.md 44 and 45.
    """
    end_transaction()
    seen = token_lease.read(connection_id)
    first_version = seen.connection.version

    def good(seen: Seen) -> AccessToken | None:
        token = _cached(seen, equipment)
        if token is None or not _lasts(seen, _margin(seen) * (2 if ahead else 1)):
            return None
        outdated = renew and (token.value == rejected if rejected else seen.connection.version == first_version)
        return None if outdated else token

    try:
        lease = token_lease.queue_up(seen, good, urgent=urgent)
        return lease if isinstance(lease, AccessToken) else _refresh(connection_id, lease, good, equipment)
    except TryLater:
        # Renewing early is a courtesy: while the old token still works, trouble at the endpoint stops no mail.
        seen = token_lease.read(connection_id)
        token = None if renew else _cached(seen, equipment)
        if token is None or not _lasts(seen, LAST_USE):
            raise
        return token


def try_out(
    call: TokenCall, connection_id: int | None, *, uses_stored_refresh_token: bool, equipment: Equipment
) -> AccessToken:
    """Return a token obtained with settings that are not saved, for a test. It is not kept.

    With the stored refresh token it runs under the same lease as every refresh, takes the token as it is stored at
    that moment, and keeps the one that replaces it: the provider may have ended the old one. `call.refresh_token` is
    then ignored. Commits its own short transactions; the connection's health is left alone.

    Raises:
        as `access_token_for`.
    """
    end_transaction()
    if connection_id is None or not uses_stored_refresh_token:
        return _fresh_token(token_endpoint.call(call, door=equipment.door), call)
    lease = token_lease.queue_up(token_lease.read(connection_id), _nothing_is_good, urgent=True, shares_failures=False)
    try:
        connection = token_lease.read(connection_id).connection
        call = replace(call, refresh_token=_stored_refresh_token(connection, equipment))
        answer = token_endpoint.call(call, door=equipment.door)
        _keep_rotated(connection_id, call, answer, equipment)
        return _fresh_token(answer, call)
    finally:
        token_lease.release(connection_id, lease)


def token_call_for(connection: Connection, equipment: Equipment) -> TokenCall:
    """Return the call that renews this connection's access token.

    Raises:
        ConnectionLost: nobody has connected it yet, or the tokens were removed (code "incomplete").
        SettingsWrong: something else is missing (code "incomplete", detail names it by its labels).
        security.vault.Unreadable: a stored secret does not open.
    """
    app_only = connection.grant_type is GrantType.CLIENT_CREDENTIALS
    needed = {"Client Id": connection.client_id, "Access Token URL": connection.token_url}
    if app_only:
        needed |= {"Scope": connection.scope, "Client Secret": connection.client_secret_sealed or ""}
    if missing := [label for label, value in needed.items() if not value]:
        raise SettingsWrong("incomplete", ", ".join(missing), stage=Stage.SETTINGS, family=Family.TOKEN)
    return TokenCall(
        provider=connection.provider,
        token_url=connection.token_url,
        client_id=connection.client_id,
        client_secret=open_sealed(connection, "client_secret_sealed", equipment),
        # The code was redeemed at Connect; from then on the refresh token renews (product.md 13.2).
        grant_type="client_credentials" if app_only else "refresh_token",
        scope=connection.scope,
        refresh_token=None if app_only else _stored_refresh_token(connection, equipment),
        client_auth=connection.client_auth,
        extra=token_parameters(connection, equipment),
    )


def token_parameters(connection: Connection, equipment: Equipment) -> tuple[tuple[str, str], ...]:
    """Return the `token.*` custom fields kept with the connection, without their prefix."""
    sealed = open_sealed(connection, "token_parameters_sealed", equipment)
    return tuple((str(name), str(value)) for name, value in json.loads(sealed.reveal())) if sealed else ()


def open_sealed(connection: Connection, column: str, equipment: Equipment) -> Secret | None:
    """Return one sealed value of a connection, None when there is none. Raises security.vault.Unreadable."""
    sealed = getattr(connection, column)
    return equipment.vault.open_secret(sealed, connection_place(connection, column)) if sealed else None


def access_token_values(
    connection: Connection, answer: TokenAnswer, equipment: Equipment, *, is_new: bool = False
) -> dict[str, Any]:
    """Return the columns that hold an access token; one that may be used once only is not kept.

    Args:
        is_new: a person just consented: the grant's life begins.
    """
    sealed = equipment.vault.seal(answer.access_token, connection_place(connection, "access_token_sealed"))
    return {
        "access_token_sealed": None if answer.single_use else sealed,
        # On the database's clock, less what the call itself took.
        "access_token_expires_at": None if answer.single_use else clock.now(answer.expires_at - utcnow()),
        "refreshed_at": clock.now(),
        "granted_scope": answer.scope,
        **lifetimes.of_answer(connection, answer, is_new=is_new),
    }


def end_transaction() -> None:
    """End the session's transaction, so that none is open during the network call that follows.

    Raises:
        RuntimeError: there are changes that nobody committed; they would be lost, or commit behind somebody's back.
    """
    session = db.session()
    if session.new or session.dirty or session.deleted:
        raise RuntimeError("commit or undo the changes of this session before asking for a token")
    session.rollback()


def _refresh(connection_id: int, lease: str, good: Judge, equipment: Equipment) -> AccessToken:
    """Return a new token, written down first. Goes again when the settings changed under way, or the token did."""
    ended = False
    try:
        for number in range(_ROUNDS):
            # Read again under the lease: between our look and our turn somebody may have finished.
            seen = token_lease.read(connection_id)
            if token := good(seen):
                return token
            call = token_call_for(seen.connection, equipment)
            try:
                answer = token_endpoint.call(call, door=equipment.door)
            except MailError as error:
                has_another_try = isinstance(error, ConnectionLost) and number == 0
                if has_another_try and _is_outdated(connection_id, call, equipment):
                    continue
                ended = token_lease.note_failure(seen, lease, error)
                raise
            if _keep(seen, call, answer, equipment):
                ended = True
                return _fresh_token(answer, call)
            _keep_rotated(connection_id, call, answer, equipment)
        raise token_lease.busy()
    finally:
        if not ended:
            token_lease.release(connection_id, lease)


def _keep(seen: Seen, call: TokenCall, answer: TokenAnswer, equipment: Equipment) -> bool:
    """Write the new tokens over the version they were asked for with; False when that is not the version any more."""
    connection = seen.connection
    values: dict[str, Any] = {
        **access_token_values(connection, answer, equipment),
        **lifetimes.outlived(connection, seen.now),
        **token_lease.RELEASED,
        "version": connection.version + 1,
    }
    if _is_rotated(answer, call) and answer.refresh_token:
        where = connection_place(connection, "refresh_token_sealed")
        values["refresh_token_sealed"] = equipment.vault.seal(answer.refresh_token, where)
    return health.report(connection.id, health.GRANTED, Connection.version == connection.version, values=values)


def _keep_rotated(connection_id: int, call: TokenCall, answer: TokenAnswer, equipment: Equipment) -> None:
    """Save a rotated refresh token into a row that changed meanwhile, unless its refresh token changed too.

    The provider may have ended the old one, so losing the new one would end the connection. But a token that an
    administrator put there since is newer than ours and wins.
    """
    if not _is_rotated(answer, call) or answer.refresh_token is None:
        return
    for _ in range(_ROUNDS):
        connection = token_lease.read(connection_id).connection
        if open_sealed(connection, "refresh_token_sealed", equipment) != call.refresh_token:
            return
        sealed = equipment.vault.seal(answer.refresh_token, connection_place(connection, "refresh_token_sealed"))
        values = {"refresh_token_sealed": sealed, "version": Connection.version + 1}
        # Compared as sealed: equal texts are the value that was opened a line ago.
        unchanged = Connection.refresh_token_sealed == connection.refresh_token_sealed
        if token_lease.change(connection_id, values, unchanged):
            return


def _is_outdated(connection_id: int, call: TokenCall, equipment: Equipment) -> bool:
    """Tell whether the refused refresh token is not the stored one any more (providers.md 12)."""
    if call.refresh_token is None:
        return False
    stored = open_sealed(token_lease.read(connection_id).connection, "refresh_token_sealed", equipment)
    return stored is not None and stored != call.refresh_token


def _cached(seen: Seen, equipment: Equipment) -> AccessToken | None:
    connection = seen.connection
    value = open_sealed(connection, "access_token_sealed", equipment)
    if value is None or connection.access_token_expires_at is None:
        return None
    return AccessToken(value, connection.access_token_expires_at, connection.granted_scope or connection.scope)


def _margin(seen: Seen) -> timedelta:
    connection = seen.connection
    if connection.access_token_expires_at is None or connection.refreshed_at is None:
        return EXPIRY_MARGIN
    return min(EXPIRY_MARGIN, (connection.access_token_expires_at - connection.refreshed_at) / 10)


def _lasts(seen: Seen, at_least: timedelta) -> bool:
    expires_at = seen.connection.access_token_expires_at
    return expires_at is not None and expires_at - seen.now > at_least


def _nothing_is_good(seen: Seen) -> None:
    return None


def _stored_refresh_token(connection: Connection, equipment: Equipment) -> Secret:
    token = open_sealed(connection, "refresh_token_sealed", equipment)
    if not token:
        raise ConnectionLost("incomplete", "Refresh Token", stage=Stage.SETTINGS, family=Family.TOKEN)
    return token


def _fresh_token(answer: TokenAnswer, call: TokenCall) -> AccessToken:
    return AccessToken(
        answer.access_token,
        answer.expires_at,
        answer.scope,
        fresh=True,
        rotated=_is_rotated(answer, call),
        clock_skew_s=answer.clock_skew_s,
    )


def _is_rotated(answer: TokenAnswer, call: TokenCall) -> bool:
    return call.refresh_token is not None and answer.refresh_token not in (None, call.refresh_token)
