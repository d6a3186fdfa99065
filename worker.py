"""`flask worker`: gives stores their turns until it is told to stop.

No mail rule and no SQL here. A crew of threads drains stores; one thread takes nudges from Huey's queue, one keeps
leases alive, and this one looks every second for what nobody was told of, and sweeps up after workers that died. Any
number of workers may run, on any number of machines: leases in the database decide who has what.
Source: performance.md 1.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

import heap
from extensions import db
from mail import doctor, foresight, outbox, outbox_mending, pace, purge, upkeep, workers
from mail.drain import Drainer
from mail.equipment import Equipment
from mail.nudges import HueyNudges
from mail.outbox_work import RENEWALS_PER_LEASE
from mail.smtp.pool import ConversationPool
from mail.sweeper import Sweeper
from mail.turns import Turns
from models.types import new_uid

if TYPE_CHECKING:
    from flask import Flask

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
SAY_ALIVE_EVERY_S = 5.0
TIDY_EVERY_S = 3600.0
CARE_EVERY_S = 5.0
FORESEE_EVERY_S = 60.0
# Threads that renew tokens ahead of their use: one endpoint that hangs must not keep the others from it.
CARERS = 2
# Huey's own default is to look less and less often, up to ten seconds; a sign-in code should not wait for that.
QUEUE_DELAY_S = 0.05
# Under the 30 seconds that a process manager waits before it kills.
STOP_WITHIN_S = 25.0
# A thread that has not moved for this long waits for a server. While stores are in the line, another thread takes its
# place, up to so many times the usual number.
STUCK_AFTER_S = 2.0
MOST_THREADS = 4
_TURN_TIMEOUT_S = 10.0
_AWAY_S = 2.0
_SAY_AGAIN_S = 60.0


def run(app: Flask, *, threads: int = 16, once: bool = False) -> None:
    """Deliver until SIGTERM or SIGINT, or with `once` until nothing is due any more.

    At the end, messages under way get up to 25 seconds; what is not finished then is freed by its lease, and sent
    again at most in the one case where its last bytes are out and the answer is not (it is marked then).
    """
    heap.keep_small()
    worker = Worker(app, threads=threads)
    with _stopped_by_signals(worker.stopping):
        worker.run(once=once)


class Worker:
    """One process's share of the work. `stopping` may be set from anywhere."""

    def __init__(self, app: Flask, *, threads: int = 16) -> None:
        self.stopping = threading.Event()
        self._app = app
        self._equipment: Equipment = app.extensions["storepost"]
        self._threads = threads
        self._turns = Turns()
        self._hands = _Hands(self._turns, self.stopping)
        self._pool = ConversationPool()
        self._drainer = Drainer(self._equipment, self._pool, self._hands, window=app.config["SMTP_WINDOW"])
        self._crew: list[threading.Thread] = []
        self._uid = new_uid()
        self._trouble = _Trouble()

    def run(self, *, once: bool = False) -> None:
        finished = threading.Event()
        helpers = [self._start(self._keep_leases, "renew-leases", finished)]
        if isinstance(self._equipment.nudges, HueyNudges) and not once:
            helpers.append(self._start(self._take_nudges, "nudges", self._equipment.nudges))
        if not once:
            helpers += [self._start(self._look_after, f"connections-{n}", finished, n == 0) for n in range(CARERS)]
        for _ in range(self._threads):
            self._hire()
        logger.info("worker started with %d threads", self._threads)
        try:
            with self._app.app_context():
                self._look(once=once)
        finally:
            self._stop(finished, helpers)

    def _start(self, target: object, name: str, *arguments: object) -> threading.Thread:
        # Daemons: a conversation that hangs must not keep a stopped process from ending.
        thread = threading.Thread(target=target, name=name, args=arguments, daemon=True)  # type: ignore[arg-type]  # a method
        thread.start()
        return thread

    def _stop(self, finished: threading.Event, helpers: list[threading.Thread]) -> None:
        self.stopping.set()
        self._turns.close()
        self._hands.ends_at = ends = time.monotonic() + STOP_WITHIN_S
        for thread in self._crew:
            thread.join(max(0.0, ends - time.monotonic()))
        finished.set()
        for thread in helpers:
            thread.join(1.5)
        self._pool.close_all()
        with self._app.app_context():
            try:
                workers.sign_off(self._uid)
            except SQLAlchemyError:
                logger.debug("could not sign off", exc_info=True)
            db.session.remove()
        logger.info("worker stopped, %d leases left to run out", len(self._hands.leases()))

    # Finding work --------------------------------------------------------------------------------------------------

    def _look(self, *, once: bool) -> None:
        """Look for what is due, sweep and tidy up. Trouble of the database is waited out, never fatal."""
        next_alive = next_tidy = 0.0
        sweeper = Sweeper(self._equipment.lease)
        while not self.stopping.is_set():
            try:
                now = time.monotonic()
                if now >= next_alive:
                    workers.say_alive(
                        self._uid, name=f"{socket.gethostname()[:100]} {os.getpid()}", threads=self._threads
                    )
                    doctor.sweep()
                    next_alive = now + SAY_ALIVE_EVERY_S
                sweeper.sweep()
                is_quiet = self._turns.is_quiet
                due = outbox.due_stores()
                for store_id in due:
                    self._turns.offer(store_id)
                if once and is_quiet and self._turns.is_quiet:
                    return
                if now >= next_tidy:
                    self._tidy()
                    next_tidy = now + TIDY_EVERY_S
            except SQLAlchemyError:
                self._trouble.tell("the database does not answer the worker")
                sweeper.put_off()
                self.stopping.wait(_AWAY_S)
            finally:
                _forget_session()
            self._pool.close_idle()
            self._relieve_stuck()
            self.stopping.wait(0.02 if once else LOOK_EVERY_S)

    def _tidy(self) -> None:
        outbox_mending.give_up_unreachable()
        pace.tidy()
        workers.forget_dead()
        content_after = timedelta(days=self._app.config.get("KEEP_CONTENT_DAYS", 7))
        all_after = timedelta(days=self._app.config.get("KEEP_METADATA_DAYS", 90))
        while purge.purge(content_after=content_after, all_after=all_after) and not self.stopping.is_set():
            # In pieces, so that nobody who accepts or sends waits long for the database.
            self.stopping.wait(0.05)

    def _look_after(self, finished: threading.Event, foresees: bool) -> None:
        """Renew tokens ahead of their use, keep idle grants alive, and announce what will end."""
        next_look = 0.0
        while not finished.is_set() and not self.stopping.is_set():
            with self._app.app_context():
                try:
                    upkeep.look_after_all(self._equipment)
                    if foresees and time.monotonic() >= next_look:
                        foresight.announce_all()
                        next_look = time.monotonic() + FORESEE_EVERY_S
                except SQLAlchemyError:
                    self._trouble.tell("connections could not be looked after")
                except Exception:
                    # The outermost net of this thread: without it nobody would renew anything any more.
                    logger.exception("looking after connections broke")
                finally:
                    _forget_session()
            self.stopping.wait(CARE_EVERY_S)

    def _take_nudges(self, nudges: HueyNudges) -> None:
        """Pass on what Huey's queue holds. It may be down for hours: mail is found by looking then."""
        nudges.receive_with(self._turns.offer)
        while not self.stopping.is_set():
            if self._turns.waiting and not self._turns.idle:
                # Somebody else's threads may be free: leave the rest in the queue.
                self.stopping.wait(QUEUE_DELAY_S)
                continue
            try:
                found = nudges.take()
            except Exception:
                # Each storage has error classes of its own.
                self._trouble.tell("the queue of nudges does not answer; new mail is found by looking")
                self.stopping.wait(_AWAY_S)
                continue
            if not found and not nudges.waits:
                self.stopping.wait(QUEUE_DELAY_S)

    # Doing it ------------------------------------------------------------------------------------------------------

    def _hire(self) -> None:
        thread = self._start(self._work, f"deliver-{len(self._crew)}", len(self._crew) >= self._threads)
        self._crew.append(thread)

    def _work(self, is_extra: bool) -> None:
        while not self.stopping.is_set():
            store_id = self._turns.take(_TURN_TIMEOUT_S)
            if store_id is None:
                if is_extra:
                    return
                continue
            again: timedelta | None = None
            try:
                with self._app.app_context(), self._hands.at_work():
                    again = self._drainer.drain(store_id)
            except SQLAlchemyError:
                self._trouble.tell("the database does not answer a delivery")
                self.stopping.wait(_AWAY_S)
            except Exception:
                # The outermost net: the leases run out, the messages come back, in the end one by one, five times.
                logger.exception("delivery broke", extra={"store_id": store_id})
            finally:
                self._turns.done(store_id, None if again is None else again.total_seconds())

    def _relieve_stuck(self) -> None:
        """Put further threads beside those that wait for servers that hang, while stores are in the line."""
        self._crew = [thread for thread in self._crew if thread.is_alive()]
        stuck = self._hands.stuck(STUCK_AFTER_S)
        wanted = min(self._threads + stuck, self._threads * MOST_THREADS)
        while self._turns.waiting and not self._turns.idle and len(self._crew) < wanted:
            self._hire()
            time.sleep(0.001)  # it takes a store from the line, which the next round looks at

    def _keep_leases(self, finished: threading.Event) -> None:
        lease = self._equipment.lease
        while not finished.wait(lease.total_seconds() / RENEWALS_PER_LEASE):
            leases = self._hands.leases()
            if not leases:
                continue
            with self._app.app_context():
                try:
                    outbox.renew(leases, lease=lease)
                    pace.renew_slots(leases, lease=lease)
                except SQLAlchemyError:
                    self._trouble.tell("leases could not be renewed")
                finally:
                    _forget_session()


class _Hands:
    """What this process has in its hands, and how its threads get on; the drains' view of the process."""

    def __init__(self, turns: Turns, stopping: threading.Event) -> None:
        self.ends_at: float | None = None
        self._turns = turns
        self._stopping = stopping
        self._leases: set[str] = set()
        self._moved_at: dict[int, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def hold(self, lease: str) -> Iterator[None]:
        with self._lock:
            self._leases.add(lease)
        try:
            yield
        finally:
            with self._lock:
                self._leases.discard(lease)

    def leases(self) -> list[str]:
        with self._lock:
            return list(self._leases)

    def others_wait(self, store_id: int) -> bool:
        return self._turns.others_wait(store_id)

    def offer_more(self, store_id: int, *, at_most: int) -> None:
        self._turns.offer_more(store_id, at_most=at_most)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        self.moved()
        try:
            yield
        finally:
            self._moved_at.pop(threading.get_ident(), None)

    def moved(self) -> None:
        self._moved_at[threading.get_ident()] = time.monotonic()

    def stuck(self, after_s: float) -> int:
        """How many threads have not got on for so long."""
        before = time.monotonic() - after_s
        return sum(1 for at in list(self._moved_at.values()) if at < before)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_over(self) -> bool:
        return self.ends_at is not None and time.monotonic() >= self.ends_at - 1


class _Trouble:
    """Says of the same trouble once a minute that it lasts: whoever looks every second must not fill the log."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def tell(self, words: str) -> None:
        now = time.monotonic()
        if now - self._told.get(words, -_SAY_AGAIN_S) >= _SAY_AGAIN_S:
            self._told[words] = now
            logger.warning(words, exc_info=True)


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
