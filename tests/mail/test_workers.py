"""Who is alive, by the database's clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, select

from extensions import db as database
from mail import workers
from models import WorkerProcess, clock

ONE, TWO = "1" * 32, "2" * 32


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture(autouse=True)
def in_app(app: Flask) -> None:
    """Every test here has a database of its own."""


def names() -> list[str]:
    return [one.name for one in alive()]


def alive() -> list[workers.AliveWorker]:
    found = workers.alive()
    database.session.rollback()
    return found


def is_any_alive() -> bool:
    found = workers.is_any_alive()
    database.session.rollback()
    return found


def last_seen() -> Any:
    found = workers.presence().last_seen_at
    database.session.rollback()
    return found


def rows() -> list[str]:
    found = list(database.session.scalars(select(WorkerProcess.uid).order_by(WorkerProcess.uid)))
    database.session.rollback()
    return found


def speak(uid: str = ONE, name: str = "host 7", threads: int = 4) -> None:
    workers.say_alive(uid, name=name, threads=threads)


def test_nobody_is_alive_and_nobody_was_ever_seen_at_first() -> None:
    assert alive() == []
    assert workers.presence() == workers.Presence(False, None)


def test_a_worker_that_speaks_is_alive_with_name_and_threads() -> None:
    speak()
    (found,) = alive()
    assert (found.uid, found.name, found.threads) == (ONE, "host 7", 4)
    assert abs(found.started_at - found.seen_at) < timedelta(seconds=1)
    assert is_any_alive()


def test_speaking_again_keeps_its_start_and_moves_its_last_word() -> None:
    speak()
    with clock.shifted(timedelta(seconds=20)):
        speak()
    with clock.shifted(timedelta(seconds=40)):
        (found,) = alive()
    assert timedelta(seconds=19) < found.seen_at - found.started_at < timedelta(seconds=60)


def test_a_silent_worker_is_dead_after_thirty_seconds_and_when_it_was_seen_is_known() -> None:
    speak()
    with clock.shifted(timedelta(seconds=25)):
        assert is_any_alive()
    with clock.shifted(timedelta(seconds=31)):
        assert not is_any_alive()
        assert last_seen() is not None
        assert alive() == []


def test_one_living_worker_is_enough() -> None:
    speak()
    with clock.shifted(timedelta(minutes=5)):
        speak(TWO, "other 9")
        assert names() == ["other 9"]
        assert is_any_alive()


def test_a_worker_that_signs_off_is_gone_at_once_and_stays_so() -> None:
    speak()
    workers.sign_off(ONE)
    assert not is_any_alive()
    speak()
    assert not is_any_alive()
    assert last_seen() is not None


def test_nobody_looks_alive_because_the_clock_was_set_back() -> None:
    with clock.shifted(timedelta(hours=1)):
        speak()
    assert not is_any_alive()
    speak()
    assert is_any_alive()


def test_the_dead_are_forgotten_after_a_day_but_never_the_last_one() -> None:
    speak()
    workers.sign_off(ONE)
    with clock.shifted(timedelta(days=2)):
        assert workers.forget_dead() == 0
        speak(TWO)
        assert workers.forget_dead() == 1
    assert rows() == [TWO]


def test_those_who_are_alive_or_died_lately_are_kept() -> None:
    speak()
    with clock.shifted(timedelta(hours=20)):
        speak(TWO)
        assert workers.forget_dead() == 0
    assert rows() == [ONE, TWO]


def test_a_long_name_is_cut_to_its_column() -> None:
    speak(name="n" * 500)
    assert names() == ["n" * 120]


def test_pages_pay_one_query() -> None:
    speak()
    database.session.rollback()
    seen: list[str] = []
    listener = lambda *stuff: seen.append(stuff[2])  # noqa: E731  a name is needed to take it away again
    event.listen(database.engine, "before_cursor_execute", listener)
    try:
        workers.presence()
    finally:
        event.remove(database.engine, "before_cursor_execute", listener)
    assert [sql.split()[0] for sql in seen if not sql.startswith("BEGIN")] == ["SELECT"]
