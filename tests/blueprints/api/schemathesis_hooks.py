"""What Schemathesis is told beside the document: values of formats that no pattern can give, and keys used once."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from hypothesis import strategies as st

# Part of what the rules take, letters beyond ASCII included.
schemathesis.openapi.format("idn-email", st.from_regex(r"[a-zé0-9]{1,12}@[a-z]{1,10}\.example", fullmatch=True))
schemathesis.openapi.format(
    "date-time",
    st.integers(-(10**6), 10**6).map(lambda s: (datetime(2026, 6, 1, tzinfo=UTC) + timedelta(seconds=s)).isoformat()),
)
_numbers = itertools.count()


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """The same Idempotency-Key with another message is refused, as it should be; here each key is a new one."""
    key = (case.headers or {}).get("Idempotency-Key")
    if isinstance(key, str) and re.fullmatch(r"[\x21-\x7e]{1,200}", key):
        case.headers["Idempotency-Key"] = f"{next(_numbers)}-{key}"
    return case


@schemathesis.hook
def filter_body(context: Any, body: Any) -> bool:
    """How deep JSON is nested no schema can say, and data may have further names with anything in them."""
    return _depth(body) < 15


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
