"""What the catalogue knows about a provider: frozen records, no I/O.

Where providers.md marks a fact as unverified, the record that uses it says so beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import urlsplit


class PKCE(StrEnum):
    """What is known about PKCE with S256. We send it always (security.md 39): a server that lacks it ignores it."""

    REQUIRED = "required"
    SUPPORTED = "supported"
    UNKNOWN = "unknown"


class SetupStep(NamedTuple):
    """One thing to do in the provider's console.

    `copies` are texts to paste there, each with `{redirect_uri}`, `{scope}`, `{client_id}`, `{tenant}` or `{mailbox}`
    filled in with the store's own values; see `mail.setup_guide`.
    """

    words: str
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RedirectRule:
    """Which redirect URIs the provider's console takes, where that is known.

    Attributes:
        localhost_http: plain http is taken for localhost; every other address has to be https.
        allows_private: an address of a private network is taken.
        longest: characters, None without a known limit.
        forbidden: characters that must not be in it.
    """

    localhost_http: bool = True
    allows_private: bool = True
    longest: int | None = None
    forbidden: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """What the product knows about one provider that takes OAuth for SMTP; an empty text means that it has none.

    Attributes:
        key: stable name stored with a connection.
        short_name: for headlines ("Microsoft did not issue an access token").
        is_common: offered at first sight; the others wait behind "More providers".
        authorization_url, token_url: with a `{tenant}` segment where `has_tenant`; see `urls_for`.
        fallback_scope: for when named scopes are refused there.
        authorize_params: parameters of the authorization request beside the usual ones; `login_hint` always goes.
        mechanisms: SASL mechanisms in the order to try.
        public_client: the app has no secret.
        client_id: the id of an app that exists already; empty where each organization registers its own.
        rotates: a refresh answers with a new refresh token that must replace the old one.
        reuse_is_harmless: a refresh token that was replaced goes on working, so that a lost answer loses nothing.
        issuer: what the callback's `iss` must equal when present (RFC 9207); empty when it cannot be known before.
        iss_required: the provider promises `iss`, so its absence is an error.
        messages_per_minute, max_connections: for one mailbox; None where the provider publishes none.
        recipients_per_day: for one mailbox in any 24 hours, Bcc copies included; None where it publishes none.
        recipients_per_message: None where it publishes none.
        access_token_minutes: a usual life; the answer says the real one.
        refresh_idle_days: a grant that is not used for this long ends; None where nothing is known.
        secret_max_age_days: the longest life of a client secret, None without a limit.
        app_only_scope: scope for client_credentials, empty where that grant gives no mail access.
        setup_steps: what to do in the provider's console before connecting.
        icon: name of the symbol in the icon sprite.
    """

    key: str
    name: str
    short_name: str
    icon: str
    is_common: bool = False
    smtp_host: str = ""
    smtp_port: int = 587
    authorization_url: str = ""
    token_url: str = ""
    revocation_url: str = ""
    scope: str = ""
    fallback_scope: str = ""
    authorize_params: tuple[tuple[str, str], ...] = ()
    mechanisms: tuple[str, ...] = ("XOAUTH2", "OAUTHBEARER")
    has_tenant: bool = False
    default_tenant: str = ""
    public_client: bool = False
    client_id: str = ""
    pkce: PKCE = PKCE.UNKNOWN
    rotates: bool = True
    reuse_is_harmless: bool = False
    issuer: str = ""
    iss_required: bool = False
    messages_per_minute: int | None = None
    max_connections: int | None = None
    recipients_per_day: int | None = None
    recipients_per_message: int | None = None
    access_token_minutes: int | None = None
    refresh_idle_days: int | None = None
    secret_max_age_days: int | None = None
    app_only_scope: str = ""
    redirects: RedirectRule | None = None
    setup_steps: tuple[SetupStep, ...] = ()

    @property
    def login_host(self) -> str:
        """Host of the consent page, for the page that announces leaving; empty when there is no preset URL."""
        return host_of(self.authorization_url) or ""

    @property
    def token_host(self) -> str:
        """Host the code and the client secret are sent to; empty when there is no preset URL."""
        return host_of(self.token_url) or ""


@dataclass(frozen=True, slots=True)
class PasswordProvider:
    """A provider whose SMTP server takes no OAuth from a shop's own app: the SMTP tab is the way.

    Attributes:
        smtp_host: empty where it depends on the account.
        reason: why not OAuth, one sentence.
        credentials: what to enter as user name and password, one sentence.
    """

    key: str
    name: str
    reason: str
    credentials: str
    smtp_host: str = ""
    smtp_port: int = 587


def host_of(url: str) -> str | None:
    """Return the host of a URL in one spelling, None when it has none."""
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.rstrip(".") or None if host else None
