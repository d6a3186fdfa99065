"""Fills an installation's tables and times what workers, doors and pages do there. Started by `bench.deep`.

Each line on the input, `fill SENT QUEUED`, `measure TIMES`, is answered with a line of JSON.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from sqlalchemy import text, update

from app import create_app
from bench import pages
from bench.feeder import Feeder
from bench.processes import say
from extensions import db
from mail import outbox
from models import Message, Store
from models.outbox import MessageStatus, RecipientStatus
from models.types import new_uid

STORES = 100
CLAIM = 20
# One row of many stores' mail: everything like the message that was handed in, but these.
_ALL_BUT = frozenset({"id", "uid", "store_id", "status", "message_id", "ended_at", "idempotency_key"})


class Deep:
    """An application with a person signed in, and a store whose mail is looked at."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._feeder = Feeder(app.extensions["storepost"])
        with app.app_context():
            self._store = pages.fill(STORES)
        self._client = app.test_client()
        pages.sign_in(self._client, app.config["PUBLIC_URL"])

    def fill(self, sent: int, queued: int) -> None:
        """Add so many rows of each kind, spread over all stores, with a recipient each; the database makes them."""
        self._feeder.enqueue([self._store], nudge=False)
        template = db.session.query(Message.id).order_by(Message.id.desc()).limit(1).scalar()
        for status, number in ((MessageStatus.SENT, sent), (MessageStatus.QUEUED, queued)):
            self._copy(template, status, number)
        columns = "message_id, kind, address, status, reply"
        values = f"id, 'to', 'customer@mail.example', '{RecipientStatus.WAITING.value}', ''"
        lacking = "NOT EXISTS (SELECT 1 FROM message_recipients WHERE message_id = messages.id)"
        db.session.execute(
            text(f"INSERT INTO message_recipients ({columns}) SELECT {values} FROM messages WHERE {lacking}")
        )
        db.session.commit()
        db.session.execute(text("ANALYZE"))
        db.session.commit()

    def _copy(self, template: int, status: MessageStatus, number: int) -> None:
        same = [column.name for column in Message.__table__.columns if column.name not in _ALL_BUT]
        is_sqlite = db.engine.dialect.name == "sqlite"
        series = (
            "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < :number) "
            if is_sqlite
            else "WITH series(n) AS (SELECT generate_series(1, :number)) "
        )
        # 32 digits, so that no two differ in length, after a letter for each filling.
        uid = "printf('%s%028d', :tag, n)" if is_sqlite else "CAST(:tag AS text) || lpad(CAST(n AS text), 28, '0')"
        ended = "created_at" if status is MessageStatus.SENT else "NULL"
        own = f"{uid}, :first + (n % :stores), '{status.value}', {uid} || '@shop.example', {ended}"
        statement = (
            f"INSERT INTO messages ({', '.join(same)}, uid, store_id, status, message_id, ended_at) {series}"
            f"SELECT {', '.join('messages.' + name for name in same)}, {own} "
            "FROM series, messages WHERE messages.id = :template"
        )
        first = db.session.query(Store.id).order_by(Store.id).limit(1).scalar()
        values = {"number": number, "tag": new_uid()[:4], "first": first, "stores": STORES, "template": template}
        if number:
            db.session.execute(text(statement), values)
            db.session.commit()

    def measure(self, times: int) -> dict[str, float]:
        """Median milliseconds of each step."""
        steps: dict[str, Callable[[], Any]] = {
            "accept": lambda: self._feeder.enqueue([self._store], nudge=False),
            "claim": self._claim,
            "due": outbox.due_stores,
            "sweep": outbox.sweep,
        }
        with self._app.app_context():
            # What is claimed has to be there, also where there is nothing else.
            self._feeder.enqueue([self._store], count=CLAIM * (times + 1), per_commit=100, nudge=False)
            found = {name: self._timed(step, times) for name, step in steps.items()}
            self._free()
        # A request brings a context of its own; inside another one it would take the last request's person for its own.
        return {**found, "list": self._timed(self._list, times)}

    def _timed(self, step: Callable[[], Any], times: int) -> float:
        step()
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            step()
            taken.append((time.perf_counter() - began) * 1000)
        return statistics.median(taken)

    def _claim(self) -> None:
        assert len(outbox.claim(limit=CLAIM, store_id=self._store)) == CLAIM

    def _list(self) -> None:
        answer = self._client.get(f"/stores/{self._store}/messages", base_url=self._app.config["PUBLIC_URL"])
        assert answer.status_code == 200, answer.status

    def _free(self) -> None:
        """Give back what was claimed, so that the next measurement begins alike."""
        waiting = update(Message).where(Message.status == MessageStatus.SENDING)
        db.session.execute(waiting.values(status=MessageStatus.QUEUED, lease=None, lease_until=None, claims=0))
        db.session.commit()


def main() -> None:
    app = create_app()
    deep = Deep(app)
    say(ready="deep")
    for line in sys.stdin:
        verb, *numbers = line.split()
        if verb == "fill":
            with app.app_context():
                deep.fill(*(int(number) for number in numbers))
            say(done=verb)
        else:
            say(**deep.measure(int(numbers[0])))


if __name__ == "__main__":
    main()
