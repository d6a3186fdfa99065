"""What is remembered of a Connect between leaving for the provider and coming back: kept for ten minutes, spent once.

The state is the only thing the browser carries; stored is its hash. All times are the database's.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import delete, select, update

from extensions import db
from mail.drafts import current_advanced
from mail.equipment import Equipment
from mail.tokens import token_parameters
from models import clock
from models.authorization_request import AuthorizationRequest
from models.email_settings import EmailSettings
from models.types import new_uid
from security.secret import Secret
from security.vault import Place

LIFETIME = timedelta(minutes=10)
# Kept a while after their end, so that a late or repeated answer can be told what it is.
_KEPT = timedelta(days=1)
_STATE = re.compile(r"[A-Za-z0-9_-]{43}")


class Unspendable(StrEnum):
    """Why a state is refused."""

    UNKNOWN = "state_unknown"
    FOREIGN = "state_foreign"
    USED = "state_used"
    EXPIRED = "state_expired"


@dataclass(frozen=True)
class Ticket:
    """What goes to the provider: the state itself and the verifier whose hash goes with it."""

    state: str
    verifier: Secret


def issue(
    settings: EmailSettings, *, user_id: int, session_hash: str, expected_issuer: str, equipment: Equipment
) -> Ticket:
    """Return a new ticket for connecting this store, written down; the caller commits.

    Source: RFC 7636 4.1 (64 characters), RFC 9700 2.1.1 and 4.4; security.md 38.
    """
    connection = settings.connection
    assert connection is not None
    # Compared later with what is stored, so taken from there: a client secret typed this moment has a time that the
    # database rounds.
    db.session.flush()
    db.session.refresh(connection)
    ticket = Ticket(secrets.token_urlsafe(32), Secret(secrets.token_urlsafe(48)))
    uid = new_uid()
    db.session.add(
        AuthorizationRequest(
            uid=uid,
            state_hash=_hash(ticket.state),
            user_id=user_id,
            session_hash=session_hash,
            store_id=settings.store_id,
            provider=connection.provider,
            settings_fingerprint=fingerprint(settings, equipment),
            redirect_uri=equipment.redirect_uri,
            expected_issuer=expected_issuer,
            token_url=connection.token_url,
            client_id=connection.client_id,
            scope=connection.scope,
            verifier_sealed=equipment.vault.seal(ticket.verifier, _verifier_place(uid)),
            created_at=clock.now(),
            expires_at=clock.now(LIFETIME),
        )
    )
    db.session.execute(delete(AuthorizationRequest).where(AuthorizationRequest.expires_at < clock.now(-_KEPT)))
    return ticket


def spend(state: str, *, user_id: int, session_hash: str) -> AuthorizationRequest | Unspendable:
    """Return the request behind a state and use it up, or say why not. Commits.

    One conditional UPDATE: of two callbacks at the same time only one gets through. A state that comes back in
    another session stays good for its own: whoever saw the address must not be able to end somebody's Connect.
    """
    if not _STATE.fullmatch(state):
        return Unspendable.UNKNOWN
    named = AuthorizationRequest.state_hash == _hash(state)
    statement = update(AuthorizationRequest).where(
        named,
        AuthorizationRequest.user_id == user_id,
        AuthorizationRequest.session_hash == session_hash,
        AuthorizationRequest.used_at.is_(None),
        AuthorizationRequest.expires_at > clock.now(),
    )
    result = db.session.execute(statement.values(used_at=clock.now()).execution_options(synchronize_session=False))
    db.session.commit()
    request: AuthorizationRequest | None = db.session.scalar(select(AuthorizationRequest).where(named))
    if request is None:
        return Unspendable.UNKNOWN
    if getattr(result, "rowcount", 0) == 1:
        return request
    if request.user_id != user_id or request.session_hash != session_hash:
        return Unspendable.FOREIGN
    return Unspendable.EXPIRED if request.used_at is None else Unspendable.USED


def verifier_of(request: AuthorizationRequest, equipment: Equipment) -> Secret:
    """Return the PKCE verifier. Raises security.vault.Unreadable."""
    return equipment.vault.open_secret(request.verifier_sealed, _verifier_place(request.uid))


def fingerprint(settings: EmailSettings, equipment: Equipment) -> str:
    """Return a hash of everything an authorization depends on; renewing tokens does not change it.

    Raises:
        security.vault.Unreadable: the stored `token.*` parameters do not open.
    """
    connection = settings.connection
    assert connection is not None
    parts = (
        *(getattr(connection, column) for column in _COLUMNS),
        str(connection.client_secret_set_at or ""),
        current_advanced(settings, equipment).effective_login,
        token_parameters(connection, equipment),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


_COLUMNS = (
    *("uid", "provider", "client_id", "tenant_id", "grant_type", "authorization_url", "token_url", "scope"),
    *("client_auth", "issuer", "iss_required"),
)


def _hash(state: str) -> str:
    return hashlib.sha256(state.encode("ascii")).hexdigest()


def _verifier_place(uid: str) -> Place:
    return Place("authorization_requests", uid, "verifier_sealed")


def challenge_of(verifier: Secret) -> str:
    """Return the S256 challenge of a verifier. Source: RFC 7636 4.2."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
