"""What `invalid_grant` means, row by row of what providers say: state, words, what to do; and nobody asks twice."""

from __future__ import annotations

import csv
import html
from collections.abc import Callable
from pathlib import Path

import pytest

from extensions import db
from mail import health, upkeep
from mail.equipment import Equipment
from mail.errors import ConnectionLost
from mail.explain import explain
from mail.health import Finding
from mail.tokens import access_token_for
from models import EmailSettings
from models.connection import Health
from models.email_settings import Method
from models.outbox import HoldReason
from tests.conftest import Browser
from tests.fakes.provider import FakeProvider, reply
from tests.mail.connections.looks import hand_in, messages_of, row, told

_FILE = Path(__file__).with_name("invalid_grant.csv")
with _FILE.open(encoding="utf-8", newline="") as _lines:
    # provider, what it says, its sub-error; then the headline, a step, the action (providers.md 13)
    ROWS = [tuple(row.values()) for row in csv.DictReader(_lines)]


@pytest.mark.parametrize(
    ("name", "says", "sub", "headline", "step", "action"), ROWS, ids=[f"{row[0]} {row[1][:24]}" for row in ROWS]
)
def test_each_meaning_has_its_state_its_words_and_its_action(
    equipment: Equipment,
    provider: FakeProvider,
    connect: Callable[..., int],
    name: str,
    says: str,
    sub: str,
    headline: str,
    step: str,
    action: str,
) -> None:
    connection_id = connect(provider=name)
    settings = db.session.query(EmailSettings).filter_by(connection_id=connection_id).one()
    settings.method, store_id = Method.ADVANCED_SMTP, settings.store_id
    db.session.commit()
    hand_in(store_id, equipment)
    body = {"error": "invalid_grant", "error_description": says}
    sub_name = "error_subtype" if name == "google" else "suberror"
    provider.answer = reply(400, body | ({sub_name: sub} if sub else {}))
    with pytest.raises(ConnectionLost) as lost:
        access_token_for(connection_id, equipment=equipment)

    # State: once, with the raw words; the grant is kept, the mail waits, nobody asks again.
    found = row(connection_id)
    assert (found.health, found.health_stage) == (Health.NEEDS_REAUTHORIZATION, "token")
    assert says[:20] in found.health_detail
    assert found.has_refresh_token
    assert told(connection_id) == [("lost", False)]
    (message,) = messages_of(store_id)
    assert (message.hold_reason, message.attempts) == (HoldReason.NEEDS_REAUTHORIZATION, 0)
    assert upkeep.due() == []

    # Words and action
    error = lost.value
    explained = explain(error.detail, stage=error.stage, family=error.family, provider=name, code=error.code)
    assert headline in explained.headline
    assert any(step in one for one in explained.steps)
    assert explained.action == action
    assert len(provider.requests) == 1


def test_the_page_says_each_of_them_and_offers_to_reconnect(
    alice: Browser, provider: FakeProvider, connect: Callable[..., int]
) -> None:
    ids = {name: connect(provider=name, name=name) for name in ("microsoft365", "google")}
    for name, says, sub, headline, step, _ in ROWS:
        detail = f"HTTP 400 invalid_grant: {sub} {says}"
        health.report(ids[name], Finding(Health.NEEDS_REAUTHORIZATION, "token", "invalid_grant", detail))
        store_id = db.session.query(EmailSettings.store_id).filter_by(connection_id=ids[name]).scalar()
        page = html.unescape(alice.get(f"/stores/{store_id}/advanced-smtp").text)
        assert headline in page, says
        assert step in page, says
        assert "Reconnect" in page
