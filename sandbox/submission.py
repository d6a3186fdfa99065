"""The rules of the SMTP server: who may sign in, send as whom, to whom, and refusals in the words of providers.

Sources: RFC 4954 (AUTH), RFC 7628 (OAUTHBEARER), the XOAUTH2 pages of Google and Microsoft, and Exchange Online's
replies as its documentation and public reports show them.
"""

import asyncio
import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from sandbox.inbox import Inbox, Message
from sandbox.provider import Provider
from sandbox.state import MAILBOX_PASSWORD, SEND_SCOPE, State, same_mailbox

COMMAND_LIMIT = 512
SILENCE_S = 300.0

_XOAUTH2 = re.compile(rb"user=([^\x01]+)\x01auth=Bearer ([\x21-\x7e]+)\x01\x01", re.IGNORECASE)
_GS2_HEADER = re.compile(rb"[ny],(?:a=([^,\x00\x01]*))?,")
_BEARER = re.compile(rb"Bearer ([\x21-\x7e]+)", re.IGNORECASE)


@dataclass(frozen=True)
class SignedIn:
    """Who talks. `user` without an @ is a relay account, which may send as anybody, as relays allow."""

    user: str
    mechanism: str
    client_id: str = ""

    def may_send_as(self, address: str, state: State) -> bool:
        return "@" not in self.user or state.may_send_as(self.user, address)


class _Malformed(ValueError):
    """A sign-in payload that is not what its mechanism prescribes."""


class Handler:
    """The rules of the SMTP server. Method names are aiosmtpd's hooks."""

    def __init__(self, provider: Provider, inbox: Inbox) -> None:
        self.provider = provider
        self.state = provider.state
        self.faults = provider.state.faults
        self.inbox = inbox

    # Sign-in

    async def auth_XOAUTH2(self, server: SMTP, args: list[str]) -> AuthResult:
        payload = await _initial_response(server, args)
        if payload is None:
            return AuthResult(success=False, handled=True)
        found = _XOAUTH2.fullmatch(payload)
        if found is None:
            return _refused("501 5.5.2 Cannot decode response")
        user, token = found[1].decode(errors="replace"), found[2].decode()
        problem = {"status": "401", "schemes": "Bearer", "scope": SEND_SCOPE}
        return await self._bearer(server, "XOAUTH2", user, token, problem)

    async def auth_OAUTHBEARER(self, server: SMTP, args: list[str]) -> AuthResult:
        payload = await _initial_response(server, args)
        if payload is None:
            return AuthResult(success=False, handled=True)
        discovery = f"{self.provider.issuer}/.well-known/openid-configuration"
        problem = {"status": "invalid_token", "scope": SEND_SCOPE, "openid-configuration": discovery}
        try:
            user, token = parse_oauthbearer(payload)
        except _Malformed:
            return await _challenge_then_refuse(server, {**problem, "status": "invalid_request"})
        return await self._bearer(server, "OAUTHBEARER", user, token, problem)

    async def _bearer(self, server: SMTP, mechanism: str, user: str, token: str, problem: dict[str, str]) -> AuthResult:
        refusal = self._sign_in_fault()
        if refusal is not None:
            return _refused(refusal)
        known = self.state.access_token(token)
        if known is None:
            return await _challenge_then_refuse(server, problem)
        if SEND_SCOPE not in known.scopes:
            status = "400" if mechanism == "XOAUTH2" else "insufficient_scope"
            return await _challenge_then_refuse(server, {**problem, "status": status})
        if known.grant is not None:
            user = user or known.grant.mailbox
            if not same_mailbox(user, known.grant.mailbox):
                # Exchange says this at once, without a challenge.
                return _refused(_wrong_identity())
        if not user:
            return await _challenge_then_refuse(server, {**problem, "status": "invalid_request"})
        return AuthResult(success=True, auth_data=SignedIn(user, mechanism, known.client_id))

    def authenticate_password(
        self, _server: SMTP, _session: Session, _envelope: Envelope, mechanism: str, login: LoginPassword
    ) -> AuthResult:
        """Judge PLAIN and LOGIN, which aiosmtpd has taken apart."""
        refusal = self._sign_in_fault()
        if refusal is not None:
            return _refused(refusal)
        user = login.login.decode(errors="replace")
        if not user or not secrets.compare_digest(login.password, MAILBOX_PASSWORD.encode()):
            return _refused("535 5.7.8 Authentication failed: user name or password is wrong")
        return AuthResult(success=True, auth_data=SignedIn(user, mechanism))

    def _sign_in_fault(self) -> str | None:
        disabled = self.faults.word("smtp_auth_disabled")
        if disabled:
            return (
                f"535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the "
                f"{disabled.capitalize()}. Visit https://aka.ms/smtp_auth_disabled for more information. {_tail()}"
            )
        if self.faults.is_on("wrong_identity"):
            return _wrong_identity()
        if self.faults.is_on("throttled"):
            return (
                "432 4.3.2 Concurrent connections limit exceeded. "
                f"Visit https://aka.ms/concurrent_sending for more information. {_tail()}"
            )
        return None

    # Envelope and message

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", "250-ENHANCEDSTATUSCODES", responses[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        who = _who(session)
        if self.faults.word("send_as_denied") == "sender" or not who.may_send_as(address, self.state):
            return f"550 5.7.60 SMTP; Client does not have permissions to send as this sender {_tail()}"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 Sender OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        refused = self.faults.word("recipient_refused")
        if refused == "*" or same_mailbox(refused, address):
            return f"550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup {_tail()}"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 Recipient OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        who = _who(session)
        if self.faults.is_on("throttled"):
            return f"432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded {_tail()}"
        message = self._as_message(server, envelope, who)
        foreign = [address for address in message.addresses("From") if not who.may_send_as(address, self.state)]
        if self.faults.word("send_as_denied") == "message" or foreign:
            wanted = (foreign or [message.sender])[0]
            return (
                f"554 5.2.252 SendAsDenied; {who.user} not allowed to send as {wanted}; STOREDRV.Submission.Exception:"
                f"SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message {_tail()}"
            )
        self.inbox.add(message)
        silence = self.faults.word("hang_after_dot")
        if silence == "cut":
            _transport(server).abort()
        if silence:
            # Ends when the client gives up, the connection is cut above, or the listener stops.
            await asyncio.sleep(SILENCE_S)
        return f"250 2.0.0 OK: queued as {message.queue_id}"

    def _as_message(self, server: SMTP, envelope: Envelope, who: SignedIn) -> Message:
        return Message(
            number=0,
            received_at=datetime.now(UTC),
            sender=envelope.mail_from or "",
            recipients=tuple(envelope.rcpt_tos),
            content=bytes(envelope.original_content or b""),
            mechanism=who.mechanism,
            user=who.user,
            client_id=who.client_id,
            tls=_tls_version(server),
            queue_id=secrets.token_hex(6).upper(),
        )


async def _initial_response(server: SMTP, args: list[str]) -> bytes | None:
    """What the client says first, on the AUTH line or after an empty challenge; None when that was answered already."""
    if len(args) == 1:
        payload = await server.challenge_auth("")
        return None if payload is MISSING else bytes(payload)
    try:
        return b"" if args[1] == "=" else base64.b64decode(args[1], validate=True)
    except (binascii.Error, ValueError):
        await server.push("501 5.5.2 Can't decode base64")
        return None


async def _challenge_then_refuse(server: SMTP, problem: dict[str, str]) -> AuthResult:
    """Tell the reason in a challenge; the refusal comes after the client's dummy answer (RFC 7628 3.2.3)."""
    answer = await server.challenge_auth(json.dumps(problem))
    if answer is MISSING:
        return AuthResult(success=False, handled=True)
    return _refused("535 5.7.8 Authentication failed: the access token was refused")


def _refused(reply: str) -> AuthResult:
    # Without handled=False aiosmtpd sends nothing, and the client waits for its timeout.
    return AuthResult(success=False, handled=False, message=reply)


def parse_oauthbearer(payload: bytes) -> tuple[str, str]:
    """Return user (may be empty) and token of an OAUTHBEARER response.

    Raises:
        _Malformed: the payload is not one.

    Source: RFC 7628 3.1; RFC 5801 4 for the name.
    """
    header, *pairs = payload.split(b"\x01")
    found = _GS2_HEADER.fullmatch(header)
    # A well-formed payload ends with two separators: one closes the last pair, one the list.
    if found is None or len(pairs) < 3 or pairs[-2:] != [b"", b""]:
        raise _Malformed
    fields = dict(pair.partition(b"=")[::2] for pair in pairs[:-2])
    bearer = _BEARER.fullmatch(fields.get(b"auth", b""))
    if bearer is None:
        raise _Malformed
    name = (found[1] or b"").decode(errors="replace")
    return name.replace("=2C", ",").replace("=3D", "="), bearer[1].decode()


def _wrong_identity() -> str:
    return f"535 5.7.3 Authentication unsuccessful {_tail()}"


def _tail() -> str:
    # Exchange closes its refusals with server, time and an id that support asks for.
    now = datetime.now(UTC)
    return f"[SANDBOX.localhost {now:%Y-%m-%dT%H:%M:%S}.{now.microsecond // 1000:03d}Z {secrets.token_hex(8).upper()}]"


def _tls_version(server: SMTP) -> str:
    secured = _transport(server).get_extra_info("ssl_object")
    return str(secured.version()) if secured is not None else ""


def _transport(server: SMTP) -> asyncio.WriteTransport:
    assert isinstance(server.transport, asyncio.WriteTransport)
    return server.transport


def _who(session: Session) -> SignedIn:
    # aiosmtpd lets nobody past AUTH without what `_bearer` or `authenticate_password` put here.
    who: object = session.auth_data
    assert isinstance(who, SignedIn)
    return who
