"""The keyring held against the database: wrong keys are noticed at start, not at the first mail.

What `flask secrets status` and `flask secrets doctor` report is found here too; `mail.key_rotation` changes keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import delete, inspect, select
from sqlalchemy.exc import IntegrityError

from extensions import db
from mail import sealed_columns
from mail.sealed_columns import NO_KEY
from models.database import reading, writing
from models.keyring_check import KeyringCheck
from models.types import new_uid
from security.vault import KeyringError, Place, Unreadable, Vault

KNOWN_TEXT = "storepost keyring check"


def _place(row: KeyringCheck) -> Place:
    return Place("keyring_checks", row.uid, "sealed")


def check(vault: Vault) -> None:
    """Make sure that this keyring opens what this database holds, and remember keys seen for the first time.

    Commits its own transaction. A database without tables is left alone: there is nothing to open yet.

    Raises:
        KeyringError: a key in use is missing or has another value; nothing was written.
    """
    if not _has_checks():
        return
    try:
        rows = list(db.session.scalars(select(KeyringCheck)))
        for row in rows:
            if fault := _fault(row, vault):
                raise KeyringError(fault)
        # Only the first key encrypts, so only it can have left anything here.
        if vault.keyring.first not in {row.key_id for row in rows}:
            row = KeyringCheck(key_id=vault.keyring.first, uid=new_uid())
            row.sealed = vault.seal(KNOWN_TEXT, _place(row))
            db.session.add(row)
        db.session.commit()
    except IntegrityError:  # another process starting beside us was first
        db.session.rollback()
    finally:
        db.session.remove()


def faults(vault: Vault) -> list[str]:
    """Return why this keyring does not fit this database, a sentence for each key; empty when it does."""
    if not _has_checks():
        return []
    with reading():
        rows = db.session.scalars(select(KeyringCheck).order_by(KeyringCheck.key_id))
        found = [fault for row in rows if (fault := _fault(row, vault))]
        db.session.rollback()
    return found


def retire(key_ids: Iterable[str]) -> None:
    """Forget that these keys are in use, so that a keyring without them is accepted. Commits."""
    with writing():
        db.session.execute(delete(KeyringCheck).where(KeyringCheck.key_id.in_(list(key_ids))))
        db.session.commit()


def _has_checks() -> bool:
    return inspect(db.engine).has_table(KeyringCheck.__tablename__)


def _fault(row: KeyringCheck, vault: Vault) -> str:
    if row.key_id not in vault.keyring.names:
        return (
            f"The keyring lacks the key “{row.key_id}”, which this database was encrypted with: "
            "restore it, or rotate away from it before dropping it."
        )
    try:
        vault.open(row.sealed, _place(row))
    except Unreadable:
        return f"The key “{row.key_id}” is not the one this database was encrypted with: restore the right keyring."
    return ""


# What `flask secrets` reports ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyUse:
    """One key. `sealed`: how many values of each column it sealed; `is_known`: the database was seen with it."""

    name: str
    is_in_keyring: bool
    seals: bool
    is_known: bool
    sealed: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        return sum(count for _, count in self.sealed)

    @property
    def is_free(self) -> bool:
        """Whether a keyring without this key would be accepted and lose nothing."""
        return self.is_in_keyring and not (self.seals or self.is_known or self.total)


def use_of_keys(vault: Vault) -> list[KeyUse]:
    """Return every key of the keyring and of the database, in the keyring's order, then the others by name.

    Values that name no key at all stand under the empty name.
    """
    names = vault.keyring.names
    known: set[str] = set()
    if _has_checks():
        with reading():
            known = set(db.session.scalars(select(KeyringCheck.key_id)))
            db.session.rollback()
    by_key: dict[str, Counter[str]] = {}
    for column in sealed_columns.existing():
        for name, count in sealed_columns.usage(column, names).items():
            by_key.setdefault(name, Counter())[column.label] = count
    strangers = sorted((known | set(by_key)) - set(names) - {NO_KEY})
    return [
        KeyUse(
            name=name,
            is_in_keyring=name in names,
            seals=name == vault.keyring.first,
            is_known=name in known,
            sealed=tuple(by_key.get(name, Counter()).items()),
        )
        for name in (*names, *strangers, *([NO_KEY] if NO_KEY in by_key else []))
    ]


@dataclass(frozen=True)
class Damage:
    """A value that does not open: why (table, column, row and key are in it), for which stores, what to do."""

    reason: str
    stores: tuple[str, ...]
    remedy: str


def find_damage(vault: Vault) -> Iterator[Damage]:
    """Try to open every sealed value, and give each that does not open. Writes nothing."""
    for column in sealed_columns.existing():
        for batch in sealed_columns.batches(column):
            for value in batch:
                try:
                    vault.open(value.sealed, column.place(value.uid))
                except Unreadable as trouble:
                    stores = sealed_columns.stores_of(column, value.key)
                    yield Damage(str(trouble), tuple(stores), column.remedy)
