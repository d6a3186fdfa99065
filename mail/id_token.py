"""Who consented, read from the ID token of a token answer.

The token comes from the token endpoint itself over verified TLS, so its signature says nothing that the connection
has not said already (OpenID Connect Core 3.1.3.7, 6) and is not checked. Audience, issuer and expiry are: they tell
an answer that was meant for another app, or comes from another server, from ours.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Google signs with either spelling (its OpenID Connect page; providers.md 5).
_SAME_ISSUER = {"accounts.google.com": "https://accounts.google.com"}
# Microsoft's issuer carries the tenant that consented, which the `tid` claim names too (providers.md 2).
_TENANT_ISSUER = re.compile(r"https://([a-z0-9.-]+)/(?P<tenant>[0-9a-fA-F-]{36})/v2\.0")
_LONGEST = 65_536
_CLOCK_LEEWAY_S = 300
_ADDRESS_CLAIMS = ("email", "preferred_username", "upn")


class WrongIDToken(Exception):
    """The ID token is not for us, not from there, or not of now; the text says which, in a few words."""


@dataclass(frozen=True)
class Identity:
    """Who consented; both are empty when the provider did not say."""

    address: str = ""
    tenant: str = ""


def claims_in(token: object) -> dict[str, Any]:
    """Return the claims of a signed token in compact form, or nothing when it is none or cannot be read.

    Encrypted tokens and plain junk count as "did not say": `identity` then knows nobody.
    """
    if not isinstance(token, str) or len(token) > _LONGEST:
        return {}
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def identity(claims: Mapping[str, Any], *, client_id: str, issuer: str = "", now: float | None = None) -> Identity:
    """Return who the claims speak of, after checking that they speak to us.

    Args:
        issuer: what `iss` must equal; empty when it cannot be known before.
        now: seconds since the epoch, this moment by default.

    Raises:
        WrongIDToken: another audience, another issuer, or expired.

    Source: OpenID Connect Core 3.1.3.7.
    """
    if not claims:
        return Identity()
    audience = claims.get("aud")
    names = audience if isinstance(audience, list) else [audience]
    if client_id not in names or claims.get("azp", client_id) != client_id:
        raise WrongIDToken("it was made for another app")
    _check_issuer(claims, issuer)
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise WrongIDToken("it names no end")
    if not expires > (time.time() if now is None else now) - _CLOCK_LEEWAY_S:
        raise WrongIDToken("it has expired")
    tenant = claims.get("tid")
    return Identity(_address(claims), tenant if isinstance(tenant, str) and len(tenant) <= 253 else "")


def _check_issuer(claims: Mapping[str, Any], expected: str) -> None:
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or not issuer:
        raise WrongIDToken("it names no issuer")
    if expected and _SAME_ISSUER.get(issuer, issuer) != expected:
        raise WrongIDToken("it comes from another sign-in server")
    of_tenant = _TENANT_ISSUER.fullmatch(issuer)
    if of_tenant and "tid" in claims and of_tenant["tenant"] != claims["tid"]:
        raise WrongIDToken("its issuer and its tenant differ")


def _address(claims: Mapping[str, Any]) -> str:
    """Return the first claim that holds an address; `email` may be missing (providers.md 2)."""
    for name in _ADDRESS_CLAIMS:
        value = claims.get(name)
        if isinstance(value, str) and 3 <= len(value) <= 320 and "@" in value[1:-1] and value.isprintable():
            return value
    return ""
