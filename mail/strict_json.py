"""JSON from strangers: one object, in UTF-8, that means the same to every reader."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def json_object(body: bytes) -> tuple[dict[str, Any] | None, str]:
    """Return the object of an answer, or None and why there is none. Source: security.md 28 and 43."""
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError:
        return None, "the answer is not UTF-8"
    except json.JSONDecodeError as error:
        return None, f"Expecting value: line {error.lineno} column {error.colno}"
    except (ValueError, RecursionError) as error:
        return None, str(error) if isinstance(error, _Unsound) else "the answer cannot be read"
    return (value, "") if isinstance(value, dict) else (None, "the answer is not an object")


class _Unsound(ValueError):
    """JSON that means different things to different readers."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Unsound("the answer names a member twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Unsound("the answer holds a number that is none")
