"""Hands mail in, inside an installation: stores, messages, and what became of them. Started by `bench.installation`.

Each line on the input is a JSON object whose "do" names a method of `Feeder`; the rest are its arguments.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError

from app import create_app
from bench.peers import content
from bench.processes import say
from extensions import db
from mail import api_keys, drafts
from mail import settings as email_settings
from mail.accepting import Enqueued, HandedIn
from mail.accepting_together import Together
from mail.audit import Actor
from mail.equipment import Equipment
from mail.nudges import NoNudges
from mail.outbox import NewMessage
from models import Message, Store
from models.connection import GrantType, Health
from models.database import reading
from models.email_settings import CustomField, EmailSettings, Method
from models.outbox import END_STATES, MessageContent, Recipient
from models.types import new_uid, utcnow
from security.vault import Place


class Feeder:
    """What can be asked for. Every answer is a JSON object."""

    def __init__(self, equipment: Equipment) -> None:
        self._equipment = equipment
        self._vault = equipment.vault
        self._together = Together()

    # Stores ------------------------------------------------------------------------------------------------------

    def stores(self, port: int, count: int = 1, fields: dict[str, str] | None = None) -> dict[str, Any]:
        """Make stores that send to this port: by SMTP without sign-in, with custom fields by Advanced SMTP."""
        made = [self._store(port, fields) for _ in range(count)]
        db.session.commit()
        return {"ids": [store.id for store in made]}

    def _store(self, port: int, fields: dict[str, str] | None) -> Store:
        code = f"s{new_uid()[:12]}"
        store = Store(name=f"Store {code}", code=code, domain=f"{code}.example")
        db.session.add(store)
        db.session.flush()  # the settings need its id
        settings = email_settings.create_for(store, from_name="Shop")
        settings.from_email, settings.use_ssl = f"orders@{code}.example", False
        settings.method, settings.smtp_host, settings.smtp_port = Method.SMTP, "127.0.0.1", port
        if fields is not None:
            self._connect(settings, port, fields)
        return store

    def _connect(self, settings: EmailSettings, port: int, fields: dict[str, str]) -> None:
        """Advanced SMTP with a token in the cache that outlives every benchmark."""
        settings.method = Method.ADVANCED_SMTP
        settings.advanced_smtp_host, settings.advanced_smtp_port = "127.0.0.1", port
        connection = settings.connection
        assert connection is not None
        db.session.flush()  # secrets are sealed for the row's uid
        connection.provider, connection.grant_type = "other", GrantType.REFRESH_TOKEN
        connection.client_id, connection.token_url = "bench", "https://127.0.0.1:1/token"
        connection.health, connection.health_since = Health.CONNECTED, utcnow()
        for column in ("client_secret_sealed", "refresh_token_sealed", "access_token_sealed"):
            sealed = self._vault.seal("bench-only", Place("connections", connection.uid, column))
            setattr(connection, column, sealed)
        connection.access_token_expires_at = utcnow() + timedelta(days=2)
        connection.refreshed_at = utcnow()
        for position, (key, value) in enumerate(fields.items()):
            uid = new_uid()
            sealed = self._vault.seal(value, drafts.custom_value_place(uid))
            settings.custom_fields.append(CustomField(uid=uid, position=position, key=key, value_sealed=sealed))

    def api_key(self, store: int) -> dict[str, Any]:
        """Make an API key and tell it."""
        found = db.session.get(Store, store)
        assert found is not None
        _, key = api_keys.create(found, "bench", actor=Actor("bench"))
        db.session.commit()
        return {"key": key.reveal()}

    # Messages ----------------------------------------------------------------------------------------------------

    def enqueue(self, stores: list[int], count: int = 1, per_commit: int = 1, nudge: bool = True) -> dict[str, Any]:
        """Hand in so many messages for each store, several in one commit if asked, as the HTTP API does.

        `last_at` is when the last commit was done; `nudge` false leaves the workers to find out by themselves.
        """
        new = _message()
        equipment = self._equipment if nudge else _without_nudges(self._equipment)
        uids = []
        cpu, began = _cpu_s(), time.monotonic()
        for store in stores:
            for done in range(0, count, per_commit):
                handed = [HandedIn(new)] * min(per_commit, count - done)
                answers = self._together.accept(store, handed, equipment=equipment, api_key_id=None)
                uids += [answer.uid for answer in answers if isinstance(answer, Enqueued)]
        last_at = time.monotonic()
        return {"uids": uids, "seconds": last_at - began, "cpu_s": _cpu_s() - cpu, "last_at": last_at}

    def insert_bare(self, store: int, count: int) -> dict[str, Any]:
        """Insert the rows that `enqueue` writes, made beforehand, with a commit for each message, and nothing else."""
        rows = [self._bare_rows(store) for _ in range(count)]
        began = time.monotonic()
        for message, sealed, recipient in rows:
            number = db.session.execute(
                Message.__table__.insert().values(message).returning(Message.__table__.c.id)
            ).scalar_one()
            db.session.execute(MessageContent.__table__.insert().values(message_id=number, sealed=sealed))
            db.session.execute(Recipient.__table__.insert(), [{**recipient, "message_id": number}])
            db.session.commit()
        return {"seconds": time.monotonic() - began}

    def _bare_rows(self, store: int) -> tuple[dict[str, Any], str, dict[str, Any]]:
        """Copies of the rows of the last message that was really handed in."""
        last = db.session.execute(
            select(Message.__table__).where(Message.store_id == store).order_by(Message.id.desc()).limit(1)
        ).one()
        sealed = db.session.execute(
            select(MessageContent.sealed).where(MessageContent.message_id == last.id)
        ).scalar_one()
        recipient = db.session.execute(select(Recipient.__table__).where(Recipient.message_id == last.id)).first()
        db.session.rollback()
        assert recipient is not None
        uid = new_uid()
        message = {**last._mapping, "uid": uid, "message_id": f"<{uid}@shop.example>"}
        del message["id"]
        return message, sealed, {name: recipient._mapping[name] for name in ("kind", "address", "status", "reply")}

    # What became of them -----------------------------------------------------------------------------------------

    def await_all(self, seconds: float) -> dict[str, Any]:
        """Wait until every message has ended, at most so long; how many have not, and when that was seen."""
        waiting = select(func.count()).where(Message.status.not_in(END_STATES))
        ends = time.monotonic() + seconds
        while True:
            with reading():
                count = db.session.scalar(waiting)
                db.session.rollback()
            now = time.monotonic()
            if not count or now > ends:
                return {"count": count, "seen_at": now}
            time.sleep(0.01)

    def facts(self) -> dict[str, Any]:
        """How many messages stand where, and the uids of those marked as perhaps sent twice."""
        counted = select(Message.status, func.count()).group_by(Message.status)
        states = {status.value: number for status, number in db.session.execute(counted)}
        marked = list(db.session.scalars(select(Message.uid).where(Message.maybe_sent_twice.is_(True))))
        db.session.rollback()
        return {"states": states, "marked": marked}

    def is_free(self) -> dict[str, Any]:
        """Whether nobody has locked the database, asked without waiting for it."""
        if db.engine.dialect.name != "sqlite":
            return {"free": True}
        with closing(sqlite3.connect(str(db.engine.url.database), timeout=0.2, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return {"free": False}
            return {"free": True}

    def clear(self) -> dict[str, Any]:
        """Remove all messages, so that every round begins alike."""
        db.session.execute(text("DELETE FROM messages"))
        db.session.commit()
        return {}


def _message() -> NewMessage:
    return NewMessage(to=(content.RECIPIENT,), subject=content.SUBJECT, text=content.TEXT)


def _without_nudges(equipment: Equipment) -> Equipment:
    return replace(equipment, nudges=NoNudges())


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    app = create_app()
    with app.app_context():
        db.create_all()
        feeder = Feeder(app.extensions["storepost"])
        say(ready="feeder")
        for line in sys.stdin:
            values = json.loads(line)
            method: Callable[..., dict[str, Any]] = getattr(feeder, values.pop("do"))
            try:
                answer = method(**values)
            except SQLAlchemyError as error:
                answer = {"error": f"{type(error).__name__} in {method.__name__}"}
            # An answer that read something left a transaction open, which would keep others from writing.
            db.session.rollback()
            say(**answer)


if __name__ == "__main__":
    main()
