"""Messages on their way: settings, token, bytes, conversation, outcome. The test send passes through here too.

Three acts, as everywhere in this house: the claim was committed before; here the network is used with no transaction
open; the outcome is written afterwards by whoever called (`mail/ledger.py`), only if the claim is still ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from mail import compose, health, outbox_content, outbox_finish, outbox_recipients, outcomes
from mail.compose import Draft, Sender
from mail.equipment import Equipment
from mail.errors import MailError, Stage, Withdrawn
from mail.outbox import CONTENT_UNREADABLE, ClaimedMessage
from mail.outbox_content import Content, Pair
from mail.outbox_finish import Leave
from mail.outbox_recipients import RecipientRow
from mail.outcomes import Outcome, Waiting
from mail.settings import Route
from mail.signing_in import TokenSource, signed_in
from mail.smtp import Envelope, Observer, SendResult, Timeouts
from mail.smtp.pool import ConversationPool
from mail.tokens import access_token_for
from mail.way_out import WayOut, load_way_out, why_withdrawn
from models.connection import Connection, Health
from models.outbox import HoldReason, MessageStatus, RecipientKind, RecipientStatus
from security.vault import Unreadable

__all__ = ["AUTO_SUBMITTED", "TokenSource", "deliver", "deliver_all", "send_through", "signed_in"]

# Asks for leave to commit messages of one claim, notes it, and returns the row ids of those that may go.
Mark = Callable[[Sequence[ClaimedMessage], Leave], Collection[int]]

# RFC 3834 5: these mails come from a program, so that no holiday responder answers them.
AUTO_SUBMITTED = "auto-generated"
SMALL_BYTES = 256 * 1024
_HEALTH_OF = {
    HoldReason.NEEDS_REAUTHORIZATION: Health.NEEDS_REAUTHORIZATION,
    HoldReason.SETTINGS_WRONG: Health.SETTINGS_WRONG,
}


# One conversation -------------------------------------------------------------------------------------------------


def send_through(
    route: Route,
    content: bytes,
    recipients: Sequence[str],
    *,
    sender: str | None = None,
    token: TokenSource | None = None,
    equipment: Equipment,
    observe: Observer | None = None,
    timeouts: Timeouts | None = None,
    before_commit: Callable[[], bool] | None = None,
) -> SendResult:
    """Hand one message to the route's server and return every recipient's result.

    Args:
        sender: envelope sender, if it is not the route's.
        token: needed by routes that sign in with a token.
        before_commit: asked right before the bytes that commit; see `Conversation.send`.

    Raises:
        MailError: any of the family; nothing of it was written down yet.
        security.vault.Unreadable: a stored secret of the token call does not open.
    """
    with signed_in(route, token=token, equipment=equipment, observe=observe, timeouts=timeouts) as conversation:
        return conversation.send(
            route.sender.address if sender is None else sender, recipients, content, before_commit=before_commit
        )


# One message of the outbox ------------------------------------------------------------------------------------------


def deliver(claimed: ClaimedMessage, *, equipment: Equipment, pool: ConversationPool | None = None) -> Outcome:
    """Try once to deliver a claimed message, and return what came of it for `outbox.finish`.

    Ends the caller's transaction; uses short ones of its own. A message whose earlier attempt ended uncertain goes out
    byte for byte as then, by its old sender.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database is away; the claim runs out by itself.
    """
    way = load_way_out(claimed.store_id, equipment)
    if isinstance(way, Outcome):
        return way
    ((_, outcome),) = deliver_all([claimed], way, equipment=equipment, pool=pool)
    return outcome


def deliver_all(
    claimed: Sequence[ClaimedMessage],
    way: WayOut,
    *,
    equipment: Equipment,
    pool: ConversationPool | None = None,
    window: int = 1,
    mark: Mark | None = None,
    goes_on: Callable[[], bool] = lambda: True,
) -> Iterator[tuple[ClaimedMessage, Outcome]]:
    """Try once to deliver these messages of one store over one conversation, and yield what came of each, in order.

    When the conversation does not come about, the first message's outcome says why and the others are not tried.
    Transactions and errors are those of `deliver`.

    Args:
        way: asked again by `mark` right before each message commits: one that was made ready by settings that have
            changed since is withdrawn.
        pool: where the conversation comes from and goes to; without one, it is closed at the end.
        window: messages in flight at a time where the server can; every one of them is one that a crash may double.
        mark: asks for leave right before messages commit, and notes it; see `outbox_finish.mark_committing`.
        goes_on: asked before each message; once it is False, no further one is begun.
    """
    if not claimed:
        return
    run = _Run(claimed, way, equipment, mark or _mark_each, goes_on)
    yield from run.ended()
    if run.first() is None:
        return
    route = way.route
    token = partial(access_token_for, route.connection_id, equipment=equipment) if route.connection_id else None
    with ExitStack() as stack:
        try:
            conversation = stack.enter_context(signed_in(route, token=token, equipment=equipment, pool=pool))
        except (MailError, Unreadable) as trouble:
            # It is the same for all who would go this way, and a server that is away is not asked by each of them.
            job = run.take()
            yield job.claimed, run.outcome_of(job, trouble)
            return
        for sent in conversation.send_all(run.envelopes(), window=window, ask_all=run.may_commit):
            job = run.in_flight.popleft()
            yield job.claimed, run.outcome_of(job, sent.error or sent.result)
            yield from run.ended()


def _mark_each(claimed: Sequence[ClaimedMessage], leave: Leave) -> Collection[int]:
    return {one.id for one in claimed if outbox_finish.mark_committing(one, leave)}


@dataclass(frozen=True)
class _Job:
    """Everything an attempt needs, read before the network is touched."""

    claimed: ClaimedMessage
    sender: Sender
    content: bytes = field(repr=False)
    waiting: tuple[Waiting, ...]
    somebody_has_it: bool


class _Run:
    """Messages on their way over one conversation. Each is made ready when it is its turn, and not before."""

    def __init__(
        self,
        claimed: Sequence[ClaimedMessage],
        way: WayOut,
        equipment: Equipment,
        mark: Mark,
        goes_on: Callable[[], bool],
    ) -> None:
        self.in_flight: deque[_Job] = deque()
        self._way = way
        self._method, self._host = way.route.method.value, way.route.endpoint.host
        self._equipment = equipment
        self._mark = mark
        self._goes_on = goes_on
        self._is_healthy = way.is_healthy
        self._left = deque(claimed)
        self._first: _Job | None = None
        self._ended: list[tuple[ClaimedMessage, Outcome]] = []
        # Large ones are read when it is their turn, so that a run needs no more memory than one of them.
        small = [one for one in claimed if one.size_bytes <= SMALL_BYTES]
        self._contents = outbox_content.load_all(small, equipment=equipment)
        self._recipients: Mapping[int, list[RecipientRow]] = outbox_recipients.load(claimed, way.route.bcc)

    def first(self) -> _Job | None:
        """The next message that needs the network, made ready; None when there is none or the run is to end."""
        while self._first is None and self._left and self._goes_on():
            claimed = self._left.popleft()
            found = self._prepare(claimed)
            if isinstance(found, Outcome):
                self._ended.append((claimed, found))
            else:
                self._first = found
        return self._first

    def take(self) -> _Job:
        job, self._first = self._first, None
        assert job is not None  # callers looked at `first`
        return job

    def ended(self) -> Iterator[tuple[ClaimedMessage, Outcome]]:
        """Messages that had an outcome before the network was touched, each told once."""
        self.first()
        while self._ended:
            yield self._ended.pop(0)

    def envelopes(self) -> Iterator[Envelope]:
        while self.first() is not None:
            job = self.take()
            self.in_flight.append(job)
            recipients = tuple(one.address for one in job.waiting)
            may_commit = partial(self._may_commit, job)  # asked when it goes alone; for a group, the other one is
            yield Envelope(job.sender.address, recipients, job.content, may_commit, envelope_id=job.claimed.uid)

    def may_commit(self, asked: Sequence[Envelope]) -> list[bool]:
        """Ask which of these may go, all at once where they go by the same sender."""
        jobs = {job.claimed.uid: job for job in self.in_flight}
        by_leave: dict[Leave, list[ClaimedMessage]] = {}
        for envelope in asked:
            job = jobs[envelope.envelope_id]
            by_leave.setdefault(self._leave_of(job), []).append(job.claimed)
        may_go = {row for leave, claimed in by_leave.items() for row in self._mark(claimed, leave)}
        return [jobs[envelope.envelope_id].claimed.id in may_go for envelope in asked]

    def _may_commit(self, job: _Job) -> bool:
        return job.claimed.id in self._mark([job.claimed], self._leave_of(job))

    def _leave_of(self, job: _Job) -> Leave:
        return Leave(
            method=self._method,
            sender_name=job.sender.name,
            sender_address=job.sender.address,
            settings_version=self._way.settings_version,
            connection_id=self._way.route.connection_id,
        )

    def outcome_of(self, job: _Job, came: SendResult | Exception | None) -> Outcome:
        """What a result or an error makes of the message; notes on the connection what the sign-in taught."""
        outcome = self._judge(job, came)
        self._note_health(outcome)
        return outcome if outcome.method else replace(outcome, method=self._method, host=self._host)

    def _judge(self, job: _Job, came: SendResult | Exception | None) -> Outcome:
        attempts, somebody_has_it = job.claimed.attempts, job.somebody_has_it
        match came:
            case SendResult():
                return outcomes.of_success(
                    came,
                    job.waiting,
                    attempts=attempts,
                    somebody_has_it=somebody_has_it,
                    method=self._method,
                    host=self._host,
                )
            case Withdrawn():
                return why_withdrawn(job.claimed, self._way)
            case MailError():
                return outcomes.of_error(
                    came,
                    job.waiting,
                    attempts=attempts,
                    somebody_has_it=somebody_has_it,
                    asks_when_uncertain=self._way.asks_when_uncertain,
                )
            case Unreadable():
                return outcomes.held(HoldReason.UNREADABLE, code="secret_unreadable", detail=str(came))
        raise TypeError(f"neither result nor error: {came!r}")

    def _prepare(self, claimed: ClaimedMessage) -> _Job | Outcome:
        """Read content and recipients, and write the message down as bytes; or say why there is nothing to send."""
        route = self._way.route
        content = self._contents.pop(claimed.id, None)
        if content is None:
            content = outbox_content.load_all([claimed], equipment=self._equipment)[claimed.id]
        if isinstance(content, Content):
            content = outbox_content.with_attachments(claimed, content, equipment=self._equipment)
        if isinstance(content, Unreadable):
            return outcomes.parked(HoldReason.UNREADABLE, code=CONTENT_UNREADABLE, detail=str(content))
        rows = self._recipients[claimed.id]
        waiting = tuple(Waiting(row.address, row.kind) for row in rows if row.status is RecipientStatus.WAITING)
        somebody_has_it = any(
            row.status is RecipientStatus.ACCEPTED and row.kind is not RecipientKind.STORE_BCC for row in rows
        )
        if not waiting:
            # Everybody has an answer already; only the result got lost on the way.
            return Outcome(MessageStatus.SENT if somebody_has_it else MessageStatus.FAILED)
        goes_as_before = claimed.committing_at is not None and claimed.sender_address
        sender = Sender(claimed.sender_name, claimed.sender_address) if goes_as_before else route.sender
        extra_headers = content.sent_headers if goes_as_before else tuple(route.headers)
        try:
            composed = _composed(claimed, content, sender, extra_headers)
        except MailError as error:
            return outcomes.of_error(error, waiting, attempts=claimed.attempts, somebody_has_it=somebody_has_it)
        if extra_headers != content.sent_headers:
            outbox_content.keep_sent_headers(claimed, extra_headers, equipment=self._equipment)
        return _Job(claimed, sender, composed, waiting, somebody_has_it)

    def _note_health(self, outcome: Outcome) -> None:
        """Let the connection's page say what the sign-in taught: a token can be granted and refused by the mail server.

        Token calls note their own troubles; a message that went through ends any of them. Commits.
        """
        connection_id = self._way.route.connection_id
        if connection_id is None:
            return
        if outcome.status is MessageStatus.SENT and not self._is_healthy:
            finding = health.SENT
            self._is_healthy = True
        elif outcome.stage == Stage.AUTH and outcome.hold_reason in _HEALTH_OF:
            finding = health.Finding(_HEALTH_OF[outcome.hold_reason], Stage.AUTH.value, outcome.code, outcome.detail)
        else:
            return
        # What was refused or accepted were the settings of then: somebody may have connected anew meanwhile.
        health.report(connection_id, finding, Connection.edition == self._way.connection_edition)


def _composed(claimed: ClaimedMessage, content: Content, sender: Sender, extra_headers: tuple[Pair, ...]) -> bytes:
    if content.relayed is None:
        return compose.compose(_draft_of(claimed, content), sender, extra_headers=extra_headers)
    return compose.compose_relayed(
        content.relayed, sender, message_id=claimed.message_id, date=claimed.date, extra_headers=extra_headers
    )


def _draft_of(claimed: ClaimedMessage, content: Content) -> Draft:
    return Draft(
        message_id=claimed.message_id,
        date=claimed.date,
        subject=claimed.subject,
        text=content.text,
        html=content.html,
        to=content.to,
        cc=content.cc,
        reply_to=content.reply_to,
        headers=content.headers,
        attachments=content.attachments,
        auto_submitted=AUTO_SUBMITTED,
    )
