"""The way to a signed-in conversation: a kept one, or dial, encrypt, greet, token, sign in.

Delivery and the Test both come through here. Source: security.md 54, performance.md 2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from mail.equipment import Equipment
from mail.errors import MailError, Stage
from mail.routes import Route
from mail.smtp import BearerLogin, Conversation, Observer, Timeouts
from mail.smtp.pool import ConversationPool
from mail.tokens import AccessToken
from security.secret import Secret

_AUTH_REFUSED = 535


class TokenSource(Protocol):
    """Where the access token of a conversation comes from: `tokens.access_token_for`, or a test's own."""

    def __call__(self, *, renew: bool = False, rejected: Secret | None = None) -> AccessToken: ...


@contextmanager
def signed_in(
    route: Route,
    *,
    token: TokenSource | None = None,
    equipment: Equipment,
    observe: Observer | None = None,
    timeouts: Timeouts | None = None,
    pool: ConversationPool | None = None,
) -> Iterator[Conversation]:
    """Give a conversation that has signed in, and close it at the end, or keep it in the pool.

    A refused token that came from the cache is renewed once and tried once more, on a new connection: a token can
    end before its time when a password or a policy changes. A kept conversation is used only with the credential it
    signed in with, so that changed settings and renewed tokens count from the next message on.

    Raises:
        MailError: as `Conversation.open`, `Conversation.authenticate` and `tokens.access_token_for`.
        security.vault.Unreadable: a stored secret of the token call does not open.
    """
    attempt = _Attempt(route, token, equipment, observe, _timeouts_for(route, timeouts or equipment.timeouts), pool)
    conversation = attempt.sign_in()
    try:
        yield conversation
    finally:
        if pool is None:
            conversation.close()
        else:
            pool.give_back(attempt.key, conversation)


@dataclass
class _Attempt:
    route: Route
    token: TokenSource | None
    equipment: Equipment
    observe: Observer | None
    timeouts: Timeouts
    pool: ConversationPool | None
    _fetched: AccessToken | None = field(default=None, repr=False)
    key: Hashable = None

    def sign_in(self) -> Conversation:
        if self.pool is not None and (kept := self._take_kept(self.pool)) is not None:
            return kept
        conversation = self._open()
        try:
            if self.route.password_login is not None:
                conversation.authenticate(self.route.password_login)
                return conversation
            if self.token is None:
                return conversation
            token = self._fetched or self._fetch_token(self.token)
            try:
                conversation.authenticate(self._login(token))
                return conversation
            except MailError as refusal:
                if refusal.reply_code != _AUTH_REFUSED or token.fresh:
                    raise
                conversation.close()
                renewed = self._fetch_token(self.token, rejected=token.value)
                if renewed.value == token.value:
                    raise
            conversation = self._open()
            conversation.authenticate(self._login(renewed))
            self.key = self._key(renewed.value)
            return conversation
        except BaseException:
            conversation.close()
            raise

    def _take_kept(self, pool: ConversationPool) -> Conversation | None:
        credential: Secret | None = None
        if self.route.password_login is not None:
            credential = self.route.password_login.password
        elif self.token is not None:
            self._fetched = self._fetch_token(self.token)
            credential = self._fetched.value
        self.key = self._key(credential)
        return pool.take(self.key)

    def _key(self, credential: Secret | None) -> Hashable:
        route = self.route
        user = route.password_login.username if route.password_login else route.bearer_user
        # Not the credential itself, which has no business in a long-lived structure.
        digest = hashlib.sha256(credential.reveal().encode("utf-8", "surrogatepass")).digest() if credential else b""
        return (route.store_id, route.endpoint, self.timeouts, user, route.mechanism, digest)

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

    def _login(self, token: AccessToken) -> BearerLogin:
        return BearerLogin(self.route.bearer_user, token.value, self.route.mechanism)

    def _fetch_token(self, source: TokenSource, *, rejected: Secret | None = None) -> AccessToken:
        self._tell("started")
        token = source(renew=True, rejected=rejected) if rejected else source()
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
