"""API keys of a store: made once and shown once, kept as a hash, known again by it.

256 random bits need no slow hash: nobody guesses them, so SHA-256 is enough and a request stays cheap
(security.md 6). Callers commit.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import or_, select, update

from extensions import db
from mail import audit
from mail.audit import Actor
from models.api_key import APIKey
from models.store import Store
from models.types import utcnow
from security.secret import Secret

KEY_PREFIX = "sp_"
SHOWN_CHARS = len(KEY_PREFIX) + 8
# How stale "last used" may be: writing it for every message would double the writes of an accept.
USED_EVERY = timedelta(minutes=5)

_KEY = re.compile(r"sp_[A-Za-z0-9_-]{43}")
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +(\S+) *")


@dataclass(frozen=True)
class KeyHolder:
    """Who a good key speaks for."""

    key_id: int
    store_id: int
    scopes: frozenset[str]
    is_stale: bool


def create(store: Store, name: str, *, actor: Actor) -> tuple[APIKey, Secret]:
    """Add a key to the store and return its row and the key itself, which nobody can read again."""
    key = Secret(KEY_PREFIX + secrets.token_urlsafe(32))
    row = APIKey(
        store_id=store.id,
        name=name,
        prefix=key.reveal()[:SHOWN_CHARS],
        key_hash=_hash(key.reveal()),
        created_by=actor.name,
    )
    db.session.add(row)
    audit.record(actor, "api_key_created", store, detail=f"{name} ({row.prefix}…)")
    return row, key


def holder_of(authorization: str | None) -> KeyHolder | None:
    """Return who the Authorization header speaks for, or None for a missing, malformed, unknown or revoked key."""
    found = _BEARER.fullmatch(authorization or "")
    if found is None or not _KEY.fullmatch(found[1]):
        return None
    hashed = _hash(found[1])
    row = db.session.execute(
        select(APIKey.id, APIKey.store_id, APIKey.scopes, APIKey.key_hash, APIKey.last_used_at).where(
            APIKey.key_hash == hashed, APIKey.revoked_at.is_(None)
        )
    ).first()
    if row is None or not hmac.compare_digest(row.key_hash, hashed):
        return None
    is_stale = row.last_used_at is None or row.last_used_at < utcnow() - USED_EVERY
    return KeyHolder(row.id, row.store_id, frozenset(row.scopes.split()), is_stale)


def touch(holder: KeyHolder) -> None:
    """Note that the key was used, when the last note is old enough."""
    if not holder.is_stale:
        return
    old = or_(APIKey.last_used_at.is_(None), APIKey.last_used_at < utcnow() - USED_EVERY)
    db.session.execute(
        update(APIKey).where(APIKey.id == holder.key_id, old).values(last_used_at=utcnow()),
        execution_options={"synchronize_session": False},
    )


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
