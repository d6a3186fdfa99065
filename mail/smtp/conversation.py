"""One SMTP conversation: dial, encrypt, greet, sign in, hand over messages. Never sees the database.

Unlike `smtplib`, whose conveniences are our accidents: every line is bounded and every command has a deadline
(`lines.py`), certificates are always verified, credentials never travel in clear unless the operator listed the
host, the sign-in always takes two steps, each recipient has a result of its own, and the caller is asked right before
the bytes that commit. Faults leave here as `mail.errors` only (`faults.py`).

Sources: RFC 5321, 3207 (STARTTLS), 4954 (AUTH), 7628 (OAUTHBEARER), security.md 49-54, providers.md 11 and 14.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from mail.errors import MailError, SettingsWrong, Stage
from mail.smtp import faults as smtp_faults
from mail.smtp import sasl
from mail.smtp.lines import Wire
from mail.smtp.records import (
    BearerLogin,
    Encryption,
    Endpoint,
    Envelope,
    Observer,
    PasswordLogin,
    SendResult,
    Sent,
    SMTPReply,
    Timeouts,
)
from mail.smtp.session import Session
from mail.smtp.transfer import Transfer
from mail.smtp.window import AskAll, send_in_window
from mail.wire_names import ascii_domain
from security.outbound import Address, Door

_BANNER_CHARS = 200
_QUIT_S = 3.0

# An SMTP server answers EHLO or HELO; an FTP server, whose banner looks the same, does not know either.
_KNOWS_NO_GREETING = frozenset({500, 502, 530})


class Conversation:
    """A conversation with one server, for one message or for several in a row.

    Call `open`, then `authenticate` if there is a login, then `send` as often as wished, then `close`. After an error
    the conversation may still be alive (a refused recipient) or not (a cut); `is_open` tells.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        door: Door,
        timeouts: Timeouts | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._door = door
        self._session = Session(endpoint, timeouts or Timeouts(), observe)
        self._host = endpoint.host
        self._is_fresh = False

    @property
    def is_open(self) -> bool:
        """True while the connection can take another message, as far as this side knows."""
        return self._session.wire is not None

    def open(self) -> None:
        """Resolve, dial, encrypt and greet, until the server's extensions are known.

        Watchers see resolve, connect, then tls and greet. With STARTTLS the greeting begins in clear, so there tls
        begins and ends inside greet.

        Raises:
            TryLater: the network or the server does not play along now.
            SettingsWrong: host, port, encryption or certificate; nothing but a change will help.

        Source: RFC 5321 3.1, RFC 3207; security.md 47-53.
        """
        session = self._session
        session.begin_attempt()
        self._is_fresh = True
        with session.during(Stage.RESOLVE):
            self._host = ascii_domain(self._endpoint.host)
        addresses = self._resolve()
        self._connect(addresses)
        if self._endpoint.encryption is Encryption.IMPLICIT:
            self._encrypt(implicit=True)
        self._greet()

    def authenticate(self, login: PasswordLogin | BearerLogin) -> None:
        """Sign in.

        Raises:
            SettingsWrong: no common mechanism, no verified encryption ("plaintext_auth"), or refused by something a
                person must change.
            ConnectionLost: the grant is no longer good. Its code is "auth_refused" and its reply_code usually 535:
                a caller that can renew the token tries once more before believing it.
            TryLater: the server puts the sign-in off (421, 432, 454).

        Source: RFC 4954 4, RFC 7628 3.2.3, providers.md 11.
        """
        session = self._session
        session.tell(Stage.AUTH, "started")
        wire = session.live_wire(Stage.AUTH)
        if not wire.is_encrypted and not self._endpoint.plaintext_auth:
            raise SettingsWrong(
                "plaintext_auth",
                "Encryption required for requested authentication: this connection is not encrypted, and the host is "
                "not listed as one where credentials may travel in clear.",
                stage=Stage.AUTH,
            )
        offered = session.capabilities.get("AUTH")
        exchange = sasl.exchange_for(
            login,
            offered=None if offered is None else offered.upper().split(),
            host=self._host,
            port=self._endpoint.port,
        )
        session.secrets += exchange.secrets
        session.by_token = isinstance(login, BearerLogin)
        self._run_exchange(exchange)
        user = login.user if isinstance(login, BearerLogin) else login.username
        session.tell(Stage.AUTH, "done", mechanism=exchange.mechanism, user=user)

    def send(
        self,
        sender: str,
        recipients: Sequence[str],
        content: bytes,
        *,
        before_commit: Callable[[], bool] | None = None,
        envelope_id: str = "",
    ) -> SendResult:
        """Hand over one message and return every recipient's result, the final reply and the queue id.

        Where the server offers PIPELINING and CHUNKING, that takes one round trip.

        Args:
            sender: envelope sender; an empty string for none.
            recipients: envelope recipients, each of whom gets a result, in this order.
            content: the message with CRLF line ends only; dots are doubled here.
            before_commit: asked right before the bytes after which the server may deliver. False withdraws the
                message; the connection is dropped when a DATA had begun, because nothing else takes that back.
            envelope_id: our name for the message, for bounces.

        Raises:
            Refused: this message, or every one of its recipients, for good (`.results` holds the recipients').
            TryLater: not now; nothing was delivered.
            SettingsWrong, ConnectionLost: nothing of this store will pass before somebody acts.
            Uncertain: the connection ended after the committing bytes.
            Withdrawn: `before_commit` said no.

        Source: RFC 5321 3.3 and 4.2, RFC 1870, RFC 2920, RFC 3030, RFC 6531.
        """
        if not self._is_fresh:
            self._session.begin_attempt()
        self._is_fresh = False
        envelope = Envelope(sender, tuple(recipients), content, before_commit, envelope_id)
        return Transfer(self._session, envelope).run()

    def send_all(
        self, envelopes: Iterable[Envelope], *, window: int = 1, ask_all: AskAll | None = None
    ) -> Iterator[Sent]:
        """Hand over messages one after another and yield what became of each, in their order.

        Takes the next envelope only when there is room for it, and none any more once the connection has ended
        (`is_open` tells). An error is yielded, not raised; the errors are those of `send`.

        Args:
            window: how many may be in flight, where the server offers PIPELINING and CHUNKING; else one. A crash may
                double every message in flight.
            ask_all: asked for each group right before its bytes go, which of its messages may; in place of the
                envelopes' own `before_commit`, which is still asked for those that go alone.

        Source: RFC 2920 3.1, RFC 3030 4.2.
        """
        self._is_fresh = False
        return send_in_window(self._session, envelopes, window, ask_all)

    @property
    def idle_s(self) -> float:
        """Seconds since the server's last answer."""
        return time.monotonic() - self._session.last_used_at

    def is_usable(self, *, ask_after_s: float = 5.0) -> bool:
        """Tell whether a kept connection still lives: by a look at the socket, and after some idle time by asking.

        A server that gave us up has said so or hung up, which can be seen without a round trip; a firewall that
        forgot the connection can only be found out by asking. False leaves it closed.
        """
        wire = self._session.wire
        if wire is None:
            return False
        if wire.is_disturbed():
            self._session.abort()
            return False
        if self.idle_s > ask_after_s:
            try:
                self.reset()
            except MailError:
                self._session.abort()
                return False
        return True

    def reset(self) -> None:
        """Clear what was begun, and learn on the way whether a kept connection still lives.

        Raises:
            TryLater: it does not; open a new conversation.
        """
        self._session.begin_attempt()
        reply = self._session.command(b"RSET", stage=Stage.SENDER)
        if not reply.is_positive:
            self._session.abort()
            raise self._session.error(reply, stage=Stage.SENDER, code="reset_refused")

    def close(self, *, wait_s: float = _QUIT_S) -> None:
        """Say goodbye and hang up, without errors; wait at most so long for the answer, with 0 not at all."""
        session = self._session
        if session.wire is not None:
            session.begin_attempt()
            with contextlib.suppress(*smtp_faults.FAULTS):
                deadline = session.deadline(wait_s or 0.1)
                session.wire.write(b"QUIT\r\n", deadline)
                if wait_s:
                    session.wire.read_reply(deadline)
        session.abort()

    # Opening ---------------------------------------------------------------------------------------------------------

    def _resolve(self) -> list[Address]:
        session, port = self._session, self._endpoint.port
        session.tell(Stage.RESOLVE, "started")
        with session.during(Stage.RESOLVE):
            addresses = self._door.resolve(self._host, port, timeout_s=session.remaining_s(session.timeouts.connect_s))
        session.tell(Stage.RESOLVE, "done", addresses=[address.text for address in addresses])
        return addresses

    def _connect(self, addresses: Sequence[Address]) -> None:
        session, port = self._session, self._endpoint.port
        session.tell(Stage.CONNECT, "started")
        with session.during(Stage.CONNECT):
            timeout_s = session.remaining_s(session.timeouts.connect_s)
            session.wire = Wire(self._door.connect(self._host, port, timeout_s=timeout_s, addresses=addresses))
        session.tell(Stage.CONNECT, "done", address=session.wire.peer_address, port=port)

    def _encrypt(self, *, implicit: bool) -> None:
        """Shake hands and check the certificate by name. A refused one ends the conversation (security.md 50)."""
        session = self._session
        if implicit:
            session.tell(Stage.TLS, "started")
        with session.during(Stage.TLS):
            wire = session.live_wire(Stage.TLS)
            deadline = session.deadline(session.timeouts.connect_s)
            wire.start_tls(self._door.tls_context, self._host, deadline)
            facts = wire.tls_facts()
        session.tell(Stage.TLS, "done", **facts, implicit=implicit)

    def _greet(self) -> None:
        session = self._session
        session.tell(Stage.GREET, "started")
        with session.during(Stage.GREET):
            wire = session.live_wire(Stage.GREET)
            banner = session.heed(wire.read_reply(session.deadline(session.timeouts.command_s)))
        if banner.code != 220:
            raise self._ended(self._not_smtp_or(banner, is_other_protocol=banner.code < 400))
        self._say_hello()
        self._start_tls_as_asked()
        first_line = smtp_faults.clean(banner.lines[0])[:_BANNER_CHARS]
        offers = [f"{keyword} {parameters}".rstrip() for keyword, parameters in session.capabilities.items()]
        session.tell(Stage.GREET, "done", banner=first_line, capabilities=[smtp_faults.clean(one) for one in offers])

    def _say_hello(self) -> None:
        """Learn what the server offers now; what it said before encryption is forgotten (RFC 3207 4.2)."""
        session = self._session
        session.capabilities = {}
        try:
            name = ascii_domain(self._endpoint.ehlo_hostname)
        except ValueError:
            name = "localhost"
        if not name.isprintable() or " " in name or not name:
            name = "localhost"
        reply = session.command(f"EHLO {name}".encode("ascii"), stage=Stage.GREET)
        if reply.is_positive:
            session.capabilities = _capabilities(reply)
            return
        # Very old servers know HELO only (RFC 5321 3.2); a server that is busy or unwilling means it.
        if 500 <= reply.code <= 504:
            reply = session.command(f"HELO {name}".encode("ascii"), stage=Stage.GREET)
        if not reply.is_positive:
            raise self._ended(self._not_smtp_or(reply, is_other_protocol=reply.code in _KNOWS_NO_GREETING))

    def _not_smtp_or(self, reply: SMTPReply, *, is_other_protocol: bool) -> Exception:
        if is_other_protocol:
            return smtp_faults.not_smtp(Stage.GREET)
        return self._session.error(reply, stage=Stage.GREET, code="greeting_refused")

    def _start_tls_as_asked(self) -> None:
        session, encryption = self._session, self._endpoint.encryption
        if encryption is Encryption.IMPLICIT:
            return
        session.tell(Stage.TLS, "started")
        if "STARTTLS" in session.capabilities:
            self._start_tls()
            self._say_hello()
        elif encryption is Encryption.STARTTLS:
            raise self._ended(
                SettingsWrong("starttls_missing", "STARTTLS extension not supported by server.", stage=Stage.TLS)
            )
        else:
            session.tell(Stage.TLS, "done", **session.live_wire(Stage.TLS).tls_facts(), implicit=False)

    def _start_tls(self) -> None:
        """Offered TLS is taken, and a refusal is an error even where clear text is allowed.

        Bytes that wait behind the 220 were put there by somebody in between, to be read as if they had come encrypted
        (RFC 3207 4.2; CVE-2011-0411 and its many relatives).
        """
        session = self._session
        reply = session.command(b"STARTTLS", stage=Stage.TLS)
        if reply.code != 220:
            raise self._ended(session.error(reply, stage=Stage.TLS, code="starttls_refused"))
        with session.during(Stage.TLS):
            has_waiting = session.live_wire(Stage.TLS).has_waiting()
        if has_waiting:
            raise self._ended(
                SettingsWrong(
                    "starttls_injection",
                    "SSLError: unencrypted bytes followed the answer to STARTTLS; somebody in between may tamper "
                    "with this connection.",
                    stage=Stage.TLS,
                )
            )
        self._encrypt(implicit=False)

    def _ended(self, error: Exception) -> Exception:
        self._session.abort()
        return error

    # Signing in ------------------------------------------------------------------------------------------------------

    def _run_exchange(self, exchange: sasl.Exchange) -> None:
        """Send the answers one by one and require the 235.

        A 334 after the last answer is a failure told in JSON. It must be answered, or the server waits for us and
        the refusal that follows is read as the answer to the next command.
        """
        session, challenge = self._session, ""
        reply = session.command(f"AUTH {exchange.mechanism}".encode("ascii"), stage=Stage.AUTH)
        for answer in exchange.answers:
            if reply.code != 334:
                # A 235 this early, or "503 already authenticated", would be a sign-in that nobody made.
                raise session.error(reply, stage=Stage.AUTH, code="auth_refused")
            reply = session.command(answer, stage=Stage.AUTH)
        if reply.code == 334:
            challenge = sasl.decode_challenge(reply.text)
            reply = session.command(exchange.failure_answer, stage=Stage.AUTH)
        if reply.code != 235 or challenge:
            raise session.error(reply, stage=Stage.AUTH, code="auth_refused", challenge=challenge)


def _capabilities(reply: SMTPReply) -> dict[str, str]:
    """Read an EHLO answer: keyword to parameters. The old form "AUTH=LOGIN" counts as AUTH."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, parameters = line.replace("AUTH=", "AUTH ", 1).partition(" ")
        keyword = keyword.upper()
        if keyword == "AUTH":
            parameters = f"{found.get('AUTH', '')} {parameters}".strip()
        if keyword:
            found[keyword] = parameters
    return found
