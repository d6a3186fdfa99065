"""The catalogue of mail providers: frozen records, no I/O.

A preset fills the form of a store and carries what the engine has to know about the provider: which sign-in
mechanisms it offers, how fast it may be sent to, how its URLs are made. Facts are from providers.md. Adding a provider
is adding a record to `_PRESETS`, or to `by_password` where the SMTP server takes no OAuth.
"""

from collections.abc import Sequence

from mail.providers.by_password import PASSWORD_PROVIDERS
from mail.providers.endpoints import (
    TENANT_WORDS,
    is_pair,
    rewrite_tenant,
    scopes_missing,
    tenant_in,
    tenant_is_valid,
    urls_for,
)
from mail.providers.independent import COMCAST, FASTMAIL, GOOGLE, MAILRU, OTHER, SEZNAM, YANDEX, sandbox_provider
from mail.providers.microsoft import CHINA, DOD, GCC_HIGH, MICROSOFT365, OUTLOOK
from mail.providers.records import PKCE, PasswordProvider, Provider, RedirectRule, SetupStep

__all__ = [
    "CHINA",
    "COMCAST",
    "DOD",
    "FASTMAIL",
    "GCC_HIGH",
    "GOOGLE",
    "MAILRU",
    "MICROSOFT365",
    "OTHER",
    "OUTLOOK",
    "PASSWORD_PROVIDERS",
    "PKCE",
    "SEZNAM",
    "TENANT_WORDS",
    "YANDEX",
    "Catalogue",
    "PasswordProvider",
    "Provider",
    "RedirectRule",
    "SetupStep",
    "catalogue",
    "is_pair",
    "rewrite_tenant",
    "sandbox_provider",
    "scopes_missing",
    "tenant_in",
    "tenant_is_valid",
    "urls_for",
]

# Those at first sight come first; their order is that of the picker.
_PRESETS = (MICROSOFT365, GOOGLE)
_MORE = (OUTLOOK, FASTMAIL, YANDEX, MAILRU, SEZNAM, COMCAST, GCC_HIGH, DOD, CHINA)


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

    def common(self) -> tuple[Provider, ...]:
        """Return those that are offered at first sight."""
        return tuple(one for one in self.choices() if one.is_common)

    def more(self) -> tuple[Provider, ...]:
        """Return those that wait behind "More providers"."""
        return tuple(one for one in self.choices() if not one.is_common)

    def by_password(self, key: str) -> PasswordProvider | None:
        """Return the provider of that key among those that take no OAuth over SMTP, or None."""
        return next((one for one in PASSWORD_PROVIDERS if one.key == key), None)


def catalogue(sandbox: Provider | None = None) -> Catalogue:
    """Return the presets, `other`, and the sandbox where one runs."""
    return Catalogue((*_PRESETS, OTHER, *((sandbox,) if sandbox else ()), *_MORE))
