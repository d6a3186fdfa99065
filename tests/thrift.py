"""What a run of thousands of tests, each with an application and a database of its own, does once instead of each time.

Only work whose result is the same each time: nothing that one test does is seen by another.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from types import CodeType
from typing import Any

from flask import Flask
from jinja2.bccache import Bucket, BytecodeCache
from sqlalchemy import create_mock_engine
from werkzeug.routing import Rule

from extensions import db


class _Compiled(BytecodeCache):
    """The code of each template, for all applications of this process."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._found.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._found[bucket.key, bucket.checksum] = bucket.code


class _Rule(Rule):
    """A rule of routes that shares what builds its URLs with the same rule of other applications.

    Werkzeug compiles a function for each, which is most of what making an application takes.
    """

    _builders: dict[tuple[Any, ...], Callable[..., tuple[str, str]]] = {}

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        key = (self.rule, tuple(self._trace), repr(self.defaults), append_unknown)
        if key not in self._builders:
            self._builders[key] = super()._compile_builder(append_unknown)
        return self._builders[key]


def begin() -> None:
    """Share compiled templates and rules; hardly look for garbage while tests are collected, since all of it stays."""
    Flask.jinja_options = {"bytecode_cache": _Compiled()}
    Flask.url_rule_class = _Rule
    gc.set_threshold(50_000, 20, 20)


def collected() -> None:
    """Leave the tests themselves, 400,000 objects, out of all later searches for garbage, and search all less often.

    The young are looked through as often as usual: what that takes counts as the time of whoever is interrupted, and
    rendering a template has 60 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 50)


_words: dict[str, list[str]] = {}


def create_tables() -> bool:
    """What db.create_all() does to an empty database, in words that are found once; whether there was one to fill."""
    with db.engine.begin() as connection:
        if connection.dialect.has_table(connection, "roles"):
            return False
        cursor = connection.connection.cursor()
        for statement in words_for(db.engine.url.drivername):
            cursor.execute(statement)
        cursor.close()
    return True


def words_for(driver: str) -> list[str]:
    """The statements by which create_all() makes the tables where there are none."""
    if driver not in _words:
        found: list[str] = []
        engine = create_mock_engine(
            f"{driver}://", lambda part, *_, **__: found.append(str(part.compile(dialect=engine.dialect)))
        )
        db.metadata.create_all(engine, checkfirst=False)
        _words[driver] = found
    return _words[driver]
