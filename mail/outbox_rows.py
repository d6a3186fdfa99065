"""How the rows of new messages come into their tables.

A file takes one statement for each table. PostgreSQL takes all rows of all tables in one statement: each further one
costs a way there and back, and several rows at a time cost more in its driver than in the database (four messages take
half the CPU). Source: performance.md 4.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Dialect, insert, select

from mail.outbox_content import contents
from mail.outbox_work import messages, recipients
from models.database import is_postgres
from models.prepared import Prepared
from models.rowsets import insert_from, recordset

# Sealed contents go to the database in groups of about this size: a batch may be as large as a request.
GROUP_CHARS: Final = 4 * 1024 * 1024

Columns = Mapping[str, Any]

_insert_messages = Prepared(insert(messages).returning(messages.c.id))
_insert_contents = Prepared(insert(contents))
_insert_recipients = Prepared(insert(recipients))


def insert_all(
    connection: Connection, rows: Sequence[Columns], sealed: Iterable[str], people: Sequence[Sequence[Columns]]
) -> list[int]:
    """Insert messages with their contents and recipients, and return their ids, in order.

    Args:
        rows: columns of the messages, the same ones for each.
        sealed: the content of each. When they are no sequence, they are asked for one after the other, so that not
            all of them need be in memory.
        people: columns of the recipients of each, without the message's id.
    """
    if is_postgres(connection) and isinstance(sealed, Sequence):
        return _insert_at_once(connection, rows, sealed, people)
    ids = insert_messages(connection, rows)
    insert_contents(connection, zip(ids, sealed, strict=True))
    insert_recipients(
        connection, [{"message_id": id, **row} for id, some in zip(ids, people, strict=True) for row in some]
    )
    return ids


def insert_messages(connection: Connection, rows: Sequence[Columns]) -> list[int]:
    """Insert rows and return their ids, in order."""
    return [row[0] for row in _insert_messages.fetch_each(connection, rows) if row is not None]


def insert_contents(connection: Connection, sealed: Iterable[tuple[int, str]]) -> None:
    """Insert contents, (message id, sealed) each, in groups that stay small."""
    group: list[Columns] = []
    chars = 0
    for message_id, text in sealed:
        group.append({"message_id": message_id, "sealed": text})
        chars += len(text)
        if chars >= GROUP_CHARS:
            _insert_contents.run_many(connection, group)
            group, chars = [], 0
    _insert_contents.run_many(connection, group)


def insert_recipients(connection: Connection, rows: Sequence[Columns]) -> None:
    """Insert recipients: message id, kind and address each."""
    _insert_recipients.run_many(connection, rows)


# In one statement ----------------------------------------------------------------------------------------------------


def _insert_at_once(
    connection: Connection, rows: Sequence[Columns], sealed: Sequence[str], people: Sequence[Sequence[Columns]]
) -> list[int]:
    names = tuple(rows[0])
    converters = _converters(connection.dialect, names)
    uids = [row["uid"] for row in rows]
    given: dict[str, list[dict[str, Any]]] = {
        "rows": [{name: convert(row[name]) for name, convert in converters} for row in rows],
        "sealed": [{"uid": uid, "sealed": text} for uid, text in zip(uids, sealed, strict=True)],
        "people": [{"uid": uid, **one} for uid, some in zip(uids, people, strict=True) for one in some],
    }
    parameters = {}
    for name, values in given.items():
        for position, one in enumerate(values):
            one["position"] = position
        parameters[name] = json.dumps(values)
    ids = {row[0]: int(row[1]) for row in _statement(names).fetch_all(connection, parameters)}
    return [ids[uid] for uid in uids]


@lru_cache(32)
def _statement(names: tuple[str, ...]) -> Prepared:
    """Insert messages of which these columns are given; returns uid and id of each, in any order."""
    row = recordset("rows", *(messages.c[name] for name in names))
    new = (
        insert_from(messages, {name: row.c[name] for name in names}, row.c.position)
        .returning(messages.c.uid, messages.c.id)
        .cte("new")
    )
    text = recordset("sealed", messages.c.uid, contents.c.sealed)
    sealed = {"message_id": new.c.id, "sealed": text.c.sealed}
    person = recordset("people", messages.c.uid, recipients.c.kind, recipients.c.address)
    people = {"message_id": new.c.id, "kind": person.c.kind, "address": person.c.address}
    return Prepared(
        select(new.c.uid, new.c.id).add_cte(
            insert_from(contents, sealed, text.c.position, text.c.uid == new.c.uid).cte("new_contents"),
            insert_from(recipients, people, person.c.position, person.c.uid == new.c.uid).cte("new_recipients"),
        )
    )


@lru_cache(32)
def _converters(dialect: Dialect, names: tuple[str, ...]) -> list[tuple[str, Any]]:
    """What makes of each column's value what stands in the JSON."""
    kinds = [(name, messages.c[name].type.dialect_impl(dialect).bind_processor(dialect)) for name in names]
    return [(name, convert or _as_it_is) for name, convert in kinds]


def _as_it_is(value: Any) -> Any:
    return value
