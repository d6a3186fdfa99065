"""What an access token says about itself, for the eyes of the person who tests: audience, rights, user, tenant.

Access tokens are opaque to clients, and nothing here is trusted: no rule of delivery reads it, and it is never
checked or kept. But some of them are JWTs, and then they answer what a mail server does not: "535 5.7.3" says the same
about a token for another user and about one for another service.

Source: providers.md 2 (resources, scopes, claims), RFC 9068 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mail.id_token import claims_in
from security.redact import one_line
from security.secret import Secret

EXCHANGE = "Exchange Online"
GRAPH = "Microsoft Graph"

# Microsoft names a resource by its app id in tokens of version 2, and by its URL in those of version 1.
_AUDIENCES: Mapping[str, str] = {
    "00000002-0000-0ff1-ce00-000000000000": EXCHANGE,
    "https://outlook.office.com": EXCHANGE,
    "https://outlook.office365.com": EXCHANGE,
    "https://outlook.office365.us": EXCHANGE,
    "https://outlook-dod.office365.us": EXCHANGE,
    "https://partner.outlook.cn": EXCHANGE,
    "00000003-0000-0000-c000-000000000000": GRAPH,
    "https://graph.microsoft.com": GRAPH,
    "https://graph.microsoft.us": GRAPH,
    "https://dod-graph.microsoft.us": GRAPH,
    "https://microsoftgraph.chinacloudapi.cn": GRAPH,
    "00000002-0000-0000-c000-000000000000": "Azure AD Graph",
    "https://graph.windows.net": "Azure AD Graph",
    "00000003-0000-0ff1-ce00-000000000000": "SharePoint Online",
    "https://management.azure.com": "Azure Resource Manager",
    "https://management.core.windows.net": "Azure Resource Manager",
}
_USER_CLAIMS = ("upn", "preferred_username", "unique_name", "email")
_LONGEST_TEXT = 200
_MOST_ITEMS = 40


@dataclass(frozen=True)
class TokenClaims:
    """The claims worth showing; texts are empty and tuples too when the token does not say.

    Attributes:
        audience: the service it is for: in words where we know it, else as the token names it.
        audience_id: as the token names it.
        scopes, roles: rights on behalf of a user, and rights of the app itself.
        is_app: it belongs to the app itself, without a user (client_credentials).
    """

    audience: str = ""
    audience_id: str = ""
    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    user: str = ""
    is_app: bool = False
    tenant: str = ""
    app_id: str = ""
    app_name: str = ""
    expires_at: datetime | None = None

    def as_facts(self) -> dict[str, Any]:
        """Return the claims as plain JSON values; the expiry as ISO 8601, or an empty text."""
        return {
            "audience": self.audience,
            "audience_id": self.audience_id,
            "scopes": list(self.scopes),
            "roles": list(self.roles),
            "user": self.user,
            "is_app": self.is_app,
            "tenant": self.tenant,
            "app_id": self.app_id,
            "app_name": self.app_name,
            "expires_at": self.expires_at.isoformat() if self.expires_at else "",
        }


def claims_of(token: Secret) -> TokenClaims | None:
    """Return what an access token says about itself, or None when it is opaque. Never raises.

    For display only: whoever made the token could write anything into it, so texts are cut and put on one line, and
    what has the wrong type counts as not said.
    """
    claims = claims_in(token.reveal())
    if not claims:
        return None
    names = _words(claims.get("aud"))
    found = TokenClaims(
        audience=_joined(dict.fromkeys(audience_in_words(name) for name in names)),
        audience_id=_joined(names),
        scopes=_words(claims.get("scp")) or _words(claims.get("scope")),
        roles=_words(claims.get("roles")),
        user=next((text for name in _USER_CLAIMS if (text := _text(claims.get(name)))), ""),
        tenant=_text(claims.get("tid")),
        app_id=next((text for name in ("appid", "azp", "client_id") if (text := _text(claims.get(name)))), ""),
        app_name=_text(claims.get("app_displayname")),
        expires_at=_instant(claims.get("exp")),
        is_app=_is_app(claims),
    )
    return None if found == TokenClaims() else found


def audience_in_words(name: str) -> str:
    """Return the service that an audience or the resource of a scope stands for, or the name as it is."""
    return _AUDIENCES.get(name.strip().rstrip("/").lower(), name)


def _is_app(claims: Mapping[str, Any]) -> bool:
    if isinstance(claims.get("idtyp"), str):
        return bool(claims["idtyp"] == "app")
    # Without that optional claim: rights of the app, and none on behalf of anybody.
    return bool(_words(claims.get("roles"))) and not claims.get("scp") and not any(map(claims.get, _USER_CLAIMS))


def _text(value: object) -> str:
    return one_line(value.strip(), limit=_LONGEST_TEXT) if isinstance(value, str) else ""


def _words(value: object) -> tuple[str, ...]:
    """Return the words of a list, or of a text with blanks between them (`scp`)."""
    items = value.split(maxsplit=_MOST_ITEMS) if isinstance(value, str) else value
    if not isinstance(items, list):
        return ()
    return tuple(text for item in items[:_MOST_ITEMS] if (text := _text(item)))


def _joined(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    return one_line(", ".join(names), limit=_LONGEST_TEXT)


def _instant(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, ValueError, OSError):
        return None
