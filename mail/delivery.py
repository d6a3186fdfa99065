"""One message on its way: settings, token, bytes, conversation, outcome. The test send passes through here too.

Three acts, as everywhere in this house: the claim was committed before; here the network is used with no transaction
open; the outcome is written afterwards by `outbox.finish`, only if the claim is still ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from extensions import db
from mail import compose, outbox_content, outbox_work, outcomes, token_lease
from mail import settings as email_settings
from mail.compose import Draft, Sender
from mail.equipment import Equipment
from mail.errors import MailError, Stage, Withdrawn
from mail.outbox import CONTENT_UNREADABLE, ClaimedMessage
from mail.outbox_content import Content, Pair
from mail.outcomes import Outcome, Waiting
from mail.settings import Route, SettingsIncomplete
from mail.smtp import BearerLogin, Conversation, Observer, PasswordLogin, SendResult, Timeouts
from mail.tokens import AccessToken, access_token_for
from models.connection import Connection, Health
from models.database import reading
from models.email_settings import EmailSettings
from models.outbox import HoldReason, MessageStatus, RecipientKind, RecipientStatus
from security.secret import Secret
from security.vault import Unreadable

# RFC 3834 5: these mails come from a program, so that no holiday responder answers them.
AUTO_SUBMITTED = "auto-generated"
_AUTH_REFUSED = 535
_HEALTH_OF = {
    HoldReason.NEEDS_REAUTHORIZATION: Health.NEEDS_REAUTHORIZATION,
    HoldReason.SETTINGS_WRONG: Health.SETTINGS_WRONG,
}


class TokenSource(Protocol):
    """Where the access token of a conversation comes from: `tokens.access_token_for`, or a test's own."""

    def __call__(self, *, renew: bool = False, rejected: Secret | None = None) -> AccessToken: ...


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


@contextmanager
def signed_in(
    route: Route,
    *,
    token: TokenSource | None = None,
    equipment: Equipment,
    observe: Observer | None = None,
    timeouts: Timeouts | None = None,
) -> Iterator[Conversation]:
    """Give a conversation that has signed in, and close it at the end.

    A refused token that came from the cache is renewed once and tried once more, on a new connection: a token can
    end before its time when a password or a policy changes. Source: security.md 54.

    Raises:
        MailError: as `Conversation.open`, `Conversation.authenticate` and `tokens.access_token_for`.
    """
    attempt = _Attempt(route, token, equipment, observe, _timeouts_for(route, timeouts or equipment.timeouts))
    conversation = attempt.sign_in()
    try:
        yield conversation
    finally:
        conversation.close()


@dataclass
class _Attempt:
    """The way to a signed-in conversation."""

    route: Route
    token: TokenSource | None
    equipment: Equipment
    observe: Observer | None
    timeouts: Timeouts

    def sign_in(self) -> Conversation:
        conversation = self._open()
        try:
            if self.route.password_login is not None:
                conversation.authenticate(self.route.password_login)
                return conversation
            if self.token is None:
                return conversation
            token = self._fetch_token()
            try:
                conversation.authenticate(self._login(token))
                return conversation
            except MailError as refusal:
                if refusal.reply_code != _AUTH_REFUSED or token.fresh:
                    raise
                conversation.close()
                renewed = self._fetch_token(rejected=token.value)
                if renewed.value == token.value:
                    raise
            conversation = self._open()
            conversation.authenticate(self._login(renewed))
            return conversation
        except BaseException:
            conversation.close()
            raise

    def _open(self) -> Conversation:
        conversation = Conversation(
            self.route.endpoint, door=self.equipment.door, timeouts=self.timeouts, observe=self.observe
        )
        try:
            conversation.open()
        except BaseException:
            conversation.close()
            raise
        return conversation

    def _login(self, token: AccessToken) -> BearerLogin | PasswordLogin:
        return BearerLogin(self.route.bearer_user, token.value, self.route.mechanism)

    def _fetch_token(self, *, rejected: Secret | None = None) -> AccessToken:
        assert self.token is not None
        self._tell("started")
        token = self.token(renew=True, rejected=rejected) if rejected else self.token()
        self._tell(
            "done",
            scope=token.scope,
            expires_at=token.expires_at.isoformat(timespec="seconds"),
            fresh=token.fresh,
            rotated=token.rotated,
        )
        return token

    def _tell(self, event: str, **facts: object) -> None:
        if self.observe is not None:
            self.observe(Stage.TOKEN, event, facts)


def _timeouts_for(route: Route, timeouts: Timeouts) -> Timeouts:
    """The custom field `timeout_seconds` names how long one command may take."""
    if route.timeout_s is None:
        return timeouts
    return replace(timeouts, command_s=route.timeout_s, connect_s=min(timeouts.connect_s, route.timeout_s))


# One message of the outbox ------------------------------------------------------------------------------------------


def deliver(claimed: ClaimedMessage, *, equipment: Equipment) -> Outcome:
    """Try once to deliver a claimed message, and return what came of it for `outbox.finish`.

    Ends the caller's transaction; uses short ones of its own. A message whose earlier attempt ended uncertain goes out
    byte for byte as then, by its old sender.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database is away; the claim runs out by itself.
    """
    job = _prepare(claimed, equipment)
    if isinstance(job, Outcome):
        return job
    try:
        outcome = job.run()
    except Withdrawn:
        outcome = _withdrawn(claimed, job.route)
    except Unreadable as trouble:
        outcome = outcomes.held(HoldReason.UNREADABLE, code="secret_unreadable", detail=str(trouble))
    except MailError as error:
        outcome = outcomes.of_error(error, job.waiting, attempts=claimed.attempts, somebody_has_it=job.somebody_has_it)
    _note_health(job, outcome)
    return replace(outcome, method=job.route.method.value, host=job.route.endpoint.host)


@dataclass(frozen=True)
class _Job:
    """Everything an attempt needs, read before the network is touched."""

    claimed: ClaimedMessage
    route: Route
    sender: Sender
    content: Content
    extra_headers: tuple[Pair, ...]
    waiting: tuple[Waiting, ...]
    somebody_has_it: bool
    is_healthy: bool
    equipment: Equipment

    def run(self) -> Outcome:
        draft = _draft_of(self.claimed, self.content)
        content = compose.compose(draft, self.sender, extra_headers=self.extra_headers)
        if self.extra_headers != self.content.sent_headers:
            outbox_content.keep_sent_headers(self.claimed, self.extra_headers, equipment=self.equipment)
        db.session.remove()
        connection_id = self.route.connection_id
        token = partial(access_token_for, connection_id, equipment=self.equipment) if connection_id else None
        result = send_through(
            self.route,
            content,
            [one.address for one in self.waiting],
            sender=self.sender.address,
            token=token,
            equipment=self.equipment,
            before_commit=self._may_commit,
        )
        return outcomes.of_success(
            result, self.waiting, attempts=self.claimed.attempts, somebody_has_it=self.somebody_has_it
        )

    def _may_commit(self) -> bool:
        return outbox_work.mark_committing(
            self.claimed,
            method=self.route.method.value,
            sender_name=self.sender.name,
            sender_address=self.sender.address,
        )


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
    return _Job(
        claimed=claimed,
        route=route,
        sender=Sender(claimed.sender_name, claimed.sender_address) if goes_as_before else route.sender,
        content=content,
        extra_headers=content.sent_headers if goes_as_before else tuple(route.headers),
        waiting=waiting,
        somebody_has_it=somebody_has_it,
        is_healthy=is_healthy,
        equipment=equipment,
    )


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
