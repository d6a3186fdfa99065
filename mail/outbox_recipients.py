"""Who still waits for a claimed message: its own recipients and the store's Bcc, for a whole batch at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, delete, insert, select

from extensions import db
from mail.outbox_work import ClaimedMessage, recipients
from models.among import is_among
from models.database import reading, writing
from models.outbox import RecipientKind, RecipientStatus
from models.prepared import Prepared


class RecipientRow(NamedTuple):
    address: str
    kind: RecipientKind
    status: RecipientStatus


def load(claimed: Sequence[ClaimedMessage], store_bcc: Sequence[str]) -> dict[int, list[RecipientRow]]:
    """Return the recipients of each of these messages of one store, by the message's row id.

    The store's Bcc recipients get rows of their own; earlier ones that no longer apply lose theirs, but for those who
    have the message. Read at each attempt like the sender: a Bcc removed since is not written to. Commits when there
    was something to write.
    """
    found: dict[int, list[RecipientRow]] = defaultdict(list)
    with reading():
        for message_id, *row in _LOAD.fetch_alone(db.engine, {"ids": [one.id for one in claimed]}):
            found[message_id].append(RecipientRow(*row))
    wanted = {address.casefold(): address for address in store_bcc}
    gone: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for one in claimed:
        rows = found[one.id]
        outdated = [row for row in rows if _is_outdated(row, wanted)]
        known = {row.address.casefold() for row in rows}
        added = [address for key, address in wanted.items() if key not in known]
        gone += [{"of_message": one.id, "mailbox": row.address} for row in outdated]
        new += [{"message_id": one.id, "kind": RecipientKind.STORE_BCC, "address": address} for address in added]
        found[one.id] = [row for row in rows if row not in outdated] + [
            RecipientRow(address, RecipientKind.STORE_BCC, RecipientStatus.WAITING) for address in added
        ]
    if gone or new:
        with writing(), db.engine.begin() as connection:
            if gone:
                connection.execute(_DROP, gone)
            if new:
                connection.execute(_ADD, new)
    return found


def _is_outdated(row: RecipientRow, wanted: dict[str, str]) -> bool:
    is_waiting_bcc = row.kind is RecipientKind.STORE_BCC and row.status is RecipientStatus.WAITING
    return is_waiting_bcc and row.address.casefold() not in wanted


_c = recipients.c
_LOAD: Final = Prepared(
    select(_c.message_id, _c.address, _c.kind, _c.status).where(is_among(_c.message_id, "ids")).order_by(_c.id)
)
_DROP: Final = delete(recipients).where(
    _c.message_id == bindparam("of_message"), _c.address == bindparam("mailbox"), _c.status != RecipientStatus.ACCEPTED
)
_ADD: Final = insert(recipients)
