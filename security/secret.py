"""A secret on its way through the code: it cannot be printed, logged, pickled or serialised by accident.

Tokens, passwords and client secrets travel as `Secret` from the moment they are read until the line that puts them
on the wire. That line says `reveal()`, so a search for that word finds every place where a secret leaves its cover.
"""

from __future__ import annotations

import hmac
from typing import Any, NoReturn, final

MASK = "Secret(***)"


@final
class Secret:
    """Hold one secret text; every rendering of it is the same mask, whatever its length.

    Not a `str`: joining, formatting or JSON-encoding one by mistake gives the mask or a `TypeError`, never the value.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            # The value is not quoted: this text ends in a log.
            raise TypeError(f"A Secret is made from a str, not from {type(value).__name__}")
        self._value = value

    def reveal(self) -> str:
        """Return the plain text. Call it where the bytes are made, not earlier."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, spec: str) -> str:
        # The format code is ignored: f"{secret:.4}" would otherwise cut the mask and look like a value.
        return MASK

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # "surrogatepass": even a text that is no valid Unicode compares instead of raising with its value inside.
        mine = self._value.encode("utf-8", "surrogatepass")
        theirs = other._value.encode("utf-8", "surrogatepass")
        return hmac.compare_digest(mine, theirs)

    # A hash of a short secret tells it to whoever can guess; nothing of ours needs secrets as keys.
    __hash__ = None  # type: ignore[assignment]  # the documented way to say "not hashable"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("A Secret cannot be pickled: it would be written down in clear")
