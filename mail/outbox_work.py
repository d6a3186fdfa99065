"""The worker's side of the outbox: claim, renew, mark, finish, sweep.

Every step is one conditional statement on the database's clock, judged by its row count, and commits at once: nothing
here is open while a server is being talked to. A lease is a random token; whoever holds it, and nobody else, writes
the outcome. `mail/outbox.py` offers all of these under its own name. Source: security.md 63-66, 72.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, CursorResult, Row, Table, and_, case, exists, func, insert, or_, select, update

from extensions import db
from mail.outcomes import Outcome, RecipientOutcome
from models import clock
from models.database import reading
from models.email_settings import EmailSettings
from models.outbox import Attempt, HoldReason, Message, MessageStatus, Recipient, RecipientKind, RecipientStatus

LEASE = timedelta(seconds=90)
RENEW_EVERY = timedelta(seconds=20)
POISON_CLAIMS = 5

DUE_STATES = (MessageStatus.QUEUED, MessageStatus.DEFERRED, MessageStatus.UNCERTAIN)
# What time may still overtake: everything that has not ended and is not on its way this moment.
OPEN_STATES = (*DUE_STATES, MessageStatus.HELD)

messages = cast(Table, Message.__table__)
recipients = cast(Table, Recipient.__table__)
attempts = cast(Table, Attempt.__table__)
email_settings = cast(Table, EmailSettings.__table__)


@dataclass(frozen=True)
class ClaimedMessage:
    """A message in this worker's hands until its lease ends.

    Attributes:
        lease: proof of the claim; every later statement carries it.
        attempts: attempts before this one that counted against the retry limit.
        committing_at: when bytes of an earlier attempt may have reached the server without an answer; such a message
            goes out with the same bytes and the same sender again.
        claims: claims without an outcome, this one included; more than one: a worker was lost with it.
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


def has_due() -> bool:
    """Whether any message is due, asked without becoming a writer; leaves no transaction open."""
    with reading():
        found = db.session.execute(select(messages.c.id).where(*_is_due()).limit(1)).first() is not None
        db.session.rollback()
    return found


def _is_due() -> tuple[ColumnElement[bool], ...]:
    c = messages.c
    in_time = or_(c.expires_at.is_(None), c.expires_at > clock.now())
    return c.status.in_(DUE_STATES), c.due_at <= clock.now(), in_time


def backlog(store_id: int, *, at_most: int) -> int:
    """Return how many messages of a store are due, counted up to `at_most`; leaves no transaction open."""
    with reading():
        due = select(messages.c.id).where(messages.c.store_id == store_id, *_is_due()).limit(at_most).subquery()
        count = db.session.scalar(select(func.count()).select_from(due)) or 0
        db.session.rollback()
    return count


def claim(
    *, limit: int, store_id: int | None = None, skip_stores: Collection[int] = (), only_first_claims: bool = False
) -> list[ClaimedMessage]:
    """Take up to `limit` due messages, most urgent and then oldest first, and commit.

    Args:
        skip_stores: stores that this worker is busy enough with.
        only_first_claims: leave out what a worker was lost with.
    """
    c = messages.c
    due = (
        select(c.id)
        .where(*_is_due())
        .order_by(c.priority, c.due_at, c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if store_id is not None:
        due = due.where(c.store_id == store_id)
    if only_first_claims:
        due = due.where(c.claims == 0)
    if skip_stores:
        due = due.where(c.store_id.not_in(skip_stores))
    lease = secrets.token_hex(16)
    # As a CTE the choice is made once; PostgreSQL may run a subquery again for a row that somebody else just changed.
    chosen = due.cte("due")
    taken = (
        update(messages)
        .where(c.id.in_(select(chosen.c.id)))
        .values(
            status=MessageStatus.SENDING, lease=lease, lease_until=clock.now(LEASE), claims=c.claims + 1
        )
        .returning(
            c.id, c.uid, c.store_id, c.lease, c.attempts, c.message_id, c.date, c.subject,
            c.committing_at, c.sender_name, c.sender_address, c.claims, c.priority, c.due_at,
        )
    )  # fmt: skip
    rows = db.session.execute(taken).all()
    if rows:
        _begin_attempts(lease)
    db.session.commit()
    in_order = sorted(rows, key=lambda row: (row.priority, row.due_at, row.id))
    return [ClaimedMessage(*row[:-2]) for row in in_order]


def _begin_attempts(lease: str) -> None:
    """One attempt row for each message just claimed, in the same transaction: a crash leaves its trace."""
    number = select(func.coalesce(func.max(attempts.c.number), 0) + 1).where(attempts.c.message_id == messages.c.id)
    begun = select(messages.c.id, number.scalar_subquery(), clock.now()).where(messages.c.lease == lease)
    db.session.execute(insert(attempts).from_select(["message_id", "number", "started_at"], begun))


def renew(leases: Collection[str]) -> int:
    """Prolong the claims that are still ours, commit, and return how many they are."""
    c = messages.c
    prolonged = (
        update(messages)
        .where(c.lease.in_(leases), c.status == MessageStatus.SENDING)
        .values(lease_until=clock.now(LEASE))
    )
    count = row_count(prolonged)
    db.session.commit()
    return count


def mark_committing(claimed: ClaimedMessage, *, method: str, sender_name: str, sender_address: str) -> bool:
    """Ask for leave to send the bytes that commit, and note in the same statement that they are on their way.

    False when the claim is lost, the message expired, emails were turned off or the method was switched: nothing may
    be sent then. Commits. Source: security.md 64.
    """
    c, settings = messages.c, email_settings.c
    still_wanted = exists().where(
        settings.store_id == c.store_id, settings.emails_off.is_(False), settings.method == method
    )
    marked = (
        update(messages)
        .where(
            c.id == claimed.id,
            c.lease == claimed.lease,
            c.status == MessageStatus.SENDING,
            c.lease_until > clock.now(),
            or_(c.expires_at.is_(None), c.expires_at > clock.now()),
            still_wanted,
        )
        .values(
            committing_at=clock.now(),
            # An earlier attempt may have got through, so from now on this may be the second copy.
            maybe_sent_twice=or_(c.maybe_sent_twice, c.committing_at.is_not(None)),
            sender_name=sender_name,
            sender_address=sender_address,
            method=method,
        )
    )
    may_commit = row_count(marked) == 1
    db.session.commit()
    return may_commit


def has_expired(claimed: ClaimedMessage) -> bool:
    """Whether the message became worthless meanwhile, by the database's clock."""
    c = messages.c
    late = select(c.id).where(c.id == claimed.id, c.expires_at <= clock.now())
    return db.session.execute(late).first() is not None


def finish(claimed: ClaimedMessage, outcome: Outcome) -> bool:
    """Write the outcome and commit; False, with nothing written, when the claim is no longer ours.

    A claim whose lease ran out but which nobody took again is still ours: a result kept through an outage of the
    database counts. When the trouble is the store's and not the message's, the rest of its queue is held along.
    """
    c = messages.c
    written = (
        update(messages)
        .where(c.id == claimed.id, c.lease == claimed.lease, c.status.in_((MessageStatus.SENDING, *DUE_STATES)))
        .values(_values(claimed, outcome))
    )
    if row_count(written) != 1:
        db.session.rollback()
        return False
    _write_attempt(claimed, outcome)
    _write_recipients(claimed.id, outcome.recipients)
    if outcome.holds_queue and outcome.hold_reason is not None:
        hold_queue(claimed.store_id, outcome.hold_reason, outcome)
    db.session.commit()
    return True


def _values(claimed: ClaimedMessage, outcome: Outcome) -> dict[str, Any]:
    ended = outcome.status in (MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.EXPIRED)
    values: dict[str, Any] = {
        "status": outcome.status,
        "hold_reason": outcome.hold_reason,
        "reason_code": outcome.code[:80],
        "reason_detail": "" if outcome.status is MessageStatus.SENT and not outcome.code else outcome.detail,
        "reason_stage": outcome.stage,
        "reason_family": outcome.family,
        "lease": None,
        "lease_until": None,
        "claims": 0,  # counts claims without an outcome
        "attempts": messages.c.attempts
        + (1 if outcome.counts or outcome.status in (MessageStatus.SENT, MessageStatus.FAILED) else 0),
    }
    if outcome.is_definite and outcome.status is not MessageStatus.SENT:
        # This attempt sent nothing; whether an earlier one did is as open as before.
        values["committing_at"] = claimed.committing_at
    if outcome.remote_id:
        values["remote_id"] = outcome.remote_id[:255]
    if outcome.wait:
        values["due_at"] = clock.now(outcome.wait)
    if ended:
        values["ended_at"] = clock.now()
    return values


def _write_attempt(claimed: ClaimedMessage, outcome: Outcome) -> None:
    newest = select(func.max(attempts.c.number)).where(attempts.c.message_id == claimed.id).scalar_subquery()
    db.session.execute(
        update(attempts)
        .where(attempts.c.message_id == claimed.id, attempts.c.number == newest)
        .values(
            finished_at=clock.now(),
            method=outcome.method,
            host=outcome.host,
            outcome=outcome.status.value,
            stage=outcome.stage,
            code=outcome.code[:80],
            reply_code=outcome.reply_code,
            reply=outcome.detail,
            remote_id=outcome.remote_id[:255],
        )
    )


def _write_recipients(message_id: int, results: Sequence[RecipientOutcome]) -> None:
    for result in results:
        db.session.execute(
            update(recipients)
            .where(
                recipients.c.message_id == message_id,
                recipients.c.address == result.address,
                recipients.c.status != RecipientStatus.ACCEPTED,
            )
            .values(status=result.status, reply_code=result.reply_code, reply=result.reply)
        )


def recipients_of(message_id: int) -> list[Row[Any]]:
    """Return address, kind and status of every recipient row of a message."""
    c = recipients.c
    return list(
        db.session.execute(select(c.address, c.kind, c.status).where(c.message_id == message_id).order_by(c.id))
    )


def add_store_bcc(message: ClaimedMessage, addresses: tuple[str, ...]) -> None:
    """Give the store's Bcc recipients rows of their own, drop earlier ones that no longer apply; the caller commits.

    Read at each attempt like the sender: a Bcc removed since is not written to, one who has the message stays listed.
    """
    c = recipients.c
    known = {row.address.casefold(): row for row in recipients_of(message.id)}
    wanted = {address.casefold(): address for address in addresses}
    gone = [
        row.address
        for key, row in known.items()
        if row.kind is RecipientKind.STORE_BCC and row.status is RecipientStatus.WAITING and key not in wanted
    ]
    if gone:
        db.session.execute(recipients.delete().where(c.message_id == message.id, c.address.in_(gone)))
    new = [address for key, address in wanted.items() if key not in known]
    if new:
        rows = [{"message_id": message.id, "kind": RecipientKind.STORE_BCC, "address": one} for one in new]
        db.session.execute(insert(recipients), rows)


def hold_queue(store_id: int, reason: HoldReason, outcome: Outcome | None = None) -> int:
    """Hold everything of a store that waits, and return how much that is; the caller commits.

    Otherwise each waiting message would run into the same refusal, and a provider that counts failed sign-ins would
    lock the mailbox.
    """
    c = messages.c
    held = update(messages).where(c.store_id == store_id, c.status.in_(DUE_STATES))
    return row_count(
        held.values(
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


def sweep() -> int:
    """Free the claims whose lease ran out, end what expired, commit, and return how many rows changed.

    The token of a freed claim stays until somebody else takes the message, so that a result that was kept through an
    outage still finds it.
    """
    c = messages.c
    ran_out = and_(c.status == MessageStatus.SENDING, c.lease_until <= clock.now())
    poison = update(messages).where(ran_out, c.claims >= POISON_CLAIMS)
    count = row_count(
        poison.values(
            status=MessageStatus.HELD, hold_reason=HoldReason.POISON, reason_code="poison", lease=None, lease_until=None
        )
    )
    freed = update(messages).where(ran_out)
    count += row_count(
        freed.values(
            status=case(
                (c.committing_at.is_not(None), MessageStatus.UNCERTAIN.value), else_=MessageStatus.QUEUED.value
            ),
            reason_code=case((c.committing_at.is_not(None), "worker_lost"), else_=""),
            lease_until=None,
        )
    )
    late = update(messages).where(c.status.in_(OPEN_STATES), c.expires_at <= clock.now())
    count += row_count(
        late.values(status=MessageStatus.EXPIRED, hold_reason=None, ended_at=clock.now(), lease=None, lease_until=None)
    )
    db.session.commit()
    return count


def row_count(statement: Any) -> int:
    """Execute a statement in the current transaction and return how many rows it met."""
    result = cast("CursorResult[Any]", db.session.execute(statement))
    return result.rowcount
