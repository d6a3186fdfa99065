"""`flask worker`: claims what is due, delivers it, writes down what came of it, until it is told to stop.

No mail rule and no SQL here. A few threads deliver; this thread claims for them, sweeps up after workers that died,
and another one renews the leases. Any number of workers may run: the claim decides who has a message.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from extensions import db
from mail import delivery, doctor, outbox
from mail.equipment import Equipment
from mail.outbox import ClaimedMessage, MessageStatus, Outcome
from mail.smtp.pool import ConversationPool

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

IDLE_S = 0.25
SWEEP_EVERY_S = 5.0
# Under the 30 seconds that a process manager waits before it kills.
STOP_WITHIN_S = 25.0
# No store may take all threads: its server may hang.
PER_STORE = 3
# Messages that follow each other on one conversation before other stores get their turn.
BATCH = 20
# From here on a store's messages go several at a time: every one in flight is one that a crash may double.
LONG_BACKLOG = 100
_AWAY_FIRST_S, _AWAY_LONGEST_S = 0.5, 10.0


def run(app: Flask, *, threads: int = 4, once: bool = False) -> None:
    """Deliver until SIGTERM or SIGINT, or with `once` until nothing is due any more.

    At the end, messages under way get up to 25 seconds; what is not finished then is freed by its lease, and sent
    again at most in the one case where its last bytes are out and the answer is not (it is marked then).
    """
    worker = Worker(app, threads=threads)
    with _stopped_by_signals(worker.stopping):
        worker.run(once=once)


class Worker:
    """One process's share of the work. `stopping` may be set from anywhere."""

    def __init__(self, app: Flask, *, threads: int = 4) -> None:
        self.stopping = threading.Event()
        self._app = app
        self._equipment: Equipment = app.extensions["storepost"]
        self._threads = threads
        self._window: int = app.config["SMTP_WINDOW"]
        self._pool = ConversationPool()
        self._jobs: queue.SimpleQueue[list[ClaimedMessage] | None] = queue.SimpleQueue()
        self._jobs_of: Counter[int] = Counter()
        self._in_hand: dict[str, ClaimedMessage] = {}
        self._lock = threading.Lock()
        self._one_done = threading.Event()

    def run(self, *, once: bool = False) -> None:
        # Daemons: a conversation that hangs must not keep a stopped process from ending.
        crew = [threading.Thread(target=self._work, name=f"deliver-{n}", daemon=True) for n in range(self._threads)]
        finished = threading.Event()
        renewer = threading.Thread(target=self._renew, args=(finished,), name="renew-leases", daemon=True)
        for thread in (*crew, renewer):
            thread.start()
        logger.info("worker started with %d threads", self._threads)
        try:
            with self._app.app_context():
                self._feed(once=once)
        finally:
            for _ in crew:
                self._jobs.put(None)
            ends = time.monotonic() + STOP_WITHIN_S
            for thread in crew:
                thread.join(max(0.0, ends - time.monotonic()))
            finished.set()
            renewer.join(1)
            self._pool.close_all()
            left = len(self._in_hand)
            logger.info("worker stopped, %d messages left to their leases", left)

    # Finding work --------------------------------------------------------------------------------------------------

    def _feed(self, *, once: bool) -> None:
        """Keep the threads busy. Trouble of the database is waited out, never fatal."""
        next_sweep, away_s = 0.0, 0.0
        while not self.stopping.is_set():
            try:
                if time.monotonic() >= next_sweep:
                    outbox.sweep()
                    doctor.sweep()
                    next_sweep = time.monotonic() + SWEEP_EVERY_S
                self._pool.close_idle()
                was_idle = not self._in_hand
                claimed = self._claim()
                away_s = 0.0
            except SQLAlchemyError:
                _log_trouble("the database does not answer the worker")
                _forget_session()
                away_s = min(max(away_s * 2, _AWAY_FIRST_S), _AWAY_LONGEST_S)
                self.stopping.wait(away_s)
                continue
            if claimed:
                continue
            if once and was_idle:
                return
            self._one_done.wait(IDLE_S)
            self._one_done.clear()

    def _claim(self) -> int:
        with self._lock:
            free = self._threads - self._jobs_of.total()
            busy = {store_id for store_id, jobs in self._jobs_of.items() if jobs >= PER_STORE}
        if free < 1 or not outbox.has_due():
            return 0
        # One at a time while stores compete, so that the limit per store holds within a batch too.
        taken = 0
        while taken < free:
            claimed = outbox.claim(limit=1, skip_stores=busy)
            if not claimed:
                break
            store_id = claimed[0].store_id
            claimed += self._more_of(claimed[0])
            with self._lock:
                self._in_hand |= {message.uid: message for message in claimed}
                self._jobs_of[store_id] += 1
                if self._jobs_of[store_id] >= PER_STORE:
                    busy.add(store_id)
            self._jobs.put(claimed)
            taken += 1
        return taken

    def _more_of(self, first: ClaimedMessage) -> list[ClaimedMessage]:
        """Claim what shall follow the first message on the same conversation: a share of what the store has waiting.

        A message whose worker was lost goes alone, and so takes nobody along when it does it again.
        """
        if first.claims > 1:
            return []
        share = outbox.backlog(first.store_id, at_most=BATCH * PER_STORE) // PER_STORE
        return outbox.claim(limit=share, store_id=first.store_id, only_first_claims=True) if share else []

    # Doing it ------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (batch := self._jobs.get()) is not None:
            try:
                with self._app.app_context():
                    self._deliver(batch)
            except Exception:
                # The outermost net: the leases run out, the messages come back, one by one, five times at most.
                logger.exception("delivery broke", extra={"message_uids": [message.uid for message in batch]})
            finally:
                with self._lock:
                    for message in batch:
                        self._in_hand.pop(message.uid, None)
                    self._jobs_of[batch[0].store_id] -= 1
                    self._jobs_of += Counter()  # drops the zeros
                self._one_done.set()

    def _deliver(self, batch: list[ClaimedMessage]) -> None:
        waiting = deque(batch)

        def in_turn() -> Iterator[ClaimedMessage]:
            while waiting and not self.stopping.is_set():
                yield waiting.popleft()

        window = self._window if len(batch) > 1 and self._is_long(batch[0].store_id) else 1
        started = time.monotonic()
        for message, outcome in delivery.deliver_all(
            in_turn(), equipment=self._equipment, pool=self._pool, window=window
        ):
            written = self._write_down(message, outcome)
            with self._lock:
                self._in_hand.pop(message.uid, None)
            facts: dict[str, Any] = {
                "message_uid": message.uid,
                "store_id": message.store_id,
                "outcome": outcome.status.value,
                "code": outcome.code,
                "reply_code": outcome.reply_code,
                "hold_reason": outcome.hold_reason.value if outcome.hold_reason else None,
                "duration_ms": round((time.monotonic() - started) * 1000),
            }
            words = "%s %s" if written else "%s %s, but the claim was lost"
            logger.info(words, outcome.status.value, message.uid, extra=facts)
            started = time.monotonic()
        for message in waiting:
            # Told to stop: what was not begun is free again at once, for whoever goes on.
            self._write_down(message, Outcome(MessageStatus.QUEUED))

    def _is_long(self, store_id: int) -> bool:
        return self._window > 1 and outbox.backlog(store_id, at_most=LONG_BACKLOG) >= LONG_BACKLOG

    def _write_down(self, message: ClaimedMessage, outcome: Outcome) -> bool:
        """Write the outcome, however long the database is away: the message itself is never sent again for that."""
        away_s = _AWAY_FIRST_S
        while True:
            try:
                return outbox.finish(message, outcome)
            except SQLAlchemyError:
                _log_trouble("the outcome of %s is kept until the database answers", message.uid)
                _forget_session()
                time.sleep(away_s)
                away_s = min(away_s * 2, _AWAY_LONGEST_S)

    def _renew(self, finished: threading.Event) -> None:
        while not finished.wait(outbox.RENEW_EVERY.total_seconds()):
            with self._lock:
                leases = {message.lease for message in self._in_hand.values()}
            if not leases:
                continue
            with self._app.app_context():
                try:
                    outbox.renew(leases)
                except SQLAlchemyError:
                    _log_trouble("leases could not be renewed")
                    _forget_session()


def _log_trouble(words: str, *values: str) -> None:
    logger.warning(words, *values, exc_info=True)


def _forget_session() -> None:
    """Give back a connection that may be broken; closing it may fail for the same reason as its use."""
    try:
        db.session.remove()
    except SQLAlchemyError:
        logger.debug("the session could not be closed", exc_info=True)


@contextmanager
def _stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
