"""One turn of one store: take a slot of its lane, and send what is due over one conversation.

Safe to run twice, late or never: slots and claims are leases in the database, and whoever looks again finds what is
due. Source: performance.md 1, security.md 63-71.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from extensions import db
from mail import delivery, nudges, outbox_finish, outbox_work, pace
from mail.equipment import Equipment
from mail.errors import Stage
from mail.ledger import Ledger
from mail.outbox_work import ClaimedMessage
from mail.outcomes import Outcome
from mail.pace import LaneState, Limits
from mail.smtp.pool import ConversationPool
from mail.way_out import NOT_BEGUN, WayOut, load_way_out
from models.database import writing
from models.outbox import MessageStatus, Priority

logger = logging.getLogger(__name__)

# Messages claimed at a time: few enough that an urgent one does not wait long behind them.
BATCH = 20
# With this much behind a batch the next one is larger: going several at a time, it takes no longer.
LONG_BACKLOG = 100
LONG_BATCH = 64
# Every message in flight is one that a crash may double: at most one of so many that wait.
WAITING_PER_FLIGHT = 12
# A turn ends after these when other stores wait for a thread.
TURN_MESSAGES = 60
TURN_S = 5.0
# All slots are taken: whoever has them goes on with this store's mail, or frees one for it.
SLOT_WAIT = timedelta(seconds=1)
# The longest that a process keeps from looking again, since somebody may mend the trouble meanwhile.
LOOK_AGAIN = timedelta(seconds=5)

_BEFORE_THE_MESSAGE = frozenset({Stage.RESOLVE, Stage.CONNECT, Stage.TLS, Stage.TOKEN, Stage.GREET, Stage.AUTH})


class Hands(Protocol):
    """What the process that drains knows and keeps: leases to renew, other stores that wait, being told to stop."""

    def hold(self, lease: str) -> AbstractContextManager[None]:
        """Keep this lease alive inside the block."""
        ...

    def others_wait(self, store_id: int) -> bool: ...

    def offer_more(self, store_id: int, *, at_most: int) -> None:
        """Ask for one more thread for this store."""
        ...

    def moved(self) -> None:
        """Tell that this thread got on with its work: it is not stuck."""
        ...

    @property
    def is_stopping(self) -> bool: ...

    @property
    def is_over(self) -> bool:
        """Whether the time for stopping is used up too."""
        ...


@dataclass(frozen=True)
class Drainer:
    """What all turns of a process share. `window`: messages in flight at a time while the backlog is long."""

    equipment: Equipment
    pool: ConversationPool
    hands: Hands
    window: int = 1

    def drain(self, store_id: int) -> timedelta | None:
        """Send what is due of this store for one turn, and return after how long it wants another one.

        Zero: at once, behind the others. None: when there is new mail.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database is away; claims and slots run out by themselves.
        """
        way = load_way_out(store_id, self.equipment)
        if isinstance(way, Outcome):
            nudges.lower_flag(store_id)
            _hold(store_id, way)
            return None
        limits = pace.limits_of(way.route)
        state = pace.look(limits)
        if wait := _wait_of(state):
            nudges.lower_flag(store_id)
            return wait
        # In one transaction: whoever waits for this mail waits for each commit.
        with writing(), db.engine.begin() as connection:
            nudges.lower_flag(store_id, connection)
            slot = pace.take_slot(limits, store_id, lease=self.equipment.lease, connection=connection)
        if slot is None:
            return SLOT_WAIT
        try:
            with self.hands.hold(slot.lease):
                return _Turn(self, store_id, way, limits, state).run()
        finally:
            pace.free_slot(slot)


class _Turn:
    def __init__(self, drainer: Drainer, store_id: int, way: WayOut, limits: Limits, state: LaneState) -> None:
        self._drainer = drainer
        self._hands = drainer.hands
        self._store_id = store_id
        self._way = way
        self._limits = limits
        self._state = state
        self._ends = time.monotonic() + TURN_S
        self._sent = 0
        self._wait: timedelta | None = None
        self._is_over = False
        self._is_failing = state.is_failing
        self._has_asked_for_more = False
        self._next_batch = BATCH

    def run(self) -> timedelta | None:
        while not self._is_over and not self._hands.is_stopping:
            claimed = self._claim()
            if not claimed:
                break
            with self._hands.hold(claimed[0].lease):
                self._deliver(claimed)
            if not self._is_over and self._may_be_relieved and self._hands.others_wait(self._store_id):
                return timedelta()
        return self._wait

    @property
    def _may_be_relieved(self) -> bool:
        return self._sent >= TURN_MESSAGES or time.monotonic() >= self._ends

    def _claim(self) -> list[ClaimedMessage]:
        limit, lease = self._batch, self._drainer.equipment.lease
        found = outbox_work.claim(limit=limit, store_id=self._store_id, only_suspects=False, lease=lease)
        # What took workers down before goes alone and last, and so takes nobody along when it does it again.
        return found or outbox_work.claim(limit=1, store_id=self._store_id, only_suspects=True, lease=lease)

    @property
    def _batch(self) -> int:
        """Fewer where a rate makes them wait, so that an urgent message is not behind many already claimed."""
        if self._state.per_minute is not None:
            return max(1, min(BATCH, self._state.per_minute // 10))
        return self._next_batch

    def _deliver(self, claimed: list[ClaimedMessage]) -> None:
        ledger = Ledger(self._limits, per_minute=self._state.per_minute)
        is_full = len(claimed) == self._batch
        open_ = deque(claimed)
        started = time.monotonic()
        run = delivery.deliver_all(
            claimed,
            self._way,
            equipment=self._drainer.equipment,
            pool=self._drainer.pool,
            window=self._window(claimed),
            mark=ledger.mark,
            goes_on=lambda: self._goes_on(ledger, open_),
        )
        try:
            for message, outcome in run:
                open_.remove(message)
                ledger.note(message, outcome)
                self._hands.moved()
                self._heed(outcome, is_full=is_full)
                _log(message, outcome, time.monotonic() - started)
                started = time.monotonic()
            # Told to stop, or in trouble: what was not begun is free again at once, for whoever goes on. After a fault
            # of ours it is left to the leases, which count how often a message took somebody down.
            ledger.give_back(list(open_))
        finally:
            ledger.settle(is_over=lambda: self._hands.is_over)
            db.session.remove()
        if ledger.is_blocked:
            self._is_over = True
            self._wait = _wait_of(pace.look(self._limits), low=ledger.wants_low_permit) or timedelta(milliseconds=50)

    def _goes_on(self, ledger: Ledger, open_: deque[ClaimedMessage]) -> bool:
        if self._is_over or self._hands.is_stopping or ledger.is_blocked:
            return False
        if self._state.per_minute is not None and open_:
            # The permit itself is taken at the last moment. Where a message takes several round trips, one that is
            # withdrawn then costs the connection, so none is begun without one in sight.
            low = open_[0].priority == Priority.LOW
            ledger.is_blocked, ledger.wants_low_permit = _wait_of(pace.look(self._limits), low=low) is not None, low
        return not ledger.is_blocked

    def _window(self, claimed: Collection[ClaimedMessage]) -> int:
        """How many may be in flight: the more wait, the more. Looks behind a full batch, for the next one as well."""
        if self._drainer.window == 1 or self._state.per_minute is not None:
            return 1
        is_full = len(claimed) == self._batch
        counted = max(LONG_BACKLOG, self._drainer.window * WAITING_PER_FLIGHT)
        behind = outbox_work.backlog(self._store_id, at_most=counted) if is_full else 0
        self._next_batch = LONG_BATCH if behind >= LONG_BACKLOG else BATCH
        return max(1, min(self._drainer.window, (behind + len(claimed)) // WAITING_PER_FLIGHT))

    def _heed(self, outcome: Outcome, *, is_full: bool) -> None:
        """What this outcome means for those that follow it on the same lane."""
        if outcome.status is MessageStatus.SENT:
            self._sent += 1
            if self._is_failing:
                pace.note_success(self._limits)
                self._is_failing = False
            if is_full and not self._has_asked_for_more:
                # More than a batch waits, and the server is known to work: fill the connections it allows.
                self._hands.offer_more(self._store_id, at_most=self._state.connections)
                self._has_asked_for_more = True
        elif outcome.code == "throttled" and outcome.stage != Stage.TOKEN:  # that is the token endpoint's rate
            pause = pace.note_throttled(
                self._limits, stage=Stage(outcome.stage), code=outcome.code, detail=outcome.detail, wish_s=None
            )
            if pause:
                self._stop_for(pause)
        elif _is_trouble_of_the_server(outcome):
            self._stop_for(pace.note_failure(self._limits, code=outcome.code, detail=outcome.detail))
        elif outcome.holds_queue:
            self._is_over = True
        elif outcome.code in NOT_BEGUN:
            # Other settings, or somebody else's claim: look at everything anew.
            self._stop_for(timedelta())

    def _stop_for(self, wait: timedelta) -> None:
        self._is_over = True
        self._wait = min(wait, LOOK_AGAIN)


def _is_trouble_of_the_server(outcome: Outcome) -> bool:
    """Whether the next message would meet the same: the server, or the way to it, and not this message."""
    if outcome.status is MessageStatus.UNCERTAIN:
        return True
    if outcome.status is not MessageStatus.DEFERRED or outcome.code == "recipients_deferred":
        return False
    return outcome.stage in _BEFORE_THE_MESSAGE or outcome.reply_code in (None, 421)


def _wait_of(state: LaneState, *, low: bool = False) -> timedelta | None:
    """How long this lane wants to be left alone, at most until somebody should look again; None: not at all."""
    if state.recipients_left is not None and state.recipients_left <= 0:
        return LOOK_AGAIN
    wait = max(state.pause, state.next_low_permit_in if low else state.next_permit_in)
    return min(wait, LOOK_AGAIN) if wait else None


def _hold(store_id: int, outcome: Outcome) -> None:
    """Nothing of the store can go: hold what waits, so that the pages tell why."""
    if outcome.hold_reason is not None:
        outbox_finish.hold_queue(store_id, outcome.hold_reason, outcome)
    db.session.commit()
    db.session.remove()


def _log(message: ClaimedMessage, outcome: Outcome, took_s: float) -> None:
    facts: dict[str, Any] = {
        "message_uid": message.uid,
        "store_id": message.store_id,
        "outcome": outcome.status.value,
        "code": outcome.code,
        "reply_code": outcome.reply_code,
        "hold_reason": outcome.hold_reason.value if outcome.hold_reason else None,
        "duration_ms": round(took_s * 1000),
    }
    logger.info("%s %s", outcome.status.value, message.uid, extra=facts)
