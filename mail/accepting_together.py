"""Messages that several requests hand in at the same moment share one commit.

Each commit waits for the disk, and SQLite takes one at a time; a database on another machine answers each statement
after a way there and back. So one thread writes for all that wait, and who comes meanwhile goes along with the next.
Nobody waits longer than by itself: whoever finds nobody writing writes at once. Source: performance.md 4 and 6, line 9.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound, SQLAlchemyError

from extensions import db
from mail import accepting
from mail.accepting import Answer, HandedIn, Ready, get_ready
from mail.equipment import Equipment
from models.database import writing

# What is larger than this goes by itself: small messages shall not wait for a large one.
SHARED_CHARS = 256 * 1024
SHARED_MESSAGES = 20


class PerhapsStored(Exception):
    """The connection broke in the commit, and the database cannot be asked whether that took place."""


@dataclass(eq=False)
class _Waiting:
    """What one request hands in, and what becomes of it.

    Attributes:
        has_failed: together with others.
        is_in_doubt: the commit may have taken place all the same.
    """

    store_id: int
    api_key_id: int | None
    ready: Sequence[Ready]
    answers: list[Answer] | None = None
    is_due: bool = False
    is_alone: bool = False
    has_failed: bool = False
    is_in_doubt: bool = False
    woken: threading.Event = field(default_factory=threading.Event)


class Together:
    """The writer of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._has_writer = False

    def accept(
        self, store_id: int, handed: Sequence[HandedIn], *, equipment: Equipment, api_key_id: int | None
    ) -> list[Answer]:
        """Store messages for good and return what became of each, in their order. Commits.

        Called outside of a transaction, for messages that concern nobody else: trouble with those of others is not
        felt here.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: as `accepting.add` does; nothing was stored.
            PerhapsStored: nobody knows.
        """
        mine = _Waiting(store_id, api_key_id, get_ready(handed, equipment=equipment), is_alone=_is_large(handed))
        if not mine.is_alone:
            self._write_with_others(mine, equipment)
        if mine.answers is None:
            _write_alone(mine, equipment)
        assert mine.answers is not None
        return mine.answers

    def _write_with_others(self, mine: _Waiting, equipment: Equipment) -> None:
        with self._lock:
            self._waiting.append(mine)
            if self._has_writer:
                writes = False
            else:
                writes = self._has_writer = True
        if not writes:
            mine.woken.wait()
            if mine.answers is not None or mine.is_alone:
                return
        self._write_for_all(equipment)

    def _write_for_all(self, equipment: Equipment) -> None:
        """Write all that waits by now; then wake them, and the next one to write if there is one."""
        group: list[_Waiting] = []
        tell = None
        try:
            with writing(), db.engine.begin() as connection:
                # Not before it is our turn: where another process writes, those who come meanwhile go along.
                group = self._take_all()
                tell = _write(connection, group, equipment)
            tell()
        except BaseException as error:
            # Somebody's trouble, and nobody knows whose: each tries by itself, and hears of its own.
            group = group or self._take_all()
            for one in group:
                one.is_alone = one.has_failed = True
                one.is_in_doubt = tell is not None and _is_lost(error)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                next_one = self._waiting[0] if self._waiting else None
                self._has_writer = next_one is not None
            for one in group:
                one.woken.set()
            if next_one is not None:
                next_one.woken.set()
        _nudge(group, equipment)

    def _take_all(self) -> list[_Waiting]:
        with self._lock:
            group, self._waiting = self._waiting, []
        return group


def _write_alone(mine: _Waiting, equipment: Equipment) -> None:
    tell = None
    try:
        with writing(), db.engine.begin() as connection:
            tell = _write(connection, [mine], equipment)
    except SQLAlchemyError as error:
        is_still_open = mine.is_in_doubt and not isinstance(error, IntegrityError | NoResultFound)
        if is_still_open or (tell is not None and _is_lost(error)):
            raise PerhapsStored from error
        raise
    tell()
    _nudge([mine], equipment)


def _is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that no answer says what became of the last statement."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def _write(connection: Connection, group: Sequence[_Waiting], equipment: Equipment) -> Callable[[], None]:
    """Add what a group of requests hands in, and return what gives each its answers: to be called after the commit."""
    by_sender: dict[tuple[int, int | None], list[_Waiting]] = {}
    for one in group:
        by_sender.setdefault((one.store_id, one.api_key_id), []).append(one)
    stored: list[tuple[_Waiting, list[Answer], bool]] = []
    for (store_id, api_key_id), ones in by_sender.items():
        ready = [message for one in ones for message in one.ready]
        again = any(one.has_failed for one in ones)
        added = accepting.add(connection, store_id, ready, equipment=equipment, api_key_id=api_key_id, again=again)
        answers = iter(added.answers)
        stored += [(one, [next(answers) for _ in one.ready], added.is_due) for one in ones]

    def tell() -> None:
        for one, its_answers, is_due in stored:
            one.answers, one.is_due = its_answers, is_due

    return tell


def _nudge(group: Sequence[_Waiting], equipment: Equipment) -> None:
    """Tell workers of what was committed; the others have their answers by then."""
    for store_id in {one.store_id for one in group if one.is_due}:
        equipment.nudges.send(store_id)


def _is_large(handed: Sequence[HandedIn]) -> bool:
    if len(handed) > SHARED_MESSAGES:
        return True
    chars = 0
    for one in handed:
        new = one.new
        chars += len(new.text or "") + len(new.html or "") + sum(len(file.content) for file in new.attachments)
    return chars > SHARED_CHARS
