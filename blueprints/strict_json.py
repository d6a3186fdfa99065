"""JSON from strangers: one object, valid UTF-8, no duplicate keys, no NaN, not too deep. Source: security.md 28."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NoReturn

DEPTH_MAX = 16  # a batch of orders whose lines have options is nested ten deep

EachObject = Callable[[dict[str, Any]], dict[str, Any]]


class BadJSON(Exception):
    """The text is not the JSON we take; the message says why, without quoting it."""


def parse_object(raw: bytes | bytearray, *, each_object: EachObject | None = None) -> dict[str, Any]:
    """Return the object that the bytes describe.

    Args:
        each_object: gets every object and returns what stands for it, innermost first.

    Raises:
        BadJSON: one sentence for the caller's developer.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadJSON("The body is not valid UTF-8.") from None
    try:
        document = (_PLAIN if each_object is None else _decoder(each_object)).decode(text)
    except RecursionError:
        raise BadJSON("The body is nested too deeply.") from None
    except ValueError:
        # A JSONDecodeError carries the whole document; a very long number is a plain ValueError.
        raise BadJSON("The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise BadJSON("The body must be a JSON object.")
    _check_depth(document)
    return document


def _decoder(each_object: EachObject | None) -> json.JSONDecoder:
    hook = _object if each_object is None else lambda pairs: each_object(_object(pairs))
    return json.JSONDecoder(object_pairs_hook=hook, parse_constant=_refuse_constant, parse_float=_finite_float)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadJSON("A name stands twice in the same object.")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise BadJSON("NaN and Infinity are not JSON.")


def _finite_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadJSON("A number is too large.")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for one in level
            if isinstance(one, (dict, list))
            for child in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return
    raise BadJSON("The body is nested too deeply.")


# Making one costs as much as reading a small message.
_PLAIN = _decoder(None)
