"""How filters are called, and the guards that each of them puts before its work."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from liquid.builtin.expressions.filtered import Filter as FilterCall

from mail.templates.lexing import Fault, shorten
from mail.templates.values import STRING_MAX, as_decimal, as_text

ITEMS_MAX = 20_000
_NUMBER_MAX = Decimal(10**15)
LINE_BREAK = re.compile(r"\r\n?|\n")


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
        context.run.step()
        if self._wants_context:
            return self._function(context, left, *values)
        return self._function(left, *values)


def _counted(least: int, most: int) -> str:
    if least == most:
        return "one value" if most == 1 else f"{most} values"
    return f"{least} to {most} values"


FILTERS: dict[str, Filter] = {}


def template_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function a filter of its name; a `_` at the end keeps a word of Python's free."""
    name = function.__name__.rstrip("_")
    FILTERS[name] = Filter(name, function)
    return function


# Guards -------------------------------------------------------------------------------------------------------------


def plain_text(value: object) -> str:
    """The value as plain text; it is none that may go out unescaped any more."""
    text = as_text(value)
    return text if type(text) is str else str.__str__(text)


def check_size(length: int) -> None:
    """Raise `Fault` before a text of this length is made."""
    if length > STRING_MAX:
        raise Fault(f"Make no text of more than {STRING_MAX:,} characters", is_limit=True)


def items_of(value: object) -> Sequence[Any]:
    """The items of a list; one value is a list of one."""
    if value is None or value == "":
        return []
    items = value if isinstance(value, list | tuple) else [value]
    if len(items) > ITEMS_MAX:
        raise Fault(f"Make no list of more than {ITEMS_MAX:,} items", is_limit=True)
    return items


def whole_number(value: object) -> int:
    """The number that a filter counts by."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > ITEMS_MAX * 10:
        raise Fault("Use a whole number behind this filter")
    return value


def number_of(value: object) -> int | Decimal:
    """The number that a value is, or that its text spells; nothing is 0."""
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


def bounded(value: int | Decimal) -> int | Decimal:
    """The number, unless it has become too large to be one of a shop."""
    return value if -_NUMBER_MAX <= value <= _NUMBER_MAX else _too_large()


def calculate(left: object, right: object, work: Callable[[Any, Any], Any]) -> int | Decimal:
    """The result of two numbers, within bounds."""
    one, other = number_of(left), number_of(right)
    try:
        return bounded(work(one, other))
    except (ZeroDivisionError, InvalidOperation):
        raise Fault("A number cannot be divided by zero") from None
