"""The mail of all stores of a connection, held and let go together. Each store in a short transaction of its own."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import and_, bindparam, func, or_, select

from extensions import db
from mail import outbox_finish, outcomes
from mail.errors import Family, Stage
from mail.outbox_work import QUEUED_AGAIN, email_settings, messages
from mail.outcomes import Outcome
from mail.terms import LOCK_SETTINGS, is_held_for_the_store
from models import clock
from models.connection import Health
from models.database import reading, writing
from models.email_settings import Method
from models.outbox import HoldReason, MessageStatus

_REASONS: Final = {
    Health.NEEDS_REAUTHORIZATION: HoldReason.NEEDS_REAUTHORIZATION,
    Health.SETTINGS_WRONG: HoldReason.SETTINGS_WRONG,
}
_STORES: Final = select(email_settings.c.store_id).where(
    email_settings.c.connection_id == bindparam("grant"),
    email_settings.c.method == Method.ADVANCED_SMTP,
    email_settings.c.emails_off.is_(False),
)
_RELEASE: Final = (
    messages.update()
    .where(
        is_held_for_the_store(bindparam("store")),
        messages.c.hold_reason.in_(tuple(_REASONS.values())),
    )
    .values(QUEUED_AGAIN)
)


def trouble_of(state: Health, code: str, detail: str) -> Outcome:
    """Return the hold of a message whose connection is in this state; it uses up no attempt."""
    words = Outcome(MessageStatus.HELD, code=code, detail=detail, stage=Stage.TOKEN.value, family=Family.TOKEN.value)
    return outcomes.held(_REASONS[state], words)


def hold_for(connection_id: int, state: Health, code: str, detail: str) -> None:
    """Hold what waits in all stores of a connection that cannot be used until a person acts. Commits.

    A worker that dies before all of it is held loses nothing: whoever looks at a store's way out holds the rest.
    """
    outcome = trouble_of(state, code, detail)
    assert outcome.hold_reason is not None  # `trouble_of` gives one
    for store_id in stores_of(connection_id):
        with writing(), db.engine.begin() as transaction:
            transaction.execute(outbox_finish.hold_statement(store_id, outcome.hold_reason, outcome))


def release_for(connection_id: int) -> None:
    """Let go what was held in all stores of a connection that works again; what expired meanwhile expires. Commits."""
    for store_id in stores_of(connection_id):
        with writing(), db.engine.begin() as transaction:
            # Wait for messages that are just being accepted under the old state; see `mail/terms`.
            transaction.execute(LOCK_SETTINGS, {"store": store_id})
            transaction.execute(_RELEASE, {"store": store_id})


def expired_since(store_id: int, since: datetime) -> int:
    """Return how many messages became worthless while they were held: those of a lost grant, since it was lost."""
    c = messages.c
    was_late = and_(c.status == MessageStatus.EXPIRED, c.ended_at >= since)
    is_late = and_(c.status == MessageStatus.HELD, c.expires_at <= clock.now())
    query = select(func.count()).where(c.store_id == store_id, or_(was_late, is_late))
    return db.session.scalar(query) or 0


def stores_of(connection_id: int) -> list[int]:
    """Return the ids of the stores that send by this connection now."""
    with reading(), db.engine.begin() as transaction:
        return list(transaction.scalars(_STORES, {"grant": connection_id}))
