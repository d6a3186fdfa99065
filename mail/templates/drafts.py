"""Texts as somebody types them: made plain, and everything that is wrong with them, by part and line. No database."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from mail.templates.data import DEPTH_MAX
from mail.templates.kinds import Kind, Source
from mail.templates.rendering import Look, Problem, check
from mail.text_rules import SURROGATES, hidden_character
from models.template import PREHEADER_MAX, SAMPLE_MAX, SOURCE_MAX, TEMPLATE_SUBJECT_MAX

LIMITS: Final = {
    "subject": TEMPLATE_SUBJECT_MAX,
    "preheader": PREHEADER_MAX,
    "html": SOURCE_MAX,
    "text": SOURCE_MAX,
    "sample": SAMPLE_MAX,
}
_ONE_LINE: Final = ("subject", "preheader")
_SURROGATE = re.compile(f"[{SURROGATES}]")
_JSON_WORDS: Final = (
    ("Expecting property name", "Write a name in double quotes here, and no comma before }"),
    ("Expecting ',' delimiter", "Put a comma before this, or close the bracket"),
    ("Expecting ':' delimiter", "Put a colon between the name and its value"),
    ("Expecting value", "Write a value here: a text in double quotes, a number, true, false, null, [ or {"),
    ("Extra data", "Take out what stands after the last }"),
    ("Unterminated string", "Close this text with a double quote"),
    ("Invalid control character", "Write \\n instead of a line break within a text"),
    ("Invalid \\", "Write \\\\ for a backslash within a text"),
)


@dataclass(frozen=True)
class Draft:
    """What stands in the editor's fields; `sample` is JSON."""

    subject: str
    preheader: str
    html: str
    text: str
    sample: str

    @property
    def source(self) -> Source:
        return Source(subject=self.subject, preheader=self.preheader, html=self.html, text=self.text)


@dataclass(frozen=True)
class Examined:
    """A draft with what was found in it.

    Attributes:
        problems: errors before warnings.
        data: the sample, None when it is no object.
    """

    draft: Draft
    problems: tuple[Problem, ...]
    data: dict[str, Any] | None

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if not problem.is_warning)


def tidied(draft: Draft) -> Draft:
    """Return the texts in one spelling: form NFC, lines that end in LF, nothing around the subject.

    Lines keep their numbers, and a text of blanks alone is no text.
    """
    texts = {part: _one_spelling(getattr(draft, part)) for part in LIMITS}
    for part in _ONE_LINE:
        texts[part] = texts[part].strip()
    if not texts["text"].strip():
        texts["text"] = ""
    return Draft(**texts)


def _one_spelling(text: str) -> str:
    return unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")


def examine(kind: Kind, draft: Draft, look: Look, locale: str) -> Examined:
    """Return the draft, tidied, with all that is wrong; the Liquid is looked at only when every text can be read."""
    draft = tidied(draft)
    problems = [problem for part in LIMITS if (problem := _unreadable(part, getattr(draft, part)))]
    data = None
    if not any(problem.part == "sample" for problem in problems):
        data, trouble = read_sample(draft.sample)
        problems += [trouble] if trouble else []
    if not problems and data is not None:
        problems = check(kind, draft.source, data, look, locale)
    return Examined(draft, tuple(problems), data)


def _unreadable(part: str, text: str) -> Problem | None:
    if len(text) > LIMITS[part]:
        return Problem(part, None, f"Use {LIMITS[part]:,} characters or fewer")
    if part in _ONE_LINE:
        found = hidden_character(text)
        return Problem(part, 1, found) if found else None
    for number, line in enumerate(text.split("\n"), start=1):
        if found := hidden_character(line.replace("\t", " ")):
            return Problem(part, number, found)
    return None


# --- Sample data


def read_sample(text: str) -> tuple[dict[str, Any] | None, Problem | None]:
    """Return the object that this JSON is, or what to mend; no text is an empty object. Source: security.md 28."""
    if not text.strip():
        return {}, None
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        words = next((words for start, words in _JSON_WORDS if error.msg.startswith(start)), "Check the JSON here")
        return None, Problem("sample", error.lineno, words)
    except _Unsound as error:
        return None, Problem("sample", None, str(error))
    except (ValueError, RecursionError):  # digits without end, brackets without end
        return None, Problem("sample", None, "Use shorter numbers and fewer levels of brackets")
    if not isinstance(value, dict):
        return None, Problem("sample", 1, "Begin the sample data with { and end it with }")
    if words := _unsound(value):
        return None, Problem("sample", None, words)
    return value, None


class _Unsound(ValueError):
    """JSON that means different things to different readers; the text says what to do."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Unsound(f"Write “{name[:80]}” once within the same brackets")
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise _Unsound(f"Write a number instead of {name}")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Unsound(f"Write a smaller number than {text[:20]}")
    return value


def _unsound(value: Any) -> str:
    """What to do about values that no mail can hold; empty when there are none."""
    level = [value]
    for _ in range(DEPTH_MAX):
        deeper: list[Any] = []
        for item in level:
            if isinstance(item, str) and _SURROGATE.search(item):
                return "Take out the half of a character that stands as \\ud800 or the like"
            if isinstance(item, dict):
                deeper += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                deeper += item
        level = deeper
    return f"Use {DEPTH_MAX} levels of brackets or fewer" if level else ""
