"""Who may hand in mail by SMTP: a store's code as user name, an API key of that store as password.

Failed sign-ins are counted per client and per user name, in the table that the sign-in pages count in, so that all
processes slow down whoever guesses. They slow down and never lock: nobody guesses 256 random bits (security.md 6), but
anybody may fail on purpose, and on a machine where all applications share one address a lock would stop them all.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import delete, func, select

from extensions import db
from mail import api_keys
from mail.api_keys import KeyHolder
from models.api_key import APIKey
from models.sign_in_attempt import SignInAttempt
from models.store import CODE_MAX, Store
from models.types import utcnow

SCOPE = "send"
WINDOW = timedelta(minutes=15)
# From here on nothing more is written: whoever hammers shall not fill the table.
COUNTED_MAX = 50
DELAY_FIRST_S, DELAY_LONGEST_S = 0.25, 8.0
# From here on a failure ends the connection.
PATIENCE = 10


class NotAllowed(Exception):
    """The sign-in is right and does not suffice; the text says why."""


def sign_in(user: str, password: str) -> KeyHolder | None:
    """Return who signs in, or None when user name and password do not belong together; reads only.

    Raises:
        NotAllowed: the key is right, but may not send.
    """
    holder = api_keys.holder_of(f"Bearer {password}")
    # The same work for every answer: the second question is asked for an unknown key too.
    code = db.session.scalar(select(Store.code).where(Store.id == (holder.store_id if holder else 0))) or ""
    is_theirs = hmac.compare_digest(code.encode(), user.strip().lower().encode())
    if holder is None or not is_theirs:
        return None
    if SCOPE not in holder.scopes:
        raise NotAllowed(f"This API key lacks the scope “{SCOPE}”")
    return holder


def usable_keys(key_ids: Iterable[int]) -> set[int]:
    """Return those of the keys that may still send: not revoked meanwhile, store and scope still there."""
    rows = db.session.execute(
        select(APIKey.id, APIKey.scopes).where(APIKey.id.in_(set(key_ids)), APIKey.revoked_at.is_(None))
    )
    return {row.id for row in rows if SCOPE in row.scopes.split()}


def record_failure(user: str, client: str) -> int:
    """Count a failed sign-in and return how many there were lately, by user name or client. Commits."""
    now = utcnow()
    db.session.execute(delete(SignInAttempt).where(SignInAttempt.at <= now - WINDOW))
    counts = _counts(_subjects(user, client))
    for subject, count in counts.items():
        if count < COUNTED_MAX:
            db.session.add(SignInAttempt(subject=subject, at=now))
    db.session.commit()
    return max(counts.values()) + 1


def delay_s(failures: int) -> float:
    """How long the answer to a failed sign-in is kept back, in seconds: doubling, and bounded."""
    return min(DELAY_FIRST_S * 2.0 ** min(failures - 1, 10), DELAY_LONGEST_S)


def store_named(user: str) -> int | None:
    """Return the store that has this code: what a log may show of a failed sign-in, where anything may be typed."""
    code = user.strip().lower()
    if not 0 < len(code) <= CODE_MAX:
        return None
    found: int | None = db.session.scalar(select(Store.id).where(Store.code == code))
    return found


def _subjects(user: str, client: str) -> tuple[str, str]:
    # Hashed, so that a wrong entry (often the password) is not kept in clear.
    hashed = hashlib.sha256(user.strip().lower().encode("utf-8", "replace")).hexdigest()
    return f"relay-user:{hashed}", f"relay-client:{client}"[:80]


def _counts(subjects: tuple[str, str]) -> dict[str, int]:
    rows = db.session.execute(
        select(SignInAttempt.subject, func.count())
        .where(SignInAttempt.subject.in_(subjects), SignInAttempt.at > utcnow() - WINDOW)
        .group_by(SignInAttempt.subject)
    )
    return dict.fromkeys(subjects, 0) | {row[0]: row[1] for row in rows}
