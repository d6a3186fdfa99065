"""What tests do once for all comes to what each of them would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, url_for
from sqlalchemy import event

from app import create_app
from extensions import db
from tests import thrift
from tests.conftest import settings_for


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty(request: pytest.FixtureRequest, database_url: str) -> Iterator[Flask]:
    """An application beside a database without tables."""
    url = database_url if request.param == "sqlite" else request.getfixturevalue("empty_postgres_url")
    application = create_app(settings_for(url))
    with application.app_context():
        yield application
        db.session.remove()
        db.engine.dispose()


def test_tables_are_made_in_the_words_of_create_all(empty: Flask) -> None:
    said: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "CREATE" in statement:
            said.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    db.create_all()
    event.remove(db.engine, "before_cursor_execute", note)
    assert len(said) > len(db.metadata.tables)
    assert thrift.words_for(db.engine.url.drivername) == said


def test_tables_that_are_there_are_left_alone(empty: Flask) -> None:
    assert thrift.create_tables()
    assert not thrift.create_tables()


def test_two_rules_of_the_same_words_build_by_their_own_converters() -> None:
    built = []
    for kind in ("one", "two"):
        application = Flask(__name__)

        class Prefixed(application.url_map.converters["default"]):  # type: ignore[misc]  # a class found at run time
            prefix = kind

            def to_url(self, value: Any) -> str:
                return f"{self.prefix}-{value}"

        application.url_map.converters["prefixed"] = Prefixed
        application.add_url_rule("/<prefixed:name>", "page")
        with application.test_request_context():
            built.append(url_for("page", name="a"))
    assert built == ["/one-a", "/two-a"]
