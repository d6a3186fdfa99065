"""What custom fields do: a closed list of effects. Everything else is kept, shown, and not used. Pure; no I/O.

Their meaning is never checked when they are saved, so a value that makes no sense simply has no effect. None of them
can reach host, TLS checks, credentials, grant, redirect, scope or logging (security.md 27, product.md 13.12).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mail.compose import is_settable_header
from mail.smtp.sasl import BEARER_MECHANISMS
from mail.text_rules import parse_host

Pair = tuple[str, str]

# Parameters that we set, or that would change what a request is: RFC 6749, 7521, 7636, 9101, 9126 and OpenID Connect.
# fmt: off
STANDARD_PARAMETERS = frozenset(
    {
        "access_token", "assertion", "client_assertion", "client_assertion_type", "client_id", "client_secret",
        "code", "code_challenge", "code_challenge_method", "code_verifier", "error", "error_description",
        "error_uri", "expires_in", "grant_type", "id_token", "id_token_hint", "iss", "login_hint", "nonce",
        "password", "redirect_uri", "refresh_token", "request", "request_uri", "response_mode", "response_type",
        "scope", "state", "token_type", "username",
    }
)
# fmt: on

TOKEN_PREFIX = "token."  # noqa: S105  a prefix of keys, not a secret
AUTHORIZE_PREFIX = "authorize."
HEADER_PREFIX = "header."

TIMEOUT_MAX_S = 900.0
CONNECTIONS_MAX = 100
PER_MINUTE_MAX = 100_000

# Shown beside the fields, in this order.
DOCUMENTED: tuple[Pair, ...] = (
    ("token.<name>", "a parameter of each token request"),
    ("authorize.<name>", "a parameter of the authorization request"),
    ("header.<Name>", "a header of each mail"),
    ("ehlo_hostname", "the name Storepost introduces itself with"),
    ("timeout_seconds", "how long one SMTP command may take"),
    ("max_connections", "connections at the same time"),
    ("messages_per_minute", "the sending rate"),
    ("auth_mechanism", "XOAUTH2 or OAUTHBEARER"),
)


@dataclass(frozen=True)
class Effects:
    """What the custom fields of a store set; None and empty mean "as without them".

    `unused` are the keys that have no effect, `repeated` those given more than once: the last one applies.
    """

    token_parameters: tuple[Pair, ...] = ()
    authorize_parameters: tuple[Pair, ...] = ()
    headers: tuple[Pair, ...] = ()
    ehlo_hostname: str | None = None
    timeout_s: float | None = None
    max_connections: int | None = None
    messages_per_minute: int | None = None
    auth_mechanism: str | None = None
    unused: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()


def effects_of(custom_fields: Sequence[Pair]) -> Effects:
    """Return the effects of these fields, the last one of a repeated key counting."""
    last = dict(custom_fields)
    used = {key: value for key, value in last.items() if effect_of(key, value)}

    def prefixed(prefix: str) -> tuple[Pair, ...]:
        named = {
            key[len(prefix) :].casefold(): (key[len(prefix) :], value)
            for key, value in used.items()
            if key.startswith(prefix)
        }
        return tuple(named.values())

    timeout, connections, rate = (used.get(k) for k in ("timeout_seconds", "max_connections", "messages_per_minute"))
    mechanism = used.get("auth_mechanism")
    return Effects(
        token_parameters=prefixed(TOKEN_PREFIX),
        authorize_parameters=prefixed(AUTHORIZE_PREFIX),
        headers=prefixed(HEADER_PREFIX),
        ehlo_hostname=parse_host(used["ehlo_hostname"]) if "ehlo_hostname" in used else None,
        timeout_s=float(timeout) if timeout else None,
        max_connections=int(connections) if connections else None,
        messages_per_minute=int(rate) if rate else None,
        auth_mechanism=mechanism.upper() if mechanism else None,
        unused=tuple(key for key in last if key not in used),
        repeated=tuple(key for key, count in Counter(key for key, _ in custom_fields).items() if count > 1),
    )


def effect_of(key: str, value: str) -> str:
    """Return what one field does, as words for the page; empty when it has no effect."""
    for prefix, words in (
        (TOKEN_PREFIX, "Adds a parameter to each token request"),
        (AUTHORIZE_PREFIX, "Adds a parameter to the authorization request"),
    ):
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            return words if name and name.casefold() not in STANDARD_PARAMETERS else ""
    if key.startswith(HEADER_PREFIX):
        settable = is_settable_header(key.removeprefix(HEADER_PREFIX)) and bool(value)
        return "Adds a header to each mail" if settable else ""
    match key:
        case "ehlo_hostname":
            return f"Introduces Storepost as {value}" if _is_host(value) else ""
        case "timeout_seconds":
            return f"Each SMTP command may take {value} seconds" if _is_seconds(value) else ""
        case "max_connections":
            return f"At most {value} connections at the same time" if _is_count(value, CONNECTIONS_MAX) else ""
        case "messages_per_minute":
            return f"At most {value} messages a minute" if _is_count(value, PER_MINUTE_MAX) else ""
        case "auth_mechanism":
            return f"Signs in with {value.upper()}" if value.upper() in BEARER_MECHANISMS else ""
    return ""


def describe(custom_fields: Sequence[Pair]) -> tuple[str, ...]:
    """Return for each field, in order, what the page says under it."""
    last_at = {key: index for index, (key, _) in enumerate(custom_fields)}
    return tuple(
        ""
        if not key
        else "This name stands again further down: the last one applies"
        if last_at[key] != index
        else effect_of(key, value) or "Stored, not used"
        for index, (key, value) in enumerate(custom_fields)
    )


def _is_host(text: str) -> bool:
    try:
        return bool(parse_host(text))
    except ValueError:
        return False


def _is_seconds(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3})?", text) is not None and 1 <= float(text) <= TIMEOUT_MAX_S


def _is_count(text: str, limit: int) -> bool:
    return re.fullmatch(r"[0-9]{1,6}", text) is not None and 1 <= int(text) <= limit
