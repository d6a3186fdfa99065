"""How a preset's URLs are made and read again, and what a granted scope is worth. Source: providers.md 1, 2 and 5."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from mail.providers.records import Provider, host_of

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
    host = host_of(authorization_url)
    return host is not None and host == host_of(token_url)


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
