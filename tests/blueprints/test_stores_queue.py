"""How much waits and is held, per store, in the list of stores. On both databases."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event

from blueprints.stores import listing
from extensions import db as database
from mail.equipment import Equipment
from models import Store
from tests import factories
from tests.conftest import Browser
from tests.message_states import fill


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


def test_each_store_shows_what_waits_and_what_is_held(alice: Browser, store: Store, equipment: Equipment) -> None:
    store_id = store.id
    fill(store_id, equipment)
    factories.make_store("Bluebird Home")
    page = alice.get("/stores").text
    words = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert re.search(r"Acme Store .* On 4 waiting 1 held .* Bluebird Home .* On Empty ", words)
    assert f'href="/stores/{store_id}/messages?status=held"' in page


def test_a_long_queue_is_not_counted_to_its_end(
    alice: Browser, store: Store, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store.id, equipment)
    monkeypatch.setattr(listing, "COUNTED_MAX", 3)
    page = alice.get("/stores").text
    assert "3+ waiting" in page
    assert "1 held" in page


def test_counting_reads_no_message_that_has_gone(alice: Browser, store: Store) -> None:
    seen: list[tuple[str, Any]] = []
    listener = lambda *stuff: seen.append((stuff[2], stuff[3]))  # noqa: E731  a name is needed to take it away again
    event.listen(database.engine, "before_cursor_execute", listener)
    try:
        alice.get("/stores")
    finally:
        event.remove(database.engine, "before_cursor_execute", listener)
    ((statement, values),) = [one for one in seen if "'uncertain')" in one[0]]
    with database.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
        else:
            connection.exec_driver_sql("SET enable_seqscan = off")
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", values).all()
    assert "ix_messages_" in str(plan)
    assert not re.search(r"SCAN messages|Seq Scan on messages", str(plan))
