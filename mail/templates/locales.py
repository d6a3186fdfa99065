"""Which languages texts may be in, by their BCP 47 tags: one spelling, names, and what stands in for a missing one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from babel import Locale, UnknownLocaleError
from babel.localedata import locale_identifiers

LOCALE_WORDS: Final = "Enter a language, like de, or one with a region, like de-AT"

# For JSON Schema too, which knows no flags.
TAG = r"[A-Za-z]{2,3}(?:[-_][A-Za-z]{4})?(?:[-_](?:[A-Za-z]{2}|[0-9]{3}))?"
_TAG = re.compile(TAG)


def parse_locale(text: str) -> str:
    """Return the one spelling of a locale: "DE_at" is "de-AT".

    Raises:
        ValueError: it is none, or none that names of months and the like are known in.
    """
    tag = spelled(text.strip())
    if tag is None or babel_locale(tag) is None:
        raise ValueError(LOCALE_WORDS)
    return tag


def spelled(text: str) -> str | None:
    """Return the one spelling of what looks like a locale, known or not; None for anything else."""
    if not _TAG.fullmatch(text):
        return None
    language, *more = text.replace("_", "-").split("-")
    return "-".join((language.lower(), *(one.title() if len(one) == 4 else one.upper() for one in more)))


def name(tag: str) -> str:
    """Return what English speakers call the locale: "German (Austria)"; the tag itself when nobody knows it."""
    locale = babel_locale(tag)
    return (locale.get_display_name("en") if locale else None) or tag


def own_name(tag: str) -> str:
    """Return what its speakers call it: "Deutsch (Österreich)"."""
    locale = babel_locale(tag)
    return (locale.get_display_name() if locale else None) or tag


def direction(tag: str) -> str:
    """Return how its texts run, as HTML says it: "ltr" or "rtl"."""
    locale = babel_locale(tag)
    return "rtl" if locale is not None and locale.text_direction == "rtl" else "ltr"


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
def babel_locale(tag: str) -> Locale | None:
    """Return what babel knows of this very tag, None when it knows nothing."""
    try:
        return Locale.parse(tag, sep="-")
    except (ValueError, UnknownLocaleError):
        return None
