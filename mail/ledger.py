"""What came of a run's messages, until it is written down; and the leave that each one needs before it commits.

The results of earlier messages are written in the transaction that gives leave to the next ones: a message costs one
commit, and a group that goes out together costs one as well. Results are never lost to a database that is away: they
are kept, and nothing new is begun meanwhile.
Source: security.md 64-66, performance.md 1.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from extensions import db
from mail import outbox_finish, outbox_groups, outbox_work, pace
from mail.outbox_finish import Leave
from mail.outbox_work import ClaimedMessage
from mail.outcomes import Outcome
from mail.pace import Limits
from mail.pace.limits import low_priority_share
from mail.way_out import NOT_BEGUN
from models.database import writing
from models.outbox import MessageStatus, Priority, RecipientStatus

logger = logging.getLogger(__name__)

# Short beside a lease: what is written down within it is nobody else’s meanwhile.
_AWAY_FIRST_S, _AWAY_LONGEST_S = 0.5, 2.0


class Ledger:
    """The results of one run, in order. Used by one thread.

    Attributes:
        is_blocked: the database did not answer, or the mailbox's rate is used up: no further message may begin.
        wants_low_permit: the last message that asked for a permit was one of low priority.
    """

    def __init__(self, limits: Limits, *, per_minute: int | None = None) -> None:
        self.is_blocked = False
        self.wants_low_permit = False
        self._limits = limits
        self._per_minute = per_minute
        self._kept: list[tuple[ClaimedMessage, Outcome]] = []
        self._returned: list[ClaimedMessage] = []

    def note(self, claimed: ClaimedMessage, outcome: Outcome) -> None:
        """Keep what came of a message, to be written with the next leave or by `settle`."""
        if outcome.status is MessageStatus.QUEUED and outcome.code in NOT_BEGUN:
            self._returned.append(claimed)
        else:
            self._kept.append((claimed, outcome))

    def give_back(self, claimed: list[ClaimedMessage]) -> None:
        """Free messages that were not begun, by the next `settle`."""
        self._returned += claimed

    def mark(self, claimed: Sequence[ClaimedMessage], leave: Leave) -> Collection[int]:
        """Write what is kept and ask for leave for these messages of one claim, all in one transaction; return the row
        ids of those that may go. See `outbox_finish.mark_committing`.

        None as well when the mailbox's rate is used up, or when the database does not answer: what is kept stays.
        """
        try:
            may_go = self._write_and_ask(claimed, leave)
        except SQLAlchemyError:
            logger.warning("no leave for %s: the database does not answer", claimed[0].uid, exc_info=True)
            self.is_blocked = True
            return ()
        self._kept.clear()
        self._returned.clear()
        return may_go

    def settle(self, *, is_over: Callable[[], bool] = lambda: False) -> bool:
        """Write all that is kept, however long the database is away; False when `is_over` said to stop trying.

        The messages themselves are never sent again for that: until their leases run out nobody else has them.
        """
        away_s = _AWAY_FIRST_S
        while self._kept or self._returned:
            try:
                with writing(), db.engine.begin() as connection:
                    self._write(connection)
            except SQLAlchemyError:
                logger.warning("%d outcomes are kept until the database answers", len(self._kept), exc_info=True)
                if is_over():
                    return False
                time.sleep(away_s)
                away_s = min(away_s * 2, _AWAY_LONGEST_S)
            else:
                self._kept.clear()
                self._returned.clear()
        return True

    def _write_and_ask(self, claimed: Sequence[ClaimedMessage], leave: Leave) -> Collection[int]:
        has_limits = self._per_minute is not None or self._limits.recipients_per_day is not None
        if not has_limits and not self._returned and outbox_groups.can_go_along(self._kept):
            lost, may_go = outbox_groups.finish_and_mark(self._kept, claimed, leave)
            _tell_of_lost(lost)
            return may_go
        with writing(), db.engine.begin() as connection:
            self._write(connection)
            return self._ask(claimed, leave, connection)

    def _ask(self, claimed: Sequence[ClaimedMessage], leave: Leave, connection: Connection) -> Collection[int]:
        if self._per_minute is None:
            return outbox_finish.mark_all_committing(claimed, leave, connection)
        return {one.id for one in claimed if self._ask_at_a_rate(one, leave, self._per_minute, connection)}

    def _ask_at_a_rate(self, claimed: ClaimedMessage, leave: Leave, per_minute: int, connection: Connection) -> bool:
        # What is kept is written in any case; the mark only together with a permit.
        with connection.begin_nested() as both:
            if not outbox_finish.mark_committing(claimed, leave, connection):
                return False
            if claimed.priority == Priority.LOW:
                # What is left of the rate is for what somebody waits for.
                self.wants_low_permit = True
                per_minute = low_priority_share(per_minute)
            if pace.take_permit(self._limits, per_minute, connection):
                return True
            both.rollback()
        self.is_blocked = True
        return False

    def _write(self, connection: Connection) -> None:
        # First what goes back to the queue: a result behind it may hold the queue as a whole.
        outbox_work.give_back(self._returned, connection)
        _tell_of_lost(outbox_groups.finish_all(self._kept, connection))
        if self._limits.recipients_per_day is None:
            return
        reached = sum(
            1 for _, outcome in self._kept for one in outcome.recipients if one.status is RecipientStatus.ACCEPTED
        )
        if reached:
            pace.add_recipients(self._limits.lane, reached, connection)


def _tell_of_lost(results: Sequence[tuple[ClaimedMessage, Outcome]]) -> None:
    for claimed, outcome in results:
        logger.warning("%s %s, but the claim was lost", outcome.status.value, claimed.uid)
