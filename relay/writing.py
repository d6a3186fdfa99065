"""Messages go into the database, several in one transaction, in threads of their own; each gets its own answer.

The event loop never waits for the database or takes a message apart: it puts a `HandedOver` in and waits for its
answer. "Accepted" is answered after the commit and never before (security.md 61).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from extensions import db
from mail import api_keys, outbox, relay_access, relay_intake
from mail.api_keys import KeyHolder
from mail.equipment import Equipment
from mail.outbox import Enqueued, HandedIn
from models.database import reading
from relay.data import make_plain
from relay.limits import Limits

if TYPE_CHECKING:
    from flask import Flask

    from mail.outbox import NewMessage

logger = logging.getLogger(__name__)

# A database that is away fails every message in the same way; then the others need not wait for the same to be seen.
_IN_A_ROW = 2

UNREADABLE = "554 5.6.0 The message cannot be read"
DATABASE_AWAY = "451 4.3.0 The message could not be stored; send it again later"
REVOKED = "550 5.7.1 The API key may not send any more; sign in with another one"


@dataclass(frozen=True)
class Answer:
    """What the client is told; `uid` names the message when it is in the outbox for good."""

    reply: str
    uid: str = ""
    is_signed_out: bool = False


@dataclass
class HandedOver:
    """A message as it was read, dots and all, and the promise of an answer.

    The promise can be taken back (`answer.cancel()`) until a writer has begun with it; after that only the outcome is
    true.
    """

    holder: KeyHolder
    recipients: tuple[str, ...]
    content: bytes | bytearray
    answer: Future[Answer] = field(default_factory=Future)

    @property
    def size_bytes(self) -> int:
        return len(self.content)


@dataclass(frozen=True)
class _Ready:
    handed: HandedOver
    new: NewMessage


class Writers:
    """The threads that write. Start them once, stop them when nobody hands over any more."""

    def __init__(self, app: Flask, limits: Limits) -> None:
        self._app = app
        self._equipment: Equipment = app.extensions["storepost"]
        self._limits = limits
        self._queue: queue.SimpleQueue[HandedOver | None] = queue.SimpleQueue()
        with app.app_context():
            # SQLite has one writer and lets the next one sleep for a while; a lock wakes it at once. Meanwhile it
            # takes its messages apart.
            self._turn: AbstractContextManager[object] = (
                threading.Lock() if db.engine.dialect.name == "sqlite" else nullcontext()
            )
        # Daemons: a database that hangs must not keep a stopped process from ending.
        self._threads = [
            threading.Thread(target=self._work, name=f"relay-write-{n}", daemon=True) for n in range(limits.writers)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def hand_over(self, handed: HandedOver) -> None:
        """Let a writer take it; its answer comes by `handed.answer`."""
        self._queue.put(handed)

    def stop(self, within_s: float) -> None:
        """Write what was handed over, and end."""
        for _ in self._threads:
            self._queue.put(None)
        ends = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, ends - time.monotonic()))

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            group = self._more_behind(first)
            taken = [handed for handed in group if handed.answer.set_running_or_notify_cancel()]
            try:
                with self._app.app_context():
                    self._write(taken)
            except Exception:
                # The outermost net: whoever still waits must hear something, and the thread must live.
                logger.exception("writing relayed messages broke")
                for handed in taken:
                    if not handed.answer.done():
                        handed.answer.set_result(Answer(DATABASE_AWAY))

    def _more_behind(self, first: HandedOver) -> list[HandedOver]:
        """What waits behind the first one and fits into its transaction."""
        group, room = [first], self._limits.group_bytes - first.size_bytes
        while len(group) < self._limits.group and room > 0:
            try:
                handed = self._queue.get_nowait()
            except queue.Empty:
                break
            if handed is None:
                self._queue.put(None)  # the end was meant for the next turn
                break
            group.append(handed)
            room -= handed.size_bytes
        return group

    # One group ---------------------------------------------------------------------------------------------------

    def _write(self, taken: Sequence[HandedOver]) -> None:
        ready = []
        for handed in taken:
            try:
                ready.append(_Ready(handed, relay_intake.read_message(make_plain(handed.content), handed.recipients)))
            except ValueError as error:
                handed.answer.set_result(Answer(f"554 5.6.0 {error}"))
            except Exception:
                # Whatever it is, it is in this message, and will be there again when it comes back.
                logger.exception("a relayed message could not be read")
                handed.answer.set_result(Answer(UNREADABLE))
        if ready and self._try(ready) is not None and len(ready) > 1:
            self._write_each(ready)

    def _write_each(self, ready: Sequence[_Ready]) -> None:
        """After a group has failed: one message that cannot be stored must not keep out the others."""
        in_a_row = 0
        for one in ready:
            if in_a_row >= _IN_A_ROW:
                one.handed.answer.set_result(Answer(DATABASE_AWAY))
                continue
            error = self._try([one])
            in_a_row = in_a_row + 1 if isinstance(error, OperationalError) else 0

    def _try(self, ready: Sequence[_Ready]) -> Exception | None:
        """Store all of them and answer each; or return what came in between.

        A single message is answered in any case. A group that failed is not: each of it is to be tried alone, unless
        the commit had gone through and only its confirmation was lost.
        """
        answers: list[Answer] = []
        failure: Exception | None = None
        try:
            with self._turn:
                self._store(ready, answers)
                db.session.commit()
        except Exception as error:
            _give_back_session()
            if not (len(answers) == len(ready) and _are_stored(answers)):
                failure, answers = error, [Answer(DATABASE_AWAY)]
        if failure is not None and len(ready) > 1:
            return failure
        if failure is not None:
            logger.warning("a relayed message could not be stored", exc_info=failure)
        for one, answer in zip(ready, answers, strict=True):
            one.handed.answer.set_result(answer)
        return failure

    def _store(self, ready: Sequence[_Ready], answers: list[Answer]) -> None:
        """Add all of them to one transaction, with what each is told once that is committed."""
        holders = {one.handed.holder.key_id: one.handed.holder for one in ready}
        usable = relay_access.usable_keys(holders)
        found: dict[int, Answer] = {}
        for key_id in usable:
            holder = holders[key_id]
            mine = [one for one in ready if one.handed.holder.key_id == key_id]
            stored = outbox.enqueue_many(
                holder.store_id,
                [HandedIn(one.new) for one in mine],
                equipment=self._equipment,
                api_key_id=key_id,
                source="relay",
            )
            found |= {id(one): _accepted(each) for one, each in zip(mine, stored, strict=True)}
            # Signed in long ago perhaps, when its note was still fresh.
            api_keys.touch(replace(holder, is_stale=True))
        answers += [found.get(id(one), Answer(REVOKED, is_signed_out=True)) for one in ready]


def _accepted(stored: object) -> Answer:
    assert isinstance(stored, Enqueued)  # there are no idempotency keys here, so no conflicts
    return Answer(f"250 2.0.0 Queued as {stored.uid}", stored.uid)


def _are_stored(answers: Sequence[Answer]) -> bool:
    """Whether a transaction was committed although it ended in an error: only its confirmation was lost."""
    try:
        with reading():
            found = relay_intake.are_stored([answer.uid for answer in answers if answer.uid])
            db.session.rollback()
    except SQLAlchemyError:
        return False
    return found


def _give_back_session() -> None:
    """Give back a connection that may be broken; closing it may fail for the same reason as its use."""
    try:
        db.session.remove()
    except SQLAlchemyError:
        logger.debug("the session could not be closed", exc_info=True)
