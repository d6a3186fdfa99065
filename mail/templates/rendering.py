"""One mail of a kind, whole: subject, HTML in the store's look with inlined styles, and text; or what is wrong, by line.

No database. Source: product.md 7, security.md 59.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mail.templates.kinds import Kind, Source


@dataclass(frozen=True)
class Look:
    """How a store's mails look, and what its filters go by: the values of a `Brand` row, defaults filled in.

    Attributes:
        name: the store's name as customers know it.
        accent, header_color: "#rrggbb".
        address, legal: lines.
        locale: of amounts and dates, like "de" or "de-AT"; time_zone: IANA, like "Europe/Berlin"; currency: ISO 4217.
    """

    name: str
    logo_url: str = ""
    logo_width: int = 160
    website_url: str = ""
    support_email: str = ""
    accent: str = "#2153d4"
    header_color: str = "#ffffff"
    address: tuple[str, ...] = ()
    legal: tuple[str, ...] = ()
    locale: str = "en"
    time_zone: str = "UTC"
    currency: str = "EUR"


@dataclass(frozen=True)
class Problem:
    """What is wrong in a template, for who writes it.

    Attributes:
        part: "subject", "preheader", "html", "text" or "sample".
        line: from 1, or None where it concerns the whole.
        message: what to do, in a sentence that names the variable, tag or filter.
        name: the undefined name, as in "order.numbr".
        is_warning: it may be saved so.
    """

    part: str
    line: int | None
    message: str
    name: str | None = None
    is_warning: bool = False


@dataclass(frozen=True)
class Rendered:
    subject: str
    preheader: str
    html: str
    text: str


class DoesNotRender(Exception):
    """These texts and data make no mail; `problems` say why, errors only."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].message if problems else "")
        self.problems = problems


class DataMissing(Exception):
    """The data lacks names that this template uses, or has them in a form that cannot be used.

    `faults` is pairs of path and sentence: ("order.lines[2].name", "Send a text").
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(", ".join(path for path, _ in faults))
        self.faults = faults


def check(kind: Kind, source: Source, sample: Mapping[str, Any], look: Look, locale: str) -> list[Problem]:
    """Return what is wrong with these texts, errors before warnings; they are rendered with the sample."""
    raise NotImplementedError


def render(kind: Kind, source: Source, data: Mapping[str, Any], look: Look, locale: str) -> Rendered:
    """Return the mail.

    `data` is plain JSON values. Names beyond the kind's and the template's own are left out; optional names that are
    absent are empty.

    Raises:
        DataMissing: names that the texts need are absent or of another form, all of them.
        DoesNotRender: the texts themselves are wrong, or a limit was reached.
    """
    raise NotImplementedError
