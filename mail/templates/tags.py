"""Liquid's tags as a store's templates have them: loops that count, values that are plain, parts that are our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TextIO

from liquid import BoundTemplate, RenderContext
from liquid.ast import Node
from liquid.builtin import output
from liquid.builtin.expressions import KeywordArgument, LoopExpression, StringLiteral, parse_primitive
from liquid.builtin.tags import capture_tag, case_tag, for_tag
from liquid.builtin.tags.for_tag import ForLoop
from liquid.exceptions import BreakLoop, ContinueLoop, LiquidError
from liquid.expression import Expression
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.token import TOKEN_TAG, Token
from markupsafe import Markup, escape

from mail.templates.lexing import Fault, shorten
from mail.templates.running import ITERATIONS_MAX, Context
from mail.templates.values import as_text


class Part(Protocol):
    """What `render` puts in: a text of our own, and the names that it takes."""

    @property
    def template(self) -> BoundTemplate: ...

    @property
    def parameters(self) -> tuple[str, ...]: ...


class OutputNode(output.OutputNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        try:
            text = as_text(self.expression.evaluate(context))
        except Fault as fault:
            fault.token = fault.token or self.token
            raise
        return buffer.write(escape(text) if context.autoescape else text)


class OutputTag(output.Output):
    node_class = OutputNode


class ForNode(for_tag.ForNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, Context)
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


class ForTag(for_tag.ForTag):
    node_class = ForNode


class CaseNode(case_tag.CaseNode):
    """The first block that fits, once: the engine would render it as often as its values fit."""

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        default: Node | None = None
        for block in self.blocks:
            if not isinstance(block, case_tag.MultiExpressionBlockNode):
                default = default or block
            elif any(block.expression.evaluate(context)):
                return block.block.render(context, buffer)
        return default.render(context, buffer) if default else 0


class CaseTag(case_tag.CaseTag):
    node_class = CaseNode


class CaptureNode(capture_tag.CaptureNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        sink = context.get_buffer(buffer)
        self.block.render(context, sink)
        text = sink.getvalue()
        is_html = context.autoescape
        context.assign(self.name, Markup(text) if is_html else text)  # noqa: S704  its values are escaped already
        return 0


class CaptureTag(capture_tag.CaptureTag):
    node_class = CaptureNode


class RenderNode(Node):
    """One of our own parts, with its own names: what is given to it, and what all texts share."""

    gives_away = True  # what a part asks of a value that it is given

    def __init__(self, token: Token, part: Part, args: list[KeywordArgument]) -> None:
        super().__init__(token)
        self.part = part
        self.args = args
        self.blank = False

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        assert isinstance(context, Context)
        given = dict.fromkeys(self.part.parameters)
        given.update((one.name, one.value.evaluate(context)) for one in self.args)
        inner = Context(self.part.template, {**context.run.shared, **given}, context.run, is_part=True)
        try:
            self.part.template.render_with_context(inner, buffer, partial=True, block_scope=True)
        except LiquidError as error:
            error.token = self.token  # who wrote the template knows nothing of the lines within a part
            raise
        return 1

    def expressions(self) -> Iterator[Expression]:
        return (one.value for one in self.args)


class RenderTag(Tag):
    name = "render"
    block = False

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        env: Any = self.env
        known = env.part_names()
        if not self.env.autoescape:
            raise Fault("Parts are HTML: {% render %} has no place here", token=token)
        tokens = stream.into_inner(tag=token, eat=False)
        name = parse_primitive(self.env, tokens)
        if not isinstance(name, StringLiteral) or name.value not in known:
            told = f"“{shorten(name.value)}”" if isinstance(name, StringLiteral) else "this"
            raise Fault(f"There is no part {told}. Use one of {', '.join(known)}", token=token)
        args = KeywordArgument.parse(self.env, tokens)
        tokens.expect_eos()
        part = env.part_called(name.value)
        for one in args:
            if one.name not in part.parameters:
                takes = ", ".join(part.parameters)
                raise Fault(f"The part {name.value} has no “{shorten(one.name)}”. It takes {takes}", token=token)
        return RenderNode(token, part, args)
