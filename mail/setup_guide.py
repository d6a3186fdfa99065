"""The setup guide of a provider with a store's own values in it, and what its console will say about our redirect URI.

Pure; no I/O. Half-typed forms are shown too, so every value may be missing: then its place says what belongs there.
Source: providers.md 2 to 10.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from mail.providers import Provider

_STAND_INS = {
    "client_id": "<client ID>",
    "mailbox": "<mailbox>",
    "scope": "<scope>",
    "tenant": "<tenant>",
}
_PLACE = re.compile(r"\{(\w+)\}")
# What a shell takes as one word; anything else is quoted, so that a pasted line cannot do more than it says.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._+-]*")
_QUOTES = re.compile("['\u2018\u2019\u201a\u201b]")
_COMMAND = re.compile(r"[A-Z][a-z]+-[A-Z]\w+(?: |$)")


class GuideStep(NamedTuple):
    """A step with the texts to copy."""

    words: str
    copies: tuple[str, ...]


def guide_for(provider: Provider, values: Mapping[str, str]) -> tuple[GuideStep, ...]:
    """Return the steps of the provider's console.

    Args:
        values: `redirect_uri`, `client_id`, `tenant`, `mailbox` and `scope` of the store; empty or absent where
            nothing was entered yet.
    """
    known = {name: value for name, value in values.items() if value}
    if provider.scope:
        known.setdefault("scope", provider.scope)
    return tuple(
        GuideStep(step.words, tuple(_filled(text, known) for text in step.copies)) for step in provider.setup_steps
    )


def _filled(text: str, known: Mapping[str, str]) -> str:
    is_command = _COMMAND.match(text) is not None

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in known:
            return _STAND_INS.get(name, "")
        return _argument(known[name]) if is_command else known[name]

    return _PLACE.sub(value, text)


def _argument(value: str) -> str:
    """Return a value as one argument of PowerShell, whose single quotes include the typographic ones."""
    if _PLAIN_WORD.fullmatch(value):
        return value
    return "'" + _QUOTES.sub(r"\g<0>\g<0>", value) + "'"


def why_redirect_is_refused(provider: Provider, redirect_uri: str) -> str:
    """Return why the provider's console will not take this redirect URI, with the way out; empty when it will.

    Source: providers.md 2 (Microsoft), 5 (Google), 8 (Fastmail).
    """
    rule, parts = provider.redirects, urlsplit(redirect_uri)
    if rule is None:
        return ""
    host = parts.hostname or ""
    name = provider.short_name
    if parts.scheme != "https" and not (host == "localhost" and rule.localhost_http):
        wanted = "https addresses, and http for localhost only" if rule.localhost_http else "https addresses only"
        return f"{name} takes {wanted}. The operator of this server sets its address with STOREPOST_PUBLIC_URL."
    if not rule.allows_private and _is_private(host):
        return f"{name} refuses addresses of private networks. Storepost needs a public name, or localhost."
    if rule.longest is not None and len(redirect_uri) > rule.longest:
        return f"{name} takes at most {rule.longest} characters."
    if odd := [character for character in rule.forbidden if character in redirect_uri]:
        return f"{name} refuses the character {odd[0]} in it."
    return ""


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
