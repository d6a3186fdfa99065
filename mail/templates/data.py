"""An application's data against what a kind promises: a plain copy of it, or every fault at once.

Nothing but JSON values comes through, of the types that the kind's variables have. What is optional and absent, or
empty, is None: {% if %} then leaves its block out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mail.intake import bad_body_character
from mail.templates.kinds import Kind
from mail.templates.names import ITEM, Use
from mail.templates.values import (
    DATE_WORDS,
    MONEY_WORDS,
    WEB_ADDRESS_MAX,
    as_date,
    as_decimal,
    is_currency,
    is_web_address,
)
from mail.templates.variables import ValueType, Variable

FAULTS_MAX = 100
VALUES_MAX = 100_000
CHARS_MAX = 2_000_000  # over all texts; an order of 10,000 lines has half of it
DEPTH_MAX = 12
_ANY = None

WORDS: Mapping[ValueType | None, str] = {
    ValueType.TEXT: "Send a text",
    ValueType.NUMBER: "Send a number, like 3",
    ValueType.MONEY: MONEY_WORDS,
    ValueType.DATE: DATE_WORDS,
    ValueType.URL: f"Send a web address with https:// or http://, of {WEB_ADDRESS_MAX:,} characters or fewer",
    ValueType.CURRENCY: "Send a currency by its three letters, like EUR",
    ValueType.FLAG: "Send true or false",
    ValueType.LIST: "Send a list",
    ValueType.OBJECT: "Send an object",
    _ANY: "Send a text, a number, true or false",
}


@dataclass
class Shape:
    """What may stand at one place of the data.

    Attributes:
        type: None stands for any value without parts, of a name that the store made up.
        parts: of an object.
        item: of a list.
        is_own: the store made this name up. Such names are asked for where a text uses them; the others always, so
            that no change of a text asks an application for more.
    """

    type: ValueType | None
    is_optional: bool = False
    is_own: bool = False
    parts: dict[str, Shape] = field(default_factory=dict)
    item: Shape | None = None
    longest: int | None = None

    def paths(self, prefix: str = "") -> Iterable[str]:
        """Every name below, as it is written in a kind's variables."""
        for name, part in self.parts.items():
            path = f"{prefix}.{name}" if prefix else name
            yield path
            yield from part.paths(path)
        if self.item is not None:
            yield from self.item.paths(f"{prefix}[]")


def shape_of(kind: Kind, sample: Mapping[str, Any] | None = None) -> Shape:
    """Return what this kind's data is: its variables, and further names that a store's own sample has.

    A further name is optional when it is null in the sample.
    """
    if not sample:
        return _shape_of_kind(kind)
    shape = _from_variables(kind.variables)
    _add(shape, sample, 0)
    return shape


@lru_cache(64)
def _shape_of_kind(kind: Kind) -> Shape:
    return _from_variables(kind.variables)


def _from_variables(variables: Iterable[Variable]) -> Shape:
    root = Shape(ValueType.OBJECT)
    for variable in variables:
        at = root
        for word in variable.path.split("."):
            name, is_list = word.removesuffix(ITEM), word.endswith(ITEM)
            if name:
                at = at.parts.setdefault(name, Shape(ValueType.LIST if is_list else ValueType.OBJECT))
            if is_list:
                at.type = ValueType.LIST
                at.item = at.item or Shape(ValueType.OBJECT)
                at = at.item
        at.type, at.is_optional, at.longest = variable.type, variable.is_optional, variable.longest
    return root


def _add(shape: Shape, value: object, depth: int) -> None:
    """Add the names that a sample has beyond those known."""
    if depth > DEPTH_MAX:
        return
    if isinstance(value, Mapping) and shape.type is ValueType.OBJECT:
        for name, part in value.items():
            if name not in shape.parts:
                shape.parts[name] = _guessed(part)
            _add(shape.parts[name], part, depth + 1)
    elif isinstance(value, list) and shape.type is ValueType.LIST:
        for one in value[:100]:
            shape.item = shape.item or _guessed(one)
            _add(shape.item, one, depth + 1)


def _guessed(value: object) -> Shape:
    if isinstance(value, Mapping):
        return Shape(ValueType.OBJECT, is_own=True)
    return Shape(ValueType.LIST if isinstance(value, list) else _ANY, is_optional=value is None, is_own=True)


# Names --------------------------------------------------------------------------------------------------------------


@dataclass
class Need:
    """Which names below one place the texts ask for; `is_whole` stands for all that are there."""

    parts: dict[str, Need] = field(default_factory=dict)
    is_whole: bool = False


def unknown_name(use: Use, shape: Shape) -> str | None:
    """Return the name as far as it does not exist in this shape: "order.numbr"; or None."""
    at: Shape | None = shape
    for index, word in enumerate(use.path):
        if at is None or (found := _below(at, word)) is False:
            return ".".join(use.path[: index + 1]).replace(f".{ITEM}", ITEM)
        if found is True:
            return None
        at = found
    return None


def _below(shape: Shape, word: str) -> Shape | bool:
    """What stands under a word; True where the path ends there, False where there is nothing."""
    if word in shape.parts:
        return shape.parts[word]
    if shape.type is ValueType.LIST and word in (ITEM, "first", "last"):
        return shape.item or True
    if word == ITEM and shape.type is ValueType.OBJECT:
        return True  # going through an object gives pairs of name and value
    return word == "size"


def need_of(uses: Iterable[Use]) -> Need:
    """Return what all these names need, as one tree."""
    root = Need()
    for use in uses:
        at = root
        for word in use.path:
            at = at.parts.setdefault(ITEM if word in ("first", "last") else word, Need())
        at.is_whole = at.is_whole or use.is_whole
    return root


_WHOLE = Need(is_whole=True)
_NOTHING = Need()


# Values -------------------------------------------------------------------------------------------------------------


def take(data: object, shape: Shape, need: Need) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return a plain copy of the names in this shape, and the faults as pairs of path and sentence."""
    taker = _Taker()
    found = taker.value(data, shape, need, "", 0)
    return found if isinstance(found, dict) else {}, taker.faults


class _Taker:
    def __init__(self) -> None:
        self.faults: list[tuple[str, str]] = []
        self._values = 0
        self._chars = 0

    def value(self, value: object, shape: Shape, need: Need, path: str, depth: int) -> Any:
        """The value's copy. What is missing below is named there."""
        self._values += 1
        if self._values > VALUES_MAX or depth > DEPTH_MAX:
            return self._fault(path, f"Send {VALUES_MAX:,} values or fewer, in {DEPTH_MAX} levels")
        if value is None and (shape.is_optional or shape.type is not ValueType.OBJECT):
            return None if shape.is_optional else self._fault(path, WORDS[shape.type])
        if shape.type is ValueType.OBJECT:
            return self._object({} if value is None else value, shape, need, path, depth)
        if shape.type is ValueType.LIST:
            return self._list(value, shape, need, path, depth)
        return self._single(value, shape, path)

    def _object(self, value: object, shape: Shape, need: Need, path: str, depth: int) -> Any:
        if not isinstance(value, dict):
            return self._fault(path, WORDS[ValueType.OBJECT])
        goes_all_through = need.is_whole or ITEM in need.parts
        prefix = f"{path}." if path else ""
        return {
            name: self.value(
                value.get(name),
                part,
                _WHOLE if goes_all_through else need.parts.get(name, _NOTHING),
                prefix + name,
                depth + 1,
            )
            for name, part in shape.parts.items()
            if not part.is_own or goes_all_through or name in need.parts
        }

    def _list(self, value: object, shape: Shape, need: Need, path: str, depth: int) -> Any:
        if not isinstance(value, list):
            return self._fault(path, WORDS[ValueType.LIST])
        if shape.is_optional and not value:
            return None
        item = shape.item or Shape(_ANY, is_optional=True)
        inner = _WHOLE if need.is_whole else need.parts.get(ITEM, _NOTHING)
        most = VALUES_MAX // (1 + len(item.parts))
        if len(value) > most:
            return self._fault(path, f"Send {most:,} items or fewer")
        return [self.value(one, item, inner, f"{path}[{index}]", depth + 1) for index, one in enumerate(value)]

    def _single(self, value: object, shape: Shape, path: str) -> Any:
        if isinstance(value, str):
            if not value and shape.is_optional:
                return None
            self._chars += len(value)
            if self._chars > CHARS_MAX:
                return self._fault(path, f"Send {CHARS_MAX:,} characters or fewer in all")
            if fault := bad_body_character(value):
                return self._fault(path, fault)
        found = _typed(value, shape.type)
        if shape.type is ValueType.TEXT and shape.longest and isinstance(found, str) and len(found) > shape.longest:
            return f"{found[: shape.longest - 1]}…"
        return self._fault(path, WORDS[shape.type]) if found is None else found

    def _fault(self, path: str, sentence: str) -> None:
        if len(self.faults) < FAULTS_MAX:
            self.faults.append((path, sentence))


def _typed(value: object, wanted: ValueType | None) -> Any:
    """The value when it is of this type, plain; else None."""
    match wanted:
        case ValueType.MONEY:
            return as_decimal(value) if isinstance(value, str) else _finite(value)
        case ValueType.NUMBER:
            return _finite(value)
        case ValueType.FLAG:
            return value if isinstance(value, bool) else None
        case ValueType.DATE:
            return value if as_date(value) is not None else None
        case ValueType.URL:
            return value if isinstance(value, str) and (value == "" or is_web_address(value)) else None
        case ValueType.CURRENCY:
            return value if isinstance(value, str) and is_currency(value) else None
        case ValueType.TEXT:
            # Order numbers are numbers to many a shop system.
            return value if isinstance(value, str) else _finite(value)
    return value if isinstance(value, str | bool) else _finite(value)


def _finite(value: object) -> int | float | None:
    return value if isinstance(value, int | float) and as_decimal(value) is not None else None
