"""API keys of a store: made once and shown once, kept as a hash, known again by it.

256 random bits need no slow hash: nobody guesses them, so SHA-256 is enough and a request stays cheap
(security.md 6). A key may do what its scopes say: hand in and cancel mail, read what became of it. Callers commit.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, bindparam, or_, select, update

from extensions import db
from mail import audit
from mail.audit import Actor
from models.api_key import APIKey, Scope
from models.prepared import Prepared
from models.store import Store
from models.types import utcnow
from security.secret import Secret

KEY_PREFIX = "sp_"
SHOWN_CHARS = len(KEY_PREFIX) + 8
# How stale "last used" may be: writing it for every message would double the writes of an accept.
USED_EVERY = timedelta(minutes=5)

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(sp_[A-Za-z0-9_-]{43}) *")
_by_hash = Prepared(
    select(
        APIKey.id, APIKey.store_id, APIKey.scopes, APIKey.name, APIKey.prefix, APIKey.key_hash, APIKey.last_used_at
    ).where(APIKey.key_hash == bindparam("hashed"), APIKey.revoked_at.is_(None))
)


@dataclass(frozen=True)
class KeyHolder:
    """Who a good key speaks for."""

    key_id: int
    store_id: int
    scopes: frozenset[str]
    is_stale: bool
    name: str = ""
    prefix: str = ""

    @property
    def actor(self) -> Actor:
        """Who the audit trail names for what is done with this key."""
        return Actor(f"API key {self.name} ({self.prefix}…)")


def create(store: Store, name: str, *, actor: Actor, scopes: Collection[Scope] = tuple(Scope)) -> tuple[APIKey, Secret]:
    """Add a key to the store and return its row and the key itself, which nobody can read again."""
    words = " ".join(scope for scope in Scope if scope in scopes)
    key = Secret(KEY_PREFIX + secrets.token_urlsafe(32))
    row = APIKey(
        store_id=store.id,
        name=name,
        prefix=key.reveal()[:SHOWN_CHARS],
        key_hash=_hash(key.reveal()),
        scopes=words,
        created_by=actor.name,
    )
    db.session.add(row)
    audit.record(actor, "api_key_created", store, fields=["scopes"], detail=f"{name} ({row.prefix}…): {words}")
    return row, key


def holder_of(authorization: str | None) -> KeyHolder | None:
    """Return who the Authorization header speaks for, or None for a missing, malformed, unknown or revoked key."""
    found = _BEARER.fullmatch(authorization or "")
    if found is None:
        return None
    hashed = _hash(found[1])
    # Before the request's body arrives, and outside of any transaction: a large upload must keep nobody waiting.
    row = _by_hash.first(db.engine, {"hashed": hashed})
    if row is None:
        return None
    key_id, store_id, scopes, name, prefix, key_hash, used_at = row
    if not hmac.compare_digest(key_hash, hashed):
        return None
    is_stale = used_at is None or used_at < utcnow() - USED_EVERY
    return KeyHolder(key_id, store_id, frozenset(scopes.split()), is_stale, name, prefix)


def touch(holder: KeyHolder, *, on: Connection | None = None) -> None:
    """Note that the key was used, when the last note is old enough; in the session's transaction or on a connection."""
    if not holder.is_stale:
        return
    old = or_(APIKey.last_used_at.is_(None), APIKey.last_used_at < utcnow() - USED_EVERY)
    note = update(APIKey).where(APIKey.id == holder.key_id, old).values(last_used_at=utcnow())
    if on is not None:
        on.execute(note)
    else:
        db.session.execute(note, execution_options={"synchronize_session": False})


def keys_of(store: Store) -> list[APIKey]:
    """Return the store's keys, usable ones first, newest first."""
    query = select(APIKey).where(APIKey.store_id == store.id)
    return list(db.session.scalars(query.order_by(APIKey.revoked_at.is_not(None), APIKey.id.desc())))


def revoke(store: Store, key_id: int, *, actor: Actor) -> APIKey | None:
    """Revoke a key of this store and return it; None when there is no such key. Doing it twice changes nothing."""
    row = db.session.scalar(select(APIKey).where(APIKey.id == key_id, APIKey.store_id == store.id))
    if row is not None and row.revoked_at is None:
        row.revoked_at = utcnow()
        audit.record(actor, "api_key_revoked", store, detail=f"{row.name} ({row.prefix}…)")
    return row


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()
