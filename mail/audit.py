"""Writing the audit trail: one entry in the same transaction as the change it tells of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from extensions import db
from models.audit import AuditEntry
from models.store import Store


@dataclass(frozen=True)
class Actor:
    """Who acts: a person by id and address, or a program by name only."""

    name: str
    user_id: int | None = None


SYSTEM = Actor("Storepost")


def record(
    actor: Actor, action: str, store: Store | None = None, *, fields: Iterable[str] = (), detail: str = ""
) -> None:
    """Add an audit entry to the current transaction; the caller commits.

    Args:
        fields: names of what changed; secrets as "client_secret: replaced", never their values.
    """
    db.session.add(
        AuditEntry(
            user_id=actor.user_id,
            actor=actor.name,
            store_id=store.id if store else None,
            store_code=store.code if store else "",
            action=action,
            fields=list(fields),
            detail=detail[:500],
        )
    )
