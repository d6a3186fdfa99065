"""SQLite has one pen: who waits for it gets it soon after it is free, and gives up in the end."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from models import database
from models.database import prepare_engine, reading


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_engine(database_url)
    prepare_engine(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes (words TEXT)"))
    yield engine
    engine.dispose()


def _write(engine: Engine, words: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO notes VALUES (:words)"), {"words": words})


def test_a_writer_waits_for_the_one_before(engine: Engine) -> None:
    holder = engine.connect()
    holder.execute(text("INSERT INTO notes VALUES ('first')"))
    second = threading.Thread(target=_write, args=(engine, "second"))
    second.start()
    time.sleep(0.1)
    assert second.is_alive(), "two wrote at once"
    holder.commit()
    second.join(10)
    with engine.connect() as connection:
        assert list(connection.scalars(text("SELECT words FROM notes ORDER BY rowid"))) == ["first", "second"]
    holder.close()


def test_it_gives_up_in_the_end_and_the_connection_stays_good(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    with engine.connect() as waiting:
        with engine.begin() as holder:
            holder.execute(text("INSERT INTO notes VALUES ('first')"))
            with pytest.raises(OperationalError, match="locked"):
                waiting.begin()
        assert waiting.scalar(text("PRAGMA busy_timeout")) == 50, "statements of its own would not wait any more"
        waiting.execute(text("INSERT INTO notes VALUES ('second')"))
        waiting.commit()


def test_of_many_that_wait_in_a_process_one_asks(engine: Engine) -> None:
    """Forty that ask in turn take the time of the one who writes: they share an interpreter with it."""
    askers: set[int] = set()

    @event.listens_for(engine, "checkout")
    def watch(connection: sqlite3.Connection, record: object, proxy: object) -> None:
        connection.set_trace_callback(lambda words: askers.add(id(connection)) if "IMMEDIATE" in words else None)

    with engine.begin() as holder:
        holder.execute(text("INSERT INTO notes VALUES ('first')"))
        askers.clear()
        threads = [threading.Thread(target=_write, args=(engine, f"{number}")) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        assert askers == set(), "somebody asked while one of this process writes"
    for thread in threads:
        thread.join(10)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM notes")) == 9


def test_a_connection_that_is_lost_leaves_the_line(engine: Engine) -> None:
    lost = engine.connect()
    lost.execute(text("INSERT INTO notes VALUES ('lost')"))
    lost.invalidate()
    second = threading.Thread(target=_write, args=(engine, "second"))
    second.start()
    second.join(5)
    assert not second.is_alive()
    lost.rollback()
    lost.close()


def test_readers_wait_for_nobody(engine: Engine) -> None:
    with engine.begin() as holder:
        holder.execute(text("INSERT INTO notes VALUES ('first')"))
        with reading(), engine.connect() as reader:
            assert reader.scalar(text("SELECT count(*) FROM notes")) == 0
