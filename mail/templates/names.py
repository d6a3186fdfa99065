"""Which names a text asks its data for, found by walking through what was parsed; nothing is rendered for it.

A loop's word stands for what it goes through: in {% for line in order.lines %}, line.name is order.lines[].name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from liquid.ast import Node
from liquid.builtin.expressions import FilteredExpression, LoopExpression, Path
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.capture_tag import CaptureNode
from liquid.builtin.tags.case_tag import CaseNode
from liquid.builtin.tags.for_tag import ForNode
from liquid.expression import Expression
from liquid.token import Token

from mail.templates.lexing import Fault
from mail.templates.values import FORLOOP
from mail.templates.wording import did_you_mean

# One of a list's items, in a path.
ITEM = "[]"
# What cannot be followed further: the result of a filter, a captured text, a number of a range.
_OPAQUE = None

Names = dict[str, "tuple[str, ...] | None"]


@dataclass(frozen=True)
class Use:
    """A name that a text asks for.

    Attributes:
        path: its words; ITEM for any item of a list. "size", "first" and "last" stand as they are written.
        is_whole: what is below it may be asked for too, in ways that cannot be seen.
    """

    path: tuple[str, ...]
    token: Token
    is_whole: bool = False


def uses_of(nodes: Iterable[Node], filters: Mapping[str, Any]) -> tuple[Use, ...]:
    """Return every name that these nodes ask their data for; those that they make themselves are none.

    Raises:
        Fault: a filter that does not exist or takes other values, or a range where it has no place.
    """
    walk = _Walk(filters)
    walk.through(nodes, {})
    return tuple(walk.uses)


class _Walk:
    def __init__(self, filters: Mapping[str, Any]) -> None:
        self.uses: list[Use] = []
        self._filters = filters

    def through(self, nodes: Iterable[Node], names: Names) -> None:
        """Follow the nodes in their order; what they assign is known to those behind them."""
        for node in nodes:
            self._node(node, names)

    def _node(self, node: Node, names: Names) -> None:
        if isinstance(node, ForNode):
            self._loop(node, names)
            return
        if isinstance(node, CaseNode):
            self._read(node.expression, names)
        for expression in node.expressions():
            self._read(expression, names, is_given_away=getattr(node, "gives_away", False))
        self.through(node.children(None, include_partials=False), names)  # type: ignore[arg-type]  # for partials only
        if isinstance(node, AssignNode):
            self._bind(str(node.name), self._alias(node.expression, names), names)
        elif isinstance(node, CaptureNode):
            self._bind(str(node.name), _OPAQUE, names)

    @staticmethod
    def _bind(name: str, path: tuple[str, ...] | None, names: Names) -> None:
        # Assigned in two branches, it may be either.
        names[name] = path if names.get(name, path) == path else _OPAQUE

    def _alias(self, expression: Expression, names: Names) -> tuple[str, ...] | None:
        """What an assigned name stands for, where it is another name."""
        if isinstance(expression, FilteredExpression) and not expression.filters and isinstance(expression.left, Path):
            return self._resolve(expression.left, names)[0]
        return _OPAQUE

    def _loop(self, node: ForNode, names: Names) -> None:
        loop: LoopExpression = node.expression
        for expression in (loop.limit, loop.offset):
            if expression is not None:
                self._read(expression, names)
        items: tuple[str, ...] | None = _OPAQUE
        if isinstance(loop.iterable, RangeLiteral):
            self._read_all(loop.iterable.children(), names)
        else:
            self._read(loop.iterable, names)
            if isinstance(loop.iterable, Path):
                found, _ = self._resolve(loop.iterable, names)
                items = (*found, ITEM) if found is not None else _OPAQUE
        inner: Names = {**names, loop.identifier: items, "forloop": ("forloop",)}
        self._node(node.block, inner)
        names.update((name, path) for name, path in inner.items() if name not in (loop.identifier, "forloop"))
        if node.default is not None:
            self._node(node.default, names)

    def _read_all(self, expressions: Iterable[Expression], names: Names, *, is_given_away: bool = False) -> None:
        for one in expressions:
            self._read(one, names, is_given_away=is_given_away)

    def _read(self, expression: Expression, names: Names, *, is_given_away: bool = False) -> None:
        if isinstance(expression, RangeLiteral):
            raise Fault("A range like (1..5) can stand only in {% for number in (1..5) %}", token=expression.token)
        if isinstance(expression, Path):
            path, is_dynamic = self._resolve(expression, names)
            if path is not None and path[0] != "forloop":
                self.uses.append(Use(path, expression.token, is_dynamic or is_given_away))
            elif path is not None and path[1:2] and path[1] not in FORLOOP:
                raise Fault(f"There is no {'.'.join(path)}", token=expression.token, name=".".join(path))
        if isinstance(expression, FilteredExpression):
            self._check_filters(expression)
            is_given_away = is_given_away or bool(expression.filters)
        self._read_all(expression.children(), names, is_given_away=is_given_away)

    def _check_filters(self, expression: FilteredExpression) -> None:
        for one in expression.filters or ():
            found = self._filters.get(one.name)
            if found is None:
                hint = did_you_mean(one.name, self._filters)
                raise Fault(f"There is no filter “{one.name}”.{hint}", token=one.token, name=one.name)
            if fault := found.fault_of_arguments(one):
                raise Fault(fault, token=one.token)

    def _resolve(self, path: Path, names: Names) -> tuple[tuple[str, ...] | None, bool]:
        """The path in the words of the data, and whether it goes on in a way that only rendering shows."""
        head, *rest = path.path
        if not isinstance(head, str):
            raise Fault("Begin with a name, as in order.number", token=path.token)
        found = names.get(head, (head,))
        if found is None:
            return None, False
        for segment in rest:
            if isinstance(segment, Path):
                return found, True
            found = (*found, ITEM if isinstance(segment, int) else segment)
        return found, False
