"""Words that several messages about templates share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_COMPARED_MAX = 300


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean order.number?", or nothing where no known name is near."""
    names = list(known)[:_COMPARED_MAX]
    found = difflib.get_close_matches(name[:100], names, n=1, cutoff=0.6)
    return f" Did you mean {found[0]}?" if found else ""
