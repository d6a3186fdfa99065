"""The catalogue of mail providers: frozen records, no I/O.

A preset fills the form of a store and carries what the engine has to know about the provider: which sign-in
mechanisms it offers, how fast it may be sent to, how its URLs are made. Endpoints and limits are from providers.md 1,
2 and 5. Adding a provider is adding a record to `_PRESETS`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

TENANT_WORDS = ("common", "organizations", "consumers")

_TENANT = "{tenant}"
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+(?=[A-Za-z])(?:{_LABEL})")
# Who signed in and for how long, not what the token may do: providers leave them out of the granted scope or
# answer with another name for them (providers.md 2 and 5).
_IDENTITY_SCOPES = frozenset(
    {
        "offline_access",
        "openid",
        "email",
        "profile",
        "https://www.googleapis.com/auth/userinfo.email",
        "https://www.googleapis.com/auth/userinfo.profile",
    }
)
_DEFAULT_SCOPE = "/.default"
# Both names of Exchange Online are accepted, and the answer may carry the other one (providers.md 2).
_SAME_RESOURCE = ("https://outlook.office365.com/", "https://outlook.office.com/")


@dataclass(frozen=True, slots=True)
class Provider:
    """What the product knows about one provider; an empty text means that it has none.

    Attributes:
        key: stable name stored with a connection.
        short_name: for headlines ("Microsoft did not issue an access token").
        authorization_url, token_url: with a `{tenant}` segment where `has_tenant`; see `urls_for`.
        mechanisms: SASL mechanisms in the order to try.
        public_client: the app has no secret.
        client_id: the id of an app that exists already; empty where each organization registers its own.
        rotates: a refresh answers with a new refresh token that must replace the old one.
        issuer: what the callback's `iss` must equal when present (RFC 9207); empty when it cannot be known before.
        iss_required: the provider promises `iss`, so its absence is an error.
        messages_per_minute, max_connections: for one mailbox; None where the provider publishes none.
        recipients_per_day: for one mailbox in any 24 hours, Bcc copies included; None where it publishes none.
        secret_max_age_days: the longest life of a client secret, None without a limit.
        app_only_scope: scope for client_credentials, empty where that grant gives no mail access.
        setup_steps: what to do in the provider's console before connecting.
        icon: name of the symbol in the icon sprite.
    """

    key: str
    name: str
    short_name: str
    icon: str
    smtp_host: str = ""
    smtp_port: int = 587
    authorization_url: str = ""
    token_url: str = ""
    revocation_url: str = ""
    scope: str = ""
    authorize_params: tuple[tuple[str, str], ...] = ()
    mechanisms: tuple[str, ...] = ("XOAUTH2", "OAUTHBEARER")
    has_tenant: bool = False
    default_tenant: str = ""
    public_client: bool = False
    client_id: str = ""
    requires_pkce: bool = False
    rotates: bool = True
    issuer: str = ""
    iss_required: bool = False
    messages_per_minute: int | None = None
    max_connections: int | None = None
    recipients_per_day: int | None = None
    secret_max_age_days: int | None = None
    app_only_scope: str = ""
    setup_steps: tuple[str, ...] = ()

    @property
    def login_host(self) -> str:
        """Host of the consent page, for the page that announces leaving; empty when there is no preset URL."""
        return _host_of(self.authorization_url) or ""

    @property
    def token_host(self) -> str:
        """Host the code and the client secret are sent to; empty when there is no preset URL."""
        return _host_of(self.token_url) or ""


MICROSOFT365 = Provider(
    key="microsoft365",
    name="Microsoft 365",
    short_name="Microsoft",
    icon="microsoft",
    smtp_host="smtp.office365.com",
    smtp_port=587,
    authorization_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
    token_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",  # noqa: S106  an address, no secret
    scope="https://outlook.office.com/SMTP.Send offline_access openid email profile",
    authorize_params=(("prompt", "select_account"),),
    mechanisms=("XOAUTH2",),
    has_tenant=True,
    default_tenant="common",
    # The issuer names the tenant that consented, which nobody knows before; Microsoft promises no `iss`.
    issuer="",
    messages_per_minute=30,
    max_connections=3,
    recipients_per_day=10_000,
    secret_max_age_days=730,
    app_only_scope="https://outlook.office365.com/.default",
    setup_steps=(
        "Open entra.microsoft.com > App registrations > New registration. Choose accounts in this directory only, "
        "and as redirect URI platform Web with exactly the callback URL shown on this page.",
        "On Overview, copy Application (client) ID into Client Id and Directory (tenant) ID into Tenant Id.",
        "Under Certificates & secrets press New client secret. Copy its Value (not the Secret ID) into Client Secret "
        "at once, and note the expiry date.",
        "Under API permissions add Microsoft Graph > Delegated > SMTP.Send, offline_access, openid, email and "
        "profile. Press Grant admin consent.",
        "Open admin.microsoft.com > Users > Active users > the mailbox > Mail > Manage email apps and tick "
        "Authenticated SMTP.",
        "Press Connect here and sign in as the sending mailbox, not as the administrator.",
    ),
)

GOOGLE = Provider(
    key="google",
    name="Google Workspace / Gmail",
    short_name="Google",
    icon="google",
    smtp_host="smtp.gmail.com",
    smtp_port=587,
    authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
    token_url="https://oauth2.googleapis.com/token",  # noqa: S106  an address, no secret
    revocation_url="https://oauth2.googleapis.com/revoke",
    scope="https://mail.google.com/ openid email",
    authorize_params=(("access_type", "offline"), ("prompt", "consent")),
    rotates=False,
    issuer="https://accounts.google.com",
    iss_required=True,
    # Of a Workspace mailbox. Smaller limits (2,000 messages, trials, consumer accounts) depend on what nobody tells us;
    # they announce themselves by 5.4.5, and the mailbox is left alone for a while then.
    recipients_per_day=10_000,
    setup_steps=(
        "Open console.cloud.google.com and create or choose a project inside your organization.",
        "Under Google Auth Platform > Branding enter an app name and a support address.",
        "Under Audience choose Internal (Workspace). Otherwise choose External and publish the app: grants of an app "
        "in testing end after 7 days.",
        "Under Data access add the scope https://mail.google.com/.",
        "Under Clients create a client of type Web application with exactly the callback URL shown on this page as "
        "authorized redirect URI.",
        "Copy client ID and client secret into this page at once; the secret is shown only then.",
        "Where third-party access is restricted, a Workspace administrator opens admin.google.com > Security > Access "
        "and data control > API controls and marks the client ID as Trusted.",
        "Press Connect here, sign in as the sending account and leave the mail permission ticked.",
    ),
)

OTHER = Provider(
    key="other",
    name="Other provider",
    short_name="The provider",
    icon="server",
    setup_steps=(
        "Register Storepost as a web application (confidential client) at the provider, with exactly the callback URL "
        "shown on this page as redirect URI.",
        "Copy client ID and client secret into this page.",
        "Enter the provider's SMTP server and port, authorization URL, token URL and the scope for sending by SMTP. "
        "Add offline_access where the provider knows it.",
        "Press Connect here and sign in as the sending mailbox.",
    ),
)

_PRESETS = (MICROSOFT365, GOOGLE)


class Catalogue:
    """The providers of this installation, in the order of the picker."""

    def __init__(self, providers: Sequence[Provider]) -> None:
        self._by_key = {provider.key: provider for provider in providers}

    def get(self, key: str) -> Provider | None:
        """Return the provider with that key, or None."""
        return self._by_key.get(key)

    def choices(self) -> tuple[Provider, ...]:
        """Return the providers in the order of the picker."""
        return tuple(self._by_key.values())


def catalogue(sandbox: Provider | None = None) -> Catalogue:
    """Return the presets, `other`, and the sandbox where one runs."""
    return Catalogue((*_PRESETS, OTHER, *((sandbox,) if sandbox else ())))


def sandbox_provider(
    authorization_url: str, token_url: str, revocation_url: str, smtp_host: str, smtp_port: int, issuer: str
) -> Provider:
    """Return the provider record of a sandbox that listens at these addresses."""
    return Provider(
        key="sandbox",
        name="Sandbox",
        short_name="The sandbox",
        icon="flask-conical",
        smtp_host=smtp_host,
        smtp_port=smtp_port,
        authorization_url=authorization_url,
        token_url=token_url,
        revocation_url=revocation_url,
        scope="smtp.send offline_access",
        requires_pkce=True,
        public_client=True,
        client_id="storepost-sandbox-public",
        issuer=issuer,
        iss_required=bool(issuer),
        app_only_scope="smtp.send",
        setup_steps=(
            "Press Connect: the sandbox knows this Client Id, which needs no secret. It runs on this machine and mails "
            "nobody.",
            "For client_credentials, enter the Client Id storepost-sandbox with the Client Secret sandbox-secret.",
        ),
    )


def urls_for(provider: Provider, tenant: str = "") -> tuple[str, str]:
    """Return (authorization URL, token URL) of the preset for a tenant; an empty tenant means the default one."""
    return _with_tenant(provider.authorization_url, provider, tenant), _with_tenant(
        provider.token_url, provider, tenant
    )


def rewrite_tenant(url: str, provider: Provider, tenant: str) -> str | None:
    """Return the preset URL of the same kind for another tenant.

    None when the URL is not of the preset's shape: somebody edited it by hand, and it stays as it is
    (product.md 13.3).
    """
    template = _template_of(url, provider)
    return _with_tenant(template, provider, tenant) if template and provider.has_tenant else None


def tenant_in(url: str, provider: Provider) -> str | None:
    """Return the tenant segment of a URL of the preset's shape, or None."""
    template = _template_of(url, provider)
    if not template or not provider.has_tenant:
        return None
    found = _shape(template).fullmatch(url)
    return found.group("tenant") if found else None


def is_pair(authorization_url: str, token_url: str, provider: Provider) -> bool:
    """Tell whether a code of the one endpoint may be sent to the other: both of the preset, or on the same host.

    Source: security.md 40.
    """
    of_preset = provider.authorization_url and provider.token_url
    if of_preset and _fits(authorization_url, provider.authorization_url) and _fits(token_url, provider.token_url):
        return True
    host = _host_of(authorization_url)
    return host is not None and host == _host_of(token_url)


def scopes_missing(requested: str | Iterable[str], granted: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the requested scopes that were not granted, in the order asked for.

    Identity scopes do not count, capitals do not matter, and no granted scope at all means "as requested"
    (RFC 6749 5.1). `<resource>/.default` is granted by any scope of that resource.
    """
    got = {_normal_scope(scope) for scope in _scopes(granted or ())}
    if not got:
        return ()
    return tuple(scope for scope in _scopes(requested) if not _is_granted(_normal_scope(scope), got))


def tenant_is_valid(text: str) -> bool:
    """Tell whether the text is a tenant: a GUID, a domain, or common, organizations or consumers."""
    if text in TENANT_WORDS or _GUID.fullmatch(text):
        return True
    return len(text) <= 253 and _DOMAIN.fullmatch(text) is not None


def _with_tenant(template: str, provider: Provider, tenant: str) -> str:
    if not provider.has_tenant:
        return template
    # Quoted, because a tenant that was never checked must not reach another path or host.
    return template.replace(_TENANT, quote(tenant or provider.default_tenant, safe=""))


def _template_of(url: str, provider: Provider) -> str:
    templates = (provider.authorization_url, provider.token_url)
    return next((template for template in templates if template and _fits(url, template)), "")


def _fits(url: str, template: str) -> bool:
    return _shape(template).fullmatch(url) is not None


def _shape(template: str) -> re.Pattern[str]:
    """Return the pattern of all URLs a template can make; scheme and host in any case (RFC 3986 6.2.2.1)."""
    scheme, _, rest = template.partition("://")
    host, slash, path = rest.partition("/")
    tail = re.escape(slash + path).replace(re.escape(_TENANT), r"(?P<tenant>[^/?#\\\s]+)", 1)
    return re.compile(rf"(?i:{re.escape(scheme)}://{re.escape(host)}){tail}")


def _host_of(url: str) -> str | None:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    return host.rstrip(".") or None if host else None


def _scopes(scopes: str | Iterable[str]) -> list[str]:
    return list(dict.fromkeys(scopes.split() if isinstance(scopes, str) else scopes))


def _normal_scope(scope: str) -> str:
    other_name, name = _SAME_RESOURCE
    folded = scope.casefold()
    return name + folded.removeprefix(other_name) if folded.startswith(other_name) else folded


def _is_granted(scope: str, granted: set[str]) -> bool:
    if scope in _IDENTITY_SCOPES or scope in granted:
        return True
    resource = scope.removesuffix(_DEFAULT_SCOPE)
    return resource != scope and any(one.startswith(resource + "/") for one in granted)
