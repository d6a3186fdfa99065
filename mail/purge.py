"""What has ended is forgotten: first what a message said, later that there was one. Source: security.md 37.

A call does a bounded piece of it in short transactions; whoever calls goes on until nothing is left. Two callers at
once take different messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, CursorResult, bindparam, delete, select, update

from extensions import db
from mail.outbox_blobs import blobs
from mail.outbox_content import contents
from mail.outbox_work import messages
from models import clock
from models.database import reading, writing

CONTENT_AFTER: Final = timedelta(days=7)
ALL_AFTER: Final = timedelta(days=90)

# A transaction ends with the message that takes it past one of these: while large files are removed from SQLite,
# everybody else who writes waits.
GROUP: Final = 100
GROUP_BYTES: Final = 32 * 1024 * 1024

_c = messages.c
_now = select(clock.now())
# Both walk a partial index from its oldest end, ix_messages_unpurged and ix_messages_purged. PostgreSQL can only do so
# with a time that stands still, so the clock is asked beforehand.
_ended = (
    select(_c.id, _c.size_bytes)
    .where(_c.ended_at.is_not(None), _c.purged_at.is_(None), _c.ended_at <= bindparam("ended_before"))
    .order_by(_c.ended_at)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
# What was purged first ended first, as purging goes by that order: the oldest ones show whether there is anything.
_purged = (
    select(_c.id, _c.size_bytes, _c.ended_at)
    .where(_c.purged_at.is_not(None))
    .order_by(_c.purged_at)
    .limit(bindparam("at_most"))
    .with_for_update(skip_locked=True)
)
_chosen: BindParameter[Sequence[int]] = bindparam("chosen", expanding=True)
_drop_blobs = delete(blobs).where(blobs.c.message_id.in_(_chosen))
_drop_contents = delete(contents).where(contents.c.message_id.in_(_chosen))
_note_purge = update(messages).where(_c.id.in_(_chosen)).values(subject="", purged_at=clock.now())
# Recipients and attempts go along.
_drop_messages = delete(messages).where(_c.id.in_(_chosen))


def purge(*, content_after: timedelta = CONTENT_AFTER, all_after: timedelta = ALL_AFTER, at_most: int = 500) -> int:
    """Remove contents, files and subjects of messages that ended that long ago, and later all that is known of them.

    Commits, a group of messages at a time. Returns how many messages lost something: 0 when nothing was due.

    Args:
        all_after: counted from the end as well, so not before `content_after`.
        at_most: messages in this call.
    """
    with reading(), db.engine.begin() as connection:
        now = connection.execute(_now).scalar_one()
    done = _in_groups(_purge_group, now - content_after, at_most)
    return done + _in_groups(_forget_group, now - all_after, at_most - done)


def _in_groups(step: Callable[[Connection, datetime, int], int], ended_before: datetime, at_most: int) -> int:
    done = 0
    while done < at_most:
        with writing(), db.engine.begin() as connection:
            count = step(connection, ended_before, min(GROUP, at_most - done))
        if not count:
            break
        done += count
    return done


def _purge_group(connection: Connection, ended_before: datetime, at_most: int) -> int:
    rows = connection.execute(_ended, {"ended_before": ended_before, "at_most": at_most})
    chosen = _within_bytes(rows)
    if chosen:
        for statement in (_drop_blobs, _drop_contents, _note_purge):
            connection.execute(statement, {"chosen": chosen})
    return len(chosen)


def _forget_group(connection: Connection, ended_before: datetime, at_most: int) -> int:
    rows = connection.execute(_purged, {"at_most": at_most})
    chosen = [row.id for row in rows if row.ended_at <= ended_before]
    if chosen:
        connection.execute(_drop_messages, {"chosen": chosen})
    return len(chosen)


def _within_bytes(rows: CursorResult[Any]) -> list[int]:
    chosen, size = [], 0
    for row in rows:
        if size < GROUP_BYTES:
            chosen.append(row.id)
            size += row.size_bytes
    return chosen
