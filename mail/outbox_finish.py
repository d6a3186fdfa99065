"""The worker's side of the outbox once a message goes: mark, finish, hold the queue, sweep up.

One conditional statement each, on the database's clock, judged by its row count; built once. `mail/outbox.py` offers
all of these under its own name. Source: security.md 64-68, 72.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    CursorResult,
    Integer,
    Update,
    and_,
    bindparam,
    case,
    exists,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from extensions import db
from mail.outbox_work import (
    IN_TIME,
    IS_SENDING,
    IS_WAITING,
    OPEN_STATES,
    ClaimedMessage,
    attempts,
    email_settings,
    messages,
    milliseconds,
    recipients,
    unless_busy,
)
from mail.outcomes import Outcome, RecipientOutcome
from models import clock
from models.among import is_among
from models.database import reading, writing
from models.email_settings import UncertainChoice
from models.outbox import HoldReason, MessageStatus, RecipientStatus
from models.prepared import Prepared

POISON_CLAIMS = 5

_c = messages.c


@dataclass(frozen=True)
class Leave:
    """What must still hold when the bytes that commit are about to go, and what is noted then (security.md 64).

    `settings_version` and `connection_id`: of the settings that the message was made ready with; None for the version
    asks only for the method.
    """

    method: str
    sender_name: str
    sender_address: str
    settings_version: int | None = None
    connection_id: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it asks for the very settings, and not only for the method."""
        return self.settings_version is not None


# The moment before, and what came of it ----------------------------------------------------------------------------


def mark_committing(claimed: ClaimedMessage, leave: Leave, connection: Connection | None = None) -> bool:
    """Ask for leave to send the bytes that commit, and note in the same statement that they are on their way.

    False when the claim is lost, the message expired, emails were turned off, the method was switched or the settings
    were saved since: nothing may be sent then. Commits, unless it is given the connection of a transaction.
    Source: security.md 64.
    """
    with _transaction(connection) as transaction:
        return bool(mark_all_committing([claimed], leave, transaction))


def mark_all_committing(claimed: Sequence[ClaimedMessage], leave: Leave, connection: Connection) -> set[int]:
    """Ask the same for messages of one claim, in the caller's transaction; return the row ids of those that may go."""
    return {row for (row,) in MARK[leave.is_exact].fetch_all(connection, leave_values(claimed, leave))}


def leave_values(claimed: Sequence[ClaimedMessage], leave: Leave) -> dict[str, Any]:
    return {
        "rows": [one.id for one in claimed],
        "token": claimed[0].lease,
        "store": claimed[0].store_id,
        "as_name": leave.sender_name,
        "as_address": leave.sender_address,
        "by": leave.method,
        "version": leave.settings_version,
        "grant": leave.connection_id,
    }


def mark_statement(*, exactly: bool) -> ReturningUpdate[Any]:
    """The statement that asks for leave and notes it, with `leave_values`; returns the row ids of those that may go."""
    s = email_settings.c
    wanted = [s.store_id == bindparam("store"), s.emails_off.is_(False), s.method == bindparam("by")]
    if exactly:
        grant: ColumnElement[Any] = bindparam("grant", type_=Integer)
        wanted += [s.version == bindparam("version"), or_(s.connection_id == grant, grant.is_(None))]
    return (
        update(messages)
        .where(
            is_among(_c.id, "rows"),
            _c.lease == bindparam("token"),
            IS_SENDING,
            _c.lease_until > clock.now(),
            IN_TIME,
            exists().where(*wanted),
        )
        .values(
            committing_at=clock.now(),
            # An earlier attempt may have got through, so from now on this may be the second copy.
            maybe_sent_twice=or_(_c.maybe_sent_twice, _c.committing_at.is_not(None)),
            sender_name=bindparam("as_name"),
            sender_address=bindparam("as_address"),
            method=bindparam("by"),
        )
        .returning(_c.id)
    )


MARK: Final = {exactly: Prepared(mark_statement(exactly=exactly)) for exactly in (True, False)}


def has_expired(claimed: ClaimedMessage) -> bool:
    """Whether the message became worthless meanwhile, by the database's clock."""
    with reading(), db.engine.begin() as connection:
        return connection.execute(_HAS_EXPIRED, {"row": claimed.id}).first() is not None


_HAS_EXPIRED: Final = select(_c.id).where(_c.id == bindparam("row"), _c.expires_at <= clock.now())


def finish(claimed: ClaimedMessage, outcome: Outcome, connection: Connection | None = None) -> bool:
    """Write the outcome; False, with nothing written, when the claim is no longer ours. Commits, unless it is given
    the connection of a transaction.

    A claim whose lease ran out but which nobody took again is still ours: a result kept through an outage of the
    database counts. When the trouble is the store's and not the message's, the rest of its queue is held along.
    """
    values = _outcome_values(claimed, outcome)
    with _transaction(connection) as transaction:
        if _FINISH.run(transaction, values) != 1:
            return False
        _FINISH_ATTEMPT.run(transaction, values)
        FINISH_RECIPIENT.run_many(transaction, [recipient_values(claimed.id, one) for one in outcome.recipients])
        if outcome.holds_queue and outcome.hold_reason is not None:
            transaction.execute(hold_statement(claimed.store_id, outcome.hold_reason, outcome))
    return True


@contextmanager
def _transaction(connection: Connection | None) -> Iterator[Connection]:
    """The caller's transaction, which commits then, or one of our own."""
    if connection is not None:
        yield connection
    else:
        with writing(), db.engine.begin() as own:
            yield own


def _outcome_values(claimed: ClaimedMessage, outcome: Outcome) -> dict[str, Any]:
    status = outcome.status
    has_sent_nothing = outcome.is_definite and status is not MessageStatus.SENT
    return {
        "row": claimed.id,
        "token": claimed.lease,
        "number_": claimed.number,
        "to_status": status,
        "to_hold": outcome.hold_reason,
        "code_": outcome.code[:80],
        "said": "" if status is MessageStatus.SENT and not outcome.code else outcome.detail,
        "at_stage": outcome.stage,
        "of_family": outcome.family,
        "counted": 1 if outcome.counts or status in (MessageStatus.SENT, MessageStatus.FAILED) else 0,
        # This attempt sent nothing; whether an earlier one did is as open as before.
        "restores": has_sent_nothing,
        "was_committing_at": claimed.committing_at if has_sent_nothing else None,
        "queue_id": outcome.remote_id[:255],
        "wait_ms": milliseconds(outcome.wait),
        "has_ended": status in (MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.EXPIRED),
        "by": outcome.method,
        "at_host": outcome.host,
        "outcome_": status.value,
        "answer_code": outcome.reply_code,
        "answer": outcome.detail,
    }


_WAIT: Final[ColumnElement[int]] = bindparam("wait_ms", type_=Integer)
_QUEUE_ID: Final[ColumnElement[str]] = bindparam("queue_id")
_FINISH: Final = Prepared(
    update(messages)
    .where(_c.id == bindparam("row"), _c.lease == bindparam("token"))
    .values(
        status=bindparam("to_status"),
        hold_reason=bindparam("to_hold"),
        reason_code=bindparam("code_"),
        reason_detail=bindparam("said"),
        reason_stage=bindparam("at_stage"),
        reason_family=bindparam("of_family"),
        lease=None,
        lease_until=None,
        claims=0,  # counts claims without an outcome
        attempts=_c.attempts + bindparam("counted", type_=Integer),
        committing_at=case(
            (bindparam("restores", type_=Boolean), bindparam("was_committing_at", type_=_c.committing_at.type)),
            else_=_c.committing_at,
        ),
        remote_id=case((_QUEUE_ID != "", _QUEUE_ID), else_=_c.remote_id),
        due_at=case((_WAIT > 0, clock.now_plus_ms(_WAIT)), else_=_c.due_at),
        ended_at=case((bindparam("has_ended", type_=Boolean), clock.now()), else_=None),
    )
)
_FINISH_ATTEMPT: Final = Prepared(
    update(attempts)
    .where(attempts.c.message_id == bindparam("row"), attempts.c.number == bindparam("number_"))
    .values(
        finished_at=clock.now(),
        method=bindparam("by"),
        host=bindparam("at_host"),
        outcome=bindparam("outcome_"),
        stage=bindparam("at_stage"),
        code=bindparam("code_"),
        reply_code=bindparam("answer_code"),
        reply=bindparam("answer"),
        remote_id=bindparam("queue_id"),
    )
)
FINISH_RECIPIENT: Final = Prepared(
    update(recipients)
    .where(
        recipients.c.message_id == bindparam("of_message"),
        recipients.c.address == bindparam("mailbox"),
        recipients.c.status != RecipientStatus.ACCEPTED.value,
    )
    .values(status=bindparam("to_status"), reply_code=bindparam("answer_code"), reply=bindparam("answer"))
)


def recipient_values(message_id: int, one: RecipientOutcome) -> dict[str, Any]:
    return {
        "of_message": message_id,
        "mailbox": one.address,
        "to_status": one.status,
        "answer_code": one.reply_code,
        "answer": one.reply,
    }


# The queue as a whole ----------------------------------------------------------------------------------------------


def hold_queue(store_id: int, reason: HoldReason, outcome: Outcome | None = None) -> int:
    """Hold everything of a store that waits, and return how much that is; the caller commits.

    Otherwise each waiting message would run into the same refusal, and a provider that counts failed sign-ins would
    lock the mailbox.
    """
    return row_count(hold_statement(store_id, reason, outcome))


def hold_statement(store_id: int, reason: HoldReason, outcome: Outcome | None) -> Update:
    return (
        update(messages)
        .where(_c.store_id == store_id, IS_WAITING)
        .values(
            status=MessageStatus.HELD,
            hold_reason=reason,
            reason_code=outcome.code[:80] if outcome else "",
            reason_detail=outcome.detail if outcome else "",
            reason_stage=outcome.stage if outcome else "",
            reason_family=outcome.family if outcome else "",
            lease=None,
            lease_until=None,
        )
    )


def sweep(*, until: float = math.inf) -> int | None:
    """Free the claims whose lease ran out, end what expired, commit, and return how many rows changed.

    Becomes a writer only when there is something to do. The token of a freed claim stays until somebody else takes
    the message, so that a result that was kept through an outage still finds it.

    Args:
        until: with the right to write later than this, on this process's monotonic clock, it does nothing and returns
            None: others have waited as long, and could not renew their claims.
    """
    with reading(), db.engine.begin() as connection:
        if connection.execute(_ANYTHING_TO_SWEEP).first() is None:
            return 0
    with writing(), db.engine.begin() as connection:
        if time.monotonic() > until:
            return None
        return sum(connection.execute(statement).rowcount for statement in (_PARK_POISON, _FREE_LOST, _END_LATE))


_RAN_OUT: Final = and_(IS_SENDING, _c.lease_until <= clock.now())
_IS_LATE: Final = and_(
    text("expires_at IS NOT NULL AND ended_at IS NULL"), _c.expires_at <= clock.now(), _c.status.in_(OPEN_STATES)
)
_ANYTHING_TO_SWEEP: Final = (
    select(_c.id).where(_RAN_OUT).limit(1).subquery().select().union_all(
        select(_c.id).where(_IS_LATE).limit(1).subquery().select()
    )
)  # fmt: skip
_PARK_POISON: Final = (
    update(messages)
    .where(unless_busy(_RAN_OUT, _c.claims >= POISON_CLAIMS))
    .values(
        status=MessageStatus.HELD, hold_reason=HoldReason.POISON, reason_code="poison", lease=None, lease_until=None
    )
)
_MAY_BE_SENT: Final = _c.committing_at.is_not(None)
_ASKS: Final = exists().where(
    email_settings.c.store_id == _c.store_id, email_settings.c.on_uncertain == UncertainChoice.ASK
)
_FREE_LOST: Final = (
    update(messages)
    .where(unless_busy(_RAN_OUT))
    .values(
        status=case(
            (and_(_MAY_BE_SENT, _ASKS), MessageStatus.HELD.value),
            (_MAY_BE_SENT, MessageStatus.UNCERTAIN.value),
            else_=MessageStatus.QUEUED.value,
        ),
        hold_reason=case((and_(_MAY_BE_SENT, _ASKS), HoldReason.UNCERTAIN.value), else_=None),
        reason_code=case((_MAY_BE_SENT, "worker_lost"), else_=""),
        lease_until=None,
    )
)
_END_LATE: Final = (
    update(messages)
    .where(unless_busy(_IS_LATE))
    .values(status=MessageStatus.EXPIRED, hold_reason=None, ended_at=clock.now(), lease=None, lease_until=None)
)


def row_count(statement: Any) -> int:
    """Execute a statement in the current transaction and return how many rows it met."""
    result = cast("CursorResult[Any]", db.session.execute(statement))
    return result.rowcount
