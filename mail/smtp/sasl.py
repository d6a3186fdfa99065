"""What is said inside AUTH: which mechanism, which bytes, and what a server's challenge means. No I/O.

Always the two-step form (AUTH name, 334, answer): an initial response on the AUTH line would exceed the 512 octets
of a command with any OAuth token, and Postfix cuts there (RFC 4954 4, providers.md 11).
"""

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass, field

from mail.errors import SettingsWrong, Stage
from mail.smtp.records import BearerLogin, PasswordLogin

BEARER_MECHANISMS = ("XOAUTH2", "OAUTHBEARER")
PASSWORD_MECHANISMS = ("PLAIN", "LOGIN")

_MAX_CHALLENGE_CHARS = 400


@dataclass(frozen=True)
class Exchange:
    """The client's side of one sign-in.

    Attributes:
        answers: what to send for each 334, in order, already base64.
        failure_answer: what ends the exchange after a challenge that tells of failure ("*" cancels, RFC 4954 4).
        secrets: every form in which the credential is on the wire, for redaction.
    """

    mechanism: str
    answers: tuple[bytes, ...] = field(repr=False)
    failure_answer: bytes
    secrets: tuple[str, ...] = field(repr=False)


def exchange_for(
    login: PasswordLogin | BearerLogin, *, offered: Collection[str] | None, host: str, port: int
) -> Exchange:
    """Return what to say to a server that offers these mechanisms (None: it offers no AUTH at all).

    Raises:
        SettingsWrong: no mechanism in common, or a user name or credential that cannot be put in one.
    """
    mechanism = _choose(login, offered)
    user = login.user if isinstance(login, BearerLogin) else login.username
    secret = (login.token if isinstance(login, BearerLogin) else login.password).reveal()
    _check_usable(user, secret, is_token=isinstance(login, BearerLogin))
    answers: tuple[bytes, ...]
    match mechanism:
        case "XOAUTH2":
            answers, failure_answer = (xoauth2(user, secret),), b""
        case "OAUTHBEARER":
            answers, failure_answer = (oauthbearer(user, secret, host=host, port=port),), b"AQ=="
        case "PLAIN":
            answers, failure_answer = (plain(user, secret),), b"*"
        case _:
            answers, failure_answer = (_base64(user), _base64(secret)), b"*"
    return Exchange(mechanism, answers, failure_answer, (secret, *(a.decode("ascii") for a in answers)))


def xoauth2(user: str, token: str) -> bytes:
    """Return the XOAUTH2 client response. Source: Google's and Microsoft's pages, providers.md 11."""
    return _base64(f"user={user}\x01auth=Bearer {token}\x01\x01")


def oauthbearer(user: str, token: str, *, host: str, port: int) -> bytes:
    """Return the OAUTHBEARER client response with the real host and port. Source: RFC 7628 3.1, RFC 5801 4."""
    saslname = user.replace("=", "=3D").replace(",", "=2C")
    return _base64(f"n,a={saslname},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01")


def plain(username: str, password: str) -> bytes:
    """Return the PLAIN client response, without an authorization identity. Source: RFC 4616 2."""
    return _base64(f"\x00{username}\x00{password}")


def decode_challenge(text: str) -> str:
    """Return what a 334 says in words: the decoded JSON on one line, or the text itself when it is no base64."""
    try:
        words = base64.b64decode(text, validate=True).decode("utf-8", "backslashreplace")
    except (binascii.Error, ValueError):
        words = text
    return " ".join(words.split())[:_MAX_CHALLENGE_CHARS]


def _choose(login: PasswordLogin | BearerLogin, offered: Collection[str] | None) -> str:
    if offered is None:
        raise _unusable("auth_missing", "SMTP AUTH extension not supported by server.")
    if isinstance(login, PasswordLogin):
        wanted: tuple[str, ...] = PASSWORD_MECHANISMS
    else:
        wanted = BEARER_MECHANISMS if login.mechanism is None else (login.mechanism.upper(),)
    for mechanism in wanted:
        if mechanism in offered and mechanism in BEARER_MECHANISMS + PASSWORD_MECHANISMS:
            return mechanism
    raise _unusable(
        "mechanism_missing",
        f"No suitable authentication method found: needed {' or '.join(wanted)}, "
        f"the server offers {', '.join(sorted(offered)) or 'none'}.",
    )


def _check_usable(user: str, secret: str, *, is_token: bool) -> None:
    """Refuse what would end a field early and let one value speak for another."""
    if not user or not secret:
        raise _unusable("login_incomplete", "The user name or the credential is empty.")
    if not user.isprintable() or not (secret.isprintable() or not is_token) or "\x00" in secret:
        raise _unusable("login_unusable", "The user name or the credential contains control characters.")
    if is_token and not secret.isascii():
        raise _unusable("login_unusable", "'ascii' codec can't encode the access token.")


def _unusable(code: str, detail: str) -> SettingsWrong:
    return SettingsWrong(code, detail, stage=Stage.AUTH)


def _base64(text: str) -> bytes:
    return base64.b64encode(text.encode("utf-8", "surrogatepass"))
