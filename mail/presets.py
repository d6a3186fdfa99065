"""How the catalogue fills the form: picking a provider, changing the tenant, changing the grant. Pure; no I/O.

Texts in, texts out, because half-typed forms are filled too. What a person typed themselves is never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mail.providers import Catalogue, Provider, rewrite_tenant, tenant_in, urls_for
from models.connection import GrantType

FILLED = ("tenant_id", "smtp_host", "smtp_port", "client_id", "authorization_url", "token_url", "scope")


def values_of(provider: Provider, tenant: str, grant_type: str) -> dict[str, str]:
    """Return what the preset says about the fields it fills; empty texts where it says nothing."""
    authorization_url, token_url = urls_for(provider, tenant)
    return {
        "tenant_id": tenant,
        "smtp_host": provider.smtp_host,
        "smtp_port": str(provider.smtp_port),
        "client_id": provider.client_id,
        "authorization_url": authorization_url,
        "token_url": token_url,
        "scope": scope_of(provider, grant_type),
    }


def scope_of(provider: Provider, grant_type: str) -> str:
    """Return the preset's scope for a grant: an app that signs in by itself asks for another one."""
    if grant_type == GrantType.CLIENT_CREDENTIALS and provider.app_only_scope:
        return provider.app_only_scope
    return provider.scope


def fill(
    provider: Provider, tenant: str, grant_type: str, typed: Mapping[str, str], catalogue: Catalogue
) -> dict[str, str]:
    """Return the fields that picking this provider changes: those that are empty or hold another preset's value."""
    found = {}
    for name, value in values_of(provider, tenant, grant_type).items():
        now = typed.get(name, "")
        if value != now and (not now or _is_presets_own(name, now, typed, catalogue.choices())):
            found[name] = value
    return found


def tenant_for(provider: Provider, tenant: str, catalogue: Catalogue) -> str:
    """Return the tenant to go on with when this provider is picked: its own, where the tenant is another one's.

    Source: providers.md 4 (an app for personal accounts takes `consumers` only).
    """
    if not provider.has_tenant or (tenant and tenant not in {one.default_tenant for one in catalogue.choices()}):
        return tenant
    return provider.default_tenant


def follow_tenant(url: str, provider: Provider, tenant: str, followed: str) -> str:
    """Return the URL with its tenant segment changed, if that segment was the one we wrote there (`followed`).

    A URL that was edited by hand stays as it is (product.md 13.3).
    """
    if tenant_in(url, provider) != followed:
        return url
    return rewrite_tenant(url, provider, tenant) or url


def follow_grant(scope: str, provider: Provider, grant_type: str) -> str:
    """Return the preset's scope for the grant, if the scope is the preset's for another grant; else the scope."""
    return scope_of(provider, grant_type) if scope in (provider.scope, provider.app_only_scope) and scope else scope


def tenant_warning(token_url: str, provider: Provider | None, tenant: str) -> str:
    """Return what to tell about a token URL that does not follow Tenant Id; empty when it does."""
    if provider is None or not provider.has_tenant or not token_url:
        return ""
    named = tenant_in(token_url, provider)
    if named is None:
        return "This URL was edited by hand, so it is used as it stands and Tenant Id does not change it."
    if named.casefold() != tenant.casefold():
        return f"This URL names the tenant {named}, while Tenant Id says {tenant}. The URL is used as it stands."
    return ""


def _is_presets_own(name: str, value: str, typed: Mapping[str, str], presets: Iterable[Provider]) -> bool:
    for preset in presets:
        if name == "tenant_id":
            own = value == preset.default_tenant
        elif name == "smtp_port":
            # 465 alone says nothing: it is some preset's port, and a person may have typed it for a server of theirs.
            own = (typed.get("smtp_host", ""), value) == (preset.smtp_host, str(preset.smtp_port))
        elif name == "scope":
            own = value in (preset.scope, preset.app_only_scope, preset.fallback_scope)
        elif name in ("authorization_url", "token_url"):
            index = 0 if name == "authorization_url" else 1
            own = value == urls_for(preset, tenant_in(value, preset) or "")[index]
        else:
            own = value == str(getattr(preset, name))
        if own:
            return True
    return False
