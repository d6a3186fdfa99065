"""Liquid's own filters, those that do no harm, each with its size known before it works.

They take and give plain text: what a filter made is escaped where it is put out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from mail.templates.filtering import (
    ITEMS_MAX,
    LINE_BREAK,
    bounded,
    calculate,
    check_size,
    items_of,
    number_of,
    plain_text,
    template_filter,
    whole_number,
)
from mail.templates.values import as_text, item

_TAGS = re.compile(r"<[^<>]*>")

# Texts --------------------------------------------------------------------------------------------------------------


@template_filter
def append(value: object, more: object) -> str:
    return _joined((plain_text(value), plain_text(more)))


@template_filter
def prepend(value: object, more: object) -> str:
    return _joined((plain_text(more), plain_text(value)))


def _joined(texts: Sequence[str], between: str = "") -> str:
    check_size(sum(map(len, texts)) + len(between) * len(texts))
    return between.join(texts)


@template_filter
def capitalize(value: object) -> str:
    return plain_text(value).capitalize()


@template_filter
def downcase(value: object) -> str:
    return plain_text(value).lower()


@template_filter
def upcase(value: object) -> str:
    return plain_text(value).upper()


@template_filter
def strip(value: object) -> str:
    return plain_text(value).strip()


@template_filter
def lstrip(value: object) -> str:
    return plain_text(value).lstrip()


@template_filter
def rstrip(value: object) -> str:
    return plain_text(value).rstrip()


@template_filter
def squish(value: object) -> str:
    return " ".join(plain_text(value).split())


@template_filter
def strip_newlines(value: object) -> str:
    return LINE_BREAK.sub("", plain_text(value))


@template_filter
def strip_html(value: object) -> str:
    return _TAGS.sub("", plain_text(value))


@template_filter
def replace(value: object, old: object, new: object = "") -> str:
    return _replaced(plain_text(value), plain_text(old), plain_text(new))


@template_filter
def replace_first(value: object, old: object, new: object = "") -> str:
    return _replaced(plain_text(value), plain_text(old), plain_text(new), 1)


@template_filter
def remove(value: object, old: object) -> str:
    return _replaced(plain_text(value), plain_text(old), "")


@template_filter
def remove_first(value: object, old: object) -> str:
    return _replaced(plain_text(value), plain_text(old), "", 1)


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    if not old:
        return text
    found = text.count(old) if count < 0 else count
    check_size(len(text) + found * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


@template_filter
def split(value: object, at: object) -> list[str]:
    text, mark = plain_text(value), plain_text(at)
    if not mark or mark == " ":
        found = text.split(maxsplit=ITEMS_MAX) if mark else list(text[: ITEMS_MAX + 1])
    else:
        found = text.split(mark, ITEMS_MAX)
    return list(items_of(found))


@template_filter
def truncate(value: object, length: object = 50, end: object = "…") -> str:
    text, tail, most = plain_text(value), plain_text(end), max(whole_number(length), 0)
    return text if len(text) <= most else text[: max(most - len(tail), 0)] + tail


@template_filter
def truncatewords(value: object, count: object = 15, end: object = "…") -> str:
    most = max(whole_number(count), 1)
    words = plain_text(value).split(maxsplit=most)
    return " ".join(words) if len(words) <= most else " ".join(words[:most]) + plain_text(end)


@template_filter
def slice_(value: object, start: object, length: object = 1) -> object:
    begin, most = whole_number(start), max(whole_number(length), 0)
    whole: Any = value if isinstance(value, list) else plain_text(value)
    begin = max(begin + len(whole), 0) if begin < 0 else begin
    return whole[begin : begin + most]


@template_filter
def url_encode(value: object) -> str:
    text = plain_text(value)
    check_size(len(text) * 3)
    return quote(text.encode("utf-8", "replace"), safe="")


# Lists --------------------------------------------------------------------------------------------------------------


@template_filter
def join(value: object, between: object = " ") -> str:
    return _joined([plain_text(one) for one in items_of(value)], plain_text(between))


@template_filter
def size(value: object) -> int:
    return len(value) if isinstance(value, str | list | tuple | dict) else 0


@template_filter
def first(value: object) -> object:
    return item(value, "first") if isinstance(value, list | tuple) else None


@template_filter
def last(value: object) -> object:
    return item(value, "last") if isinstance(value, list | tuple) else None


@template_filter
def reverse(value: object) -> list[object]:
    return list(reversed(items_of(value)))


@template_filter
def compact(value: object) -> list[object]:
    return [one for one in items_of(value) if one is not None]


@template_filter
def concat(value: object, more: object) -> list[object]:
    one, other = items_of(value), items_of(more)
    return list(items_of([*one, *other]))


@template_filter
def map_(value: object, name: object) -> list[object]:
    return [_under(one, name) for one in items_of(value)]


@template_filter
def where(value: object, name: object, wanted: object = None) -> list[object]:
    found = ((one, _under(one, name)) for one in items_of(value))
    return [one for one, its in found if (its not in (None, False) if wanted is None else its == wanted)]


@template_filter
def sum_(value: object, name: object = None) -> int | Decimal:
    total: int | Decimal = 0
    for one in items_of(value):
        total = bounded(total + number_of(one if name is None else _under(one, name)))
    return total


@template_filter
def sort(value: object, name: object = None) -> list[object]:
    """In order; numbers before texts, what has none at the end."""
    return sorted(items_of(value), key=lambda one: _rank(one if name is None else _under(one, name)))


def _rank(value: object) -> tuple[int, Any]:
    if isinstance(value, int | float | Decimal):
        return 0, value
    return (2, "") if value is None else (1, as_text(value).casefold())


@template_filter
def uniq(value: object) -> list[object]:
    found: dict[tuple[type, str], object] = {}
    for one in items_of(value):
        found.setdefault((type(one), as_text(one)), one)
    return list(found.values())


def _under(value: object, name: object) -> object:
    try:
        return item(value, name)
    except KeyError:
        return None


# Numbers ------------------------------------------------------------------------------------------------------------


@template_filter
def plus(value: object, other: object) -> int | Decimal:
    return calculate(value, other, lambda a, b: a + b)


@template_filter
def minus(value: object, other: object) -> int | Decimal:
    return calculate(value, other, lambda a, b: a - b)


@template_filter
def times(value: object, other: object) -> int | Decimal:
    return calculate(value, other, lambda a, b: a * b)


@template_filter
def divided_by(value: object, other: object) -> int | Decimal:
    """Whole numbers give a whole one, as everywhere in Liquid."""
    return calculate(value, other, lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) else a / b)


@template_filter
def modulo(value: object, other: object) -> int | Decimal:
    return calculate(value, other, lambda a, b: a % b)


@template_filter
def round_(value: object, digits: object = 0) -> int | Decimal:
    found, places = Decimal(number_of(value)), min(abs(whole_number(digits)), 10)
    return round(found, places) if places else round(found)


@template_filter
def ceil(value: object) -> int:
    return math.ceil(number_of(value))


@template_filter
def floor(value: object) -> int:
    return math.floor(number_of(value))


@template_filter
def abs_(value: object) -> int | Decimal:
    return max(found := number_of(value), -found)


@template_filter
def at_least(value: object, least: object) -> int | Decimal:
    return max(number_of(value), number_of(least))


@template_filter
def at_most(value: object, most: object) -> int | Decimal:
    return min(number_of(value), number_of(most))
