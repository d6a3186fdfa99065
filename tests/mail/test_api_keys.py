"""API keys: made once, known again, gone when revoked."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from mail import api_keys
from mail.audit import Actor
from models import APIKey, AuditEntry, Store
from models.types import utcnow

ALICE = Actor("Alice Adams", 1)


@pytest.fixture
def key(store: Store, db: Any) -> str:
    _, secret = api_keys.create(store, "Web shop", actor=ALICE)
    db.session.commit()
    return secret.reveal()


def test_a_key_has_256_random_bits_and_only_its_hash_is_kept(store: Store, key: str, db: Any) -> None:
    assert re.fullmatch(r"sp_[A-Za-z0-9_-]{43}", key)
    row = db.session.scalars(select(APIKey)).one()
    assert row.prefix == key[:11]
    kept = " ".join(str(getattr(row, column.name)) for column in APIKey.__table__.columns)
    assert key[11:] not in kept


def test_it_is_known_by_the_authorization_header(store: Store, key: str) -> None:
    holder = api_keys.holder_of(f"Bearer {key}")
    assert holder is not None
    assert (holder.store_id, holder.scopes) == (store.id, {"send", "read"})
    assert api_keys.holder_of(f"bearer  {key} ") is not None


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic {key}", "{key}", "Bearer {key}x", "Bearer {key} {key}"])
def test_nothing_else_is(key: str, header: str | None) -> None:
    assert api_keys.holder_of(header.format(key=key) if header else header) is None


def test_an_unknown_key_is_nobodys(key: str) -> None:
    assert api_keys.holder_of("Bearer sp_" + "A" * 43) is None


def test_a_revoked_key_is_gone_at_once(store: Store, key: str, db: Any) -> None:
    row = db.session.scalars(select(APIKey)).one()
    assert api_keys.revoke(store, row.id, actor=ALICE)
    db.session.commit()
    assert api_keys.holder_of(f"Bearer {key}") is None
    assert api_keys.revoke(store, row.id, actor=ALICE) is not None
    db.session.commit()
    actions = db.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)).all()
    assert actions == ["api_key_created", "api_key_revoked"]


def test_last_used_is_written_rarely(key: str, db: Any) -> None:
    holder = api_keys.holder_of(f"Bearer {key}")
    assert holder
    api_keys.touch(holder)
    db.session.commit()
    first = db.session.scalars(select(APIKey.last_used_at)).one()
    assert first
    assert not api_keys.holder_of(f"Bearer {key}").is_stale
    db.session.execute(APIKey.__table__.update().values(last_used_at=utcnow() - timedelta(minutes=6)))
    db.session.commit()
    assert api_keys.holder_of(f"Bearer {key}").is_stale


def test_the_trail_and_the_row_hold_no_key(key: str, db: Any) -> None:
    entries = db.session.scalars(select(AuditEntry)).all()
    assert all(key not in f"{one.detail}{one.fields}{one.actor}" for one in entries)
