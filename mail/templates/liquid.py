"""Liquid within bounds: one text, strict about its names, with plain data, no files and no network.

Whatever a template says, it is refused or cut off: its source, tags and nesting when it is read (`lexing`), its
iterations, output, values and processor time while it renders. Names are asked of dictionaries and lists alone, never
of Python objects. Source: product.md 7, security.md 59.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import StringIO
from pathlib import Path as FilePath
from typing import Any, ClassVar, TextIO

from liquid import BoundTemplate, Environment, RenderContext
from liquid.ast import Node
from liquid.builtin import content, illegal, output
from liquid.builtin.expressions import KeywordArgument, LoopExpression, StringLiteral, parse_primitive
from liquid.builtin.tags import assign_tag, capture_tag, case_tag, for_tag, if_tag, unless_tag
from liquid.builtin.tags.for_tag import ForLoop
from liquid.exceptions import BreakLoop, ContinueLoop, LiquidError
from liquid.expression import Expression
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.token import TOKEN_TAG, Token
from liquid.undefined import StrictUndefined
from liquid.utils import ReadOnlyChainMap
from markupsafe import Markup, escape

from mail.templates.filters import FILTERS
from mail.templates.lexing import Fault, shorten, tokens_of
from mail.templates.names import Use, uses_of
from mail.templates.values import as_text, item

# Of this thread's processor, over all texts of one mail: a usual mail takes 2 ms.
RENDER_CPU_S = 0.08
ITERATIONS_MAX = 20_000
OUTPUT_MAX = 400_000  # characters over all texts of one mail; Gmail clips at 100 KB
LOCALS_MAX = 1_000_000
CACHED_CHARS_MAX = 2_000_000

_DEFAULTS = FilePath(__file__).parent / "defaults"
SHARED = ("store", "look", "locale", "direction")


@dataclass
class Run:
    """What rendering the texts of one mail has used so far, and what its filters go by.

    Attributes:
        shared: names that every text and every part sees.
        locale: of amounts and dates, like "de-AT"; time_zone: IANA; currency: ISO 4217.
    """

    shared: Mapping[str, object] = field(default_factory=dict)
    locale: str = "en"
    time_zone: str = "UTC"
    currency: str = "EUR"
    iterations: int = 0
    written: int = 0
    ends_at: float = field(default_factory=lambda: time.thread_time() + RENDER_CPU_S)
    _asked: int = 0

    def look_at_clock(self) -> None:
        """Raise `Fault` when the time is over."""
        if time.thread_time() > self.ends_at:
            raise Fault("Rendering this takes too long. Use fewer or shorter loops", is_limit=True)

    def tick(self) -> None:
        """The same, at a price that every name can pay."""
        self._asked += 1
        if not self._asked & 15:
            self.look_at_clock()

    def iterate(self) -> None:
        """Count one turn of a loop."""
        self.iterations += 1
        if self.iterations > ITERATIONS_MAX:
            raise Fault(f"Loops may turn {ITERATIONS_MAX:,} times in all. Use limit: in the loop", is_limit=True)
        self.look_at_clock()


class _Sink(StringIO):
    """Where a text is written: a list with a count."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._pieces: list[str] = []

    def write(self, text: str) -> int:
        self._run.written += len(text)
        if self._run.written > OUTPUT_MAX:
            raise Fault(f"The mail grows beyond {OUTPUT_MAX:,} characters. Use fewer or shorter loops", is_limit=True)
        self._pieces.append(text)
        return len(text)

    def getvalue(self) -> str:
        return "".join(self._pieces)


class _Context(RenderContext):
    """Names of one text: what it assigned itself, then the data. Nothing else, and no clock.

    A part takes lists of several kinds, whose items have more names or fewer: to it, what is not there is empty.
    """

    def __init__(
        self, template: BoundTemplate, names: Mapping[str, object], run: Run, *, is_part: bool = False
    ) -> None:
        super().__init__(template, globals=names)
        self.scope = ReadOnlyChainMap(self.locals, self.globals)
        self.run = run
        self._is_part = is_part
        self._sizes: dict[str, int] = {}

    def get(self, path: list[object], *, token: Token | None, default: object = None) -> object:
        self.run.tick()
        try:
            value = self.scope[str(path[0])]
            for segment in path[1:]:
                value = item(value, segment)
        except KeyError:
            if self._is_part:
                return None
            raise Fault(f"There is no {_spell(path)} here", token=token, name=_spell(path)) from None
        return value

    def assign(self, key: str, val: Any) -> None:
        self._sizes[key] = len(val) if isinstance(val, str | list) else 8
        if sum(self._sizes.values()) > LOCALS_MAX:
            raise Fault("Keep less in assign and capture", is_limit=True)
        self.locals[key] = val

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        return _Sink(self.run)


def _spell(path: Sequence[object]) -> str:
    return shorten(".".join(str(one) for one in path), 100)


# Tags ---------------------------------------------------------------------------------------------------------------


class _OutputNode(output.OutputNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        try:
            text = as_text(self.expression.evaluate(context))
        except Fault as fault:
            fault.token = fault.token or self.token
            raise
        return buffer.write(escape(text) if context.autoescape else text)


class _Output(output.Output):
    node_class = _OutputNode


class _ForNode(for_tag.ForNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, _Context)
        items = _items_of(self.expression, context)
        if not items:
            return self.default.render(context, buffer) if self.default else 0
        name, written = self.expression.identifier, 0
        forloop = ForLoop(name, iter(items), len(items), context.parentloop())
        namespace: dict[str, object] = {"forloop": forloop, name: None}
        with context.loop(namespace, forloop):
            for one in forloop:
                context.run.iterate()
                namespace[name] = one
                try:
                    written += self.block.render(context, buffer)
                except ContinueLoop:
                    continue
                except BreakLoop:
                    break
        return written


def _items_of(loop: LoopExpression, context: RenderContext) -> Sequence[object]:
    """What a loop goes through; a range is never spread out before its size is known to be small."""
    value = loop.iterable.evaluate(context)
    if isinstance(value, dict):
        value = list(value.items())
    if not isinstance(value, list | tuple | range):
        value = [] if value is None or value == "" else [value]
    if isinstance(value, range) and value[-1:] and value[-1] - value[0] >= ITERATIONS_MAX:
        raise Fault(f"Loops may turn {ITERATIONS_MAX:,} times in all", token=loop.token, is_limit=True)
    start = _whole(loop.offset, context, 0)
    stop = start + _whole(loop.limit, context, len(value))
    found: Sequence[object] = value[start:stop]
    return found[::-1] if loop.reversed else found


def _whole(expression: Expression | None, context: RenderContext, absent: int) -> int:
    value = absent if expression is None else expression.evaluate(context)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Fault("Use a whole number behind limit: and offset:", token=expression.token if expression else None)
    return min(value, ITERATIONS_MAX * 10)


class _For(for_tag.ForTag):
    node_class = _ForNode


class _CaseNode(case_tag.CaseNode):
    """The first block that fits, once: the engine would render it as often as its values fit."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        default: Node | None = None
        for block in self.blocks:
            if not isinstance(block, case_tag.MultiExpressionBlockNode):
                default = default or block
            elif any(block.expression.evaluate(context)):
                return block.block.render(context, buffer)
        return default.render(context, buffer) if default else 0


class _Case(case_tag.CaseTag):
    node_class = _CaseNode


class _CaptureNode(capture_tag.CaptureNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        sink = context.get_buffer(buffer)
        self.block.render(context, sink)
        text = sink.getvalue()
        is_html = context.autoescape
        context.assign(self.name, Markup(text) if is_html else text)  # noqa: S704  its values are escaped already
        return 0


class _Capture(capture_tag.CaptureTag):
    node_class = _CaptureNode


class RenderNode(Node):
    """One of our own parts, with its own names: what is given to it, and what all texts share."""

    gives_away = True  # what a part asks of a value that it is given

    def __init__(self, token: Token, part: Compiled, args: list[KeywordArgument]) -> None:
        super().__init__(token)
        self.part = part
        self.args = args
        self.blank = False

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, _Context)
        given = dict.fromkeys(self.part.parameters)
        given.update((one.name, one.value.evaluate(context)) for one in self.args)
        names = ReadOnlyChainMap(given, context.run.shared)
        inner = _Context(self.part.template, names, context.run, is_part=True)
        try:
            self.part.template.render_with_context(inner, buffer, partial=True, block_scope=True)
        except LiquidError as error:
            error.token = self.token  # who wrote the template knows nothing of the lines within a part
            raise
        return 1

    def expressions(self) -> Iterator[Expression]:
        return (one.value for one in self.args)


class _Render(Tag):
    name = "render"
    block = False

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        known = part_names()
        if not self.env.autoescape:
            raise Fault("Parts are HTML: {% render %} has no place here", token=token)
        tokens = stream.into_inner(tag=token, eat=False)
        name = parse_primitive(self.env, tokens)
        if not isinstance(name, StringLiteral) or name.value not in known:
            told = f"“{shorten(name.value)}”" if isinstance(name, StringLiteral) else "this"
            raise Fault(f"There is no part {told}. Use one of {', '.join(known)}", token=token)
        args = KeywordArgument.parse(self.env, tokens)
        tokens.expect_eos()
        part = part_called(name.value)
        for one in args:
            if one.name not in part.parameters:
                takes = ", ".join(part.parameters)
                raise Fault(f"The part {name.value} has no “{shorten(one.name)}”. It takes {takes}", token=token)
        return RenderNode(token, part, args)


# Environments -------------------------------------------------------------------------------------------------------


class _Environment(Environment):
    block_nesting_limit: ClassVar[int] = 30
    context_depth_limit: ClassVar[int] = 60
    filters: dict[str, Callable[..., Any]]

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        for tag in (
            *(content.Literal, _Output, illegal.Illegal, if_tag.IfTag, unless_tag.UnlessTag, _Case),
            *(_For, for_tag.BreakTag, for_tag.ContinueTag, _Capture, assign_tag.AssignTag, _Render),
        ):
            self.add_tag(tag)
        self.filters.update(FILTERS)

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
    sink = _Sink(run)
    context = _Context(text.template, ReadOnlyChainMap(names, run.shared), run)
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
