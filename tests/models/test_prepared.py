"""Prepared statements do what SQLAlchemy does with the same ones, on both databases, and say no as it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    exc,
    insert,
    select,
    text,
    update,
)

from models import clock
from models.database import prepare_engine
from models.outbox import MessageStatus
from models.prepared import Prepared, fetch_together
from models.types import BigId, Instant, enum_column

AT = datetime(2027, 1, 31, 9, 0, 0, 250_000, tzinfo=UTC)
parcels = Table(
    "parcels",
    MetaData(),
    Column("id", BigId, primary_key=True),
    Column("name", String(20), nullable=False, unique=True),
    Column("status", enum_column(MessageStatus), nullable=False, default=MessageStatus.QUEUED),
    Column("sent_at", Instant),
    Column("is_heavy", Boolean, nullable=False, default=False),
    Column("label", String(20), nullable=False, default=lambda: "made here"),
)
c = parcels.c
ADD = Prepared(insert(parcels))
ADD_AND_TELL = Prepared(insert(parcels).returning(c.id, c.name))
READ = Prepared(select(c.name, c.status, c.sent_at, c.is_heavy, c.label).where(c.name == bindparam("wanted")))
NAMES = Prepared(select(c.name).order_by(c.name))
SEND = Prepared(
    update(parcels)
    .where(c.name == bindparam("wanted"), c.status == MessageStatus.QUEUED)
    .values(status=bindparam("to"), sent_at=clock.now())
)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    url = request.getfixturevalue("empty_postgres_url") if request.param == "postgresql" else database_url
    engine = create_engine(url, hide_parameters=True)
    prepare_engine(engine)
    parcels.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def first(engine: Engine) -> dict[str, Any]:
    """A parcel of which everything is given."""
    values = {"name": "first", "status": MessageStatus.SENT, "sent_at": AT, "is_heavy": True, "label": "own"}
    with engine.begin() as connection:
        assert ADD.run(connection, values) == 1
    return values


def names(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.scalars(select(c.name).order_by(c.name)))


NOW = Prepared(select(clock.now()))


# Values


def test_values_are_stored_and_read_as_sqlalchemy_does_it(engine: Engine, first: dict[str, Any]) -> None:
    with engine.begin() as connection:
        usual = connection.execute(select(*(c[name] for name in first)).where(c.name == "first")).one()
        assert dict(usual._mapping) == first
        assert READ.fetch_one(connection, {"wanted": "first"}) == tuple(first.values())
        assert READ.fetch_all(connection, {"wanted": "first"}) == [tuple(first.values())]
    found = READ.first(engine, {"wanted": "first"})
    assert found == tuple(first.values())
    assert [type(value) for value in found[1:4]] == [MessageStatus, datetime, bool]


def test_what_nobody_names_gets_the_columns_default(engine: Engine) -> None:
    with engine.begin() as connection:
        ADD.run(connection, {"name": "a"})
        ADD.run(connection, {"name": "b", "is_heavy": True})  # the same statement for other columns
        assert READ.fetch_one(connection, {"wanted": "a"}) == ("a", MessageStatus.QUEUED, None, False, "made here")
        assert READ.fetch_one(connection, {"wanted": "b"}) == ("b", MessageStatus.QUEUED, None, True, "made here")


def test_the_databases_clock_is_read_anew_each_time(engine: Engine) -> None:
    with engine.begin() as connection:
        (before,) = NOW.fetch_one(connection) or ()
        with clock.shifted(timedelta(hours=1)):
            (later,) = NOW.fetch_one(connection) or ()
    assert timedelta(minutes=59) < later - before < timedelta(minutes=61)


def test_nothing_found_is_none_or_empty(engine: Engine) -> None:
    with engine.begin() as connection:
        assert READ.fetch_one(connection, {"wanted": "nobody"}) is None
        assert READ.fetch_all(connection, {"wanted": "nobody"}) == []
    assert READ.first(engine, {"wanted": "nobody"}) is None


# Counts


def test_it_counts_the_rows_that_were_changed(engine: Engine, first: dict[str, Any]) -> None:
    with engine.begin() as connection:
        assert ADD.run_many(connection, [{"name": f"n{number}"} for number in range(3)]) == 3
        assert SEND.run(connection, {"wanted": "n0", "to": MessageStatus.SENT}) == 1
        assert SEND.run(connection, {"wanted": "first", "to": MessageStatus.SENT}) == 0
        many = [{"wanted": name, "to": MessageStatus.FAILED} for name in ("n0", "n1", "n2", "nobody")]
        assert SEND.run_many(connection, many) == 2
        assert SEND.run_many(connection, []) == 0
        statuses = connection.execute(select(c.name, c.status).where(c.name != "first").order_by(c.name)).all()
    assert statuses == [("n0", MessageStatus.SENT), ("n1", MessageStatus.FAILED), ("n2", MessageStatus.FAILED)]


def test_rows_of_many_come_back_in_their_order(engine: Engine) -> None:
    wanted = [f"n{number}" for number in (5, 1, 4, 2, 3)]
    with engine.begin() as connection:
        rows = ADD_AND_TELL.fetch_each(connection, [{"name": name} for name in wanted])
        stored = {row.name: row.id for row in connection.execute(select(c.id, c.name))}
        found = READ.fetch_each(connection, [{"wanted": name} for name in ("n4", "nobody", "n1")])
        assert ADD_AND_TELL.fetch_each(connection, []) == []
    assert rows == [(stored[name], name) for name in wanted]
    assert [row and row[0] for row in found] == ["n4", None, "n1"]


# Transactions


def test_it_is_part_of_the_connections_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        ADD.run(connection, {"name": "taken back"})
        connection.rollback()
        ADD.run(connection, {"name": "kept"})
        connection.commit()
    with engine.begin() as connection:
        with connection.begin_nested() as savepoint:
            ADD.run(connection, {"name": "taken back too"})
            savepoint.rollback()
        ADD.run(connection, {"name": "kept too"})
    assert names(engine) == ["kept", "kept too"]


def test_a_read_outside_of_a_transaction_leaves_none(engine: Engine, first: dict[str, Any]) -> None:
    for _ in range(3):
        assert READ.first(engine, {"wanted": "first"})
    with engine.begin() as connection:
        ADD.run(connection, {"name": "second"})
        connection.rollback()
    assert names(engine) == ["first"]


def test_alone_it_is_a_transaction_of_its_own(engine: Engine) -> None:
    assert len(ADD_AND_TELL.fetch_alone(engine, {"name": "kept"})) == 1
    assert NAMES.fetch_alone(engine) == [("kept",)]
    with pytest.raises(exc.IntegrityError):
        ADD_AND_TELL.fetch_alone(engine, {"name": "kept"})
    # The connection goes back to the pool as it was: what is begun on it can be taken back.
    for _ in range(2):
        with engine.begin() as connection:
            ADD.run(connection, {"name": "taken back"})
            connection.rollback()
    assert names(engine) == ["kept"]


def test_statements_that_go_together_see_each_other_and_share_the_transaction(engine: Engine) -> None:
    with engine.begin() as connection:
        (added,), found = fetch_together(connection, (ADD_AND_TELL, {"name": "a"}), (NAMES, {}))
        assert (added[1], found) == ("a", [("a",)])
        connection.rollback()
    assert names(engine) == []


def test_of_statements_that_go_together_none_is_run_after_the_one_that_failed(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(exc.IntegrityError):
            fetch_together(
                connection,
                (ADD_AND_TELL, {"name": "a"}),
                (ADD_AND_TELL, {"name": "a"}),
                (ADD_AND_TELL, {"name": "b"}),
            )
        connection.rollback()
        assert fetch_together(connection, (NAMES, {}), (NAMES, {})) == [[], []]
    assert names(engine) == []


@pytest.mark.postgres
def test_what_never_changes_is_no_parameter(postgres_url: str) -> None:
    engine = create_engine(postgres_url)
    parcels.metadata.create_all(engine)
    strange = Prepared(select(c.name).where(c.name == "it's 100%", c.is_heavy.is_(False), c.label == "plain"))
    seen: list[tuple[str, Any]] = []
    event.listen(engine, "before_cursor_execute", lambda *given: seen.append((given[2], given[3])))
    with engine.begin() as connection:
        ADD.run(connection, {"name": "it's 100%", "label": "plain"})
        assert strange.fetch_all(connection) == [("it's 100%",)]
    words, values = seen[-1]
    # What might need quoting is not written into the text.
    assert ("'plain'" in words, "100" in words, list(values.values())) == (True, False, ["it's 100%"])
    engine.dispose()


# Trouble


@pytest.mark.parametrize(
    "run", [lambda p, c: p.run(c, {"name": "first"}), lambda p, c: p.run_many(c, [{"name": "first"}])]
)
def test_errors_are_sqlalchemys_and_the_connection_stays(
    engine: Engine, first: dict[str, Any], run: Callable[[Prepared, Any], int]
) -> None:
    with engine.connect() as connection:
        with pytest.raises(exc.IntegrityError) as caught:
            run(ADD, connection)
        assert not caught.value.connection_invalidated
        assert "made here" not in str(caught.value), "parameters are hidden"
        connection.rollback()
        assert ADD.run(connection, {"name": "second"}) == 1
        connection.commit()
    assert names(engine) == ["first", "second"]


@pytest.mark.postgres
def test_a_connection_that_is_lost_is_invalid_and_so_is_the_pool(empty_postgres_url: str) -> None:
    engine, killer = create_engine(empty_postgres_url), create_engine(empty_postgres_url)
    end = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    try:
        with engine.connect() as one, engine.connect() as other:
            for connection in (one, other):
                NOW.fetch_one(connection)
            other.rollback()
            with killer.begin() as connection:
                connection.execute(end)
            with pytest.raises(exc.DBAPIError) as caught:
                NOW.fetch_one(one)
            assert caught.value.connection_invalidated
            assert one.invalidated
        # Both of its connections were ended: the second one is replaced before anybody hears of it.
        with engine.connect() as again:
            assert NOW.fetch_one(again)
        with killer.begin() as connection:
            connection.execute(end)
        assert NOW.first(engine), "a read that found its connection dead was not made again"
    finally:
        engine.dispose()
        killer.dispose()


def test_a_list_that_expands_is_refused(engine: Engine) -> None:
    some = Prepared(select(c.name).where(c.name.in_(bindparam("names", expanding=True))))
    with engine.begin() as connection, pytest.raises(ValueError, match="another at each execution"):
        some.fetch_all(connection, {"names": ["a"]})


def test_a_parameter_that_is_missing_is_an_error(engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(ValueError, match="'wanted' is not given"):
        READ.fetch_one(connection)


# Listeners


def test_listeners_hear_of_it_and_may_change_it(engine: Engine, first: dict[str, Any]) -> None:
    heard: list[tuple[str, bool]] = []

    def before(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> tuple[str, Any]:
        return statement.replace("ORDER BY parcels.name", "ORDER BY parcels.name DESC"), values

    def after(connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        heard.append((statement.split()[0], many))

    event.listen(engine, "before_cursor_execute", before, retval=True)
    event.listen(engine, "after_cursor_execute", after)
    with engine.begin() as connection:
        ADD.run_many(connection, [{"name": "a"}, {"name": "z"}])
        assert NAMES.fetch_all(connection) == [("z",), ("first",), ("a",)]
    assert [one for one in heard if one[0] != "BEGIN"] == [("INSERT", True), ("SELECT", False)]


def test_a_listeners_own_error_passes(engine: Engine) -> None:
    def refuse(*arguments: Any) -> None:
        raise LookupError("not today")

    event.listen(engine, "after_cursor_execute", refuse)
    with engine.connect() as connection, pytest.raises(LookupError, match="not today"):
        NAMES.fetch_all(connection)
