"""How many requests an API key may make in a minute, counted over all web processes.

Each process counts for itself and adds its count to a table at most once a second or every 50 requests; what comes
back is the count of all. So a request costs no write of its own, and a key may pass its limit by what the other
processes have not told yet: a second's requests at most. Source: product.md 6,
draft-ietf-httpapi-ratelimit-headers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql.dml import ReturningInsert

from extensions import db
from mail import api_keys
from mail.api_keys import KeyHolder
from models.api_usage import APIUsage
from models.database import writing

logger = logging.getLogger(__name__)

WINDOW_S = 60
TOLD_EVERY_S = 1.0
TOLD_AT_LEAST_EVERY = 50

_forget = delete(APIUsage).where(APIUsage.api_key_id == bindparam("key"), APIUsage.minute < bindparam("before"))


@dataclass(frozen=True)
class Usage:
    """Where a key stands in the current minute; `resets_in_s` is how long that minute still lasts."""

    limit: int
    used: int
    resets_in_s: int

    @property
    def remaining(self) -> int:
        return max(self.limit - self.used, 0)

    @property
    def is_over(self) -> bool:
        return self.used > self.limit


@dataclass
class _Count:
    """One key in one minute: what the table says, what is on its way there, what is only known here."""

    minute: int = 0
    told: int = 0
    on_the_way: int = 0
    untold: int = 0
    told_at: float = 0.0

    @property
    def used(self) -> int:
        return self.told + self.on_the_way + self.untold


class RequestRates:
    """The counts of this process. `per_minute` 0 counts nothing; `clock` gives seconds since 1970."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.time) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._counts: dict[int, _Count] = {}
        self._lock = threading.Lock()

    def count(self, holder: KeyHolder) -> Usage | None:
        """Count one request of this key and return where it stands now; None where there is no limit.

        Also notes that the key was used. Commits a short transaction of its own now and then. A database that does
        not answer lets the request pass: whatever it wanted will find out for itself.
        """
        now = self._clock()
        if not self.per_minute:
            if holder.is_stale:
                self._tell(holder, _Count(), 0)
            return None
        with self._lock:
            count = self._counts.setdefault(holder.key_id, _Count())
            if count.minute != int(now // WINDOW_S):
                count = self._counts[holder.key_id] = _Count(minute=int(now // WINDOW_S))
            is_over = count.used >= self.per_minute
            count.untold += 1
            # Whoever is over the limit costs no more writes.
            is_due = not is_over and (
                now - count.told_at >= TOLD_EVERY_S or count.untold >= TOLD_AT_LEAST_EVERY or holder.is_stale
            )
            is_due = is_due and not count.on_the_way
            if is_due:
                count.on_the_way, count.untold, count.told_at = count.untold, 0, now
        if is_due:
            self._tell(holder, count, count.on_the_way)
        return Usage(self.per_minute, count.used, WINDOW_S - int(now % WINDOW_S))

    def _tell(self, holder: KeyHolder, count: _Count, requests: int) -> None:
        try:
            with writing(), db.engine.begin() as connection:
                told = _add(connection, holder.key_id, count.minute, requests) if requests else 0
                if requests and not count.told:
                    # Once a minute, what is past. Another machine's clock may still stand in the minute before.
                    connection.execute(_forget, {"key": holder.key_id, "before": count.minute - 1})
                api_keys.touch(holder, on=connection)
        except SQLAlchemyError:
            logger.warning("the requests of API key %d could not be counted", holder.key_id, exc_info=True)
            with self._lock:
                count.untold, count.on_the_way = count.untold + count.on_the_way, 0
        else:
            with self._lock:
                count.told, count.on_the_way = told, 0


def _add(connection: Connection, key_id: int, minute: int, requests: int) -> int:
    """Add requests to a key's minute and return how many all processes have told of."""
    new = {"api_key_id": key_id, "minute": minute, "requests": requests}
    told = connection.execute(_upserts[connection.dialect.name], new).scalar_one()
    return int(told)


def _upsert(dialect_insert: Callable[..., postgresql.Insert | sqlite.Insert]) -> ReturningInsert[int]:
    statement = dialect_insert(APIUsage)
    return statement.on_conflict_do_update(
        index_elements=[APIUsage.api_key_id, APIUsage.minute],
        set_={"requests": APIUsage.requests + statement.excluded.requests},
    ).returning(APIUsage.requests)


_upserts = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}
