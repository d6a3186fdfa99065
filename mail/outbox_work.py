"""The worker's side of the outbox before a message goes: look, claim, renew, give back.

Every step is one conditional statement on the database's clock, judged by its row count: nothing here is open while a
server is being talked to. A lease is a random token; whoever holds it, and nobody else, writes the outcome. The
statements are built once, because building them costs more than running them. `mail/outbox.py` offers all of these
under its own name; what comes of a claim is in `mail/outbox_finish.py`. Source: security.md 63-66, 72.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Table,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    update,
)

from extensions import db
from models import clock
from models.database import is_postgres, reading, writing
from models.email_settings import EmailSettings
from models.outbox import (
    SENDING_SQL,
    WAITING_SQL,
    Attempt,
    Message,
    MessageStatus,
    Priority,
    Recipient,
)
from models.prepared import Prepared
from models.rowsets import insert_from

LEASE = timedelta(seconds=90)
# A claim, a slot, lives this many times longer than the time between two signs of life of its worker.
RENEWALS_PER_LEASE = 4.5
# A worker was lost with it twice: from then on it goes alone, so that it takes nobody along.
SUSPECT_CLAIMS = 2

DUE_STATES = (MessageStatus.QUEUED, MessageStatus.DEFERRED, MessageStatus.UNCERTAIN)
# What time may still overtake: everything that has not ended and is not on its way this moment.
OPEN_STATES = (*DUE_STATES, MessageStatus.HELD)

messages = cast(Table, Message.__table__)
recipients = cast(Table, Recipient.__table__)
attempts = cast(Table, Attempt.__table__)
email_settings = cast(Table, EmailSettings.__table__)

_c = messages.c
# These words, not `in_`: a partial index is used only where the query says what the index says.
IS_WAITING: Final = cast("ColumnElement[bool]", text(WAITING_SQL))
IS_SENDING: Final = cast("ColumnElement[bool]", text(SENDING_SQL))
IN_TIME: Final = or_(_c.expires_at.is_(None), _c.expires_at > clock.now())
_IS_DUE: Final = (IS_WAITING, _c.due_at <= clock.now(), IN_TIME)


def unless_busy(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """SQL for messages that meet these conditions and that nobody else's open transaction is writing just now.

    For statements over many messages: on PostgreSQL they would wait for rows of a transaction that may, in its turn,
    wait for rows of theirs. What is left out is met the next time.
    """
    # Not a CTE, as in a claim: before Python 3.12 SQLite's driver counts no rows of a statement that begins with WITH.
    return _c.id.in_(select(_c.id).where(*conditions).with_for_update(skip_locked=True))


# The columns that say why a message does not go, when nothing is said.
NO_REASON: Final[dict[str, Any]] = {
    "hold_reason": None,
    "reason_code": "",
    "reason_detail": "",
    "reason_stage": "",
    "reason_family": "",
}
# A held message that is let go: due as before, as if it had never been taken.
QUEUED_AGAIN: Final[dict[str, Any]] = {
    "status": MessageStatus.QUEUED,
    **NO_REASON,
    "claims": 0,
    "lease": None,
    "lease_until": None,
}


@dataclass(frozen=True)
class ClaimedMessage:
    """A message in this worker's hands until its lease ends.

    Attributes:
        lease: proof of the claim; every later statement carries it.
        attempts: attempts before this one that counted against the retry limit.
        committing_at: when bytes of an earlier attempt may have reached the server without an answer; such a message
            goes out with the same bytes and the same sender again.
        claims: claims without an outcome, this one included; more than one: a worker was lost with it.
        number: of this attempt among all of the message's.
        size_bytes: of its content as it was handed in, attachments included.
    """

    id: int
    uid: str
    store_id: int
    lease: str = field(repr=False)
    attempts: int
    message_id: str
    date: datetime
    subject: str
    committing_at: datetime | None
    sender_name: str
    sender_address: str
    claims: int = 1
    number: int = 0
    size_bytes: int = 0
    priority: int = Priority.NORMAL


# Looking -----------------------------------------------------------------------------------------------------------


def has_due() -> bool:
    """Whether any message is due, asked without becoming a writer; leaves no transaction open."""
    return bool(due_stores())


def due_stores() -> list[int]:
    """Return the stores that have due mail, asked without becoming a writer.

    Jumps from one store that has something waiting to the next, so it costs by their number and not by the backlog.
    """
    with reading():
        return [store_id for (store_id,) in _DUE_STORES.fetch_alone(db.engine)]


def _due_stores() -> Prepared:
    first = select(func.min(_c.store_id).label("id")).where(IS_WAITING).cte("waiting", recursive=True)
    following = select(func.min(_c.store_id)).where(IS_WAITING, _c.store_id > first.c.id).scalar_subquery()
    stores = first.union_all(select(following).where(first.c.id.is_not(None)))
    is_due = exists(select(literal(1)).select_from(messages).where(_c.store_id == stores.c.id, *_IS_DUE))
    return Prepared(select(stores.c.id).where(stores.c.id.is_not(None), is_due))


_DUE_STORES: Final = _due_stores()


def backlog(store_id: int, *, at_most: int) -> int:
    """Return how many messages of a store are due, counted up to `at_most`; leaves no transaction open."""
    with reading():
        ((number,),) = _BACKLOG.fetch_alone(db.engine, {"store": store_id, "at_most": at_most})
    return int(number)


_BACKLOG: Final = Prepared(
    select(func.count()).select_from(
        select(_c.id)
        .where(_c.store_id == bindparam("store"), *_IS_DUE)
        .limit(bindparam("at_most", type_=Integer))
        .subquery()
    )
)


# Claiming ----------------------------------------------------------------------------------------------------------


def claim(
    *,
    limit: int,
    store_id: int | None = None,
    only_suspects: bool | None = None,
    lease: timedelta = LEASE,
) -> list[ClaimedMessage]:
    """Take up to `limit` due messages, most urgent and then oldest first, and commit.

    Args:
        only_suspects: True for messages that workers were lost with (`SUSPECT_CLAIMS`), False for all others.
    """
    token = secrets.token_hex(16)
    values = {"token": token, "limit": limit, "lease_ms": milliseconds(lease)}
    if store_id is not None:
        values["store"] = store_id
    at_once = is_postgres(db.engine)
    statement = _claim_statement(store_id is not None, only_suspects, begins_attempts=at_once)
    if at_once:
        with writing():
            return _in_order(statement.fetch_alone(db.engine, values))
    with writing(), db.engine.begin() as connection:
        claimed = _in_order(statement.fetch_all(connection, values))
        _BEGIN_ATTEMPT.run_many(connection, [{"message": one.id, "number": one.number} for one in claimed])
    return claimed


def _in_order(rows: Iterable[tuple[Any, ...]]) -> list[ClaimedMessage]:
    return [ClaimedMessage(*row[:-1]) for row in sorted(rows, key=_urgency)]


def _urgency(row: tuple[Any, ...]) -> tuple[int, datetime, int]:
    """Priority, time of being due, id: the order in which a claim takes messages, for the rows that it returns."""
    return row[-2], row[-1], row[0]


# With a sign before it, no index is searched by it: SQLite would take the one by time and sort all that waits for each
# claim, where the one in the order of claims ends after the first few.
_DUE_BY_NOW: Final = literal_column("+messages.due_at", _c.due_at.type) <= clock.now()


@lru_cache
def _claim_statement(of_store: bool, only_suspects: bool | None, *, begins_attempts: bool = False) -> Prepared:
    """Claim, and return the claimed in any order. `begins_attempts` writes their attempts along, on PostgreSQL only:
    each further statement costs a way there and back there.
    """
    due = select(_c.id).where(IS_WAITING, _DUE_BY_NOW, IN_TIME).order_by(_c.priority, _c.due_at, _c.id)
    due = due.limit(bindparam("limit", type_=Integer)).with_for_update(skip_locked=True)
    if of_store:
        due = due.where(_c.store_id == bindparam("store"))
    if only_suspects is not None:
        due = due.where(_c.claims >= SUSPECT_CLAIMS if only_suspects else _c.claims < SUSPECT_CLAIMS)
    # As a CTE the choice is made once; PostgreSQL may run a subquery again for a row that somebody else just changed.
    chosen = due.cte("due")
    claim = (
        update(messages)
        .where(_c.id.in_(select(chosen.c.id)))
        .values(
            status=MessageStatus.SENDING, lease=bindparam("token"),
            lease_until=clock.now_plus_ms(bindparam("lease_ms", type_=Integer)), claims=_c.claims + 1,
            last_attempt=_c.last_attempt + 1,
        )
        .returning(
            _c.id, _c.uid, _c.store_id, _c.lease, _c.attempts, _c.message_id, _c.date, _c.subject,
            _c.committing_at, _c.sender_name, _c.sender_address, _c.claims, _c.last_attempt, _c.size_bytes,
            _c.priority, _c.due_at,
        )
    )  # fmt: skip
    if not begins_attempts:
        return Prepared(claim)
    claimed = claim.cte("claimed")
    begun = {"message_id": claimed.c.id, "number": claimed.c.last_attempt, "started_at": clock.now()}
    begin = insert_from(attempts, begun, claimed.c.id)
    return Prepared(select(claimed).add_cte(begin.cte("begun")))


_BEGIN_ATTEMPT: Final = Prepared(
    insert(attempts).values(message_id=bindparam("message"), number=bindparam("number"), started_at=clock.now())
)


def give_back(claimed: Iterable[ClaimedMessage], connection: Connection) -> None:
    """Free claims whose messages were not begun, as if they had never been taken; in the caller's transaction."""
    rows = [{"row": one.id, "token": one.lease, "message": one.id, "attempt": one.number} for one in claimed]
    if rows:
        connection.execute(_GIVE_BACK, rows)
        connection.execute(_FORGET_ATTEMPT, rows)


_GIVE_BACK: Final = (
    update(messages)
    .where(_c.id == bindparam("row"), _c.lease == bindparam("token"), IS_SENDING)
    .values(
        # It keeps what is known of an earlier attempt: bytes of it may be with the server.
        status=case(
            (_c.committing_at.is_not(None), MessageStatus.UNCERTAIN.value),
            (_c.attempts > 0, MessageStatus.DEFERRED.value),
            else_=MessageStatus.QUEUED.value,
        ),
        claims=_c.claims - 1,
        last_attempt=_c.last_attempt - 1,
        lease=None,
        lease_until=None,
    )
)
_FORGET_ATTEMPT: Final = delete(attempts).where(
    attempts.c.message_id == bindparam("message"),
    attempts.c.number == bindparam("attempt"),
    attempts.c.finished_at.is_(None),
)


def renew(leases: Collection[str], *, lease: timedelta = LEASE) -> int:
    """Prolong the claims that are still ours, commit, and return how many they are.

    Messages that are being written down this moment are left out: one renewal of several may be missed.
    """
    with writing(), db.engine.begin() as connection:
        result = connection.execute(_RENEW, {"leases": list(leases), "lease_ms": milliseconds(lease)})
        return result.rowcount


_RENEW: Final = (
    update(messages)
    .where(unless_busy(_c.lease.in_(bindparam("leases", expanding=True)), IS_SENDING))
    .values(lease_until=clock.now_plus_ms(bindparam("lease_ms", type_=Integer)))
)


def milliseconds(duration: timedelta) -> int:
    return round(duration / timedelta(milliseconds=1))
