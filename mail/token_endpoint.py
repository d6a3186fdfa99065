"""One call of a token endpoint: fields out, a checked answer or an error of the family back. No database.

The answer is parsed here and not by an OAuth library: those read whatever they are given, fail on a scope that is
merely spelled otherwise, and know no limits (providers.md 12). Nothing of an answer is used unless all of it is sound.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import requests

from mail import id_token, signatures
from mail.custom_fields import STANDARD_PARAMETERS
from mail.errors import ConnectionLost, Family, MailError, SettingsWrong, Stage, TryLater
from mail.strict_json import json_object
from models.connection import ClientAuth
from security.outbound import Blocked, Door, HTTPAnswer
from security.redact import one_line, redact
from security.secret import Secret

DEADLINE_S = 15.0
LIMIT_BYTES = 65_536
LONGEST_TOKEN = 16_384
DEFAULT_LIFETIME_S = 3_600
LONGEST_LIFETIME_S = 86_400
LONGEST_REFRESH_LIFETIME_S = 10 * 365 * 86_400
LONGEST_SCOPE = 2_048

# RFC 6749 5.2, OpenID Connect Core 3.1.2.6, RFC 8707: what they call for. Everything else is temporary.
_SIGN_IN_NEEDED = frozenset(
    {"invalid_grant", "interaction_required", "login_required", "consent_required", "account_selection_required"}
)
_SETTINGS_WRONG = frozenset(
    {"invalid_client", "unauthorized_client", "invalid_scope", "invalid_request", "unsupported_grant_type"}
    | {"invalid_resource", "invalid_target", "access_denied"}
)
_DETAIL_CHARS = 1_000
_BODY_CHARS = 200
_LONGEST_WAIT_S = 86_400.0
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_WORD = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,64}")  # RFC 6749 A.7, cut
_TOKEN = re.compile(rf"[\x21-\x7e]{{1,{LONGEST_TOKEN}}}")
_REFRESH_TOKEN = re.compile(rf"[\x20-\x7e]{{1,{LONGEST_TOKEN}}}")  # RFC 6749 A.17 allows blanks


@dataclass(frozen=True)
class TokenCall:
    """Everything one call sends. `extra` are parameters of our own; standard ones among them are not sent."""

    provider: str
    token_url: str
    client_id: str
    client_secret: Secret | None
    grant_type: str
    scope: str = ""
    refresh_token: Secret | None = None
    code: Secret | None = None
    redirect_uri: str = ""
    code_verifier: Secret | None = None
    client_auth: ClientAuth = ClientAuth.POST
    extra: tuple[tuple[str, str], ...] = ()

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """What must not appear in any text about this call."""
        return tuple(s for s in (self.client_secret, self.refresh_token, self.code, self.code_verifier) if s)


@dataclass(frozen=True)
class TokenAnswer:
    """What the endpoint granted.

    Attributes:
        expires_in_s: seconds of life from the moment of the request, at most a day; 0 when `single_use`.
        single_use: the provider gave it no life at all, so it is good for the work at hand and never kept.
        refresh_token: None when the answer has none: the one in use stays good (RFC 6749 6).
        scope: as granted, or as asked for when the answer does not say (RFC 6749 5.1).
        id_claims: of the ID token, not yet checked (`mail.id_token.identity`); empty without one.
        clock_skew_s: how far the endpoint's clock is ahead of ours; None when it did not tell the time.
        refresh_expires_in_s: seconds that the refresh token lives, or may lie unused; None when it does not say, or
            says for ever.
    """

    access_token: Secret
    expires_in_s: int
    expires_at: datetime
    refresh_token: Secret | None
    scope: str
    id_claims: dict[str, Any] = field(repr=False)
    single_use: bool
    clock_skew_s: float | None
    refresh_expires_in_s: int | None = None


def call(token_call: TokenCall, *, door: Door) -> TokenAnswer:
    """Return what the token endpoint grants: one POST, 15 s in all, no redirects, nothing retried.

    Raises:
        ConnectionLost: the grant is gone; a person has to sign in again.
        SettingsWrong: client, scope or URL are refused.
        TryLater: everything else; `.after_s` is the endpoint's wish.

    Each with `family` TOKEN, the OAuth error (or a word of ours) as `code`, and the raw words without secrets.

    Source: RFC 6749 4.1.3, 4.4.2, 5 and 6; security.md 43 and 44.
    """
    asked_at = datetime.now(UTC)
    try:
        answer = door.post_form(
            token_call.token_url,
            _fields(token_call),
            deadline_s=DEADLINE_S,
            limit_bytes=LIMIT_BYTES,
            auth_basic=_basic(token_call),
        )
    except Blocked as error:
        raise _error(SettingsWrong, "blocked", str(error), token_call) from None
    except requests.exceptions.RequestException as error:
        # Some of them are ValueErrors too, so they come first.
        raise _error(TryLater, _network_word(error), f"{type(error).__name__}: {error}", token_call) from None
    except OSError as error:
        raise _error(TryLater, "connection_failed", f"{type(error).__name__}: {error}", token_call) from None
    except ValueError as error:
        raise _error(SettingsWrong, "unusable_url", f"InvalidURL: {error}", token_call) from None
    return _read(answer, token_call, asked_at)


def _fields(token_call: TokenCall) -> list[tuple[str, str]]:
    """Return the form in the order people read it; credentials once, in the body or the header (RFC 6749 2.3.1)."""
    fields = [("grant_type", token_call.grant_type)]
    if not _basic(token_call):
        fields.append(("client_id", token_call.client_id))
    if token_call.client_secret and not _basic(token_call):
        fields.append(("client_secret", token_call.client_secret.reveal()))
    match token_call.grant_type:
        case "authorization_code":
            assert token_call.code is not None
            assert token_call.code_verifier is not None
            fields += [("code", token_call.code.reveal()), ("redirect_uri", token_call.redirect_uri)]
            fields.append(("code_verifier", token_call.code_verifier.reveal()))
        case "refresh_token":
            assert token_call.refresh_token is not None
            fields.append(("refresh_token", token_call.refresh_token.reveal()))
            # Elsewhere no scope means "as consented"; Microsoft makes a Graph token of it (providers.md 2 and 12).
            if token_call.scope and token_call.provider.startswith(("microsoft", "outlook")):
                fields.append(("scope", token_call.scope))
        case _:
            if token_call.scope:
                fields.append(("scope", token_call.scope))
    # Of a repeated key the last one applies (security.md 27); a repeated parameter would be refused (RFC 6749 3.2).
    extra = {name: value for name, value in token_call.extra if name and name.casefold() not in STANDARD_PARAMETERS}
    return [*fields, *extra.items()]


def _basic(token_call: TokenCall) -> tuple[str, str] | None:
    """Return id and secret for HTTP Basic where the app proves itself that way; a public app has nothing to prove."""
    if token_call.client_auth is not ClientAuth.BASIC or not token_call.client_secret:
        return None
    return token_call.client_id, token_call.client_secret.reveal()


def _read(answer: HTTPAnswer, token_call: TokenCall, asked_at: datetime) -> TokenAnswer:
    body, why_not = json_object(answer.body)
    # Some say 200 and "error" (providers.md 7), so the body is asked before the status is believed.
    if body is not None and body.get("error"):
        _refuse(answer, body, token_call)
    if answer.status != 200:
        _refuse_status(answer, token_call)
    if body is None:
        # The answer may be anything, a token included: of a 200 nothing is quoted.
        raise _error(TryLater, "not_json", f"JSONDecodeError: {why_not} (HTTP 200, {_type_of(answer)})", token_call)
    return _granted(body, answer, token_call, asked_at)


def _granted(body: Mapping[str, Any], answer: HTTPAnswer, token_call: TokenCall, asked_at: datetime) -> TokenAnswer:
    access_token = body.get("access_token")
    if access_token in (None, ""):
        raise _error(TryLater, "missing_token", "missing_token: the answer holds no access token", token_call)
    if not isinstance(access_token, str) or not _TOKEN.fullmatch(access_token):
        words = "the access token is longer than 16 KiB or not made of visible ASCII characters"
        raise _error(TryLater, "unusable_token", words, token_call)
    token_type = body.get("token_type")
    if not isinstance(token_type, str) or token_type.strip().lower() != "bearer":
        raise _error(TryLater, "unusable_token_type", "the token is not of type bearer", token_call)
    refresh_token = body.get("refresh_token") or None
    if refresh_token is not None and not (isinstance(refresh_token, str) and _REFRESH_TOKEN.fullmatch(refresh_token)):
        words = "the refresh token is longer than 16 KiB or not made of ASCII characters"
        raise _error(TryLater, "unusable_token", words, token_call)
    lifetime_s = _lifetime_s(body.get("expires_in"))
    single_use = lifetime_s <= 0
    lifetime_s = min(max(lifetime_s, 0), LONGEST_LIFETIME_S)
    return TokenAnswer(
        access_token=Secret(access_token),
        expires_in_s=lifetime_s,
        # From the moment of asking: the answer may have been on its way for seconds (providers.md 12).
        expires_at=asked_at + timedelta(seconds=lifetime_s),
        refresh_token=Secret(refresh_token) if refresh_token else None,
        scope=_scope(body.get("scope")) or token_call.scope,
        id_claims=id_token.claims_in(body.get("id_token")),
        single_use=single_use,
        clock_skew_s=_clock_skew_s(answer),
        refresh_expires_in_s=_refresh_lifetime_s(body),
    )


def _lifetime_s(value: object) -> int:
    """Return `expires_in` as a number, which providers also write as a text; an hour when it is absent or junk."""
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return DEFAULT_LIFETIME_S
    return int(value)


def _refresh_lifetime_s(body: Mapping[str, Any]) -> int | None:
    """Return how long the refresh token lives, by Google's name or Keycloak's; no standard names it."""
    for name in ("refresh_token_expires_in", "refresh_expires_in"):
        value = body.get(name)
        if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= LONGEST_REFRESH_LIFETIME_S:
            return value
    return None


def _scope(value: object) -> str:
    words = value if isinstance(value, list) else str(value).split() if isinstance(value, str) else []
    named = [word for word in words if isinstance(word, str) and word.isprintable() and " " not in word]
    return " ".join(named)[:LONGEST_SCOPE]


def _refuse(answer: HTTPAnswer, body: Mapping[str, Any], token_call: TokenCall) -> NoReturn:
    """Raise what an error answer calls for. `error` decides; the provider's numbers only help (providers.md 2)."""
    error = body["error"]
    # Google's other services nest it; a word that is none must not become a code of ours.
    word = error if isinstance(error, str) and _WORD.fullmatch(error) else "unknown_error"
    more = (body.get("error_subtype"), body.get("suberror"), body.get("error_description"))
    described = " ".join(text for text in more if isinstance(text, str) and text)
    text = f"HTTP {answer.status} {word}" + (f": {described}" if described else "")
    detail = clean(text, token_call)
    if answer.status >= 500 or answer.status == 429 or _is_passing(detail, token_call.provider):
        raise _error(TryLater, word, detail, token_call, answer)
    if word in _SIGN_IN_NEEDED:
        # Without a grant there is nothing that signing in again could mend.
        has_grant = token_call.grant_type != "client_credentials"
        raise _error(ConnectionLost if has_grant else SettingsWrong, word, detail, token_call, answer)
    raise _error(SettingsWrong if word in _SETTINGS_WRONG else TryLater, word, detail, token_call, answer)


def _is_passing(detail: str, provider: str) -> bool:
    """Tell whether Microsoft's number says that nothing is wrong with us, under whatever error (providers.md 12)."""
    row = signatures.match(detail, provider=provider, family=Family.TOKEN)
    passing = (signatures.Action.RETRY, signatures.Action.THROTTLE)
    return row is not None and row.provider == "microsoft" and row.action in passing


def _refuse_status(answer: HTTPAnswer, token_call: TokenCall) -> NoReturn:
    """Raise for an answer that says no without OAuth's words. Temporary: proxies and outages speak like this."""
    body = " ".join(answer.body[: 4 * _BODY_CHARS].decode("utf-8", "replace").split())[:_BODY_CHARS]
    if body.startswith("<"):
        # Mark-up explains nothing, and whoever answers with it is no token endpoint (security.md 49).
        body = "(a web page)"
    word = "redirected" if 300 <= answer.status < 400 else f"http_{answer.status}"
    raise _error(TryLater, word, f"HTTP {answer.status} {body}".rstrip(), token_call, answer)


def _clock_skew_s(answer: HTTPAnswer) -> float | None:
    at = _http_date(answer.headers.get("Date", ""))
    return None if at is None else (at - datetime.now(UTC)).total_seconds()


def _after_s(answer: HTTPAnswer) -> float | None:
    """Return Retry-After as seconds, however it is written (RFC 9110 10.2.3)."""
    wish = answer.headers.get("Retry-After", "").strip()
    if wish.isascii() and wish.isdigit() and len(wish) <= 9:
        return min(float(wish), _LONGEST_WAIT_S)
    at = _http_date(wish)
    return None if at is None else min(max((at - datetime.now(UTC)).total_seconds(), 0.0), _LONGEST_WAIT_S)


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _type_of(answer: HTTPAnswer) -> str:
    return one_line(answer.headers.get("Content-Type", "no content type"), limit=80)


def _network_word(error: requests.exceptions.RequestException) -> str:
    return "timed_out" if isinstance(error, requests.exceptions.Timeout) else "connection_failed"


def clean(text: str, token_call: TokenCall) -> str:
    """Return text fit for errors, rows and pages: one line, cut, without the secrets of this call."""
    return one_line(redact(text, token_call.secrets), limit=_DETAIL_CHARS)


def _error(
    kind: type[MailError], code: str, detail: str, token_call: TokenCall, answer: HTTPAnswer | None = None
) -> MailError:
    status = answer.status if answer is not None else None
    error = kind(code, clean(detail, token_call), stage=Stage.TOKEN, family=Family.TOKEN, reply_code=status)
    if isinstance(error, TryLater) and answer is not None:
        error.after_s = _after_s(answer)
    return error
