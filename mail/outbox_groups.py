"""Leave and results for several messages at once: the statements of a long backlog, where a message each would cost
most of the time a message takes.

The same conditions as for one (`mail/outbox_finish.py`), and the same promise: what is marked was asked for in the
statement that marks it, and a result is written only by whoever holds the claim. Source: security.md 64-66,
performance.md 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, bindparam, case, select, update

from mail import outbox_finish
from mail.outbox_work import ClaimedMessage, attempts, messages
from mail.outcomes import Outcome
from models import clock
from models.among import is_among
from models.outbox import MessageStatus
from models.prepared import Prepared

Result = tuple[ClaimedMessage, Outcome]

_c = messages.c


def finish_all(results: Sequence[Result], connection: Connection) -> list[Result]:
    """Write what came of messages, in the caller's transaction, and return the results whose claims are lost.

    Successes are written together, everything else as `outbox_finish.finish` does it.
    """
    sent = [result for result in results if _is_plain_success(result[1])]
    if len(sent) < 2:
        return [result for result in results if not outbox_finish.finish(*result, connection)]
    rows = [_success_values(*result) for result in sent]
    lost: list[Result] = []
    if _SENT.run_many(connection, rows) != len(rows):
        written = {row for (row,) in _ARE_SENT.fetch_all(connection, {"rows": [row["row"] for row in rows]})}
        lost = [result for result in sent if result[0].id not in written]
        sent = [result for result in sent if result[0].id in written]
    _note_successes(sent, connection)
    others = [result for result in results if not _is_plain_success(result[1])]
    return lost + [result for result in others if not outbox_finish.finish(*result, connection)]


def _is_plain_success(outcome: Outcome) -> bool:
    return outcome.status is MessageStatus.SENT and not outcome.code and outcome.hold_reason is None


def _note_successes(results: Sequence[Result], connection: Connection) -> None:
    _ATTEMPT_SENT.run_many(connection, [_attempt_values(*result) for result in results])
    recipients = [
        outbox_finish.recipient_values(claimed.id, one) for claimed, outcome in results for one in outcome.recipients
    ]
    outbox_finish.FINISH_RECIPIENT.run_many(connection, recipients)


def _success_values(claimed: ClaimedMessage, outcome: Outcome) -> dict[str, Any]:
    return {"row": claimed.id, "token": claimed.lease, "queue_id": outcome.remote_id[:255]}


def _attempt_values(claimed: ClaimedMessage, outcome: Outcome) -> dict[str, Any]:
    return {
        "row": claimed.id,
        "number_": claimed.number,
        "by": outcome.method,
        "at_host": outcome.host,
        "answer_code": outcome.reply_code,
        "answer": outcome.detail,
        "queue_id": outcome.remote_id[:255],
    }


# What somebody else sent meanwhile counts as well: our own attempt's row and recipients say the same then.
_ARE_SENT: Final = Prepared(
    select(_c.id).where(is_among(_c.id, "rows"), _c.status == bindparam("status", MessageStatus.SENT))
)
_QUEUE_ID: Final[ColumnElement[str]] = bindparam("queue_id")
_SENT: Final = Prepared(
    update(messages)
    .where(_c.id == bindparam("row"), _c.lease == bindparam("token"))
    .values(
        status=MessageStatus.SENT,
        hold_reason=None,
        reason_code="",
        reason_detail="",
        reason_stage="",
        reason_family="",
        lease=None,
        lease_until=None,
        claims=0,
        attempts=_c.attempts + 1,
        remote_id=case((_QUEUE_ID != "", _QUEUE_ID), else_=_c.remote_id),
        ended_at=clock.now(),
    )
)
_ATTEMPT_SENT: Final = Prepared(
    update(attempts)
    .where(attempts.c.message_id == bindparam("row"), attempts.c.number == bindparam("number_"))
    .values(
        finished_at=clock.now(),
        method=bindparam("by"),
        host=bindparam("at_host"),
        outcome=MessageStatus.SENT.value,
        stage="",
        code="",
        reply_code=bindparam("answer_code"),
        reply=bindparam("answer"),
        remote_id=bindparam("queue_id"),
    )
)
