"""A list as one parameter, so that a statement's text is the same for a list of any length and can be prepared.

`IN` with a parameter for each value is another text for each length. Both databases take the list as a text instead:
SQLite as JSON (`json_each`), PostgreSQL as an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Dialect,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    cast,
    func,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement
from sqlalchemy.types import NullType, TypeEngine


class _Numbers(TypeDecorator[Sequence[int]]):
    """Whole numbers as the text that each database reads as a list."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # Without a type, PostgreSQL takes the text for the array that is asked for. One that says it is a text would
        # be read as an array again for each row that it is compared with.
        return NullType() if dialect.name == "postgresql" else Text()

    def process_bind_param(self, value: Sequence[int] | None, dialect: Dialect) -> str:
        text = ",".join(map(str, value or ()))
        return f"{{{text}}}" if dialect.name == "postgresql" else f"[{text}]"


class _IsAmong(FunctionElement[bool]):
    # Not Boolean: on SQLite, which has none, a comparison with 1 would be put around it, and hide the index.
    type = NullType()  # type: ignore[assignment]
    name = "is_among"
    inherit_cache = True


@compiles(_IsAmong, "sqlite")
def _on_sqlite(element: _IsAmong, compiler: Any, **kw: Any) -> str:
    column, values = element.clauses
    return str(compiler.process(column.in_(select(func.json_each(values).table_valued("value").c.value)), **kw))


@compiles(_IsAmong, "postgresql")
def _on_postgresql(element: _IsAmong, compiler: Any, **kw: Any) -> str:
    column, values = element.clauses
    return str(compiler.process(column == any_(cast(values, ARRAY(BigInteger))), **kw))


def is_among(column: ColumnElement[int], name: str) -> ColumnElement[bool]:
    """SQL for "the column is one of the whole numbers in the list given as parameter `name`"."""
    assert isinstance(column.type.as_generic(), BigInteger)
    return _IsAmong(column, bindparam(name, type_=_Numbers()))
