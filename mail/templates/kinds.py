"""The kinds of mail a shop sends: what each is for, the names that its data has, a sample, and the default texts.

Frozen data; the texts lie in files beside it. No database, no network.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Group(enum.StrEnum):
    TRANSACTIONAL = "transactional"
    NOTIFICATION = "notification"
    SYSTEM = "system"


class ValueType(enum.StrEnum):
    TEXT = "text"
    NUMBER = "number"
    MONEY = "money"  # a number, or a text like "12.50"; the filter `money` shows it
    DATE = "date"  # RFC 3339, like "2027-01-31" or "2027-01-31T09:00:00Z"; the filter `date` shows it
    URL = "url"  # https: or http:, nothing else
    FLAG = "flag"
    LIST = "list"  # of objects; the names within it stand as "order.lines[].name"
    OBJECT = "object"


@dataclass(frozen=True)
class Variable:
    """One name that a kind's data has.

    Attributes:
        path: with dots, and "[]" behind a list: "order.lines[].name".
        meaning: a few words for who writes a template.
        is_optional: the application may leave it out; it is then empty, and `{% if %}` tells.
    """

    path: str
    meaning: str
    type: ValueType = ValueType.TEXT
    is_optional: bool = False


@dataclass(frozen=True)
class Source:
    """What is written for one kind in one locale: Liquid in each; an empty `text` is derived from the HTML.

    `html` is the content between the layout's header and footer; a whole page (it begins with <!doctype or <html)
    goes out without the layout.
    """

    subject: str
    preheader: str
    html: str
    text: str = ""


@dataclass(frozen=True)
class Kind:
    key: str  # "order_confirmation": in the API, in URLs with hyphens
    name: str  # "Order confirmation"
    group: Group
    purpose: str  # one sentence: when it is sent and to whom
    variables: tuple[Variable, ...]


DEFAULT_LOCALES = ("en", "de")

KINDS: tuple[Kind, ...] = ()


def find(key: str) -> Kind | None:
    """The kind with this key, or None."""
    raise NotImplementedError


def default_source(kind: Kind, locale: str) -> Source:
    """The texts that come with Storepost; the English ones for a locale without any."""
    raise NotImplementedError


def sample(kind: Kind, locale: str) -> dict[str, Any]:
    """Data such as an application sends for this kind, in the words of that locale; a fresh copy each time."""
    raise NotImplementedError
