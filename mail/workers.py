"""Which workers are alive: each one says so every few seconds, and the pages tell when none does.

By the database's clock alone, so that a machine with a wrong clock neither hides a living worker nor revives a dead
one. A row stays for a while after its worker has gone: it says when one was last seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import ColumnElement, Table, and_, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from extensions import db
from models import clock
from models.database import writing
from models.worker import NAME_MAX, WorkerProcess

# Workers speak every 5 seconds: one that a busy database keeps waiting is not called dead.
WITHIN = timedelta(seconds=30)
_GONE = 0  # as many threads as a worker has that signed off

processes = cast(Table, WorkerProcess.__table__)


@dataclass(frozen=True)
class AliveWorker:
    """A worker that has spoken lately; `name` is its host and process id."""

    uid: str
    name: str
    threads: int
    started_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class Presence:
    """Whether any worker is alive, and when one last spoke; None when there never was one."""

    is_any_alive: bool
    last_seen_at: datetime | None


def say_alive(uid: str, *, name: str, threads: int) -> None:
    """Note that this worker is alive now; commits a transaction of its own.

    One that signed off stays so: a last word that was under way meanwhile does not bring it back.

    Args:
        uid: 32 hexadecimal digits that the process made for itself at its start.
        name: host and process id, for people.
    """
    c = processes.c
    again = update(processes).where(c.uid == uid)
    with writing(), db.engine.begin() as connection:
        known = connection.execute(again.values(seen_at=case((c.threads == _GONE, c.seen_at), else_=clock.now())))
    if known.rowcount:
        return
    first = {"uid": uid, "name": name[:NAME_MAX], "threads": threads, "started_at": clock.now(), "seen_at": clock.now()}
    try:
        with writing(), db.engine.begin() as connection:
            connection.execute(insert(processes).values(first))
    except IntegrityError:
        pass  # two threads of this process were the first to speak


def sign_off(uid: str) -> None:
    """Note that this worker ends on purpose, so that the pages need not wait to find out; commits like `say_alive`."""
    gone = update(processes).where(processes.c.uid == uid, processes.c.threads != _GONE)
    with writing(), db.engine.begin() as connection:
        connection.execute(gone.values(threads=_GONE, seen_at=clock.now()))


def alive(within: timedelta = WITHIN) -> list[AliveWorker]:
    """Return the workers that spoke lately, oldest first; reads in the caller's transaction."""
    c = processes.c
    spoke = select(c.uid, c.name, c.threads, c.started_at, c.seen_at).where(_is_alive(within))
    return [AliveWorker(*row) for row in db.session.execute(spoke.order_by(c.started_at, c.uid))]


def is_any_alive(within: timedelta = WITHIN) -> bool:
    """Return whether any worker spoke lately; reads in the caller's transaction."""
    return presence(within).is_any_alive


def presence(within: timedelta = WITHIN) -> Presence:
    """Return what pages tell about workers, by one small query in the caller's transaction."""
    alive_ones = func.max(case((_is_alive(within), 1), else_=0))
    row = db.session.execute(select(alive_ones, func.max(processes.c.seen_at))).one()
    return Presence(bool(row[0]), row[1])


def forget_dead(older_than: timedelta = timedelta(days=1)) -> int:
    """Drop workers that have been silent for long and return how many; commits a transaction of its own.

    The one seen last stays, dead or not: the pages tell when that was.
    """
    c = processes.c
    last = select(c.uid).order_by(c.seen_at.desc(), c.uid).limit(1).scalar_subquery()
    with writing(), db.engine.begin() as connection:
        return connection.execute(delete(processes).where(c.seen_at < clock.now(-older_than), c.uid != last)).rowcount


def _is_alive(within: timedelta) -> ColumnElement[bool]:
    c = processes.c
    # What was seen far in the future was seen before the clock was set back; a living worker soon speaks again.
    return and_(c.threads != _GONE, c.seen_at.between(clock.now(-within), clock.now(within)))
