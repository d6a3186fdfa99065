"""The filters of a shop's mails: amounts, dates, numbers and links, as the store's locale and time zone write them.

They are written by babel, whose rules are loaded when the first one is: processes that render nothing do not pay for
them.
Only `newline_to_br` and `escape` give HTML, of text that they escaped. Source: product.md 7.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from markupsafe import Markup, escape

from mail.templates.filtering import LINE_BREAK, check_size, number_of, plain_text, template_filter, whole_number
from mail.templates.lexing import Fault, shorten
from mail.templates.locales import babel_locale
from mail.templates.values import DATE_WORDS, MONEY_WORDS, as_date, as_decimal, as_text, is_currency

_FORMS = ("medium", "long", "short", "full", "time", "datetime")
_SCHEMES = frozenset({"http", "https", "mailto", "tel"})
_HIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f]")


@template_filter
def money(context: Any, value: object, currency: object = None) -> str:
    """An amount in the currency named, or in the store's."""
    if value is None or value == "":
        return ""
    amount = as_decimal(value)
    if amount is None:
        raise Fault(f"“{shorten(as_text(value))}” is no amount. {MONEY_WORDS}")
    code = context.run.currency if currency in (None, "") else plain_text(currency).upper()
    if not is_currency(code):
        raise Fault(f"“{shorten(code)}” is no currency. Use its three letters, like EUR")
    return _money(amount, code, context.run.locale)


@template_filter
def number(context: Any, value: object, digits: object = None) -> str:
    """A number as it is written in the locale; with so many digits behind the point, or those it has."""
    if value is None or value == "":
        return ""
    return _decimal(
        Decimal(number_of(value)), None if digits is None else min(abs(whole_number(digits)), 10), context.run.locale
    )


@template_filter
def date_(context: Any, value: object, form: object = "medium") -> str:
    """A date as it is written in the locale, in the store's time zone."""
    if value is None or value == "":
        return ""
    found = as_date(value)
    if found is None:
        raise Fault(f"“{shorten(as_text(value))}” is no date. {DATE_WORDS}")
    if form not in _FORMS:
        raise Fault(f"Use one of {', '.join(_FORMS)} behind the filter date")
    return _date(found, str(form), context.run.locale, context.run.time_zone)


@lru_cache(1024)
def _money(amount: Decimal, currency: str, locale: str) -> str:
    from babel.numbers import format_currency

    return format_currency(amount, currency, locale=_locale(locale))


@lru_cache(1024)
def _decimal(value: Decimal, digits: int | None, locale: str) -> str:
    from babel.numbers import format_decimal

    if digits is None:
        return format_decimal(value, locale=_locale(locale), decimal_quantization=False)
    pattern = "#,##0" + ("." + "0" * digits if digits else "")
    return format_decimal(value, format=pattern, locale=_locale(locale))


@lru_cache(1024)
def _date(value: date | datetime, form: str, locale: str, time_zone: str) -> str:
    from babel.dates import format_date, format_time

    known, zone = _locale(locale), _zone(time_zone)
    if not isinstance(value, datetime):
        return format_date(value, format="medium" if form in ("time", "datetime") else form, locale=known)
    if form == "time":
        return format_time(value, format="short", tzinfo=zone, locale=known)
    day = format_date(value.astimezone(zone).date(), format="medium" if form == "datetime" else form, locale=known)
    if form != "datetime":
        return day
    return f"{day}, {format_time(value, format='short', tzinfo=zone, locale=known)}"


@lru_cache(64)
def get_ready(locale: str) -> None:
    """Load what this locale's first amount and date would load: that takes longer than a mail may take."""
    _money(Decimal(1), "EUR", locale)
    _date(datetime(2027, 1, 31, tzinfo=UTC), "datetime", locale, "UTC")


@lru_cache(64)
def _locale(name: str) -> Any:
    """babel's locale of this name, of its language, or English."""
    return babel_locale(name) or babel_locale(name.partition("-")[0]) or babel_locale("en")


@lru_cache(64)
def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return UTC


@template_filter
def link(value: object) -> str:
    """The address, where a mail program may open it; else nothing."""
    text = plain_text(value).strip()
    if _HIDDEN.search(text):
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    needs_host = parts.scheme in ("http", "https")
    return text if parts.scheme in _SCHEMES and (parts.netloc or not needs_host) else ""


@template_filter
def newline_to_br(context: Any, value: object) -> str:
    """The text with its lines kept: in HTML by <br>, of text that is escaped."""
    if not context.autoescape:
        return plain_text(value)
    text = value if isinstance(value, Markup) else escape(as_text(value))
    check_size(len(text) + 6 * text.count("\n") + 6 * text.count("\r"))
    return Markup(LINE_BREAK.sub("<br>\n", str(text)))  # noqa: S704  it is escaped


@template_filter
def escape_(context: Any, value: object) -> str:
    """In HTML, the text escaped; it is not escaped a second time."""
    return escape(plain_text(value)) if context.autoescape else plain_text(value)


@template_filter
def default(value: object, other: object) -> object:
    """The value, or the other where it is empty."""
    return other if value is None or value is False or value == "" or value == [] else value
