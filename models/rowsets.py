"""Many rows in one statement, for PostgreSQL: taken from a JSON parameter, or from the rows of another statement.

There each further statement costs a way there and back, and several rows at a time cost more in its driver than in the
database. Source: performance.md 4.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Insert,
    Integer,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import KeyedColumnElement

_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy has no types for it


def recordset(parameter: str, *columns: KeyedColumnElement[Any]) -> TableValuedAlias:
    """The rows of a JSON parameter, with their position and columns of these names and types."""
    kinds = [column("position", Integer), *(column(str(one.key), one.type) for one in columns)]
    rows = func.json_to_recordset(cast(bindparam(parameter, type_=Text()), postgresql.JSON))
    return rows.table_valued(*kinds, name=parameter).render_derived(with_types=True)


def insert_from(
    table: Table, given: Mapping[str, ColumnElement[Any]], order: ColumnElement[Any], *where: ColumnElement[bool]
) -> Insert:
    """Insert a row for each one of where these columns come from, in that order; columns that nobody names get their
    defaults.
    """
    defaults = {one.name: _default(one) for one in table.columns if one.default and one.name not in given}
    values = {**defaults, **given}
    chosen = select(*values.values()).where(*where).order_by(order)
    return insert(table).from_select(list(values), chosen, include_defaults=False)


def _default(one: Column[Any]) -> ColumnElement[Any]:
    """What stands in a column that nobody names: as words, because each parameter costs the driver time."""
    default: Any = one.default
    assert default.is_scalar, f"{one} must be given"
    value = literal(default.arg, one.type)
    return literal_column(str(value.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})), one.type)
