"""Statements of the hottest paths: compiled once, then run on the driver's own cursor. A fifth of the usual cost.

They are written as ever, in SQLAlchemy's words and for both databases, and their values are converted as ever: what
is left out is what SQLAlchemy does anew at each execution, which costs more than the database does. Who listens to its
events still hears of each statement, and errors are its errors. Source: performance.md 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn, cast

from sqlalchemy import Column, Connection, Dialect, Engine, PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement, Executable, Insert

from models.database import reading

Parameters = Mapping[str, Any]
Row = tuple[Any, ...]
_Convert = Callable[[Any], Any]

NONE: Final[Parameters] = {}
_PLAIN: Final = re.compile(r"[a-z0-9_ ]*")


class Prepared:
    """A statement whose parameters are given by name; each of its methods runs it once.

    A row is a plain tuple, in the order of the columns asked for. Lists that expand (`in_` with a parameter) and
    values that stand in the text itself differ from one execution to the next, and are refused.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._known: dict[tuple[str, tuple[str, ...]], _Compiled] = {}

    # In the transaction of a connection ------------------------------------------------------------------------------

    def run(self, connection: Connection, parameters: Parameters = NONE) -> int:
        """Return how many rows were changed.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: as `Connection.execute` does; so do all methods here.
        """
        compiled = self._compiled(connection.dialect, parameters)
        return int(_run(connection, compiled.text, compiled.arranged(parameters), _execute, _row_count))

    def run_many(self, connection: Connection, many: Sequence[Parameters]) -> int:
        """Run it for each of these, which name the same parameters, and return how many rows were changed in all."""
        if len(many) < 2:
            return sum(self.run(connection, one) for one in many)
        compiled = self._compiled(connection.dialect, many[0])
        values = [compiled.arranged(one) for one in many]
        return int(_run(connection, compiled.text, values, _execute_many, _row_count, many=True))

    def fetch_all(self, connection: Connection, parameters: Parameters = NONE) -> list[Row]:
        """Return all rows."""
        compiled = self._compiled(connection.dialect, parameters)
        rows = _run(connection, compiled.text, compiled.arranged(parameters), _execute, _all_rows)
        return [compiled.converted(row) for row in rows]

    def fetch_one(self, connection: Connection, parameters: Parameters = NONE) -> Row | None:
        """Return the first row, or None."""
        compiled = self._compiled(connection.dialect, parameters)
        row = _run(connection, compiled.text, compiled.arranged(parameters), _execute, _first_row)
        return None if row is None else compiled.converted(row)

    def fetch_each(self, connection: Connection, many: Sequence[Parameters]) -> list[Row | None]:
        """Run it for each of these and return the first row of each, in their order; in one round trip for all."""
        if len(many) < 2:
            return [self.fetch_one(connection, one) for one in many]
        compiled = self._compiled(connection.dialect, many[0])
        execute = _all_at_once if connection.dialect.driver == "psycopg" else _one_by_one
        rows = _run(connection, compiled.text, [compiled.arranged(one) for one in many], execute, many=True)
        return [None if row is None else compiled.converted(row) for row in rows]

    # In a transaction of its own ------------------------------------------------------------------------------------

    def fetch_alone(self, engine: Engine, parameters: Parameters = NONE) -> list[Row]:
        """Run it as a transaction of its own and return all rows.

        On PostgreSQL that is one way there and back, where a transaction around it takes two more.
        """
        if engine.dialect.driver != "psycopg":
            with engine.begin() as connection:
                return self.fetch_all(connection, parameters)
        with engine.connect() as connection, _at_once(engine, connection.connection):
            return self.fetch_all(connection, parameters)

    # Outside of any transaction --------------------------------------------------------------------------------------

    def first(self, engine: Engine, parameters: Parameters = NONE) -> Row | None:
        """Return the first row of a SELECT, or None; on a connection of the pool that is given back at once."""
        compiled = self._compiled(engine.dialect, parameters)
        try:
            connection = engine.raw_connection()
        except engine.dialect.loaded_dbapi.Error:
            return self._as_usual(engine, parameters)
        try:
            with _at_once(engine, connection):
                cursor = connection.cursor()
                cursor.execute(compiled.text, compiled.arranged(parameters))
                row = cursor.fetchone()
                cursor.close()
        except engine.dialect.loaded_dbapi.Error as error:
            # Asked again in the usual way, which knows what each driver's errors mean for the pool, and how to say it.
            connection.invalidate(error)
            return self._as_usual(engine, parameters)
        finally:
            connection.close()
        return None if row is None else compiled.converted(row)

    def _as_usual(self, engine: Engine, parameters: Parameters) -> Row | None:
        with reading(), engine.connect() as connection:
            return self.fetch_one(connection, parameters)

    def _compiled(self, dialect: Dialect, parameters: Parameters) -> _Compiled:
        key = dialect.name, tuple(parameters)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _Compiled(self._statement, dialect, key[1])
        return found


def fetch_together(connection: Connection, *asked: tuple[Prepared, Parameters]) -> list[list[Row]]:
    """Run statements one after the other in the connection's transaction, and return the rows of each.

    On PostgreSQL they share a way there and back, and the begin of the transaction goes along.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: as `Prepared.fetch_all`; none after the one that failed was run.
    """
    if connection.dialect.driver != "psycopg":
        return [one.fetch_all(connection, parameters) for one, parameters in asked]
    driver: Any = connection.connection.driver_connection
    compiled = [(one._compiled(connection.dialect, parameters), parameters) for one, parameters in asked]
    cursors: list[Any] = []
    try:
        with driver.pipeline():
            for one, parameters in compiled:
                cursors.append(_run(connection, one.text, one.arranged(parameters), _begin_to_execute))
    except connection.dialect.loaded_dbapi.Error as error:
        _fail(connection, error, cursors[0] if cursors else None, compiled[0][0].text, ())
    return [
        [one.converted(row) for row in cursor.fetchall()] for (one, _), cursor in zip(compiled, cursors, strict=True)
    ]


class _Compiled:
    """A statement in the words of one database, for parameters of these names."""

    def __init__(self, statement: Executable, dialect: Dialect, names: Collection[str]) -> None:
        assert isinstance(statement, ClauseElement)
        # SQLAlchemy would ask for the new row's id, which nobody asked for, unless there may be many of them.
        compiled = statement.compile(
            dialect=dialect, column_keys=list(names), for_executemany=isinstance(statement, Insert)
        )
        assert isinstance(compiled, SQLCompiler)
        if compiled.post_compile_params or compiled.literal_execute_params:
            raise ValueError("the text of this statement is another at each execution")
        self.text = str(compiled)
        order = compiled.positiontup if compiled.positional else self._with_words(compiled, names)
        assert order is not None
        # Where each value stands: those that never change, those that are given, those that are asked for each time.
        self._template: list[Any] = [None] * len(order)
        self._given: list[tuple[int, str, _Convert | None]] = []
        self._asked: list[tuple[int, Callable[[], Any], _Convert | None]] = []
        for index, name in enumerate(order):
            self._place(compiled, index, name, is_given=name in names)
        escaped = compiled.escaped_bind_names
        self._by_name = None if compiled.positional else [escaped.get(name, name) for name in order]
        self._convert = self._converters(compiled, dialect)

    def _with_words(self, compiled: SQLCompiler, names: Collection[str]) -> list[str]:
        """Write values that never change into the text, because each parameter costs PostgreSQL's driver time, and
        return the names of the others.
        """
        left = []
        defaults = {compiled._within_exec_param_key_getter(column) for column in _unnamed(compiled)}
        for name in dict.fromkeys(compiled.bind_names.values()):
            bind = compiled.binds[name]
            changes = name in names or name in defaults or bind.callable or bind.required
            convert = cast("_Convert | None", compiled._bind_processors.get(name))
            word = None if changes else _word(bind.value if convert is None else convert(bind.value))
            if word is None:
                left.append(name)
            else:
                self.text = self.text.replace(f"%({compiled.escaped_bind_names.get(name, name)})s", word)
        return left

    def arranged(self, parameters: Parameters) -> Any:
        """The values as the driver takes them: by position or by name."""
        values = self._template.copy()
        for index, name, convert in self._given:
            values[index] = parameters[name] if convert is None else convert(parameters[name])
        for index, ask, convert in self._asked:
            values[index] = ask() if convert is None else convert(ask())
        return tuple(values) if self._by_name is None else dict(zip(self._by_name, values, strict=True))

    def converted(self, row: Sequence[Any]) -> Row:
        """A row of the driver's with the values that the columns' types mean."""
        if self._convert is None:
            return tuple(row)
        return tuple(
            [value if convert is None else convert(value) for convert, value in zip(self._convert, row, strict=True)]
        )

    def _place(self, compiled: SQLCompiler, index: int, name: str, *, is_given: bool) -> None:
        convert = cast("_Convert | None", compiled._bind_processors.get(name))
        if is_given:
            self._given.append((index, name, convert))
            return
        for column in _unnamed(compiled):
            if compiled._within_exec_param_key_getter(column) == name:
                self._asked.append((index, _default_of(column), convert))
                return
        bind = compiled.binds[name]
        if bind.required:
            raise ValueError(f"the statement's parameter {name!r} is not given")
        if bind.callable is not None:  # such as the tests' shift of the clock
            self._asked.append((index, bind.callable, convert))
        else:
            self._template[index] = bind.value if convert is None else convert(bind.value)

    @staticmethod
    def _converters(compiled: SQLCompiler, dialect: Dialect) -> list[_Convert | None] | None:
        kinds = [one.type.dialect_impl(dialect) for one in compiled._result_columns]
        found = cast("list[_Convert | None]", [kind.result_processor(dialect, None) for kind in kinds])
        return found if any(found) else None


def _unnamed(compiled: SQLCompiler) -> tuple[Column[Any], ...]:
    """The columns that get their defaults because nobody names them."""
    return (*compiled.insert_prefetch, *compiled.update_prefetch)


def _word(value: Any) -> str | None:
    """The value in SQL's words; None for those that are not plain enough to be written there without more ado."""
    match value:
        case None | bool():
            return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
        case int():
            return str(value)
        case str() if _PLAIN.fullmatch(value):
            return f"'{value}'"
    return None


def _default_of(column: Column[Any]) -> Callable[[], Any]:
    """What stands in a column that nobody names."""
    default: Any = column.default if column.default is not None else column.onupdate
    if default.is_scalar:
        return lambda: default.arg
    if default.is_callable:
        return lambda: default.arg(None)
    raise ValueError(f"the default of {column} is none that can be prepared")


@contextmanager
def _at_once(engine: Engine, connection: PoolProxiedConnection) -> Iterator[None]:
    """On PostgreSQL without the round trips of a transaction around it, whatever comes of the statement."""
    if engine.dialect.driver != "psycopg":
        yield
        return
    driver: Any = connection.driver_connection
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False


# Running --------------------------------------------------------------------------------------------------------------


def _run(
    connection: Connection,
    text: str,
    values: Any,
    execute: Callable[[Any, str, Any], Any],
    read: Callable[[Any], Any] | None = None,
    *,
    many: bool = False,
) -> Any:
    """Take a statement to the connection's cursor: in its transaction, past its listeners, with errors as it says them.

    The tests count statements as listeners, and let some of them fail.

    Returns:
        what `read` finds on the cursor, or without it what `execute` returns: the cursor itself stays open then.
    """
    if not connection.in_transaction():
        connection.begin()
    dispatch = connection.dispatch
    cursor = connection.connection.cursor()
    try:
        for listener in dispatch.before_cursor_execute:
            text, values = listener(connection, cursor, text, values, None, many)
        found = execute(cursor, text, values)
        for listener in dispatch.after_cursor_execute:
            listener(connection, cursor, text, values, None, many)
        if read is not None:
            found = read(cursor)
        if found is not cursor:
            cursor.close()
    except BaseException as error:
        _fail(connection, error, cursor, text, values)
    return found


def _fail(connection: Connection, error: BaseException, cursor: Any, text: str, values: Any) -> NoReturn:
    """Raise the error as SQLAlchemy's. A connection that is lost, or left in the middle, leaves the pool."""
    if isinstance(error, Exception) and not isinstance(error, connection.dialect.loaded_dbapi.Error):
        raise error
    # Its own handling: nothing else knows all that a driver's errors mean for the connection and its pool.
    connection._handle_dbapi_exception(error, text, values, cursor, None)


def _execute(cursor: Any, text: str, values: Any) -> None:
    cursor.execute(text, values)


def _begin_to_execute(cursor: Any, text: str, values: Any) -> Any:
    """In a pipeline: the answer comes at its end, to this cursor."""
    return cursor.execute(text, values)


def _execute_many(cursor: Any, text: str, many: Sequence[Any]) -> None:
    cursor.executemany(text, many)


def _one_by_one(cursor: Any, text: str, many: Sequence[Any]) -> list[Sequence[Any] | None]:
    """The first row of each execution, on a driver that has no way to say this; SQLite is no way away."""
    return [cursor.execute(text, values).fetchone() for values in many]


def _all_at_once(cursor: Any, text: str, many: Sequence[Any]) -> list[Sequence[Any] | None]:
    """The first row of each execution, all of them in one round trip."""
    cursor.executemany(text, many, returning=True)
    found = [cursor.fetchone()]
    while cursor.nextset():
        found.append(cursor.fetchone())
    return found


def _row_count(cursor: Any) -> int:
    return int(cursor.rowcount)


def _all_rows(cursor: Any) -> Iterable[Sequence[Any]]:
    found: Iterable[Sequence[Any]] = cursor.fetchall()
    return found


def _first_row(cursor: Any) -> Sequence[Any] | None:
    found: Sequence[Any] | None = cursor.fetchone()
    return found
