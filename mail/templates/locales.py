"""Which languages texts may be in, by their BCP 47 tags: one spelling, names, and what stands in for a missing one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.localedata import locale_identifiers

LOCALE_WORDS: Final = "Enter a language, like de, or one with a region, like de-AT"

_TAG = re.compile(r"([a-z]{2,3})(?:[-_]([a-z]{4}))?(?:[-_]([a-z]{2}|[0-9]{3}))?", re.IGNORECASE | re.ASCII)


def parse_locale(text: str) -> str:
    """Return the one spelling of a locale: "DE_at" is "de-AT".

    Raises:
        ValueError: it is none, or none that names of months and the like are known in.
    """
    found = _TAG.fullmatch(text.strip())
    if found is None:
        raise ValueError(LOCALE_WORDS)
    language, script, region = found.groups()
    tag = "-".join(part for part in (language.lower(), (script or "").title(), (region or "").upper()) if part)
    if _locale(tag) is None:
        raise ValueError(LOCALE_WORDS)
    return tag


def name(tag: str) -> str:
    """Return what English speakers call the locale: "German (Austria)"; the tag itself when nobody knows it."""
    locale = _locale(tag)
    return (locale.get_display_name("en") if locale else None) or tag


def own_name(tag: str) -> str:
    """Return what its speakers call it: "Deutsch (Österreich)"."""
    locale = _locale(tag)
    return (locale.get_display_name() if locale else None) or tag


def direction(tag: str) -> str:
    """Return how its texts run: "ltr" or "rtl"."""
    locale = _locale(tag)
    return locale.text_direction if locale else "ltr"


def standing_in(locale: str, fallback: str) -> tuple[str, ...]:
    """Return the locales whose texts may go out for one that was asked for, best first: de-AT, de, `fallback`, en."""
    found: dict[str, None] = {}
    for tag in (locale, fallback, "en"):
        while tag:
            found.setdefault(tag)
            tag = tag.rpartition("-")[0]
    return tuple(found)


# Languages whose regions write dates and amounts in ways that customers notice, and the regions people sell to.
_REGIONS: Final = {
    "ar": "AE EG SA", "de": "AT CH DE LI LU", "en": "AU CA GB IE IN NZ US ZA", "es": "AR CL CO ES MX PE US",
    "fr": "BE CA CH FR LU", "it": "CH IT", "nl": "BE NL", "pt": "BR PT", "sv": "FI SE", "zh": "CN HK SG TW",
}  # fmt: skip


@lru_cache(maxsize=1)
def known() -> tuple[tuple[str, str], ...]:
    """Return locales to choose from as pairs of tag and English name, by name; many more can be typed."""
    languages = {identifier for identifier in locale_identifiers() if re.fullmatch(r"[a-z]{2}", identifier)}
    regional = {f"{language}-{region}" for language, regions in _REGIONS.items() for region in regions.split()}
    return tuple(sorted(((tag, name(tag)) for tag in languages | regional), key=lambda pair: pair[1]))


@lru_cache(maxsize=2048)
def _locale(tag: str) -> Locale | None:
    try:
        return Locale.parse(tag, sep="-")
    except (ValueError, UnknownLocaleError):
        return None
