"""What messages say: sealed apart from their rows, files in pieces, on SQLite and PostgreSQL."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from mail import outbox, outbox_content
from mail.compose import Attachment
from mail.equipment import Equipment
from mail.outbox import ClaimedMessage
from mail.outbox_content import Content
from mail.relayed import Relayed
from models import MessageContent
from models.outbox import MessageBlob
from models.types import new_uid, utcnow
from security.vault import Place, Unreadable
from tests.mail.outbox.conftest import statements

MIB = 1024 * 1024
LARGE = random.Random(1).randbytes(3 * MIB + 5)  # more pieces than are fetched at a time
FILES = (
    Attachment("large.bin", "application/octet-stream", LARGE),
    Attachment("empty.txt", "text/plain", b""),
    Attachment("small.txt", "text/plain", b"a small file"),
)
RELAYED = Relayed(
    subject="As the application wrote it",
    to=("Lena <lena@shop.example>",),
    cc=("tom@shop.example",),
    message_id="<1001@app.example>",
    date=datetime(2026, 5, 3, 10, 30, tzinfo=UTC),
    from_=("app@app.example",),
    body=b"Content-Type: text/plain\r\n\r\n" + LARGE,
    fields=(("X-Order", "1001"), ("Auto-Submitted", "auto-generated")),
)


@pytest.fixture
def claimed(put: Any) -> Callable[..., ClaimedMessage]:
    """Hand a message in and claim it."""

    def claimed(**fields: Any) -> ClaimedMessage:
        put(**fields)
        (one,) = outbox.claim(limit=1)
        return one

    return claimed


def pieces(db: Any) -> list[MessageBlob]:
    db.session.rollback()
    return list(db.session.scalars(select(MessageBlob).order_by(MessageBlob.id)))


# Files


def test_files_come_back_as_they_were(claimed: Any, equipment: Equipment) -> None:
    assert outbox_content.load(claimed(attachments=FILES), equipment=equipment).attachments == FILES


def test_a_file_lies_in_sealed_pieces_of_a_mebibyte_beside_the_json(
    claimed: Any, equipment: Equipment, db: Any
) -> None:
    message = claimed(attachments=FILES)
    stored = pieces(db)
    assert [(one.part, one.piece) for one in stored] == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0)]
    opened = [equipment.vault.open(one.sealed, Place("message_blobs", one.uid, "sealed")) for one in stored]
    assert [len(one) for one in opened] == [MIB, MIB, MIB, 5, len(b"a small file")]
    sealed = db.session.scalar(select(MessageContent.sealed).where(MessageContent.message_id == message.id))
    assert len(sealed) < 2000


def test_a_batch_is_opened_by_one_query_that_leaves_files_where_they_are(put: Any, equipment: Equipment) -> None:
    for number in range(3):
        put(text=f"Text {number}", attachments=FILES if number == 1 else ())
    batch = outbox.claim(limit=9)
    with statements() as seen:
        found = outbox_content.load_all(batch, equipment=equipment)
    assert len(seen) == 1
    contents = [found[one.id] for one in batch]
    assert [(one.text, one.is_complete) for one in contents if isinstance(one, Content)] == [
        ("Text 0", True),
        ("Text 1", False),
        ("Text 2", True),
    ]
    with statements() as seen:
        whole = [
            outbox_content.with_attachments(*pair, equipment=equipment) for pair in zip(batch, contents, strict=True)
        ]
    assert len(seen) == 1
    assert [one.attachments for one in whole if isinstance(one, Content)] == [(), FILES, ()]


def test_a_message_of_the_first_version_has_its_files_in_the_json(claimed: Any, equipment: Equipment, db: Any) -> None:
    message = claimed()
    document = {
        "to": ["lena@shop.example"], "cc": [], "reply_to": [], "text": "Hi.", "html": None, "headers": [["X-A", "b"]],
        "attachments": [
            {"filename": "a.txt", "content_type": "text/plain", "content": base64.b64encode(b"old file").decode()}
        ],
    }  # fmt: skip
    sealed = equipment.vault.seal(json.dumps(document), Place("message_contents", message.uid, "sealed"))
    db.session.execute(update(MessageContent).values(sealed=sealed))
    db.session.commit()
    found = outbox_content.load(message, equipment=equipment)
    assert found.attachments == (Attachment("a.txt", "text/plain", b"old file"),)
    assert found.headers == (("X-A", "b"),)


# Damage: each of these parks its message, and no other


def swap(db: Any, stored: list[MessageBlob]) -> None:
    stored[0].sealed, stored[1].sealed = stored[1].sealed, stored[0].sealed


def swap_rows(db: Any, stored: list[MessageBlob]) -> None:
    stored[0].piece = 9
    db.session.flush()
    stored[1].piece = 0
    db.session.flush()
    stored[0].piece = 1


def lose(db: Any, stored: list[MessageBlob]) -> None:
    db.session.delete(stored[1])


def lose_the_last(db: Any, stored: list[MessageBlob]) -> None:
    db.session.delete(stored[-1])


def damage(db: Any, stored: list[MessageBlob]) -> None:
    stored[1].sealed = stored[1].sealed[:-8] + "AAAAAAAA"


@pytest.mark.parametrize("harm", [swap, swap_rows, lose, lose_the_last, damage])
def test_a_piece_that_is_missing_moved_or_damaged_makes_its_message_unreadable(
    harm: Any, claimed: Any, equipment: Equipment, db: Any
) -> None:
    message = claimed(attachments=FILES)
    harm(db, pieces(db))
    db.session.commit()
    with pytest.raises(Unreadable):
        outbox_content.load(message, equipment=equipment)


def test_a_piece_of_another_message_is_not_taken_for_ones_own(claimed: Any, equipment: Equipment, db: Any) -> None:
    mine, other = claimed(attachments=FILES[2:]), claimed(attachments=(Attachment("b", "text/plain", b"other file!!"),))
    first, second = pieces(db)
    first.part = 7
    db.session.flush()
    second.message_id = mine.id
    db.session.commit()
    for message in (mine, other):
        with pytest.raises(Unreadable):
            outbox_content.load(message, equipment=equipment)


def test_one_damaged_content_spoils_no_other_of_its_batch(put: Any, equipment: Equipment, db: Any) -> None:
    for _ in range(3):
        put()
    batch = outbox.claim(limit=9)
    sealed = select(MessageContent.sealed).where(MessageContent.message_id == batch[0].id)
    moved = db.session.scalar(sealed)
    db.session.execute(update(MessageContent).where(MessageContent.message_id == batch[1].id).values(sealed=moved))
    db.session.delete(db.session.get(MessageContent, batch[2].id))
    db.session.commit()
    found = outbox_content.load_all(batch, equipment=equipment)
    assert [type(found[one.id]) for one in batch] == [Content, Unreadable, Unreadable]


# Headers of an attempt


def test_headers_that_were_sent_are_kept_and_cost_no_file(claimed: Any, equipment: Equipment) -> None:
    message = claimed(attachments=FILES)
    outbox_content.keep_sent_headers(message, (("X-Shop", "7"),), equipment=equipment)
    found = outbox_content.load(message, equipment=equipment)
    assert (found.sent_headers, found.attachments) == ((("X-Shop", "7"),), FILES)


def test_only_the_holder_of_the_claim_keeps_headers(claimed: Any, equipment: Equipment) -> None:
    message = claimed()
    stranger = ClaimedMessage(**{**vars(message), "lease": new_uid()})
    outbox_content.keep_sent_headers(stranger, (("X-Shop", "7"),), equipment=equipment)
    assert outbox_content.load(message, equipment=equipment).sent_headers == ()


# From the relay


def test_a_relayed_message_comes_back_as_it_was_with_its_own_id_and_date(
    claimed: Any, equipment: Equipment, row: Any
) -> None:
    message = claimed(relayed=RELAYED, text=None, subject=RELAYED.subject)
    found = outbox_content.load(message, equipment=equipment)
    assert found.relayed == RELAYED
    assert found.attachments == ()
    assert (message.message_id, message.date) == (RELAYED.message_id, RELAYED.date)
    assert row(message.uid).size_bytes > len(RELAYED.body)


def test_the_body_of_a_relayed_message_is_fetched_when_it_is_needed(put: Any, equipment: Equipment) -> None:
    put(relayed=RELAYED, text=None)
    (message,) = outbox.claim(limit=1)
    content = outbox_content.load_all([message], equipment=equipment)[message.id]
    assert isinstance(content, Content)
    assert content.relayed is not None
    assert (content.relayed.body, content.is_complete) == (b"", False)


def test_a_relayed_message_without_id_and_date_gets_ours(claimed: Any) -> None:
    message = claimed(relayed=replace(RELAYED, message_id="", date=None))
    assert message.message_id == f"<{message.uid}@acme.example>"
    assert abs(message.date - utcnow()) < timedelta(minutes=5)
