"""What the provider remembers: clients, consents, codes and tokens. In memory, and safe from any thread.

The OAuth endpoints write it and the SMTP server reads it, so a token is worth exactly what the provider says at that
moment: revoked here, refused there.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from sandbox.faults import Faults, FaultValue

V = TypeVar("V")

CLIENT_ID: Final = "storepost-sandbox"
CLIENT_SECRET: Final = "sandbox-secret"  # noqa: S105 - printed in the README, opens nothing but the sandbox
PUBLIC_CLIENT_ID: Final = "storepost-sandbox-public"
MAILBOX_PASSWORD: Final = "sandbox-password"  # noqa: S105 - as above

SEND_SCOPE: Final = "smtp.send"
OFFLINE_SCOPE: Final = "offline_access"
SCOPES: Final = (SEND_SCOPE, OFFLINE_SCOPE, "openid", "email", "profile")

ACCESS_LIFETIME_S: Final = 3600
CODE_LIFETIME_S: Final = 600
CONSENT_LIFETIME_S: Final = 600
# A development process may run for weeks; nothing in here may grow without end.
KEEP_AT_MOST: Final = 5000

_ADDRESS = re.compile(r"[^@\s<>,;:\"\\\x00-\x1f]{1,64}@[^@\s<>,;:\"\\\x00-\x1f]{1,255}")


def is_address(text: str) -> bool:
    """Whether `text` has the shape of one mailbox address; a sandbox need not know more."""
    return _ADDRESS.fullmatch(text) is not None


def same_mailbox(one: str, other: str) -> bool:
    """Whether two addresses mean the same mailbox; capitals do not count."""
    return one.casefold() == other.casefold()


@dataclass(frozen=True)
class Client:
    """An application known to the provider; a public one has no secret."""

    client_id: str
    client_secret: str | None

    def knows(self, secret: str | None) -> bool:
        """Whether `secret` is this client's, compared in constant time."""
        if self.client_secret is None or secret is None:
            return False
        return hmac.compare_digest(self.client_secret.encode(), secret.encode())


@dataclass
class Grant:
    """One consent and everything that came of it: the family that is revoked as a whole."""

    number: int
    client_id: str
    mailbox: str
    scopes: tuple[str, ...]
    revoked: bool = False


@dataclass(frozen=True)
class Code:
    """An authorization code, as it was asked for."""

    grant: Grant
    redirect_uri: str
    challenge: str
    challenge_method: str
    nonce: str | None
    expires_at: float


@dataclass(frozen=True)
class AccessToken:
    """What an access token stands for; `grant` is None for client credentials, which may act for any mailbox."""

    client_id: str
    scopes: tuple[str, ...]
    expires_at: float
    grant: Grant | None


@dataclass
class RefreshToken:
    grant: Grant
    superseded: bool = False


@dataclass(frozen=True)
class Consent:
    """A person is being asked: the request as it came, kept until the answer."""

    query: str
    expires_at: float


@dataclass
class State:
    """The provider's memory; `clock` gives seconds since the epoch."""

    access_lifetime_s: int = ACCESS_LIFETIME_S
    clock: Callable[[], float] = time.time
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        self.faults = Faults(self._fault_turned)
        self.clients = {
            CLIENT_ID: Client(CLIENT_ID, CLIENT_SECRET),
            PUBLIC_CLIENT_ID: Client(PUBLIC_CLIENT_ID, None),
        }
        self._grants_made = 0
        self._refused_up_to = 0
        self._consents: dict[str, Consent] = {}
        self._codes: dict[str, Code] = {}
        self._spent_codes: dict[str, Grant] = {}
        self._access: dict[str, AccessToken] = {}
        self._refresh: dict[str, RefreshToken] = {}
        self._send_as: set[tuple[str, str]] = set()

    def _fault_turned(self, turned: Mapping[str, FaultValue]) -> None:
        # A grant made after the switch was thrown is a new consent and good: that is how a person mends it.
        if "grant_revoked" in turned:
            self._refused_up_to = self._grants_made if turned["grant_revoked"] else 0

    def forget(self) -> None:
        """Drop every consent, code, token and send-as right; clients and faults stay."""
        with self.lock:
            for memory in (self._consents, self._codes, self._spent_codes, self._access, self._refresh):
                memory.clear()
            self._send_as.clear()

    # Consent page

    def open_consent(self, query: str) -> str:
        """Keep an authorization request while a person decides; returns the ticket that answers it once."""
        with self.lock:
            ticket = secrets.token_urlsafe(24)
            _keep(self._consents, ticket, Consent(query, self.clock() + CONSENT_LIFETIME_S))
            return ticket

    def read_consent(self, ticket: str) -> str | None:
        """The request behind a ticket that is still open, or None."""
        with self.lock:
            consent = self._consents.get(ticket)
            return consent.query if consent is not None and consent.expires_at > self.clock() else None

    def close_consent(self, ticket: str) -> str | None:
        """Like `read_consent`, and the ticket is used up."""
        with self.lock:
            query = self.read_consent(ticket)
            self._consents.pop(ticket, None)
            return query

    # Codes

    def add_code(
        self,
        value: str,
        *,
        client_id: str,
        mailbox: str,
        scopes: tuple[str, ...],
        redirect_uri: str,
        challenge: str,
        challenge_method: str,
        nonce: str | None,
    ) -> None:
        """Remember a code; with it a new grant begins."""
        with self.lock:
            self._grants_made += 1
            grant = Grant(self._grants_made, client_id, mailbox, scopes)
            expires_at = self.clock() + CODE_LIFETIME_S
            _keep(self._codes, value, Code(grant, redirect_uri, challenge, challenge_method, nonce, expires_at))

    def spend_code(self, value: str, client_id: str) -> Code | None:
        """Return the code and use it up, or None when it is unknown, late, foreign or used before.

        A code seen twice was stolen or replayed, so everything the first use gave out is revoked.

        Source: RFC 6749 4.1.2, RFC 9700 2.1.1.
        """
        with self.lock:
            code = self._codes.get(value)
            if code is None:
                replayed = self._spent_codes.get(value)
                if replayed is not None and replayed.client_id == client_id:
                    replayed.revoked = True
                return None
            if code.grant.client_id != client_id:
                return None
            del self._codes[value]
            _keep(self._spent_codes, value, code.grant)
            return code if code.expires_at > self.clock() else None

    # Tokens

    def lifetime_s(self) -> int:
        """Seconds the next access token shall live."""
        return int(self.faults.seconds("token_lifetime")) or self.access_lifetime_s

    def add_access_token(self, value: str, *, client_id: str, scopes: tuple[str, ...], grant: Grant | None) -> None:
        """Remember an access token; it lives `lifetime_s` from now."""
        with self.lock:
            now = self.clock()
            for old in [known for known, token in self._access.items() if token.expires_at <= now]:
                del self._access[old]
            _keep(self._access, value, AccessToken(client_id, scopes, now + self.lifetime_s(), grant))

    def access_token(self, value: str) -> AccessToken | None:
        """What a token stands for right now; None when it is unknown, expired or revoked."""
        with self.lock:
            token = self._access.get(value)
            if token is None or token.expires_at <= self.clock():
                return None
            return None if token.grant is not None and self.is_gone(token.grant) else token

    def add_refresh_token(self, value: str, grant: Grant, *, instead_of: str | None = None) -> None:
        """Remember a refresh token; the one it replaces may not be used again."""
        with self.lock:
            _keep(self._refresh, value, RefreshToken(grant))
            if instead_of in self._refresh:
                self._refresh[instead_of].superseded = True

    def spend_refresh_token(self, value: str, client_id: str) -> Grant | None:
        """Return the grant behind a refresh token, or None when it is worth nothing.

        A token that was rotated away and comes back means that two parties hold the grant: all of it is revoked.

        Source: RFC 9700 4.14.2.
        """
        with self.lock:
            token = self._refresh.get(value)
            if token is None or token.grant.client_id != client_id:
                return None
            if token.superseded:
                token.grant.revoked = True
            return None if self.is_gone(token.grant) else token.grant

    def issue_refresh_token(self, mailbox: str, scopes: tuple[str, ...] = (SEND_SCOPE, OFFLINE_SCOPE)) -> str:
        """Return a fresh refresh token without a consent page, for the case of a pasted one."""
        with self.lock:
            self._grants_made += 1
            value = secrets.token_urlsafe(32)
            self.add_refresh_token(value, Grant(self._grants_made, CLIENT_ID, mailbox, scopes))
            return value

    def is_gone(self, grant: Grant) -> bool:
        """Whether a grant is worth nothing any more, by revocation or by the fault."""
        return grant.revoked or grant.number <= self._refused_up_to

    def revoke(self, value: str, client_id: str) -> None:
        """Revoke a token of this client: a refresh token with its whole family, an access token alone.

        Source: RFC 7009 2.1.
        """
        with self.lock:
            refresh = self._refresh.get(value)
            if refresh is not None and refresh.grant.client_id == client_id:
                refresh.grant.revoked = True
            access = self._access.get(value)
            if access is not None and access.client_id == client_id:
                del self._access[value]

    # Mailboxes

    def allow_send_as(self, mailbox: str, address: str) -> None:
        """Let `mailbox` send as `address`."""
        with self.lock:
            self._send_as.add((mailbox.casefold(), address.casefold()))

    def may_send_as(self, mailbox: str, address: str) -> bool:
        """Whether `mailbox` may send as `address`: its own always, another only when it was allowed."""
        with self.lock:
            return same_mailbox(mailbox, address) or (mailbox.casefold(), address.casefold()) in self._send_as


def _keep(memory: dict[str, V], key: str, value: V) -> None:
    memory[key] = value
    while len(memory) > KEEP_AT_MOST:
        del memory[next(iter(memory))]


def subject_of(mailbox: str) -> str:
    """A stable, opaque identifier of a person, as providers put it into `sub`."""
    return hashlib.sha256(mailbox.casefold().encode()).hexdigest()[:32]
