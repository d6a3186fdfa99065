"""`flask secrets rotate`: everything sealed anew with the first key of the keyring, while web and workers go on.

Values are read and sealed without a write lock, then written a batch at a time, each only over the value it was made
from: whoever saves a new token or password meanwhile wins. A value that was not reached is found by the next pass, or
by the next run after an interruption: its own text says which key it needs, so there is no state to keep.

Nothing waits for a lock while it holds others, so a rotation can neither stop nor deadlock a save: rows that somebody
is changing are left for the next pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy import CursorResult, not_, select, update

from extensions import db
from mail import keys, sealed_columns
from mail.sealed_columns import SealedColumn, SealedValue
from models.database import writing
from security.vault import Unreadable, Vault

PASSES = 10
_PAUSE_S = 0.5

# (column, how many values of it are done so far)
Tell = Callable[[str, int], None]


@dataclass
class Rotation:
    """What a rotation did.

    Attributes:
        resealed: values that are under the first key now and were not before.
        unreadable: values of older keys that do not open; they were left as they are.
        late: values that somebody sealed with an older key meanwhile; they are among `resealed`.
        droppable: keys of the keyring that nothing needs any more.
        in_use: other keys of the keyring, with the number of values that still need them.
    """

    resealed: int = 0
    unreadable: int = 0
    late: int = 0
    droppable: tuple[str, ...] = ()
    in_use: dict[str, int] = field(default_factory=dict)


def rotate(vault: Vault, *, tell: Tell = lambda label, count: None) -> Rotation:
    """Seal every value with the first key, and let the keys go that nothing needs any more.

    Commits in short transactions of its own. A key counts as free only when no value needs it and nobody used it
    while this ran: a process that was started with the older keyring would go on sealing with it.

    Raises:
        security.vault.KeyringError: the keyring does not fit this database; nothing was written.
    """
    keys.check(vault)
    done = Rotation()
    busy: set[tuple[str, int]] = set()
    for number in range(PASSES):
        result = _Pass(vault, tell, is_first=number == 0, busy=busy)
        for column in sealed_columns.existing():
            result.go_through(column)
        done.resealed += result.resealed
        done.late += result.late
        done.unreadable = result.unreadable
        if not result.resealed and not result.missed:
            break
        busy = result.missed
        if busy:
            time.sleep(_PAUSE_S)
    _let_go(vault, done)
    return done


def _let_go(vault: Vault, done: Rotation) -> None:
    older = [use for use in keys.use_of_keys(vault) if use.is_in_keyring and not use.seals]
    done.in_use = {use.name: use.total for use in older if use.total}
    if not done.late:
        done.droppable = tuple(use.name for use in older if not use.total)
        keys.retire(done.droppable)


@dataclass
class _Pass:
    """Once through all columns. `busy`: rows that the pass before left alone; `missed`: those of this one."""

    vault: Vault
    tell: Tell
    is_first: bool
    busy: set[tuple[str, int]]
    resealed: int = 0
    unreadable: int = 0
    late: int = 0
    missed: set[tuple[str, int]] = field(default_factory=set)

    def go_through(self, column: SealedColumn) -> None:
        count = 0
        for batch in sealed_columns.batches(column, not_(sealed_columns.under(column, self.vault.keyring.first))):
            written = _write(column, self._seal(column, batch))
            self.missed |= {(column.label, value.key) for value, ok in written if not ok}
            done = [value for value, ok in written if ok]
            if not self.is_first:
                self.late += sum((column.label, value.key) not in self.busy for value in done)
            count += len(done)
            if done:
                self.tell(column.label, count)
        self.resealed += count

    def _seal(self, column: SealedColumn, batch: list[SealedValue]) -> list[tuple[SealedValue, str]]:
        sealed = []
        for value in batch:
            try:
                again = self.vault.reseal_if_old(value.sealed, column.place(value.uid))
            except Unreadable:
                self.unreadable += 1
                continue
            if again is not None:
                sealed.append((value, again))
        return sealed


def _write(column: SealedColumn, sealed: Sequence[tuple[SealedValue, str]]) -> list[tuple[SealedValue, bool]]:
    """Write new values over the ones they were made from, in one transaction; False for those that are not there."""
    wanted = column.key.in_([value.key for value, _ in sealed])
    written = []
    with writing():
        # SQLite has one writer, us; PostgreSQL skips the rows that somebody else has locked.
        free = select(column.key).where(wanted).with_for_update(skip_locked=True, key_share=True)
        keys_free = set(db.session.scalars(free))
        for value, again in sealed:
            change = update(column.table).where(column.key == value.key, column.column == value.sealed)
            is_written = False
            if value.key in keys_free:
                outcome = db.session.execute(change.values({column.name: again}))
                is_written = cast("CursorResult[tuple[()]]", outcome).rowcount == 1
            written.append((value, is_written))
        db.session.commit()
    return written
