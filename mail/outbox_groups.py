"""Leave and results for several messages at once: the statements of a long backlog, where a message each would cost
most of the time a message takes.

The same conditions as for one (`mail/outbox_finish.py`), and the same promise: what is marked was asked for in the
statement that marks it, and a result is written only by whoever holds the claim. Source: security.md 64-66,
performance.md 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Text,
    bindparam,
    case,
    column,
    false,
    select,
    true,
    union_all,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from extensions import db
from mail import outbox_finish
from mail.outbox_finish import Leave
from mail.outbox_work import NO_REASON, ClaimedMessage, attempts, messages, recipients
from mail.outcomes import Outcome
from models import clock
from models.among import is_among
from models.database import is_postgres, writing
from models.outbox import MessageStatus, RecipientStatus
from models.prepared import Prepared
from models.rowsets import recordset

Result = tuple[ClaimedMessage, Outcome]

_c = messages.c


def finish_all(results: Sequence[Result], connection: Connection) -> list[Result]:
    """Write what came of messages, in the caller's transaction, and return the results whose claims are lost.

    Successes are written together, everything else as `outbox_finish.finish` does it.
    """
    sent = [result for result in results if _is_plain_success(result[1])]
    if not sent or (len(sent) == 1 and not is_postgres(connection)):
        return [result for result in results if not outbox_finish.finish(*result, connection)]
    written = _write_at_once(sent, connection) if is_postgres(connection) else _write_by_table(sent, connection)
    lost = [result for result in sent if result[0].id not in written]
    others = [result for result in results if not _is_plain_success(result[1])]
    return lost + [result for result in others if not outbox_finish.finish(*result, connection)]


def can_go_along(results: Sequence[Result]) -> bool:
    """Whether `finish_and_mark` can write these: on PostgreSQL, when all of them are successes and nothing else."""
    return is_postgres(db.engine) and all(_is_plain_success(outcome) for _, outcome in results)


def finish_and_mark(
    results: Sequence[Result], claimed: Sequence[ClaimedMessage], leave: Leave
) -> tuple[list[Result], set[int]]:
    """Write successes and ask for leave for other messages, all in one statement that is a transaction of its own;
    return the results whose claims are lost, and the row ids of those that may go.

    A way there and back, and a commit, for each group of messages, and no more: see `can_go_along`.
    """
    values = outbox_finish.leave_values(claimed, leave)
    with writing():
        if not results:
            return [], {row for (row,) in outbox_finish.MARK[leave.is_exact].fetch_alone(db.engine, values)}
        rows = _AT_ONCE_WITH_MARK[leave.is_exact].fetch_alone(db.engine, _values_at_once(results) | values)
    written = {row for row, is_mark in rows if not is_mark}
    return [result for result in results if result[0].id not in written], {row for row, is_mark in rows if is_mark}


def _is_plain_success(outcome: Outcome) -> bool:
    return outcome.status is MessageStatus.SENT and not outcome.code and outcome.hold_reason is None


def _write_by_table(results: Sequence[Result], connection: Connection) -> set[int]:
    """Write successes by one statement for each table, and return the row ids of those whose claims were ours."""
    rows = [_success_values(*result) for result in results]
    written = {row["row"] for row in rows}
    if _SENT.run_many(connection, rows) != len(rows):
        written = {row for (row,) in _ARE_SENT.fetch_all(connection, {"rows": list(written)})}
    _ATTEMPT_SENT.run_many(connection, [_attempt_values(*result) for result in results if result[0].id in written])
    recipients = [one for result in results if result[0].id in written for one in _recipients_of(*result)]
    outbox_finish.FINISH_RECIPIENT.run_many(connection, recipients)
    return written


def _write_at_once(results: Sequence[Result], connection: Connection) -> set[int]:
    """The same in one statement: each further one costs a way there and back, and its rows the driver time."""
    return {row for (row,) in _AT_ONCE.fetch_all(connection, _values_at_once(results))}


def _values_at_once(results: Sequence[Result]) -> dict[str, Any]:
    sent = [_success_values(*result) | _attempt_values(*result) for result in results]
    people = [one for result in results for one in _recipients_of(*result)]
    rows = [claimed.id for claimed, _ in results]
    return {"finished": rows, "sent": json.dumps(sent), "people": json.dumps(people)}


def _recipients_of(claimed: ClaimedMessage, outcome: Outcome) -> list[dict[str, Any]]:
    return [outbox_finish.recipient_values(claimed.id, one) for one in outcome.recipients]


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


def _sent(queue_id: ColumnElement[str]) -> dict[str, Any]:
    return {
        "status": MessageStatus.SENT,
        **NO_REASON,
        "lease": None,
        "lease_until": None,
        "claims": 0,
        "attempts": _c.attempts + 1,
        "remote_id": case((queue_id != "", queue_id), else_=_c.remote_id),
        "ended_at": clock.now(),
    }


def _attempt_sent(given: Callable[[str], ColumnElement[Any]]) -> dict[str, Any]:
    return {
        "finished_at": clock.now(),
        "method": given("by"),
        "host": given("at_host"),
        "outcome": MessageStatus.SENT.value,
        "stage": "",
        "code": "",
        "reply_code": given("answer_code"),
        "reply": given("answer"),
        "remote_id": given("queue_id"),
    }


_SENT: Final = Prepared(
    update(messages)
    .where(_c.id == bindparam("row"), _c.lease == bindparam("token"))
    .values(_sent(bindparam("queue_id")))
)
_ATTEMPT_SENT: Final = Prepared(
    update(attempts)
    .where(attempts.c.message_id == bindparam("row"), attempts.c.number == bindparam("number_"))
    .values(_attempt_sent(bindparam))
)


def _at_once(mark: ReturningUpdate[Any] | None = None) -> Prepared:
    """Everything that successes write; returns the row ids of those whose claims were ours.

    With the statement of a mark beside it, on other messages: also the rows of that one, told apart by TRUE.
    """
    texts = ("token", "by", "at_host", "answer", "queue_id")
    numbers = [column("row", BigInteger), column("number_", Integer), column("answer_code", Integer)]
    sent = recordset("sent", *numbers, *(column(name, Text) for name in texts))
    people = recordset(
        "people",
        column("of_message", BigInteger),
        column("mailbox", Text),
        column("to_status", Text),
        column("answer_code", Integer),
        column("answer", Text),
    )
    written = (
        update(messages)
        # The first of these only for its planner: it takes a JSON value for a hundred rows, and would look at the whole
        # table instead of fetching as many.
        .where(is_among(_c.id, "finished"), _c.id == sent.c.row, _c.lease == sent.c.token)
        .values(_sent(sent.c.queue_id))
        .returning(_c.id)
        .cte("written")
    )
    tried = (
        update(attempts)
        .where(
            attempts.c.message_id == written.c.id,
            sent.c.row == written.c.id,
            attempts.c.number == sent.c.number_,
        )
        .values(_attempt_sent(lambda name: sent.c[name]))
        .cte("tried")
    )
    reached = (
        update(recipients)
        .where(
            recipients.c.message_id == written.c.id,
            people.c.of_message == written.c.id,
            recipients.c.address == people.c.mailbox,
            recipients.c.status != RecipientStatus.ACCEPTED.value,
        )
        .values(status=people.c.to_status, reply_code=people.c.answer_code, reply=people.c.answer)
        .cte("reached")
    )
    if mark is None:
        return Prepared(select(written.c.id).add_cte(tried, reached))
    marked = mark.cte("marked")
    both = union_all(select(written.c.id, false()), select(marked.c.id, true()))
    return Prepared(both.add_cte(tried, reached))


_AT_ONCE: Final = _at_once()
_AT_ONCE_WITH_MARK: Final = {
    exactly: _at_once(outbox_finish.mark_statement(exactly=exactly)) for exactly in (True, False)
}
