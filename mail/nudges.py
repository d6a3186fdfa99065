"""Telling workers that a store has mail, without telling them what.

A nudge names a store and nothing else. The truth is in the outbox: a nudge may be lost, doubled or late, because
workers also look for themselves. So a queue that is down never keeps a message from being accepted.
Source: performance.md 1.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from huey.api import Huey, PostgresHuey, RedisHuey, SqliteHuey
from sqlalchemy import Connection, bindparam, event, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from extensions import db
from models.database import writing
from models.prepared import Prepared
from models.worker import StoreNudge

logger = logging.getLogger(__name__)

# How long a request may be kept waiting by a queue that does not answer, and how long it is left alone after that.
TIMEOUT_S = 1.0
LEFT_ALONE_S = 5.0
QUEUE_NAME = "storepost"
_STORES, _COMMITTED = "storepost_nudged_stores", "storepost_stores_to_nudge"

_is_up = Prepared(select(StoreNudge.is_pending).where(StoreNudge.store_id == bindparam("store")))
_raise_flag = (
    update(StoreNudge)
    .where(StoreNudge.store_id == bindparam("store"), StoreNudge.is_pending.is_(False))
    .values(is_pending=True)
)
_lower_flag = (
    update(StoreNudge)
    .where(StoreNudge.store_id == bindparam("store"), StoreNudge.is_pending.is_(True))
    .values(is_pending=False)
)


class Nudges(Protocol):
    """How accepted mail gets a worker's attention."""

    def send(self, store_id: int) -> None:
        """Tell some worker that this store has mail that is due. Never raises, and soon returns."""
        ...


class NoNudges:
    """For tests and commands: workers find out by themselves."""

    def send(self, store_id: int) -> None:
        """Tell nobody."""


class HueyNudges:
    """Nudges carried by Huey. A store that has one under way gets no second one."""

    def __init__(self, huey: Huey) -> None:
        self.huey = huey
        self._receive: Callable[[int], None] | None = None
        self._drain = huey.task(name="drain")(self._received)
        self._known: set[int] = set()
        self._is_prepared = False
        self._left_alone_until = 0.0
        self._lock = threading.Lock()

    def send(self, store_id: int) -> None:
        """Tell some worker that this store has mail that is due. Never raises, and soon returns."""
        try:
            if not self._raise(store_id):
                return
        except SQLAlchemyError:
            logger.warning("no nudge for store %d: the database does not answer", store_id, exc_info=True)
            return
        self.enqueue(store_id)

    def enqueue(self, store_id: int) -> None:
        """Put the nudge into the queue, whatever the flag says. Never raises."""
        if time.monotonic() < self._left_alone_until:
            return
        try:
            self._drain(store_id)
        except Exception:
            # Each storage has error classes of its own. Workers look by themselves, so mail waits a second at most.
            self._left_alone_until = time.monotonic() + LEFT_ALONE_S
            logger.warning("the queue of nudges does not answer; workers find new mail by looking", exc_info=True)

    def receive_with(self, receive: Callable[[int], None]) -> None:
        """Say what this process does with the nudges that it takes out of the queue: only workers do."""
        self._receive = receive

    @property
    def waits(self) -> bool:
        """Whether `take` waits a while for a nudge by itself."""
        return bool(self.huey.storage.blocking)

    def take(self) -> bool:
        """Pass on one nudge from the queue; False when there is none. Errors are those of the queue's storage."""
        self.prepare_queue()
        # Not by Huey's own hands: it would ask the storage twice whether the nudge was revoked, and log it two times.
        task = self.huey.dequeue()
        if task is None:
            return False
        task.execute()
        return True

    def prepare_queue(self) -> None:
        """Make what the queue's storage needs, once. Only workers do: whoever accepts mail must not wait for it."""
        if not self._is_prepared and isinstance(self.huey, PostgresHuey):
            self.huey.storage.initialize_schema()
        self._is_prepared = True

    def _received(self, store_id: int) -> None:
        if self._receive is not None:
            self._receive(store_id)

    def _raise(self, store_id: int) -> bool:
        """Raise the store's flag in a transaction of its own; False when it was up already.

        After the commit of the mail: whoever lowers it looks for mail afterwards, and then sees ours. Looked at before
        it is written: while mail streams in it is up, and a look waits for nobody.
        """
        if store_id not in self._known:
            self._add_row(store_id)
        found = _is_up.first(db.engine, {"store": store_id})
        if found is not None and found[0]:
            return False
        with writing(), db.engine.begin() as connection:
            return connection.execute(_raise_flag, {"store": store_id}).rowcount == 1

    def _add_row(self, store_id: int) -> None:
        try:
            with writing(), db.engine.begin() as connection:
                connection.execute(insert(StoreNudge).values(store_id=store_id, is_pending=False))
        except IntegrityError:
            pass  # it is there, or the store is gone and has no mail
        with self._lock:
            self._known.add(store_id)


def lower_flag(store_id: int, connection: Connection | None = None) -> None:
    """Take note of a nudge, before looking for mail: what comes in from now on needs another one.

    Commits, unless it joins the transaction of a connection: mail is looked for after that one's commit.
    """
    with writing(), db.engine.begin() if connection is None else nullcontext(connection) as ours:
        ours.execute(_lower_flag, {"store": store_id})


def after_commit(store_id: int, nudges: Nudges) -> None:
    """Send a nudge when the current transaction is committed, and not at all if it never is."""
    session = db.session()
    session.info.setdefault(_STORES, {})[store_id] = nudges


@event.listens_for(Session, "after_commit")
def _note(session: Session) -> None:
    if session.get_nested_transaction() is None:  # the end of a savepoint commits nothing
        session.info[_COMMITTED] = session.info.pop(_STORES, {})


@event.listens_for(Session, "after_transaction_end")
def _send(session: Session, transaction: SessionTransaction) -> None:
    """Tell of what was committed, now that the session has given its connection back: nobody holds two."""
    if transaction.parent is None:
        session.info.pop(_STORES, None)
        for store_id, nudges in session.info.pop(_COMMITTED, {}).items():
            nudges.send(store_id)


def open_queue(url: str) -> Huey:
    """Return the Huey of this installation; nothing is dialled before its first use, but an SQLite file is made."""
    # Nobody waits for a nudge's result, and one that broke is not repeated: workers look anyway.
    options: dict[str, Any] = {"results": False, "store_none": False, "utc": True}
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not worth a disk flush each: a nudge lost in a power cut is found by looking.
        return SqliteHuey(QUEUE_NAME, filename=str(path), fsync=False, timeout=TIMEOUT_S, **options)
    if urlsplit(url).scheme == "postgresql":
        return PostgresHuey(QUEUE_NAME, dsn=url, create_tables=False, connect_timeout=2, **options)
    return RedisHuey(QUEUE_NAME, url=f"{url}{'&' if '?' in url else '?'}socket_connect_timeout={TIMEOUT_S}", **options)
