"""How the databases run what workers ask all the time: by the small indexes, however much was sent before."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, insert, select, text, update

from mail import outbox_content, outbox_finish, outbox_groups, outbox_recipients, outbox_work, terms
from models import Attempt, Message, Store
from models.outbox import MessageContent, MessageStatus, Recipient, RecipientKind
from models.prepared import Prepared
from models.types import new_uid, utcnow

ROWS = list(range(1, 9))
PARAMETERS: dict[str, dict[str, Any]] = {
    "claim": {"store": 1, "limit": 20, "token": "t", "lease_ms": 90_000},
    "backlog": {"store": 1, "at_most": 100},
    "held": {"store": 1},
    "mark": {
        "rows": ROWS,
        "token": "t",
        "store": 1,
        "as_name": "",
        "as_address": "",
        "by": "smtp",
        "version": 1,
        "grant": None,
    },
    "contents": {"ids": ROWS},
    "recipients": {"ids": ROWS},
}

# Which of two small ones, databases decide for themselves.
HELD = "ix_messages_held|ix_messages_store_id_status_id"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture
def filled(store: Store, db: Any) -> None:
    """Much that was sent, little that waits."""
    now = utcnow()

    def row(number: int) -> dict[str, Any]:
        waits = number % 200 == 0
        return {
            "uid": new_uid(),
            "store_id": store_id,
            "status": MessageStatus.QUEUED if waits else MessageStatus.SENT,
            "due_at": now - timedelta(seconds=number),
            "created_at": now,
            "ended_at": None if waits else now,
            "message_id": f"<{number}@acme.example>",
            "date": now,
        }

    store_id = store.id
    db.session.execute(insert(Message), [row(number) for number in range(4000)])
    rows = list(db.session.scalars(select(Message.id)))
    db.session.execute(insert(MessageContent), [{"message_id": one, "sealed": "x" * 200} for one in rows])
    address = {"kind": RecipientKind.TO, "address": "lena@shop.example"}
    db.session.execute(insert(Recipient), [{**address, "message_id": one} for one in rows])
    db.session.execute(insert(Attempt), [{"message_id": one, "number": 1, "started_at": now} for one in rows])
    db.session.commit()
    db.session.execute(text("ANALYZE"))
    db.session.commit()


def _plan(db: Any, statement: Any, parameters: dict[str, Any]) -> str:
    """What the database says it would do, asked for through the very way the statement goes."""
    lines: list[str] = []
    word = "EXPLAIN QUERY PLAN " if db.engine.dialect.name == "sqlite" else "EXPLAIN "

    def explain(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> tuple[str, Any]:
        return (word + sql if sql.startswith(("WITH", "SELECT", "UPDATE")) else sql), values

    def read(connection: Any, cursor: Any, sql: str, values: Any, context: Any, many: bool) -> None:
        if sql.startswith(word):
            lines.extend(str(row[-1]) for row in cursor.fetchall())

    event.listen(db.engine, "before_cursor_execute", explain, retval=True)
    event.listen(db.engine, "after_cursor_execute", read)
    try:
        with db.engine.connect() as connection:
            if isinstance(statement, Prepared):
                statement.fetch_all(connection, parameters)
            else:
                connection.execute(statement, parameters)
            connection.rollback()
    finally:
        event.remove(db.engine, "before_cursor_execute", explain)
        event.remove(db.engine, "after_cursor_execute", read)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claim", "ix_messages_waiting"),
        ("mark", "PRIMARY KEY|ix_messages_sending"),
        ("contents", "PRIMARY KEY|pk_message_contents"),
        ("recipients", "sqlite_autoindex_message_recipients_1|uq_message_recipients"),
        ("backlog", "ix_messages_waiting"),
        ("held", HELD),
        ("due_stores", "ix_messages_waiting"),
        ("sweep", "ix_messages_sending"),
        ("late", "ix_messages_expiring"),
    ],
)
def test_it_is_found_by_a_small_index(name: str, index: str, filled: None, db: Any) -> None:
    statements = {
        "claim": outbox_work._claim_statement(True, False),
        "mark": outbox_finish.MARK[True],
        "contents": outbox_content._contents_of,
        "recipients": outbox_recipients._LOAD,
        "backlog": outbox_work._BACKLOG,
        "held": terms._last_held,
        "due_stores": outbox_work._DUE_STORES,
        "sweep": outbox_finish._ANYTHING_TO_SWEEP,
        "late": outbox_finish._ANYTHING_TO_SWEEP,
    }
    plan = _plan(db, statements[name], PARAMETERS.get(name, {}))
    assert any(one in plan for one in index.split("|")), plan
    assert "Seq Scan on messages" not in plan, plan
    assert "SCAN messages\n" not in plan + "\n", plan


def test_results_of_a_group_are_written_by_their_keys_while_nobody_analysed_the_tables(filled: None, db: Any) -> None:
    """A table that grew since the last look at it is taken for a small one, which may be read as a whole."""
    if db.engine.dialect.name != "postgresql":
        pytest.skip("a file takes them one by one")
    db.session.execute(text("DELETE FROM pg_statistic"))
    db.session.commit()
    values = {"finished": ROWS, "sent": "[]", "people": "[]"}
    for statement, given in (
        (outbox_groups._AT_ONCE, values),
        (outbox_groups._AT_ONCE_WITH_MARK[True], {**values, **PARAMETERS["mark"]}),
        (outbox_recipients._LOAD, {"ids": ROWS}),
    ):
        plan = _plan(db, statement, given)
        assert "Seq Scan on message" not in plan, plan


def test_what_is_held_is_looked_for_by_its_own_index_from_the_first_message_on(store: Store, db: Any) -> None:
    """Whoever hands in mail waits for this. PostgreSQL keeps the plan that it makes while the table is empty for some
    time; going through all of a store's messages looks as good then, and takes the longer the more there are.
    """
    if db.engine.dialect.name != "postgresql":
        pytest.skip("a file makes its plans anew")
    assert "ix_messages_held" in _plan(db, terms._last_held, {"store": store.id})


def test_a_claim_takes_the_first_of_a_long_backlog_without_sorting_it(filled: None, db: Any) -> None:
    db.session.execute(update(Message).values(status=MessageStatus.QUEUED, ended_at=None))
    if db.engine.dialect.name == "sqlite":
        # Nobody analyses the tables of an installation; its planner goes by what is usual.
        db.session.execute(text("DELETE FROM sqlite_stat1"))
    db.session.commit()
    db.engine.dispose()
    plan = _plan(db, outbox_work._claim_statement(True, False), PARAMETERS["claim"])
    assert "ix_messages_waiting_due" not in plan, plan
    assert "TEMP B-TREE" not in plan, plan
    assert "Sort" not in plan, plan
