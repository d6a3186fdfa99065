"""Files of a message in sealed pieces of 1 MiB: nobody needs a whole sealed file at once, neither in nor out.

Each piece is sealed for a uid of its own. The uids of a file stand in order in the message's sealed JSON, so that a
piece that was moved to another message or another place is not taken for one of its own. Nothing here commits.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, cast

from sqlalchemy import Connection, Table, bindparam, insert, select

from mail.equipment import Equipment
from models.outbox import MessageBlob
from models.types import new_uid
from security.vault import Place, Unreadable

PIECE_BYTES: Final = 1024 * 1024
# How many pieces go to the database, or come from it, at a time.
GROUP: Final = 4

blobs = cast(Table, MessageBlob.__table__)

_insert_pieces = insert(blobs)
_pieces_of = (
    select(blobs.c.uid, blobs.c.sealed)
    .where(blobs.c.message_id == bindparam("message"))
    .order_by(blobs.c.part, blobs.c.piece)
)


@dataclass(frozen=True)
class StoredFile:
    """A file that lies in pieces: the uids of them, in order, and how many bytes they are together."""

    size_bytes: int
    pieces: tuple[str, ...] = field(repr=False)


def plan(size_bytes: int) -> StoredFile:
    """Name the pieces that a file of this size will be stored in. Nothing is written yet."""
    count = -(-size_bytes // PIECE_BYTES)
    return StoredFile(size_bytes, tuple(new_uid() for _ in range(count)))


def write(connection: Connection, files: Iterable[tuple[int, int, StoredFile, bytes]], *, equipment: Equipment) -> None:
    """Add the pieces of files to the connection's transaction: (message id, part, plan, content) each."""
    write_pieces(connection, _cut(files), equipment=equipment)


def _cut(files: Iterable[tuple[int, int, StoredFile, bytes]]) -> Iterator[dict[str, Any]]:
    for message_id, part, stored, content in files:
        for piece, uid in enumerate(stored.pieces):
            plain = content[piece * PIECE_BYTES : (piece + 1) * PIECE_BYTES]
            yield {"message_id": message_id, "part": part, "piece": piece, "uid": uid, "plain": plain}


def write_pieces(connection: Connection, rows: Iterable[dict[str, Any]], *, equipment: Equipment) -> None:
    """Seal and add pieces to the connection's transaction, a few at a time: rows of the table with `plain` instead."""
    group: list[dict[str, Any]] = []
    for row in rows:
        row["sealed"] = equipment.vault.seal(row.pop("plain"), place(row["uid"]))
        group.append(row)
        if len(group) == GROUP:
            connection.execute(_insert_pieces, group)
            group.clear()
    if group:
        connection.execute(_insert_pieces, group)


def read(connection: Connection, message_id: int, files: Sequence[StoredFile], *, equipment: Equipment) -> list[bytes]:
    """Return the contents of all files of a message, in order.

    Raises:
        security.vault.Unreadable: a piece is missing, was moved or damaged, or its key is not there.
    """
    uids = [uid for stored in files for uid in stored.pieces]
    with closing(read_pieces(connection, message_id, uids, equipment=equipment)) as pieces:
        return [_joined(stored, pieces) for stored in files]


def read_pieces(
    connection: Connection, message_id: int, uids: Sequence[str], *, equipment: Equipment
) -> Generator[bytes]:
    """Yield the opened pieces of a message, which must be those of these uids in this order.

    Raises:
        security.vault.Unreadable: as `read`.
    """
    if not uids:
        return
    # More than a group would be fetched whole by the driver of PostgreSQL; a cursor of its own costs a round trip.
    options = {"yield_per": GROUP} if len(uids) > GROUP else {}
    rows = connection.execute(_pieces_of, {"message": message_id}, execution_options=options)
    with rows:
        for uid in uids:
            row = rows.fetchone()
            if row is None or row.uid != uid:
                raise Unreadable(f"The value message_blobs.sealed of row {uid} is missing.")
            yield equipment.vault.open(row.sealed, place(uid))


def _joined(stored: StoredFile, pieces: Iterator[bytes]) -> bytes:
    if len(stored.pieces) == 1:
        content = next(pieces)
    else:
        # Grows in place and gives its bytes away without a copy.
        whole = io.BytesIO()
        for _ in stored.pieces:
            whole.write(next(pieces))
        content = whole.getvalue()
    if len(content) != stored.size_bytes:
        raise Unreadable(f"A file of {len(content)} bytes is stored where {stored.size_bytes} were accepted.")
    return content


def place(uid: str) -> Place:
    """Where a piece lives, for the vault."""
    return Place("message_blobs", uid, "sealed")
