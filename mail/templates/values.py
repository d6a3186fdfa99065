"""Plain values, as they stand in data and come out of filters: what is under a name, and how each reads.

Amounts that came as text are `Decimal`, so that "12.50" keeps its zero and can be compared with numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

from liquid.builtin.tags.for_tag import ForLoop
from liquid.undefined import StrictUndefined

from mail.templates.lexing import Fault

STRING_MAX = 200_000
NUMBER_MAX = 10**15
MONEY_WORDS = 'Send a number or a text, like 12.5 or "12.50"'
DATE_WORDS = 'Send a date or a time with its zone, like "2027-01-31" or "2027-01-31T09:00:00Z"'

# For JSON Schema too, which looks for a pattern anywhere.
DECIMAL = r"-?[0-9]{1,15}(?:\.[0-9]{1,10})?"
CURRENCY = r"[A-Z]{3}"
WEB_ADDRESS = r"https?://[A-Za-z0-9\u00a1-\uffff][^\x00-\x20\"<>\\^`{|}\x7f-\x9f]*"
WEB_ADDRESS_MAX = 2_000  # browsers and mail programs take about as much

_DECIMAL = re.compile(DECIMAL)
_CURRENCY = re.compile(CURRENCY)
_WEB_ADDRESS = re.compile(WEB_ADDRESS)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.A)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{5,8}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})", re.A)
# What Liquid has under "forloop".
FORLOOP = frozenset({"length", "index", "index0", "rindex", "rindex0", "first", "last", "parentloop"})


def item(value: object, key: object) -> object:
    """Return what stands under this key in plain data, with Liquid's size, first and last.

    What is empty has empty parts: an optional object that is absent may be walked into.

    Raises:
        KeyError: there is no such thing.
    """
    if value is None:
        return None
    if type(value) is dict:
        if isinstance(key, str) and key in value:
            return value[key]
        return len(value) if key == "size" else _missing(key)
    if isinstance(value, list | tuple):
        return _list_item(value, key)
    if isinstance(value, ForLoop) and isinstance(key, str) and key in FORLOOP:
        found = getattr(value, key)
        return _missing(key) if isinstance(found, StrictUndefined) else found
    return len(value) if key == "size" and isinstance(value, str) else _missing(key)


def _list_item(value: Sequence[object], key: object) -> object:
    if key == "size":
        return len(value)
    if key == "first":
        return value[0] if value else None
    if key == "last":
        return value[-1] if value else None
    if type(key) is not int:
        return _missing(key)
    return value[key] if -len(value) <= key < len(value) else None


def _missing(key: object) -> object:
    raise KeyError(key)


def as_text(value: object) -> str:
    """Return a value as it stands in a mail.

    Raises:
        Fault: an object or a list, which has no such form.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if abs(value) > NUMBER_MAX:
            raise Fault("This number is too large", is_limit=True)
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list | tuple):
        raise Fault("This is a list. Go through it with {% for %}, or put it in one line with the filter join")
    raise Fault("This has several values. Name one of them, as in order.number")


def as_decimal(value: object) -> Decimal | None:
    """The number or amount as it is written, or None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal):
        return value
    if isinstance(value, int | float):
        return Decimal(str(value)) if -NUMBER_MAX <= value <= NUMBER_MAX else None  # not a number is neither
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def is_currency(text: str) -> bool:
    """Whether this can be a currency of ISO 4217."""
    return _CURRENCY.fullmatch(text) is not None


def is_web_address(text: str) -> bool:
    """Whether this is an address that a mail may lead to."""
    return len(text) <= WEB_ADDRESS_MAX and _WEB_ADDRESS.fullmatch(text) is not None


def as_date(value: object) -> date | datetime | None:
    """The day, or the instant in UTC, that this text of RFC 3339 names; or None."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        if _TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    return None
