"""What an authorization server says about itself: its metadata, looked up by its issuer and judged before it is used.

Whoever answers under the issuer's name decides where people sign in and where the client secret goes, so nothing is
taken from an answer unless all of it is sound: https, the very issuer that was asked for, one answer without
redirects, in time and small. The metadata makes authorization and token endpoint a pair (security.md 40), whatever
their hosts.

Source: RFC 8414, OpenID Connect Discovery 1.0, RFC 9207 3; security.md 40, 43, 47.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import urlsplit

import requests

from mail.strict_json import json_object
from models.connection import ClientAuth
from security.outbound import Blocked, Door, HTTPAnswer
from security.redact import one_line
from security.urls import parse_endpoint_url

DEADLINE_S = 15.0
LIMIT_BYTES = 65_536
PKCE_METHOD = "S256"

_OPENID = "/.well-known/openid-configuration"
_OAUTH = "/.well-known/oauth-authorization-server"
# What a mailbox is usually asked for where the server offers it (providers.md 1, self-hosted).
_USUAL_SCOPES = ("openid", "email", "offline_access")
_MOST_NAMES = 500
_NAME_MAX = 2_048


class IssuerRefused(Exception):
    """The metadata is not there or not fit for use. `code` is a stable word, the text a sentence for the field."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True)
class Discovered:
    """An authorization server as it describes itself.

    Attributes:
        revocation_url: empty without one, and without one beside the token endpoint: the refresh token and the client
            secret go there as well, so it has to be the same server.
        scopes: proposed for sending mail; empty when the server names none of the usual ones.
        iss_required: it promises `iss` in its answers (RFC 9207 3).
        pkce_method: S256 where it says so; empty where it says nothing.
    """

    issuer: str
    authorization_url: str
    token_url: str
    revocation_url: str
    scopes: tuple[str, ...]
    iss_required: bool
    pkce_method: str
    client_auth: ClientAuth


def parse_issuer(text: str) -> str:
    """Return an issuer in the spelling it is compared by: https, without a query, with no slash added or taken.

    The address of the metadata itself is understood too.

    Raises:
        ValueError: with an instruction for the person who typed it.

    Source: RFC 8414 2.
    """
    text = text.strip()
    url = parse_endpoint_url(text)
    if "?" in url:
        raise ValueError("Leave out ? and everything after it")
    for suffix in (_OPENID, _OAUTH):
        if url.endswith(suffix):
            return url.removesuffix(suffix)
    has_path = "/" in text[len("https://") :]
    return url if has_path else url.removesuffix("/")


def discover(issuer: str, *, door: Door) -> Discovered:
    """Return what the server of this issuer says about itself. `issuer` comes from `parse_issuer`.

    Asks where OpenID Connect keeps it, then where RFC 8414 does; 15 s in all. No transaction may be open.

    Raises:
        IssuerRefused: there is no sound metadata.
    """
    ends_at = time.monotonic() + DEADLINE_S
    answer = _ask(issuer.rstrip("/") + _OPENID, ends_at, door)
    if answer.status != 200:
        second = _ask(_oauth_address(issuer), ends_at, door)
        answer = second if second.status == 200 else answer
    if answer.status != 200:
        _refuse_status(answer)
    metadata, why_not = json_object(answer.body)
    if metadata is None:
        raise IssuerRefused("not_json", f"What stands there is not the metadata of a sign-in server: {why_not}.")
    return _judge(metadata, issuer)


def _oauth_address(issuer: str) -> str:
    """Return where RFC 8414 3.1 keeps the metadata: between host and path."""
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}{_OAUTH}{parts.path.rstrip('/')}"


def _ask(url: str, ends_at: float, door: Door) -> HTTPAnswer:
    left_s = ends_at - time.monotonic()
    if left_s <= 0:
        raise IssuerRefused("timed_out", "The server did not answer in time. Try again.")
    try:
        return door.get(url, deadline_s=left_s, limit_bytes=LIMIT_BYTES)
    except Blocked as error:
        raise IssuerRefused("blocked", str(error)) from None
    except requests.exceptions.SSLError:
        words = "The server has no certificate for this name that this machine trusts."
        raise IssuerRefused("not_trusted", words) from None
    except (requests.exceptions.Timeout, TimeoutError):
        raise IssuerRefused("timed_out", "The server did not answer in time. Try again.") from None
    except (requests.exceptions.RequestException, OSError):
        # Not the error's own words: they would tell what listens inside a network (security.md 49).
        words = "No sign-in server answered there, or its answer is too large. Check the name."
        raise IssuerRefused("no_answer", words) from None
    except ValueError as error:
        raise IssuerRefused("unusable_url", str(error)) from None


def _refuse_status(answer: HTTPAnswer) -> NoReturn:
    if 300 <= answer.status < 400:
        words = "The server sends to another address, which is not followed. Enter the address it really has."
        raise IssuerRefused("redirected", words)
    raise IssuerRefused("no_metadata", f"The server has no metadata under this name (HTTP {answer.status}).")


def _judge(metadata: Mapping[str, Any], issuer: str) -> Discovered:
    named = metadata.get("issuer")
    if named != issuer:
        # Equal by simple comparison, or one server could speak for another (RFC 8414 3.3 and 6.2).
        other = one_line(str(named), limit=200) if isinstance(named, str) and named else "nothing"
        words = f"The server calls itself “{other}”. If that is the one you mean, enter exactly that."
        raise IssuerRefused("issuer_differs", words)
    authorization_url = _endpoint(metadata, "authorization_endpoint")
    token_url = _endpoint(metadata, "token_endpoint")
    if not authorization_url or not token_url:
        words = "The metadata names no authorization endpoint or no token endpoint, so nobody could be connected there."
        raise IssuerRefused("no_endpoints", words)
    _check_abilities(metadata)
    return Discovered(
        issuer=issuer,
        authorization_url=authorization_url,
        token_url=token_url,
        revocation_url=_revocation_url(metadata, token_url),
        scopes=_scopes(_names(metadata, "scopes_supported")),
        iss_required=metadata.get("authorization_response_iss_parameter_supported") is True,
        pkce_method=PKCE_METHOD if PKCE_METHOD in _names(metadata, "code_challenge_methods_supported") else "",
        client_auth=_client_auth(_names(metadata, "token_endpoint_auth_methods_supported")),
    )


def _check_abilities(metadata: Mapping[str, Any]) -> None:
    """Refuse a server that says it cannot do what Connect needs; what it leaves out, it is asked for anyway."""
    if (methods := _names(metadata, "code_challenge_methods_supported")) and PKCE_METHOD not in methods:
        raise IssuerRefused("no_s256", "The server takes PKCE without S256 only, which protects nothing.")
    if (kinds := _names(metadata, "response_types_supported")) and "code" not in kinds:
        raise IssuerRefused("no_code", "The server offers no authorization code, which is how Connect works.")
    if (grants := _names(metadata, "grant_types_supported")) and "authorization_code" not in grants:
        raise IssuerRefused("no_code", "The server offers no authorization code, which is how Connect works.")


def _endpoint(metadata: Mapping[str, Any], name: str) -> str:
    """Return one endpoint in our spelling, empty where there is none."""
    value = metadata.get(name)
    if value in (None, ""):
        return ""
    try:
        return parse_endpoint_url(value if isinstance(value, str) else "")
    except ValueError as error:
        words = f"The metadata names an address that is not used ({name.replace('_', ' ')}): {error}."
        raise IssuerRefused("unusable_endpoint", words) from None


def _revocation_url(metadata: Mapping[str, Any], token_url: str) -> str:
    try:
        url = _endpoint(metadata, "revocation_endpoint")
    except IssuerRefused:
        return ""  # one can be connected without it
    return url if urlsplit(url).netloc == urlsplit(token_url).netloc else ""


def _scopes(offered: tuple[str, ...]) -> tuple[str, ...]:
    """Return what to propose: the usual ones that it knows, and whatever it calls after sending mail."""
    if not offered:
        return _USUAL_SCOPES
    usual = [scope for scope in _USUAL_SCOPES if scope in offered]
    mail = [scope for scope in offered if "smtp" in scope.casefold() and len(scope) <= 200]
    return tuple(dict.fromkeys([*mail[:5], *usual]))


def _client_auth(methods: tuple[str, ...]) -> ClientAuth:
    """Return how the app proves itself: Basic is what every server has to take (RFC 6749 2.3.1, RFC 8414 2)."""
    if not methods or ClientAuth.BASIC in methods:
        return ClientAuth.BASIC
    return ClientAuth.POST


def _names(metadata: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = metadata.get(name)
    if not isinstance(value, list):
        return ()
    words = [word for word in value[:_MOST_NAMES] if isinstance(word, str) and word.isprintable() and " " not in word]
    return tuple(word for word in words if 0 < len(word) <= _NAME_MAX)
