"""Leave and results for several messages at once come to the same as one by one, on SQLite and PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from extensions import db as database
from mail import outbox, outbox_finish, outbox_groups, outbox_mending
from mail.errors import Refused, Stage
from mail.outbox import ClaimedMessage, Leave
from mail.outcomes import Outcome, RecipientOutcome, of_error
from models import Message, clock
from models.database import reading, writing
from models.outbox import MessageStatus, RecipientStatus

LEAVE = Leave("advanced_smtp", "Acme", "orders@acme.example")


@pytest.fixture
def claimed(put: Any) -> list[ClaimedMessage]:
    """Five messages in one claim."""
    for number in range(5):
        put(subject=f"No. {number}")
    return outbox.claim(limit=5)


def sent(number: int) -> Outcome:
    return Outcome(
        MessageStatus.SENT,
        detail=f"2.0.0 queued as Q{number}",
        reply_code=250,
        remote_id=f"Q{number}",
        method="smtp",
        host="mail.acme.example",
        recipients=(RecipientOutcome("lena@shop.example", RecipientStatus.ACCEPTED, 250, "2.1.5 Ok"),),
    )


def mark(claimed: list[ClaimedMessage]) -> set[int]:
    with writing(), database.engine.begin() as connection:
        return outbox_finish.mark_all_committing(claimed, LEAVE, connection)


def finish(results: list[tuple[ClaimedMessage, Outcome]]) -> list[tuple[ClaimedMessage, Outcome]]:
    with writing(), database.engine.begin() as connection:
        return outbox_groups.finish_all(results, connection)


def facts(message: Message) -> tuple[Any, ...]:
    """Everything that a result writes, but for times."""
    (attempt,), (recipient,) = message.attempt_rows, message.recipients
    return (
        message.status, message.reason_code, message.reason_detail, message.lease, message.claims, message.attempts,
        message.ended_at is not None, attempt.outcome, attempt.method, attempt.host, attempt.stage, attempt.code,
        attempt.reply_code, attempt.finished_at is not None, recipient.status, recipient.reply_code, recipient.reply,
    )  # fmt: skip


def finish_and_mark(
    results: list[tuple[ClaimedMessage, Outcome]], claimed: list[ClaimedMessage], leave: Leave = LEAVE
) -> tuple[list[tuple[ClaimedMessage, Outcome]], set[int]]:
    if not outbox_groups.can_go_along(results):
        pytest.skip("a file is written by a statement for each table")
    return outbox_groups.finish_and_mark(results, claimed, leave)


def test_together_they_are_written_as_one_by_one(claimed: list[ClaimedMessage], row: Any) -> None:
    assert finish([(one, sent(number)) for number, one in enumerate(claimed[:4])]) == []
    assert outbox.finish(claimed[4], sent(4))
    with reading():
        rows = [row(one.uid) for one in claimed]
        alone = facts(rows[4])
        assert alone[0] is MessageStatus.SENT
        for number, message in enumerate(rows[:4]):
            assert facts(message) == (*alone[:2], message.reason_detail, *alone[3:])
            assert message.attempt_rows[0].reply == f"2.0.0 queued as Q{number}"
            assert message.remote_id == message.attempt_rows[0].remote_id == f"Q{number}"


def test_a_lost_claim_is_told_and_left_alone_while_the_others_are_written(
    claimed: list[ClaimedMessage], row: Any
) -> None:
    database.session.execute(update(Message).where(Message.id == claimed[1].id).values(lease="somebody-else"))
    database.session.commit()
    results = [(one, sent(number)) for number, one in enumerate(claimed)]
    assert [one.id for one, _ in finish(results)] == [claimed[1].id]
    with reading():
        assert [row(one.uid).status for one in claimed] == [
            MessageStatus.SENT, MessageStatus.SENDING, MessageStatus.SENT, MessageStatus.SENT, MessageStatus.SENT,
        ]  # fmt: skip
        lost = row(claimed[1].uid)
        assert lost.lease == "somebody-else"
        assert lost.attempt_rows[0].finished_at is None
        assert lost.recipients[0].status is RecipientStatus.WAITING


def test_failures_among_successes_keep_their_own_words(claimed: list[ClaimedMessage], row: Any) -> None:
    refused = of_error(Refused("message_refused", "554 5.7.1 spam", stage=Stage.MESSAGE), [], attempts=0)
    results = [(one, refused if number == 2 else sent(number)) for number, one in enumerate(claimed)]
    assert finish(results) == []
    with reading():
        assert row(claimed[2].uid).status is MessageStatus.FAILED
        assert row(claimed[2].uid).reason_detail == "554 5.7.1 spam"
        assert row(claimed[3].uid).status is MessageStatus.SENT


def test_what_an_earlier_attempt_was_filed_under_is_kept_when_the_server_gives_no_name(
    claimed: list[ClaimedMessage], row: Any
) -> None:
    database.session.execute(update(Message).where(Message.id == claimed[0].id).values(remote_id="EARLIER"))
    database.session.commit()
    finish([(claimed[0], replace(sent(0), remote_id="")), (claimed[1], sent(1))])
    assert row(claimed[0].uid).remote_id == "EARLIER"


def test_leave_is_given_only_to_those_that_may_go(claimed: list[ClaimedMessage], row: Any) -> None:
    late, lost, free = claimed[0], claimed[2], claimed[3]
    for one, values in (
        (late, {"expires_at": clock.now(timedelta(seconds=-1))}),
        (lost, {"lease": "somebody-else"}),
        (free, {"status": MessageStatus.QUEUED}),
    ):
        database.session.execute(update(Message).where(Message.id == one.id).values(values))
    database.session.commit()
    assert mark(claimed) == {claimed[1].id, claimed[4].id}
    with reading():
        assert row(claimed[1].uid).committing_at is not None
        assert row(late.uid).committing_at is None
        assert row(lost.uid).committing_at is None


def test_nobody_gets_leave_while_emails_are_off(claimed: list[ClaimedMessage]) -> None:
    database.session.execute(database.text("UPDATE email_settings SET emails_off = true"))
    database.session.commit()
    assert mark(claimed) == set()


def test_whoever_writes_to_many_waits_for_nobody_who_is_writing_them_down(
    claimed: list[ClaimedMessage], database_url: str, row: Any
) -> None:
    """Two that wait for each other's rows would both stand still until the database ends one of them."""
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    lease = timedelta(seconds=90)
    with writing(), database.engine.begin() as connection:
        outbox_finish.mark_all_committing(claimed[:2], LEAVE, connection)
        assert outbox.renew({claimed[0].lease}, lease=lease) == 3
        with clock.shifted(2 * lease):
            assert outbox.sweep() == 3
        outbox_mending.mend_clock(lease=lease)
    with reading():
        assert [row(one.uid).status for one in claimed] == [MessageStatus.SENDING] * 2 + [MessageStatus.QUEUED] * 3
    with clock.shifted(2 * lease):
        assert outbox.sweep() == 2


def test_results_and_leave_in_one_statement_come_to_the_same(claimed: list[ClaimedMessage], row: Any) -> None:
    results = [(one, sent(number)) for number, one in enumerate(claimed[:3])]
    assert finish_and_mark(results, claimed[3:4]) == ([], {claimed[3].id})
    with reading():
        assert row(claimed[3].uid).committing_at is not None
        assert row(claimed[4].uid).committing_at is None
    assert finish_and_mark([], claimed[4:]) == ([], {claimed[4].id})
    assert outbox.finish(claimed[4], sent(4))
    with reading():
        alone = facts(row(claimed[4].uid))
        for number, one in enumerate(claimed[:3]):
            message = row(one.uid)
            assert facts(message) == (*alone[:2], message.reason_detail, *alone[3:])
            assert message.remote_id == message.attempt_rows[0].remote_id == f"Q{number}"
            assert message.committing_at is None, "leave was asked for others"


def test_a_lost_claim_and_a_leave_that_is_refused_are_told_apart(claimed: list[ClaimedMessage], row: Any) -> None:
    for one, values in ((claimed[0], {"lease": "somebody-else"}), (claimed[3], {"lease": "somebody-else"})):
        database.session.execute(update(Message).where(Message.id == one.id).values(values))
    database.session.commit()
    results = [(one, sent(number)) for number, one in enumerate(claimed[:2])]
    lost, may_go = finish_and_mark(results, claimed[2:])
    assert ([one.id for one, _ in lost], may_go) == ([claimed[0].id], {claimed[2].id, claimed[4].id})
    with reading():
        assert row(claimed[0].uid).attempt_rows[0].finished_at is None
        assert row(claimed[1].uid).status is MessageStatus.SENT


def test_without_leave_the_results_are_written_all_the_same(claimed: list[ClaimedMessage], row: Any) -> None:
    database.session.execute(database.text("UPDATE email_settings SET emails_off = true"))
    database.session.commit()
    assert finish_and_mark([(claimed[0], sent(0))], claimed[1:]) == ([], set())
    assert row(claimed[0].uid).status is MessageStatus.SENT


def test_only_plain_successes_go_along(claimed: list[ClaimedMessage]) -> None:
    refused = of_error(Refused("message_refused", "554 5.7.1 spam", stage=Stage.MESSAGE), [], attempts=0)
    assert not outbox_groups.can_go_along([(claimed[0], sent(0)), (claimed[1], refused)])
