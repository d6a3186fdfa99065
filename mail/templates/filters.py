"""What a template may do with a value: the filters of a shop's mails, and Liquid's harmless ones.

Each looks at sizes before it works, and takes and gives plain text: what a filter made is escaped where it is put out.
Only `newline_to_br` and `escape` give HTML, of text that they escaped. Amounts and dates are written by babel, which is
loaded when the first one is. Source: product.md 7.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from liquid.builtin.expressions.filtered import Filter as FilterCall
from markupsafe import Markup, escape

from mail.templates.lexing import Fault, shorten
from mail.templates.values import DATE_WORDS, MONEY_WORDS, STRING_MAX, as_date, as_decimal, as_text, item

ITEMS_MAX = 20_000
_NUMBER_MAX = Decimal(10**15)
_CURRENCY = re.compile(r"[A-Z]{3}")
_TAGS = re.compile(r"<[^<>]*>")
_BREAK = re.compile(r"\r\n?|\n")
_SCHEMES = frozenset({"http", "https", "mailto", "tel"})
_HIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f]")


class Filter:
    """A filter as the engine calls it: `context` is what it asks for, values come by position only."""

    with_context = True

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        parameters = list(inspect.signature(function).parameters.values())
        self._wants_context = parameters[0].name == "context"
        values = parameters[1 + self._wants_context :]
        self._most = len(values)
        self._least = sum(one.default is inspect.Parameter.empty for one in values)

    def fault_of_arguments(self, call: FilterCall) -> str | None:
        """Return what is wrong with the values that stand behind it, by their number."""
        if any(hasattr(one, "name") for one in call.args):
            return f"The filter {self.name} takes its values without names, as in {self.name}: 1"
        if self._least <= len(call.args) <= self._most:
            return None
        if not self._most:
            return f"The filter {self.name} takes no value"
        return f"Put {_counted(self._least, self._most)} behind the filter {self.name}"

    def __call__(self, left: object, *values: object, context: Any) -> object:
        context.run.tick()
        if self._wants_context:
            return self._function(context, left, *values)
        return self._function(left, *values)


def _counted(least: int, most: int) -> str:
    if least == most:
        return "one value" if most == 1 else f"{most} values"
    return f"{least} to {most} values"


FILTERS: dict[str, Filter] = {}


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    name = function.__name__.rstrip("_")
    FILTERS[name] = Filter(name, function)
    return function


# Guards -------------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """The value as plain text; it is none that may go out unescaped any more."""
    text = as_text(value)
    return text if type(text) is str else str.__str__(text)


def _sized(length: int) -> None:
    if length > STRING_MAX:
        raise Fault(f"Make no text of more than {STRING_MAX:,} characters", is_limit=True)


def _items(value: object) -> Sequence[Any]:
    if value is None or value == "":
        return []
    items = value if isinstance(value, list | tuple) else [value]
    if len(items) > ITEMS_MAX:
        raise Fault(f"Make no list of more than {ITEMS_MAX:,} items", is_limit=True)
    return items


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > ITEMS_MAX * 10:
        raise Fault("Use a whole number behind this filter")
    return value


def _number(value: object) -> int | Decimal:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) <= _NUMBER_MAX else _too_large()
    if value is None or value == "":
        return 0
    found = as_decimal(value)
    if found is None:
        raise Fault(f"“{shorten(as_text(value))}” is no number")
    return found


def _too_large() -> int:
    raise Fault("This number is too large", is_limit=True)


def _counted_result(value: int | Decimal) -> int | Decimal:
    return value if -_NUMBER_MAX <= value <= _NUMBER_MAX else _too_large()


def _arithmetic(left: object, right: object, work: Callable[[Any, Any], Any]) -> int | Decimal:
    one, other = _number(left), _number(right)
    try:
        return _counted_result(work(one, other))
    except (ZeroDivisionError, InvalidOperation):
        raise Fault("A number cannot be divided by zero") from None


# Amounts, dates, links ----------------------------------------------------------------------------------------------


@_filter
def money(context: Any, value: object, currency: object = None) -> str:
    """An amount in the currency named, or in the store's."""
    if value is None or value == "":
        return ""
    amount = as_decimal(value)
    if amount is None:
        raise Fault(f"“{shorten(as_text(value))}” is no amount. {MONEY_WORDS}")
    code = context.run.currency if currency in (None, "") else _text(currency).upper()
    if not _CURRENCY.fullmatch(code):
        raise Fault(f"“{shorten(code)}” is no currency. Use its three letters, like EUR")
    return _money(amount, code, context.run.locale)


@_filter
def number(context: Any, value: object, digits: object = None) -> str:
    """A number as it is written in the locale; with so many digits behind the point, or those it has."""
    if value is None or value == "":
        return ""
    return _decimal(
        Decimal(_number(value)), None if digits is None else min(abs(_whole(digits)), 10), context.run.locale
    )


@_filter
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


_FORMS = ("medium", "long", "short", "full", "time", "datetime")


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
def _locale(name: str) -> Any:
    """babel's locale of this name, of its language, or English."""
    from babel import Locale, UnknownLocaleError

    for candidate in (name, name.partition("-")[0]):
        try:
            return Locale.parse(candidate, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale("en")


@lru_cache(64)
def _zone(name: str) -> Any:
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        return UTC


@_filter
def link(value: object) -> str:
    """The address, where a mail program may open it; else nothing."""
    text = _text(value).strip()
    if _HIDDEN.search(text):
        return ""
    try:
        parts = urlsplit(text)
    except ValueError:
        return ""
    needs_host = parts.scheme in ("http", "https")
    return text if parts.scheme in _SCHEMES and (parts.netloc or not needs_host) else ""


@_filter
def newline_to_br(context: Any, value: object) -> str:
    """The text with its lines kept: in HTML by <br>, of text that is escaped."""
    if not context.autoescape:
        return _text(value)
    text = value if isinstance(value, Markup) else escape(as_text(value))
    _sized(len(text) + 6 * text.count("\n") + 6 * text.count("\r"))
    return Markup(_BREAK.sub("<br>\n", str(text)))  # noqa: S704  it is escaped


@_filter
def escape_(context: Any, value: object) -> str:
    """In HTML, the text escaped; it is not escaped a second time."""
    return escape(_text(value)) if context.autoescape else _text(value)


@_filter
def default(value: object, other: object) -> object:
    """The value, or the other where it is empty."""
    return other if value is None or value is False or value == "" or value == [] else value


# Texts --------------------------------------------------------------------------------------------------------------


@_filter
def append(value: object, more: object) -> str:
    return _joined((_text(value), _text(more)))


@_filter
def prepend(value: object, more: object) -> str:
    return _joined((_text(more), _text(value)))


def _joined(texts: Sequence[str], between: str = "") -> str:
    _sized(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


@_filter
def capitalize(value: object) -> str:
    return _text(value).capitalize()


@_filter
def downcase(value: object) -> str:
    return _text(value).lower()


@_filter
def upcase(value: object) -> str:
    return _text(value).upper()


@_filter
def strip(value: object) -> str:
    return _text(value).strip()


@_filter
def lstrip(value: object) -> str:
    return _text(value).lstrip()


@_filter
def rstrip(value: object) -> str:
    return _text(value).rstrip()


@_filter
def squish(value: object) -> str:
    return " ".join(_text(value).split())


@_filter
def strip_newlines(value: object) -> str:
    return _BREAK.sub("", _text(value))


@_filter
def strip_html(value: object) -> str:
    return _TAGS.sub("", _text(value))


@_filter
def replace(value: object, old: object, new: object = "") -> str:
    return _replaced(_text(value), _text(old), _text(new))


@_filter
def replace_first(value: object, old: object, new: object = "") -> str:
    return _replaced(_text(value), _text(old), _text(new), 1)


@_filter
def remove(value: object, old: object) -> str:
    return _replaced(_text(value), _text(old), "")


@_filter
def remove_first(value: object, old: object) -> str:
    return _replaced(_text(value), _text(old), "", 1)


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    if not old:
        return text
    found = text.count(old) if count < 0 else count
    _sized(len(text) + found * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


@_filter
def split(value: object, at: object) -> list[str]:
    text, mark = _text(value), _text(at)
    if not mark or mark == " ":
        found = text.split(maxsplit=ITEMS_MAX) if mark else list(text[: ITEMS_MAX + 1])
    else:
        found = text.split(mark, ITEMS_MAX)
    return list(_items(found))


@_filter
def truncate(value: object, length: object = 50, end: object = "…") -> str:
    text, tail, most = _text(value), _text(end), max(_whole(length), 0)
    return text if len(text) <= most else text[: max(most - len(tail), 0)] + tail


@_filter
def truncatewords(value: object, count: object = 15, end: object = "…") -> str:
    most = max(_whole(count), 1)
    words = _text(value).split(maxsplit=most)
    return " ".join(words) if len(words) <= most else " ".join(words[:most]) + _text(end)


@_filter
def slice_(value: object, start: object, length: object = 1) -> object:
    begin, most = _whole(start), max(_whole(length), 0)
    whole: Any = value if isinstance(value, list) else _text(value)
    begin = max(begin + len(whole), 0) if begin < 0 else begin
    return whole[begin : begin + most]


@_filter
def url_encode(value: object) -> str:
    text = _text(value)
    _sized(len(text) * 3)
    return quote(text.encode("utf-8", "replace"), safe="")


# Lists --------------------------------------------------------------------------------------------------------------


@_filter
def join(value: object, between: object = " ") -> str:
    return _joined([_text(one) for one in _items(value)], _text(between))


@_filter
def size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 0


@_filter
def first(value: object) -> object:
    return item(value, "first") if isinstance(value, list | tuple) else None


@_filter
def last(value: object) -> object:
    return item(value, "last") if isinstance(value, list | tuple) else None


@_filter
def reverse(value: object) -> list[object]:
    return list(reversed(_items(value)))


@_filter
def compact(value: object) -> list[object]:
    return [one for one in _items(value) if one is not None]


@_filter
def concat(value: object, more: object) -> list[object]:
    one, other = _items(value), _items(more)
    return list(_items([*one, *other]))


@_filter
def map_(value: object, name: object) -> list[object]:
    return [_under(one, name) for one in _items(value)]


@_filter
def where(value: object, name: object, wanted: object = None) -> list[object]:
    found = ((one, _under(one, name)) for one in _items(value))
    return [one for one, its in found if (its not in (None, False) if wanted is None else its == wanted)]


@_filter
def sum_(value: object, name: object = None) -> int | Decimal:
    total: int | Decimal = 0
    for one in _items(value):
        total = _counted_result(total + _number(one if name is None else _under(one, name)))
    return total


@_filter
def sort(value: object, name: object = None) -> list[object]:
    """In order; numbers before texts, what has none at the end."""
    return sorted(_items(value), key=lambda one: _rank(one if name is None else _under(one, name)))


def _rank(value: object) -> tuple[int, Any]:
    if isinstance(value, int | float | Decimal):
        return 0, value
    return (2, "") if value is None else (1, as_text(value).casefold())


@_filter
def uniq(value: object) -> list[object]:
    return list({(type(one), as_text(one)): one for one in reversed(_items(value))}.values())[::-1]


def _under(value: object, name: object) -> object:
    try:
        return item(value, name)
    except KeyError:
        return None


# Numbers ------------------------------------------------------------------------------------------------------------


@_filter
def plus(value: object, other: object) -> int | Decimal:
    return _arithmetic(value, other, lambda a, b: a + b)


@_filter
def minus(value: object, other: object) -> int | Decimal:
    return _arithmetic(value, other, lambda a, b: a - b)


@_filter
def times(value: object, other: object) -> int | Decimal:
    return _arithmetic(value, other, lambda a, b: a * b)


@_filter
def divided_by(value: object, other: object) -> int | Decimal:
    """Whole numbers give a whole one, as everywhere in Liquid."""
    return _arithmetic(value, other, lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b)


@_filter
def modulo(value: object, other: object) -> int | Decimal:
    return _arithmetic(value, other, lambda a, b: a % b)


@_filter
def round_(value: object, digits: object = 0) -> int | Decimal:
    found, places = Decimal(_number(value)), min(abs(_whole(digits)), 10)
    return round(found, places) if places else round(found)


@_filter
def ceil(value: object) -> int:
    return int(-(-Decimal(_number(value)) // 1))


@_filter
def floor(value: object) -> int:
    return int(Decimal(_number(value)) // 1)


@_filter
def abs_(value: object) -> int | Decimal:
    return max(found := _number(value), -found)


@_filter
def at_least(value: object, least: object) -> int | Decimal:
    return max(_number(value), _number(least))


@_filter
def at_most(value: object, most: object) -> int | Decimal:
    return min(_number(value), _number(most))
