"""The border: replies, sockets and TLS faults become the error family here, and nowhere else.

What a reply calls for is read from the signature catalogue (errors.csv through `mail/signatures.py`). Two rules stand
above it. A 4xx is temporary because the server says so (RFC 5321 4.2.1): a word in its text must not fail a message or
stop a queue. And what a server says before any message was offered can never fail a message.

A network fault is temporary too, whatever the catalogue advises people to check: that nothing listens on the port this
minute says nothing about the form, and a queue held for it would wait for a person although the server is back.
"""

import socket
import ssl
from collections.abc import Iterable

from mail import signatures
from mail.errors import ConnectionLost, Family, MailError, Refused, SettingsWrong, Stage, TryLater
from mail.smtp.lines import PeerClosed, UnreadableReply
from mail.smtp.records import SMTPReply
from security.outbound import Blocked
from security.redact import one_line, redact

FAULTS = (OSError, UnicodeError, UnreadableReply, Blocked)

_BEFORE_ANY_MESSAGE = frozenset({Stage.CONNECT, Stage.TLS, Stage.GREET, Stage.AUTH})
_DETAIL_CHARS = 1_000


def from_reply(
    reply: SMTPReply,
    *,
    stage: Stage,
    code: str,
    provider: str,
    secrets: Iterable[str] = (),
    challenge: str = "",
    by_token: bool = True,
) -> MailError:
    """Return the error that a refusing reply amounts to.

    Args:
        code: the stable word for a lasting refusal; temporary ones are "throttled" or "temporary".
        challenge: what a 334 said before this reply, decoded; it often tells more than the reply.
        by_token: whether the sign-in uses a grant, which can be lost; a password can only be wrong.
    """
    detail = clean(f"{reply.code} {reply.text} {challenge}".rstrip(), secrets)
    if reply.code < 400:
        return TryLater("reply_unexpected", detail, stage=stage, reply_code=reply.code)
    action = _action_for(detail, provider)
    if reply.is_temporary and not (reply.code == 432 and action == "reauthorize"):
        word = "throttled" if action == "throttle" else "temporary"
        return TryLater(word, detail, stage=stage, reply_code=reply.code)
    match action:
        case "retry" | "throttle":
            word = "throttled" if action == "throttle" else "temporary"
            return TryLater(word, detail, stage=stage, reply_code=reply.code)
        case "reauthorize" if by_token:
            return ConnectionLost(code, detail, stage=stage, reply_code=reply.code)
        case "reauthorize" | "fix_settings" | "fix_provider":
            return SettingsWrong(code, detail, stage=stage, reply_code=reply.code)
    if stage in _BEFORE_ANY_MESSAGE:
        return SettingsWrong(code, detail, stage=stage, reply_code=reply.code)
    return Refused(code, detail, stage=stage, reply_code=reply.code)


def from_fault(fault: Exception, *, stage: Stage, secrets: Iterable[str] = ()) -> MailError:
    """Return the error that a socket, TLS, resolver or guard fault amounts to.

    The detail keeps class and words ("ConnectionRefusedError: [Errno 111] Connection refused"), which is what the
    catalogue's rows were written against.
    """
    detail = clean(_words_of(fault, stage), secrets)
    match fault:
        case Blocked():
            return SettingsWrong("blocked", detail, stage=stage)
        case UnreadableReply() if stage is Stage.GREET:
            return SettingsWrong("not_smtp", detail, stage=stage)
        case UnreadableReply():
            return TryLater("reply_unreadable", detail, stage=stage)
        case ssl.SSLCertVerificationError():
            return SettingsWrong("certificate_refused", detail, stage=stage)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return TryLater("connection_cut", detail, stage=stage)
        case ssl.SSLError() if stage is Stage.TLS:
            return SettingsWrong("tls_failed", detail, stage=stage)
        case socket.gaierror() if fault.errno != socket.EAI_AGAIN:
            return SettingsWrong("host_unknown", detail, stage=stage)
        case socket.gaierror():
            return TryLater("resolver_silent", detail, stage=stage)
        case UnicodeError():
            return SettingsWrong("host_unknown", detail, stage=stage)
        case TimeoutError():
            return TryLater("timed_out", detail, stage=stage)
        case ConnectionRefusedError():
            return TryLater("connection_refused", detail, stage=stage)
        case PeerClosed() | ConnectionResetError() | BrokenPipeError():
            return TryLater("connection_cut", detail, stage=stage)
    return TryLater("connection_failed", detail, stage=stage)


def not_smtp(stage: Stage) -> SettingsWrong:
    """Return the error for a peer that speaks something else. Its words stay unsaid (security.md 49)."""
    return SettingsWrong("not_smtp", _NOT_SMTP, stage=stage)


def clean(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text fit for errors, rows and pages: one line, cut, without the secrets of this conversation."""
    return cut(redact(text, secrets))


def cut(text: str) -> str:
    """Return text without secrets as one line that is not too long."""
    return one_line(text, limit=_DETAIL_CHARS)


_NOT_SMTP = "SMTPConnectError: (-1, b'') The peer does not answer with SMTP; its words are left out."


def _words_of(fault: Exception, stage: Stage) -> str:
    match fault:
        case UnreadableReply() if stage is Stage.GREET:
            return _NOT_SMTP
        case UnreadableReply():
            return f"SMTPServerDisconnected: the server sent {fault}"
        case PeerClosed():
            return f"SMTPServerDisconnected: {fault}"
        case TimeoutError() if stage is Stage.RESOLVE:
            return "TimeoutError: Temporary failure in name resolution: timed out"
        case TimeoutError() if stage is Stage.GREET:
            return "SMTPServerDisconnected: Connection unexpectedly closed: timed out"
        case UnicodeError():
            # Its own text quotes the whole input.
            return "UnicodeError: 'idna' codec can't encode the host name"
        case Blocked():
            return str(fault)
    return f"{type(fault).__name__}: {fault}"


def _action_for(text: str, provider: str) -> str:
    # Every row counts for a custom provider, whoever's words they are: to pause for a stranger's throttling is cheap.
    found = signatures.match(text, provider=provider, family=Family.SMTP)
    return found.action.value if found else ""
