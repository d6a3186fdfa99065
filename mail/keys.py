"""The keyring held against the database: wrong keys are noticed at start, not at the first mail."""

from __future__ import annotations

from sqlalchemy import inspect, select
from sqlalchemy.exc import IntegrityError

from extensions import db
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
    if not inspect(db.engine).has_table(KeyringCheck.__tablename__):
        return
    rows = list(db.session.scalars(select(KeyringCheck)))
    names = set(vault.keyring.names)
    for row in rows:
        if row.key_id not in names:
            raise KeyringError(
                f"The keyring lacks the key “{row.key_id}”, which this database was encrypted with: "
                "restore it, or rotate away from it before dropping it."
            )
        try:
            vault.open(row.sealed, _place(row))
        except Unreadable:
            raise KeyringError(
                f"The key “{row.key_id}” is not the one this database was encrypted with: restore the right keyring."
            ) from None
    # Only the first key encrypts, so only it can have left anything here.
    if vault.keyring.first not in {row.key_id for row in rows}:
        row = KeyringCheck(key_id=vault.keyring.first, uid=new_uid())
        row.sealed = vault.seal(KNOWN_TEXT, _place(row))
        db.session.add(row)
    try:
        db.session.commit()
    except IntegrityError:  # another process starting beside us was first
        db.session.rollback()
    finally:
        db.session.remove()
