"""A grant is revoked while much mail waits, and given again in the browser: everything goes, once, in its order."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.fakes.installation import Installation
from tests.journeys import steps

pytestmark = pytest.mark.browser
LEASE_S = 3
# So many messages, at so many a minute: the last of them have to wait for their turn
SHORT, SHORT_RATE = 300, 250
LONG, LONG_RATE = 10_000, 3_000


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    with Installation(tmp_path, worker=False, more={"STOREPOST_LEASE_S": str(LEASE_S)}) as running:
        yield running


def test_mail_held_by_a_revocation_goes_once_and_in_order_after_reconnecting(
    page: Page, installation: Installation, request: pytest.FixtureRequest
) -> None:
    soak = bool(request.config.getoption("--soak"))
    count, rate = (LONG, LONG_RATE) if soak else (SHORT, SHORT_RATE)
    worker = installation.start_worker()
    steps.become_administrator(page, installation)
    steps.add_store(page)
    steps.fill_general(page)
    page.get_by_label("Bcc Email Address").fill("")
    steps.pick_provider(page, "Sandbox", "localhost")
    for number, (key, value) in enumerate((("messages_per_minute", str(rate)), ("max_connections", "1"))):
        page.get_by_role("button", name="Add Field").click()
        page.locator(f"#custom_fields-{number}-key").fill(key)
        page.locator(f"#custom_fields-{number}-value").fill(value)
    steps.connect_through_sandbox(page)
    steps.expect_test_passed(page)
    settings_url = page.url
    key = steps.make_api_key(page)

    # Revoked: the next token is refused, and everything waits without having been tried.
    installation.sandbox.faults.set(grant_revoked=True)
    installation.execute("UPDATE connections SET access_token_expires_at = 0")
    hand_in(installation, key, 1)
    until(lambda: held(installation) == 1, "the first message is held")
    hand_in(installation, key, count - 1, first=1)
    hand_in(installation, key, 3, first=count, expires_in=1)
    until(lambda: held(installation) == count, "the rest is held, and what became worthless is not")
    page.goto(settings_url)
    main = page.get_by_role("main")
    expect(main).to_contain_text("The sandbox revoked this store’s authorization")
    expect(main).to_contain_text(f"{count:,} messages are held, the oldest")
    attempts = query(installation, "SELECT SUM(attempts) FROM messages")
    assert attempts == [(0,)], "held mail uses up no attempts"

    # Given again.
    installation.sandbox.faults.set(grant_revoked=False)
    before = len(installation.sandbox.messages())
    steps.connect_through_sandbox(page)
    expect(main).to_contain_text(f"Sending {count:,} held messages, oldest first.")
    expect(main).to_contain_text("3 messages expired while held and were not sent.")
    watch = Watch(installation, skip=before)

    # A worker dies in the middle; its successors go on, no faster than the rate.
    until(lambda: len(watch.subjects()) >= count // 5, "a fifth has gone", within_s=30 + count / 60)
    worker.kill()
    for _ in range(2):
        installation.start_worker()
    first_ones = watch.subjects()
    if not soak:
        # Permits that the dead worker took for mail it did not send are lost for this minute.
        until(lambda: len(watch.subjects()) >= rate - 50, "what the rate allows has gone", within_s=60)
        time.sleep(0.5)
        assert len(watch.subjects()) <= rate
        installation.execute(PERMITS_AGE)
    until(lambda: len(set(watch.subjects())) == count, "all of it has gone", within_s=count / rate * 120 + 30)
    until(lambda: held(installation) == 0 and waiting(installation) == 0, "the outbox knows")

    assert first_ones == sorted(first_ones), "oldest first, until the worker died"
    copies = Counter(watch.subjects())
    twice = {subject for subject, number in copies.items() if number > 1}
    marked = {subject for (subject,) in query(installation, "SELECT subject FROM messages WHERE maybe_sent_twice = 1")}
    assert twice <= marked, "only what may have been on its way when the worker died goes twice, and says so"
    assert len(twice) <= 1
    assert watch.most_in(timedelta(seconds=59)) <= rate or not soak
    states = dict(query(installation, "SELECT status, COUNT(*) FROM messages GROUP BY status"))
    assert states == {"sent": count, "expired": 3}
    page.goto(settings_url)
    expect(page.locator("#connection-card")).to_contain_text("Connected")
    expect(main).not_to_contain_text("revoked")
    ended = query(installation, "SELECT kind, ended_at IS NOT NULL FROM connection_notices")
    assert ended == [("lost", 1)], "one notice when it was lost, ended when it was given again"


PERMITS_AGE = "UPDATE lane_permits SET stamped_at = stamped_at - 60000"


class Watch:
    """What reached the mailbox, by its subjects, in order; the sandbox forgets the oldest."""

    def __init__(self, installation: Installation, *, skip: int) -> None:
        self._sandbox = installation.sandbox
        self._seen: dict[int, Any] = {}
        self._skipped = {message.number for message in self._sandbox.messages()[:skip]}

    def subjects(self) -> list[str]:
        for message in self._sandbox.messages():
            if message.number not in self._skipped and message.subject.startswith("Order "):
                self._seen.setdefault(message.number, (message.subject, message.received_at))
        return [subject for _, (subject, _) in sorted(self._seen.items())]

    def most_in(self, window: timedelta) -> int:
        """The most that came in any time of this length."""
        times = sorted(at for _, at in self._seen.values())
        most, first = 0, 0
        for last, at in enumerate(times):
            while at - times[first] >= window:
                first += 1
            most = max(most, last - first + 1)
        return most


def hand_in(installation: Installation, key: str, count: int, *, first: int = 0, **more: Any) -> None:
    for start in range(first, first + count, 500):
        numbers = range(start, min(start + 500, first + count))
        batch = [{"to": ["lena@inbox.example"], "subject": f"Order {n:05}", "text": "Thanks", **more} for n in numbers]
        request = urllib.request.Request(
            f"{installation.url}/api/v1/messages/batch",
            data=json.dumps({"messages": batch}).encode(),
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status in (200, 202, 207), answer.status


def query(installation: Installation, statement: str) -> list[Any]:
    file = installation.directory / "storepost.sqlite3"
    with closing(sqlite3.connect(file, timeout=20)) as connection:
        return connection.execute(statement).fetchall()


def held(installation: Installation) -> int:
    return int(query(installation, "SELECT COUNT(*) FROM messages WHERE status = 'held'")[0][0])


def waiting(installation: Installation) -> int:
    states = "('queued', 'sending', 'deferred', 'uncertain')"
    return int(query(installation, f"SELECT COUNT(*) FROM messages WHERE status IN {states}")[0][0])


def until(check: Callable[[], bool], what: str, within_s: float = 20) -> None:
    ends = time.monotonic() + within_s
    # The mailbox lives in this process: who waits for minutes and looks all the time keeps it from taking mail.
    pause_s = 0.1 if within_s < 100 else 0.5
    while not check():
        assert time.monotonic() < ends, f"not within {within_s:.0f} s: {what}"
        time.sleep(pause_s)
