"""A SELECT for the hottest paths, compiled once and run on the driver's own cursor: a fifth of the usual cost.

For reading one row outside of any transaction. What comes back is the driver's: an `Instant` is a number still.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Dialect, Engine, Select

from models.database import reading


class Prepared:
    """The statement with its parameters by name."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[str] | None]] = {}

    def first(self, engine: Engine, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """Return the first row, or None; on a connection of the pool that is given back at once.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database does not answer.
        """
        text, order = self._text_for(engine.dialect)
        try:
            connection = engine.raw_connection()
        except engine.dialect.loaded_dbapi.Error:
            return self._as_usual(engine, parameters)
        try:
            cursor = connection.cursor()
            cursor.execute(text, parameters if order is None else [parameters[name] for name in order])
            found: tuple[Any, ...] | None = cursor.fetchone()
            cursor.close()
        except engine.dialect.loaded_dbapi.Error as error:
            # Asked again in the usual way, which knows what each driver's errors mean for the pool, and how to say it.
            connection.invalidate(error)
            return self._as_usual(engine, parameters)
        finally:
            connection.close()
        return found

    def _as_usual(self, engine: Engine, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
        text, order = self._text_for(engine.dialect)
        values = dict(parameters) if order is None else tuple(parameters[name] for name in order)
        with reading(), engine.connect() as connection:
            row = connection.exec_driver_sql(text, values).first()
        return None if row is None else tuple(row)

    def _text_for(self, dialect: Dialect) -> tuple[str, list[str] | None]:
        """The statement in SQL, and its parameters in order where the driver takes them by position."""
        if dialect.name not in self._compiled:
            compiled = self._statement.compile(dialect=dialect)
            self._compiled[dialect.name] = str(compiled), compiled.positiontup
        return self._compiled[dialect.name]
