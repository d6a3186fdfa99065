"""What a store wrote for its mails: the texts in force, their versions, which kinds are off, the brand. Only writer.

The caller commits, but where a function says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from mail.templates.kinds import Kind, Source
from mail.templates.rendering import Look
from models import Store


@dataclass(frozen=True)
class InForce:
    """The texts by which a kind goes out now.

    Attributes:
        locale: of these texts: the one asked for, or what stands in for it.
        number: of the version, or 0 for the default.
        sample: JSON as it was typed, or the default's.
    """

    kind: Kind
    locale: str
    source: Source
    sample: str
    number: int
    is_default: bool


def look_of(store: Store) -> Look:
    """Return how this store's mails look."""
    raise NotImplementedError


def in_force(store_id: int, kind: Kind, locale: str, fallback: str) -> InForce:
    """Return the texts for the first of these locales that has any: "de-AT", "de", `fallback` (the store's), "en".

    A store's version goes before the default of the same locale.
    """
    raise NotImplementedError


def is_off(store_id: int, kind: Kind) -> bool:
    """Whether the store does not send mails of this kind."""
    raise NotImplementedError
