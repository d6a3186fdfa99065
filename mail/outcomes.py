"""What an attempt came to, and what becomes of the message: the one table from error family to state.

Knows no database: `delivery` makes an outcome, `outbox.finish` writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from mail import backoff
from mail.errors import ConnectionLost, Family, MailError, Refused, SettingsWrong, Stage, TryLater, Uncertain
from mail.smtp import RecipientResult, SendResult
from models.outbox import HoldReason, MessageStatus, RecipientKind, RecipientStatus

SOME_REFUSED = "some_recipients_refused"
ALL_REFUSED = "recipients_refused"
GAVE_UP = "gave_up"


@dataclass(frozen=True)
class Waiting:
    """A recipient of a message who has no final result yet."""

    address: str
    kind: RecipientKind


@dataclass(frozen=True)
class RecipientOutcome:
    address: str
    status: RecipientStatus
    reply_code: int | None
    reply: str


@dataclass(frozen=True)
class Outcome:
    """The next state of a message and why.

    Attributes:
        wait: how long until the next attempt, for deferred and uncertain.
        counts: whether this attempt counts against the retry limit.
        holds_queue: whether the rest of the store's queue meets the same trouble and is held with this message.
        is_definite: whether it is known that this attempt sent nothing beyond what `recipients` says.
    """

    status: MessageStatus
    hold_reason: HoldReason | None = None
    code: str = ""
    detail: str = ""
    stage: str = ""
    family: str = ""
    reply_code: int | None = None
    wait: timedelta = timedelta()
    counts: bool = False
    holds_queue: bool = False
    is_definite: bool = True
    recipients: tuple[RecipientOutcome, ...] = ()
    remote_id: str = ""
    method: str = ""
    host: str = ""


def of_success(
    result: SendResult,
    waiting: Sequence[Waiting],
    *,
    attempts: int,
    somebody_has_it: bool = False,
    method: str = "",
    host: str = "",
) -> Outcome:
    """Return what a transaction that the server accepted comes to, by its recipients' own results.

    Args:
        attempts: attempts that counted before this one.
        somebody_has_it: whether a real recipient (not the store's Bcc) accepted the message on an earlier attempt.
        method, host: by which way it went.
    """
    outcome = Outcome(
        MessageStatus.SENT,
        detail=result.reply.text,
        reply_code=result.reply.code,
        recipients=tuple(_row(one) for one in result.recipients),
        remote_id=result.queue_id,
        method=method,
        host=host,
    )
    return _by_recipients(outcome, result.recipients, waiting, attempts=attempts, somebody_has_it=somebody_has_it)


def of_error(
    error: MailError,
    waiting: Sequence[Waiting],
    *,
    attempts: int,
    somebody_has_it: bool = False,
    asks_when_uncertain: bool = False,
) -> Outcome:
    """Return what this error makes of the message; `Withdrawn` is the caller's, who knows why it was withdrawn.

    Args:
        asks_when_uncertain: a message that may have been sent waits for a person instead of going again.
    """
    outcome = Outcome(
        MessageStatus.FAILED,
        code=error.code,
        detail=error.detail,
        stage=error.stage.value,
        family=error.family.value,
        reply_code=error.reply_code,
    )
    match error:
        case ConnectionLost():
            return held(HoldReason.NEEDS_REAUTHORIZATION, outcome)
        case SettingsWrong():
            return held(HoldReason.SETTINGS_WRONG, outcome)
        case Uncertain():
            return _uncertain(outcome, attempts, asks=asks_when_uncertain)
        case TryLater() if error.code == "throttled":
            wait = backoff.wait_throttled(wish_s=error.after_s)
            return replace(outcome, status=MessageStatus.DEFERRED, wait=wait)
        case TryLater() | Refused() if error.results:
            outcome = replace(outcome, recipients=tuple(_row(one) for one in error.results))
            return _by_recipients(outcome, error.results, waiting, attempts=attempts, somebody_has_it=somebody_has_it)
        case TryLater():
            deferred = _deferred(outcome, attempts, wish_s=error.after_s)
            return _given_up(deferred, waiting, somebody_has_it=somebody_has_it)
    return _given_up(outcome, waiting, somebody_has_it=somebody_has_it)


def held(reason: HoldReason, outcome: Outcome | None = None, *, code: str = "", detail: str = "") -> Outcome:
    """Return a hold of the message and of its store's queue; it uses up no attempt."""
    base = outcome or Outcome(MessageStatus.HELD, code=code, detail=detail, stage=Stage.SETTINGS.value)
    return replace(base, status=MessageStatus.HELD, hold_reason=reason, holds_queue=True)


def parked(reason: HoldReason, *, code: str, detail: str) -> Outcome:
    """Return a hold of this message alone: its trouble is its own."""
    return Outcome(
        MessageStatus.HELD, hold_reason=reason, code=code, detail=detail, stage=Stage.MESSAGE.value, family=Family.SMTP
    )


def _uncertain(outcome: Outcome, attempts: int, *, asks: bool) -> Outcome:
    wait = None if asks else backoff.wait_after(attempts + 1)
    if wait is None:
        # Neither "sent" nor "failed" would be true; a person who can look into the mailbox decides.
        return replace(
            outcome, status=MessageStatus.HELD, hold_reason=HoldReason.UNCERTAIN, counts=True, is_definite=False
        )
    return replace(outcome, status=MessageStatus.UNCERTAIN, wait=wait, counts=True, is_definite=False)


def _deferred(outcome: Outcome, attempts: int, *, wish_s: float | None = None) -> Outcome:
    wait = backoff.wait_after(attempts + 1, wish_s=wish_s)
    if wait is None:
        return replace(outcome, status=MessageStatus.FAILED, counts=True)
    return replace(outcome, status=MessageStatus.DEFERRED, wait=wait, counts=True)


def _given_up(outcome: Outcome, waiting: Iterable[Waiting], *, somebody_has_it: bool) -> Outcome:
    """End the message: everyone still waiting is refused, and it counts as sent when somebody has it."""
    if outcome.status is not MessageStatus.FAILED:
        return outcome
    known = {recipient.address for recipient in outcome.recipients}
    ended = tuple(
        RecipientOutcome(one.address, RecipientStatus.REFUSED, outcome.reply_code, outcome.detail)
        for one in waiting
        if one.address not in known
    )
    outcome = replace(outcome, recipients=outcome.recipients + ended)
    if somebody_has_it:
        return replace(outcome, status=MessageStatus.SENT, code=SOME_REFUSED)
    return outcome


def _by_recipients(
    outcome: Outcome,
    results: Sequence[RecipientResult],
    waiting: Sequence[Waiting],
    *,
    attempts: int,
    somebody_has_it: bool,
) -> Outcome:
    """Sort the outcome's recipients into those who have it, those refused for good, and those to try again."""
    rows, kinds = outcome.recipients, {one.address: one.kind for one in waiting}
    has_it = somebody_has_it or any(
        row.status is RecipientStatus.ACCEPTED and kinds.get(row.address) is not RecipientKind.STORE_BCC for row in rows
    )
    later = [one for one in results if one.temporary]
    gone = [one for one in results if not one.accepted and not one.temporary]
    if later:
        outcome = _worded_by(outcome, later[0], "recipients_deferred")
        deferred = _deferred(outcome, attempts)
        if deferred.status is MessageStatus.DEFERRED:
            return deferred
        final = {one.address for one in results if not one.temporary}
        outcome = replace(deferred, recipients=tuple(row for row in rows if row.address in final))
        return _given_up(outcome, waiting, somebody_has_it=has_it)
    if not has_it:
        outcome = _worded_by(outcome, gone[0], ALL_REFUSED) if gone else outcome
        return replace(outcome, status=MessageStatus.FAILED)
    if gone:
        outcome = _worded_by(outcome, gone[0], SOME_REFUSED)
    return outcome if outcome.status is MessageStatus.SENT else replace(outcome, status=MessageStatus.SENT)


def _row(result: RecipientResult) -> RecipientOutcome:
    return RecipientOutcome(result.address, _status(result), result.reply.code, result.reply.text)


def _status(result: RecipientResult) -> RecipientStatus:
    if result.accepted:
        return RecipientStatus.ACCEPTED
    return RecipientStatus.WAITING if result.temporary else RecipientStatus.REFUSED


def _worded_by(outcome: Outcome, result: RecipientResult, code: str) -> Outcome:
    return replace(
        outcome,
        code=code,
        detail=f"{result.reply.code} {result.reply.text}",
        stage=Stage.RECIPIENT.value,
        family=Family.SMTP.value,
        reply_code=result.reply.code,
    )
