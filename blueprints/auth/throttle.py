"""Sign-in throttling: failures per account and per address, counted in a table by all processes together.

A pause, never a lock: the oldest failure falls out of the window after 15 minutes at most.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from sqlalchemy import delete, func, select

from blueprints.auth import accounts
from extensions import db
from models import SignInAttempt
from models.types import utcnow

WINDOW = timedelta(minutes=15)
PER_ACCOUNT = 5
PER_ADDRESS = 50


def _subjects(email: str, address: str) -> dict[str, int]:
    # One count for all the spellings that sign in as the same person.
    try:
        account = accounts.normalize_email(email)
    except accounts.AccountError:
        account = email.strip().casefold()
    # Hashed, so that a wrong entry (often a password) is not kept in clear.
    account = hashlib.sha256(account.encode("utf-8", "replace")).hexdigest()
    return {f"account:{account}": PER_ACCOUNT, f"address:{address}"[:80]: PER_ADDRESS}


def wait_s(email: str, address: str) -> int:
    """Seconds until another try is allowed; 0 when it is allowed now."""
    now = utcnow()
    wait = 0
    for subject, limit in _subjects(email, address).items():
        count, oldest = db.session.execute(
            select(func.count(), func.min(SignInAttempt.at)).where(
                SignInAttempt.subject == subject, SignInAttempt.at > now - WINDOW
            )
        ).one()
        if count >= limit:
            wait = max(wait, int((oldest + WINDOW - now).total_seconds()) + 1)
    return wait


def record_failure(email: str, address: str) -> None:
    """Count a failed try, and drop those that no longer count. Commits."""
    now = utcnow()
    db.session.execute(delete(SignInAttempt).where(SignInAttempt.at <= now - WINDOW))
    for subject in _subjects(email, address):
        db.session.add(SignInAttempt(subject=subject, at=now))
    db.session.commit()


def forget(email: str) -> None:
    """A good sign-in ends the account's count; the address keeps its own. The caller commits."""
    account = next(iter(_subjects(email, "")))
    db.session.execute(delete(SignInAttempt).where(SignInAttempt.subject == account))
