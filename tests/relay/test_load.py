"""Thousands of messages over 50 connections, and the relay killed in the middle: every 250 is in the outbox."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from models import Message
from models.database import reading
from tests.relay.load import Load
from tests.relay.peer import MESSAGE, Peer, stored, uid_of
from tests.relay.process import RelayProcess

CONNECTIONS = 50


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture
def messages(request: pytest.FixtureRequest) -> int:
    """How many a run has: 20,000 in the long form (`make soak`)."""
    return 20_000 if request.config.getoption("--soak", default=False) else 1_000


@pytest.fixture
def process(app: Flask, key: str, tmp_path: Path) -> Iterator[RelayProcess]:
    with RelayProcess(app, tmp_path) as running:
        yield running


def uids(db: Any) -> dict[str, str]:
    """The id and subject of every stored message."""
    with reading():
        found = {row.uid: row.subject for row in db.session.execute(select(Message.uid, Message.subject))}
        db.session.rollback()
    return found


def test_everything_accepted_over_50_connections_is_stored_once(
    process: RelayProcess, key: str, db: Any, messages: int, capsys: pytest.CaptureFixture[str]
) -> None:
    load = Load(process.port, key, messages, CONNECTIONS)
    begun = time.monotonic()
    asyncio.run(load.run())
    took_s = time.monotonic() - begun
    assert load.refused == []
    assert len(load.accepted) == messages
    assert uids(db) == {uid: f"Number {number}" for uid, number in load.accepted.items()}
    if messages >= 10_000:
        with capsys.disabled():
            print(f"\n{db.engine.name}: {messages:,} messages in {took_s:.1f} s, {messages / took_s:.0f} a second")


def test_a_killed_relay_has_lost_nothing_that_it_accepted(
    process: RelayProcess, key: str, db: Any, messages: int
) -> None:
    dice = random.Random(20_270_131)
    accepted: dict[str, int] = {}
    for kill in range(1 if messages < 10_000 else 5):
        load = Load(process.port, key, messages, CONNECTIONS)
        asyncio.run(_killed(load, process, dice.randrange(messages // 10, messages // 3)))
        assert load.is_lost
        accepted |= load.accepted
        found = uids(db)
        assert not accepted.keys() - found.keys()
        assert {uid: f"Number {number}" for uid, number in accepted.items()}.items() <= found.items()
        # What was written but not answered any more: at most what was in hand.
        assert len(found) <= len(accepted) + (kill + 1) * CONNECTIONS
        process.start()
    with Peer(process.port) as peer:
        assert uid_of(peer.sign_in(key).envelope().data(MESSAGE)) in uids(db)


async def _killed(load: Load, process: RelayProcess, after: int) -> None:
    """Run the load, and kill the relay when it has accepted so many."""
    running = asyncio.create_task(load.run())
    while len(load.accepted) < after and not running.done():
        await asyncio.sleep(0.005)
    process.kill()
    await running


def test_a_relay_that_is_told_to_stop_finishes_what_it_has(process: RelayProcess, key: str, db: Any) -> None:
    async def story() -> Load:
        load = Load(process.port, key, 100_000, 20)
        running = asyncio.create_task(load.run())
        while len(load.accepted) < 100:
            await asyncio.sleep(0.005)
        status = await asyncio.to_thread(process.terminate)
        assert status == 0
        await running
        return load

    load = asyncio.run(story())
    assert load.accepted.keys() == uids(db).keys()
    events = [json.loads(line) for line in process.log.splitlines()]
    assert events[-1]["message"] == "relay stopped"
    assert {"time", "level", "logger", "message"} <= set(events[0])
    assert sum(event["message"].startswith("accepted ") for event in events) == len(load.accepted)
    assert key not in process.log
    assert stored()
