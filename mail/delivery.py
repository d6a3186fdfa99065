"""Messages on their way: settings, token, bytes, conversation, outcome. The test send passes through here too.

Three acts, as everywhere in this house: the claim was committed before; here the network is used with no transaction
open; the outcome is written afterwards by `outbox.finish`, only if the claim is still ours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from extensions import db
from mail import compose, outbox_content, outbox_work, outcomes, token_lease
from mail import settings as email_settings
from mail.compose import Draft, Sender
from mail.equipment import Equipment
from mail.errors import MailError, Stage, Withdrawn
from mail.outbox import CONTENT_UNREADABLE, ClaimedMessage
from mail.outbox_content import Content
from mail.outcomes import Outcome, Waiting
from mail.settings import Route, SettingsIncomplete
from mail.signing_in import TokenSource, signed_in
from mail.smtp import Envelope, Observer, SendResult, Timeouts
from mail.smtp.pool import ConversationPool
from mail.tokens import access_token_for
from models.connection import Connection, Health
from models.database import reading
from models.email_settings import EmailSettings
from models.outbox import HoldReason, MessageStatus, RecipientKind, RecipientStatus
from security.vault import Unreadable

__all__ = ["AUTO_SUBMITTED", "TokenSource", "deliver", "deliver_all", "send_through", "signed_in"]

# RFC 3834 5: these mails come from a program, so that no holiday responder answers them.
AUTO_SUBMITTED = "auto-generated"
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
    ((_, outcome),) = deliver_all([claimed], equipment=equipment, pool=pool)
    return outcome


def deliver_all(
    claimed: Iterable[ClaimedMessage],
    *,
    equipment: Equipment,
    pool: ConversationPool | None = None,
    window: int = 1,
) -> Iterator[tuple[ClaimedMessage, Outcome]]:
    """Try once to deliver each of these messages of one store, and yield what came of it, in their order.

    They share a conversation as long as their settings are the same; settings are read for each of them, so a change
    counts from the next message on. A message is taken from `claimed` only when it is its turn. Transactions and
    errors are those of `deliver`.

    Args:
        pool: where conversations come from and go to; without one, they are closed at the end.
        window: messages in flight at a time where the server can; every one of them is one that a crash may double.
    """
    line = _Line(iter(claimed), equipment)
    while (job := line.first()) is not None:
        if isinstance(job, _Ended):
            line.take()
            yield job.claimed, job.outcome
            continue
        yield from _deliver_run(line, job.route, equipment, pool, window)


def _deliver_run(
    line: _Line, route: Route, equipment: Equipment, pool: ConversationPool | None, window: int
) -> Iterator[tuple[ClaimedMessage, Outcome]]:
    """Deliver the messages at the head of the line that go this way, over one conversation."""
    in_flight: deque[_Job] = deque()

    def envelopes() -> Iterator[Envelope]:
        while isinstance(job := line.first(), _Job) and job.route == route:
            line.take()
            in_flight.append(job)
            yield job.envelope()

    connection_id = route.connection_id
    token = partial(access_token_for, connection_id, equipment=equipment) if connection_id else None
    with ExitStack() as stack:
        try:
            conversation = stack.enter_context(signed_in(route, token=token, equipment=equipment, pool=pool))
        except (MailError, Unreadable) as trouble:
            # It is the same for all who would go this way, and a server that is away is not asked by each of them.
            for _ in envelopes():
                job = in_flight.popleft()
                yield job.claimed, job.outcome_of(trouble)
            return
        for sent in conversation.send_all(envelopes(), window=window):
            job = in_flight.popleft()
            yield job.claimed, job.outcome_of(sent.error or sent.result)


@dataclass(frozen=True)
class _Ended:
    """A message with an outcome before the network was touched."""

    claimed: ClaimedMessage
    outcome: Outcome


@dataclass(frozen=True)
class _Job:
    """Everything an attempt needs, read before the network is touched."""

    claimed: ClaimedMessage
    route: Route
    sender: Sender
    content: bytes = field(repr=False)
    waiting: tuple[Waiting, ...]
    somebody_has_it: bool
    is_healthy: bool

    def envelope(self) -> Envelope:
        return Envelope(
            self.sender.address,
            tuple(one.address for one in self.waiting),
            self.content,
            self._may_commit,
            envelope_id=self.claimed.uid,
        )

    def outcome_of(self, came: SendResult | Exception | None) -> Outcome:
        """What a result or an error makes of the message; notes on the connection what the sign-in taught."""
        outcome = self._judge(came)
        _note_health(self, outcome)
        return replace(outcome, method=self.route.method.value, host=self.route.endpoint.host)

    def _judge(self, came: SendResult | Exception | None) -> Outcome:
        attempts, somebody_has_it = self.claimed.attempts, self.somebody_has_it
        match came:
            case SendResult():
                return outcomes.of_success(came, self.waiting, attempts=attempts, somebody_has_it=somebody_has_it)
            case Withdrawn():
                return _withdrawn(self.claimed, self.route)
            case MailError():
                return outcomes.of_error(came, self.waiting, attempts=attempts, somebody_has_it=somebody_has_it)
            case Unreadable():
                return outcomes.held(HoldReason.UNREADABLE, code="secret_unreadable", detail=str(came))
        raise TypeError(f"neither result nor error: {came!r}")

    def _may_commit(self) -> bool:
        return outbox_work.mark_committing(
            self.claimed,
            method=self.route.method.value,
            sender_name=self.sender.name,
            sender_address=self.sender.address,
        )


class _Line:
    """The messages still to be tried. The first one is prepared when it is looked at, and not before."""

    def __init__(self, claimed: Iterator[ClaimedMessage], equipment: Equipment) -> None:
        self._claimed = claimed
        self._equipment = equipment
        self._first: _Job | _Ended | None = None

    def first(self) -> _Job | _Ended | None:
        if self._first is None and (claimed := next(self._claimed, None)) is not None:
            found = _prepare(claimed, self._equipment)
            self._first = _Ended(claimed, found) if isinstance(found, Outcome) else found
            db.session.remove()
        return self._first

    def take(self) -> None:
        self._first = None


def _prepare(claimed: ClaimedMessage, equipment: Equipment) -> _Job | Outcome:
    """Read settings, content and recipients, or say why that is not enough."""
    found = _route_of(claimed.store_id, equipment)
    if isinstance(found, Outcome):
        return found
    route, is_healthy = found
    try:
        content = outbox_content.load(claimed, equipment=equipment)
    except Unreadable as trouble:
        return outcomes.parked(HoldReason.UNREADABLE, code=CONTENT_UNREADABLE, detail=str(trouble))
    waiting, somebody_has_it = _recipients(claimed, route)
    if not waiting:
        # Everybody has an answer already; only the result got lost on the way.
        return Outcome(MessageStatus.SENT if somebody_has_it else MessageStatus.FAILED)
    goes_as_before = claimed.committing_at is not None and claimed.sender_address
    sender = Sender(claimed.sender_name, claimed.sender_address) if goes_as_before else route.sender
    extra_headers = content.sent_headers if goes_as_before else tuple(route.headers)
    try:
        composed = compose.compose(_draft_of(claimed, content), sender, extra_headers=extra_headers)
    except MailError as error:
        return outcomes.of_error(error, waiting, attempts=claimed.attempts, somebody_has_it=somebody_has_it)
    if extra_headers != content.sent_headers:
        outbox_content.keep_sent_headers(claimed, extra_headers, equipment=equipment)
    return _Job(claimed, route, sender, composed, waiting, somebody_has_it, is_healthy)


def _route_of(store_id: int, equipment: Equipment) -> tuple[Route, bool] | Outcome:
    """The way out by the settings as they are now, and whether its connection works; or why there is none."""
    db.session.rollback()  # what the caller left open may be a writer's transaction
    try:
        with reading():
            settings = _load_settings(store_id)
            if settings.emails_off:
                return outcomes.held(HoldReason.EMAILS_OFF)
            is_healthy = settings.connection is None or settings.connection.health is Health.CONNECTED
            return email_settings.route_for(settings, equipment), is_healthy
    except SettingsIncomplete as trouble:
        return outcomes.held(HoldReason.NOT_COMPLETE, code="incomplete", detail=str(trouble))
    except Unreadable as trouble:
        return outcomes.held(HoldReason.UNREADABLE, code="secret_unreadable", detail=str(trouble))
    finally:
        db.session.rollback()


def _load_settings(store_id: int) -> EmailSettings:
    query = (
        select(EmailSettings).where(EmailSettings.store_id == store_id).options(joinedload(EmailSettings.connection))
    )
    return db.session.execute(query.execution_options(populate_existing=True)).scalar_one()


def _recipients(claimed: ClaimedMessage, route: Route) -> tuple[tuple[Waiting, ...], bool]:
    """The recipients still to be served, the store's Bcc among them, and whether a real one was served before."""
    outbox_work.add_store_bcc(claimed, route.bcc)
    rows = outbox_work.recipients_of(claimed.id)
    db.session.commit()
    waiting = tuple(Waiting(row.address, row.kind) for row in rows if row.status is RecipientStatus.WAITING)
    served = any(row.status is RecipientStatus.ACCEPTED and row.kind is not RecipientKind.STORE_BCC for row in rows)
    return waiting, served


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


def _note_health(job: _Job, outcome: Outcome) -> None:
    """Let the connection's page say what the sign-in taught: a token can be granted and refused by the mail server.

    Token calls note their own troubles; a message that went through ends any of them. Commits.
    """
    connection_id = job.route.connection_id
    if connection_id is None:
        return
    if outcome.status is MessageStatus.SENT and not job.is_healthy:
        values = token_lease.health_values(Health.CONNECTED)
    elif outcome.stage == Stage.AUTH and outcome.hold_reason in _HEALTH_OF:
        values = token_lease.health_values(_HEALTH_OF[outcome.hold_reason], outcome.code, outcome.detail)
    else:
        return
    noted = update(Connection).where(Connection.id == connection_id).values(values)
    db.session.execute(noted.execution_options(synchronize_session=False))
    db.session.commit()


def _withdrawn(claimed: ClaimedMessage, route: Route) -> Outcome:
    """Why the last check said no: emails off, another method, expired; or the claim was lost, and nobody asks us."""
    expired = outbox_work.has_expired(claimed)
    settings = _load_settings(claimed.store_id)
    emails_off, method = settings.emails_off, settings.method
    db.session.rollback()
    if emails_off:
        return outcomes.held(HoldReason.EMAILS_OFF)
    if expired:
        return Outcome(MessageStatus.EXPIRED)
    code = "method_switched" if method is not route.method else "withdrawn"
    return Outcome(MessageStatus.QUEUED, code=code)
