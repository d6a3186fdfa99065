"""Looking after connections while nobody sends: tokens renewed ahead of expiry, idle grants used before they lapse.

Any number of workers look; a conditional UPDATE on the database's clock gives each connection to one of them. A
connection whose trouble only a person can mend is left alone. Source: product.md 4, performance.md 6 line 14.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, and_, case, exists, func, or_, select, text, type_coerce

from extensions import db
from mail import lifetimes, token_lease
from mail.equipment import Equipment
from mail.errors import MailError
from mail.health import FINAL
from mail.outbox_work import IS_WAITING, email_settings, messages
from mail.token_lease import Seen
from mail.tokens import access_token_for
from models import clock
from models.connection import Connection, GrantType
from models.database import reading
from models.email_settings import Method
from models.outbox import SENT_SQL
from security.vault import Unreadable

logger = logging.getLogger(__name__)

# An idle grant is used this often, or twice in the time that its provider lets it lie (product.md 4).
KEEP_ALIVE: Final = timedelta(days=7)
# A token is renewed ahead when mail waits for it, or went out by it lately: an idle store costs its provider nothing.
IN_USE: Final = timedelta(hours=1)
# Twice the margin at which a sender would renew it (`mail/tokens`)
AHEAD: Final = timedelta(seconds=600)
# Who looks after a connection has it for so long; nobody looks again before.
CARE: Final = timedelta(seconds=60)
# A keep-alive that failed has days left.
CARE_AFTER_TROUBLE: Final = timedelta(minutes=15)
AT_A_TIME: Final = 20


def look_after_all(equipment: Equipment) -> int:
    """Renew what is due and nobody else has in hand; return how many connections that were. Commits.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database is away.
    """
    count = 0
    for connection_id in due():
        if claim(connection_id):
            count += 1
            look_after(connection_id, equipment)
    return count


def due() -> list[int]:
    """Return the ids of connections whose token or grant is to be renewed now, the most urgent first."""
    with reading(), db.engine.begin() as transaction:
        return list(transaction.scalars(_DUE))


def claim(connection_id: int) -> bool:
    """Take a connection into our hands for `CARE`; False when another worker has it. Commits."""
    return token_lease.change(connection_id, {"care_until": clock.now(CARE)}, _IS_FREE, _NEEDS_CARE)


def look_after(connection_id: int, equipment: Equipment) -> None:
    """Renew the token of a connection that we claimed. Whatever goes wrong stands in its row then. Commits."""
    is_idle = _lies_idle(token_lease.read(connection_id))
    try:
        access_token_for(connection_id, equipment=equipment, ahead=True, renew=is_idle)
    except (MailError, Unreadable) as trouble:
        logger.info("a token could not be renewed ahead of its use", extra={"connection_id": connection_id})
        logger.debug("why: %s", type(trouble).__name__)
        wait = CARE_AFTER_TROUBLE if is_idle else CARE
        token_lease.change(connection_id, {"care_until": clock.now(wait)})


def _lies_idle(seen: Seen) -> bool:
    """Whether the grant itself is to be used, however long the access token still lasts."""
    used_at, told = lifetimes.last_used_at(seen.connection), seen.connection.idle_limit_s
    limit = min(KEEP_ALIVE, timedelta(seconds=told) / 2) if told else KEEP_ALIVE
    return used_at is not None and used_at + limit <= seen.now


def _ms(column: Any) -> ColumnElement[int]:
    return type_coerce(column, BigInteger())


_NOW: Final = _ms(clock.now())
_IS_FREE: Final = or_(Connection.care_until.is_(None), Connection.care_until <= clock.now())
_ENDS: Final = _ms(Connection.access_token_expires_at)
_IS_ENDING: Final = and_(
    Connection.access_token_expires_at <= clock.now(AHEAD),
    # A fifth of a short life; one whose beginning is not known gets ten minutes.
    or_(Connection.refreshed_at.is_(None), _ENDS - _ms(Connection.refreshed_at) >= 5 * (_ENDS - _NOW)),
)
_stores_message: Final = and_(
    email_settings.c.connection_id == Connection.id,
    email_settings.c.method == Method.ADVANCED_SMTP,
    messages.c.store_id == email_settings.c.store_id,
)
_IS_USED: Final = or_(
    exists().where(_stores_message, IS_WAITING),
    exists().where(_stores_message, text(f"messages.{SENT_SQL}"), messages.c.ended_at >= clock.now(-IN_USE)),
)
# A pasted token counts from when it was pasted.
_USED_AT: Final = _ms(
    case(
        (Connection.refresh_token_set_at > Connection.refreshed_at, Connection.refresh_token_set_at),
        else_=func.coalesce(Connection.refreshed_at, Connection.refresh_token_set_at, Connection.created_at),
    )
)
_IS_IDLE: Final = and_(
    Connection.refresh_token_sealed.is_not(None),
    or_(
        _ms(clock.now(-KEEP_ALIVE)) >= _USED_AT,
        and_(Connection.idle_limit_s.is_not(None), _USED_AT + 500 * Connection.idle_limit_s <= _NOW),
    ),
)
_NEEDS_CARE: Final = and_(
    Connection.health.not_in(FINAL),
    Connection.token_url != "",
    or_(Connection.refresh_token_sealed.is_not(None), Connection.grant_type == GrantType.CLIENT_CREDENTIALS),
    or_(_IS_IDLE, and_(_IS_ENDING, _IS_USED)),
)
_DUE: Final = (
    select(Connection.id)
    .where(_IS_FREE, _NEEDS_CARE)
    .order_by(Connection.access_token_expires_at.is_(None), Connection.access_token_expires_at)
    .limit(AT_A_TIME)
)
