"""How a store's mails look and what stands below them: load, save, and the formats of its fields. Only writer of it.

The caller commits.
"""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from babel.core import get_global
from babel.numbers import get_currency_name, list_currencies
from sqlalchemy import CursorResult, update
from sqlalchemy.exc import IntegrityError

from extensions import db
from mail import audit
from mail.audit import Actor
from mail.drafts import StaleSave
from mail.templates.rendering import Look
from mail.text_rules import at_most, hidden_character, parse_endpoint_url
from models import Brand, Store
from models.template import ACCENT, CURRENCY, HEADER_COLOR, LOCALE, LOGO_WIDTH, TIME_ZONE, URL_MAX
from models.types import utcnow

LOGO_WIDTHS: Final = (40, 320)
LINES_MAX: Final = 12
_COLOR = re.compile(r"#?([0-9a-f]{6}|[0-9a-f]{3})", re.IGNORECASE | re.ASCII)
_ZONE_WORDS: Final = "Enter a time zone, like Europe/Berlin"
_CURRENCY_WORDS: Final = "Enter a currency by its three letters, like EUR"


@dataclass(frozen=True)
class BrandDraft:
    """The fields of the brand page, each in its one spelling; empty where a store goes by the default."""

    display_name: str = ""
    logo_url: str = ""
    logo_width: int = LOGO_WIDTH
    website_url: str = ""
    support_email: str = ""
    accent: str = ACCENT
    header_color: str = HEADER_COLOR
    address: str = ""
    legal: str = ""
    locale: str = LOCALE
    time_zone: str = TIME_ZONE
    currency: str = CURRENCY


FIELDS: Final = tuple(BrandDraft.__dataclass_fields__)


def load(store: Store) -> Brand | None:
    """Return the store's brand, None when nobody has saved one."""
    return db.session.get(Brand, store.id)


def draft_of(brand: Brand | None) -> BrandDraft:
    """Return what is stored, or the defaults."""
    return BrandDraft() if brand is None else BrandDraft(**{name: getattr(brand, name) for name in FIELDS})


def look_of(store: Store) -> Look:
    """Return how this store's mails look."""
    return look_from(store, draft_of(load(store)))


def look_from(store: Store, draft: BrandDraft) -> Look:
    """Return how the store's mails would look with these values."""
    values: dict[str, Any] = {name: getattr(draft, name) for name in FIELDS if name != "display_name"}
    values["address"], values["legal"] = _lines(draft.address), _lines(draft.legal)
    values["website_url"] = draft.website_url or (f"https://{store.domain}/" if store.domain else "")
    return Look(name=draft.display_name or store.name, **values)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line)


def save(store: Store, draft: BrandDraft, *, expected_version: int, actor: Actor) -> tuple[str, ...]:
    """Store the brand and return the names of the fields that this changed; none when all was stored already.

    `expected_version` is 0 for a store without a brand.

    Raises:
        StaleSave: somebody else saved since.
    """
    stored = load(store)
    changed = tuple(name for name in FIELDS if getattr(draft, name) != getattr(draft_of(stored), name))
    if not changed:
        return ()
    if (stored.version if stored else 0) != expected_version:
        raise StaleSave
    if stored is None:
        _insert(store, draft, actor)
    else:
        _update(stored, draft, expected_version, actor)
    audit.record(actor, "brand_saved", store, fields=changed)
    return changed


def _insert(store: Store, draft: BrandDraft, actor: Actor) -> None:
    try:
        with db.session.begin_nested():
            db.session.add(Brand(store_id=store.id, updated_by=actor.name, **vars(draft)))
    except IntegrityError:
        raise StaleSave from None


def _update(stored: Brand, draft: BrandDraft, expected_version: int, actor: Actor) -> None:
    # One conditional statement: of two saves at the same time only one gets through.
    done = db.session.execute(
        update(Brand)
        .where(Brand.store_id == stored.store_id, Brand.version == expected_version)
        .values(version=expected_version + 1, updated_at=utcnow(), updated_by=actor.name, **vars(draft))
        .execution_options(synchronize_session=False)
    )
    if cast("CursorResult[tuple[()]]", done).rowcount != 1:
        raise StaleSave
    db.session.expire(stored)


def copy(source: Store, target: Store, *, actor: Actor) -> None:
    """Give a new store the brand of another."""
    brand = load(source)
    if brand is not None:
        db.session.add(Brand(store_id=target.id, updated_by=actor.name, **vars(draft_of(brand))))


# --- Formats: each returns the one spelling, or raises ValueError with an instruction


def parse_color(text: str) -> str:
    """Return "#rrggbb"."""
    found = _COLOR.fullmatch(text)
    if found is None:
        raise ValueError("Enter a colour as # and six digits or letters a–f, like #2153d4")
    digits = found[1].lower()
    return "#" + (digits if len(digits) == 6 else "".join(digit * 2 for digit in digits))


def parse_web_url(text: str) -> str:
    """Return an https URL that a mail may show or link to."""
    url = parse_endpoint_url(text)
    at_most(url, URL_MAX)
    return url


def parse_logo_width(text: str) -> int:
    """Return a width in CSS pixels."""
    least, most = LOGO_WIDTHS
    if not re.fullmatch(r"[0-9]{1,4}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValueError(f"Use a number from {least} to {most}")
    return int(text)


def parse_time_zone(text: str) -> str:
    """Return a zone of the IANA database, however its letters were written."""
    found = _zones().get(text.replace(" ", "_").casefold())
    if found is None:
        raise ValueError(_ZONE_WORDS)
    return found


def parse_currency(text: str) -> str:
    """Return an ISO 4217 code."""
    code = text.upper()
    if code not in list_currencies():
        raise ValueError(_CURRENCY_WORDS)
    return code


def parse_lines(text: str) -> str:
    """Return lines without blanks around them and without empty ones."""
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    lines = [line for line in lines if line]
    if len(lines) > LINES_MAX:
        raise ValueError(f"Use {LINES_MAX} lines or fewer")
    for number, line in enumerate(lines, start=1):
        if found := hidden_character(line):
            raise ValueError(f"Line {number}: {found}")
    return "\n".join(lines)


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    # `localtime` and the like are what one machine calls its own zone.
    return {name.casefold(): name for name in zoneinfo.available_timezones() if name == "UTC" or "/" in name}


@lru_cache(maxsize=1)
def time_zone_choices() -> tuple[tuple[str, str], ...]:
    """Return the zones to choose from as pairs of name and words: continents and cities, not the old names beside."""
    skipped = ("Etc/", "SystemV/", "US/", "Canada/", "Brazil/", "Chile/", "Mexico/", "posix/", "right/")
    names = sorted(name for name in _zones().values() if not name.startswith(skipped))
    return tuple((name, name.replace("_", " ")) for name in names)


@lru_cache(maxsize=1)
def currency_choices() -> tuple[tuple[str, str], ...]:
    """Return the currencies that are tender somewhere today as pairs of code and English name, by code."""
    territories = get_global("territory_currencies")
    codes = {code for found in territories.values() for code, _, until, is_tender in found if is_tender and not until}
    return tuple((code, get_currency_name(code, locale="en")) for code in sorted(codes))
