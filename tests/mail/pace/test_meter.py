"""What people see of a lane, and that looking costs nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from mail import pace
from mail.errors import Stage
from mail.pace import Limits, Meter
from models import Store, clock
from models.email_settings import Method
from tests import factories

IDLE = Meter(
    sent_last_minute=0,
    per_minute=30,
    per_minute_usual=30,
    connections_in_use=0,
    connections=3,
    connections_usual=3,
    recipients_today=0,
    recipients_per_day=10_000,
    pause_until=None,
    pause_code="",
    slow_until=None,
    failing_since=None,
)


def test_a_lane_that_never_sent_is_idle(limits: Limits) -> None:
    assert pace.meter(limits) == IDLE


def test_it_shows_what_is_used(limits: Limits, take: Any, write: Any) -> None:
    take(limits, tries=12)
    slot = pace.take_slot(limits, 1, lease=timedelta(seconds=90))
    write(lambda connection: pace.add_recipients(limits.lane, 340, connection))
    found = pace.meter(limits)
    assert found == replace(IDLE, sent_last_minute=12, connections_in_use=1, recipients_today=340)
    assert slot is not None
    pace.free_slot(slot)
    with clock.shifted(timedelta(seconds=61)):
        assert pace.meter(limits) == replace(IDLE, recipients_today=340)


def test_without_a_rate_it_counts_messages_of_all_stores_that_share_the_connection(
    store: Store, limits: Limits, sent: Any, db: Any
) -> None:
    connection = store.email_settings.connection
    other = factories.make_store("Copy of Acme", code=f"copy-{store.id}", connection=connection)
    stranger = factories.make_store("On SMTP", code=f"on-smtp-{store.id}", connection=connection, method=Method.SMTP)
    key = f"connection:{connection.id}"
    ids = [store.id, other.id, stranger.id]
    db.session.rollback()
    for store_id in ids:
        sent(2, timedelta(seconds=5), store_id=store_id)
    assert pace.meter(Limits(key, 3, None, None)).sent_last_minute == 4
    assert pace.meter(Limits(f"store:{ids[2]}", 3, None, None)).sent_last_minute == 2


def test_it_tells_what_holds_the_lane_back_and_until_when(limits: Limits, take: Any) -> None:
    take(limits)
    pace.note_throttled(limits, stage=Stage.MESSAGE, code="throttled", detail="421 4.4.2 rate", wish_s=None)
    found = pace.meter(limits)
    assert (found.per_minute, found.per_minute_usual, found.pause_code) == (21, 30, "throttled")
    assert found.pause_until is not None
    assert found.slow_until is not None
    assert timedelta(minutes=8) < found.slow_until - found.pause_until < timedelta(minutes=10)
    assert found.failing_since is None
    with clock.shifted(timedelta(minutes=11)):
        assert pace.meter(limits) == IDLE


def test_looking_is_one_read_and_leaves_nothing_open(limits: Limits, take: Any, statements: list[str], db: Any) -> None:
    take(limits)
    statements.clear()
    pace.look(limits)
    pace.meter(limits)
    assert [words.split()[0] for words in statements if words != "BEGIN"] == ["SELECT", "SELECT"]
    assert db.engine.pool.checkedout() == 0
