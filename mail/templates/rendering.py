"""One mail of a kind, whole: subject, HTML in the store's look styles inlined, and text; or what is wrong, by line.

No database. Source: product.md 7, security.md 59.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from mail.templates import filters, finishing, liquid
from mail.templates.data import FAULTS_MAX, Need, Shape, need_of, shape_of, take, unknown_name
from mail.templates.kinds import Kind, Source, ValueType
from mail.templates.lexing import Fault, line_of
from mail.templates.liquid import Compiled
from mail.templates.locales import direction
from mail.templates.running import Run
from mail.templates.wording import did_you_mean
from models.outbox import SUBJECT_MAX
from models.template import ACCENT, CURRENCY, HEADER_COLOR, LOCALE, LOGO_WIDTH, TIME_ZONE


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
    logo_width: int = LOGO_WIDTH
    website_url: str = ""
    support_email: str = ""
    accent: str = ACCENT
    header_color: str = HEADER_COLOR
    address: tuple[str, ...] = ()
    legal: tuple[str, ...] = ()
    locale: str = LOCALE
    time_zone: str = TIME_ZONE
    currency: str = CURRENCY


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
    """The data lacks names that this kind needs, or the template's own, or has them in a form that cannot be used.

    `faults` is pairs of path and sentence: ("order.lines[2].name", "Send a text").
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(", ".join(path for path, _ in faults))
        self.faults = faults


# Making a mail ------------------------------------------------------------------------------------------------------

_PARTS = ("subject", "preheader", "html", "text")
_LINE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")
PREHEADER_SHOWN_MAX = 250


def check(kind: Kind, source: Source, sample: Mapping[str, Any], look: Look, locale: str) -> list[Problem]:
    """Return what is wrong with these texts, errors before warnings; they are rendered with the sample."""
    problems = [*_problems_of_texts(kind, source, sample), *_problems_of_sample(kind, source, sample)]
    if problems:
        return problems
    try:
        rendered = render(kind, source, sample, look, locale, sample=sample)
    except DoesNotRender as error:
        return error.problems
    return _warnings(source, rendered)


def render(
    kind: Kind,
    source: Source,
    data: Mapping[str, Any],
    look: Look,
    locale: str,
    *,
    sample: Mapping[str, Any] | None = None,
) -> Rendered:
    """Return the mail.

    `data` is plain JSON values. Names beyond the kind's and the template's own are left out; optional names that are
    absent are empty. `sample` is the store's own for this template: names that it has beyond the kind's may be used.

    Raises:
        DataMissing: names that the kind needs, or the texts, are absent or of another form, all of them.
        DoesNotRender: the texts themselves are wrong, or a limit was reached.
    """
    texts = _compiled(source)
    shape = shape_of(kind, sample)
    names, faults = take(data, shape, _need(tuple(texts.values())))
    if faults:
        raise DataMissing(faults)
    return _Mail(source, texts, names, look, locale).rendered()


def _compiled(source: Source) -> dict[str, Compiled]:
    """The texts, read; all that cannot be read are told at once."""
    found: dict[str, Compiled] = {}
    problems = []
    for part in _PARTS:
        try:
            found[part] = liquid.compiled(getattr(source, part), is_html=part == "html")
        except Fault as fault:
            problems.append(_problem(part, getattr(source, part), fault))
    if problems:
        raise DoesNotRender(problems)
    return found


def _problem(part: str, source: str, fault: Fault) -> Problem:
    return Problem(part, fault.line_in(source), fault.sentence, fault.name)


def _need(texts: tuple[Compiled, ...]) -> Need:
    return need_of(use for text in texts for use in text.uses if use.path[0] not in liquid.SHARED)


class _Mail:
    """One mail on its way: its texts in their order, all within the same bounds."""

    def __init__(
        self, source: Source, texts: Mapping[str, Compiled], names: Mapping[str, Any], look: Look, locale: str
    ) -> None:
        self._source = source
        self._texts = texts
        self._names = names
        self._look = look
        region = _region(locale, look.locale)
        filters.get_ready(region)
        self._layout = liquid.layout()
        self._run = Run(_shared(look, locale), region, look.time_zone, look.currency)  # its clock runs from here

    def rendered(self) -> Rendered:
        subject = _one_line(self._part("subject"), SUBJECT_MAX)
        preheader = _one_line(self._part("preheader"), PREHEADER_SHOWN_MAX)
        content = self._part("html")
        text = self._part("text")
        html = self._page(subject, preheader, content)
        if not text.strip():
            text = finishing.text_of(content)
            if text and not finishing.is_whole_page(content):
                text = finishing.with_footer(text, self._footer())
        return Rendered(subject, preheader, html, text)

    def _part(self, part: str) -> str:
        try:
            return liquid.render(self._texts[part], self._names, self._run)
        except Fault as fault:
            raise DoesNotRender([_problem(part, getattr(self._source, part), fault)]) from fault

    def _page(self, subject: str, preheader: str, content: str) -> str:
        if not content.strip():
            return ""
        if words := finishing.fault_of_shape(content):
            raise DoesNotRender([Problem("html", None, words)])
        if not finishing.is_whole_page(content):
            around = {"subject": subject, "preheader": preheader, "content": Markup(content)}  # noqa: S704  its values are escaped
            try:
                content = liquid.render(self._layout, around, self._run)
            except Fault as fault:
                raise DoesNotRender([Problem("html", None, fault.sentence)]) from fault
        return finishing.inlined(content)

    def _footer(self) -> list[str]:
        look = self._look
        return [look.name, *look.address, look.website_url, look.support_email, *look.legal]


def _shared(look: Look, locale: str) -> dict[str, object]:
    """The names that every text, every part and the layout see."""
    return {
        "store": {"name": look.name, "url": look.website_url, "email": look.support_email},
        "look": {
            "accent": look.accent,
            "accent_ink": ink_on(look.accent),
            "header_color": look.header_color,
            "header_ink": ink_on(look.header_color),
            "logo_url": look.logo_url,
            "logo_width": look.logo_width,
            "address": list(look.address),
            "legal": list(look.legal),
        },
        "locale": locale,
        "direction": direction(locale),
    }


def ink_on(color: str) -> str:
    """Black or white, whichever reads better on this "#rrggbb": at least 4.58 to 1, whatever the colour.

    Source: WCAG 2.2, relative luminance and contrast.
    """
    shares = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / 0.05 else "#000000"


def _region(locale: str, look_locale: str) -> str:
    """The locale of amounts and dates: the language is that of the texts, the region may be the store's."""
    if "-" not in locale and look_locale.partition("-")[0].lower() == locale.lower():
        return look_locale
    return locale


def _one_line(text: str, limit: int) -> str:
    text = _LINE.sub(" ", unicodedata.normalize("NFC", _DIRECTIONS.sub("", text))).strip()
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


# What is wrong ------------------------------------------------------------------------------------------------------


def _problems_of_texts(kind: Kind, source: Source, sample: Mapping[str, Any]) -> list[Problem]:
    """What cannot be read, and names that neither the kind nor the sample has."""
    shape = shape_of(kind, sample)
    shape = replace(shape, parts={**shape.parts, **_SHARED_SHAPE.parts})
    problems = []
    for part in _PARTS:
        written = getattr(source, part)
        try:
            text = liquid.compiled(written, is_html=part == "html")
        except Fault as fault:
            problems.append(_problem(part, written, fault))
            continue
        problems += _unknown_names(part, text, shape)
    return problems


def _unknown_names(part: str, text: Compiled, shape: Shape) -> list[Problem]:
    known = list(shape.paths())
    problems: dict[tuple[int | None, str], Problem] = {}
    for use in text.uses:
        name = unknown_name(use, shape)
        if name is None or len(problems) >= FAULTS_MAX:
            continue
        line = line_of(text.source, use.token.start_index)
        hint = did_you_mean(name, known)
        problems.setdefault((line, name), Problem(part, line, f"There is no {name[:100]} here.{hint}", name))
    return list(problems.values())


def _problems_of_sample(kind: Kind, source: Source, sample: Mapping[str, Any]) -> list[Problem]:
    try:
        texts = _compiled(source)
    except DoesNotRender:
        return []  # told already
    _, faults = take(sample, shape_of(kind, sample), _need(tuple(texts.values())))
    return [Problem("sample", None, f"{path}: {sentence}", path) for path, sentence in faults]


def _warnings(source: Source, rendered: Rendered) -> list[Problem]:
    found = [
        Problem("html", line_of(source.html, at), words, is_warning=True)
        for at, words in finishing.warnings_of(source.html)[:FAULTS_MAX]
    ]
    if not rendered.subject:
        found.append(Problem("subject", None, "Write a subject: mail without one looks like spam", is_warning=True))
    if not rendered.html.strip() and not rendered.text.strip():
        found.append(Problem("html", None, "Write something: this mail is empty", is_warning=True))
    size = len(rendered.html.encode("utf-8"))
    if size > finishing.CLIPPED_AT_BYTES:
        words = f"The mail has {size // 1024} KB with this sample. Gmail cuts off what is beyond 100 KB"
        found.append(Problem("html", None, words, is_warning=True))
    return found


_SHARED_SHAPE = Shape(
    ValueType.OBJECT,
    parts={
        "store": Shape(ValueType.OBJECT, parts={name: Shape(ValueType.TEXT) for name in ("name", "url", "email")}),
        "look": Shape(
            ValueType.OBJECT,
            parts={
                **{
                    name: Shape(ValueType.TEXT)
                    for name in ("accent", "accent_ink", "header_color", "header_ink", "logo_url", "logo_width")
                },
                "address": Shape(ValueType.LIST, item=Shape(ValueType.TEXT)),
                "legal": Shape(ValueType.LIST, item=Shape(ValueType.TEXT)),
            },
        ),
        "locale": Shape(ValueType.TEXT),
        "direction": Shape(ValueType.TEXT),
    },
)
