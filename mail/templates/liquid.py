"""Liquid within bounds: one text, strict about its names, with plain data, no files and no network.

Whatever a template says, it is refused or cut off: its source, tags and nesting when it is read (`lexing`), its
iterations, output, values and processor time while it renders (`running`). Source: product.md 7, security.md 59.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from liquid import BoundTemplate, Environment
from liquid.builtin import content, illegal
from liquid.builtin.tags import assign_tag, for_tag, if_tag, unless_tag
from liquid.exceptions import LiquidError
from liquid.token import Token
from liquid.undefined import StrictUndefined

from mail.templates import filters, plain_filters, tags
from mail.templates.filtering import FILTERS
from mail.templates.lexing import Fault, shorten, tokens_of
from mail.templates.names import Use, uses_of
from mail.templates.running import Context, Run, Sink

CACHED_CHARS_MAX = 2_000_000

_DEFAULTS = Path(__file__).parent / "defaults"
SHARED = ("store", "look", "locale", "direction")


class _Environment(Environment):
    block_nesting_limit: ClassVar[int] = 30
    context_depth_limit: ClassVar[int] = 60
    filters: dict[str, Callable[..., Any]]

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        for tag in (
            *(content.Literal, tags.OutputTag, illegal.Illegal, if_tag.IfTag, unless_tag.UnlessTag, tags.CaseTag),
            *(tags.ForTag, for_tag.BreakTag, for_tag.ContinueTag, tags.CaptureTag, assign_tag.AssignTag),
            tags.RenderTag,
        ):
            self.add_tag(tag)
        self.filters.update(FILTERS)

    def part_names(self) -> tuple[str, ...]:
        return part_names()

    def part_called(self, name: str) -> Compiled:
        return part_called(name)

    def tokenizer(self) -> Callable[[str], Iterator[Token]]:
        return tokens_of


@lru_cache(2)
def _environment(is_html: bool) -> _Environment:
    return _Environment(undefined=StrictUndefined, autoescape=is_html)


@dataclass(frozen=True)
class Compiled:
    """A text that was read.

    Attributes:
        uses: every name that it asks its data for.
        parameters: the first words of these but for what all texts share; what a part takes.
    """

    source: str
    template: BoundTemplate
    uses: tuple[Use, ...]

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(use.path[0] for use in self.uses if use.path[0] not in SHARED))


class _Cache:
    """Texts by source, as many as fit into CACHED_CHARS_MAX characters; what was used least goes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[tuple[str, bool], Compiled] = OrderedDict()
        self._chars = 0

    def get(self, source: str, is_html: bool) -> Compiled:
        key = source, is_html
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        compiled = _compile(source, is_html)
        with self._lock:
            if key not in self._found:
                self._found[key] = compiled
                self._chars += _weight(source)
            while self._chars > CACHED_CHARS_MAX and len(self._found) > 1:
                (oldest, _), _ = self._found.popitem(last=False)
                self._chars -= _weight(oldest)
        return compiled


def _weight(source: str) -> int:
    """Characters, and what the tags among them take up once they are parsed."""
    return 500 + len(source) + 200 * source.count("{")


_cache = _Cache()


def compiled(source: str, *, is_html: bool) -> Compiled:
    """Return the text, read; the same text is read once.

    Raises:
        Fault: it is no Liquid that we take.
    """
    return _cache.get(source, is_html)


def _compile(source: str, is_html: bool) -> Compiled:
    environment = _environment(is_html)
    try:
        template = environment.from_string(source)
        uses = uses_of(template.nodes, environment.filters)
    except Fault:
        raise
    except LiquidError as error:
        raise _explained(error) from error
    return Compiled(source, template, uses)


def render(text: Compiled, names: Mapping[str, object], run: Run) -> str:
    """Return the text with these names filled in; they are plain data (`data.take`).

    Raises:
        Fault: a name is missing, a value is of no use where it stands, or a limit was reached.
    """
    sink = Sink(run)
    context = Context(text.template, {**run.shared, **names}, run)
    try:
        text.template.render_with_context(context, sink)
    except Fault:
        raise
    except LiquidError as error:
        raise _explained(error) from error
    # Arithmetic and recursion, which the engine leaves as they are.
    except (ArithmeticError, ValueError, TypeError, RecursionError) as error:
        raise Fault("These values cannot be put together as this text wants") from error
    return sink.getvalue()


def _explained(error: LiquidError) -> Fault:
    """The engine's words in ours."""
    token, words = error.token, str(error.message)
    cause = error.__cause__
    if isinstance(cause, LiquidError) and token is None:
        return cause if isinstance(cause, Fault) else _explained(cause)
    if "missing expression" in words:
        return Fault("This tag is incomplete: say what it is about, as in {% if order.note %}", token=token)
    if "parentheses" in words:
        return Fault("Leave out the brackets: conditions have none", token=token)
    if "are not supported between" in words:
        return Fault("These two cannot be compared: one is a number, the other a text", token=token)
    if "break" in words or "continue" in words:
        return Fault("{% break %} and {% continue %} belong between {% for %} and {% endfor %}", token=token)
    near = f" near “{shorten(token.value)}”" if token is not None and token.start_index >= 0 and token.value else ""
    return Fault(f"This tag cannot be read{near}. Look for a missing quote, comma or bracket", token=token)


# Their modules have made themselves known among FILTERS.
_FILTER_MODULES = (filters, plain_filters)


# Parts --------------------------------------------------------------------------------------------------------------


@lru_cache(1)
def part_names() -> tuple[str, ...]:
    """The parts that a store's template may render, by name."""
    return tuple(sorted(path.stem for path in (_DEFAULTS / "parts").glob("*.liquid")))


@lru_cache(100)
def part_called(name: str) -> Compiled:
    """The part of that name: one of `part_names`."""
    return _compile((_DEFAULTS / "parts" / f"{name}.liquid").read_text("utf-8"), True)


@lru_cache(1)
def layout() -> Compiled:
    """What stands around the content of every mail."""
    return _compile((_DEFAULTS / "layout.liquid").read_text("utf-8"), True)
