"""A mended store need not wait for its breaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mail import pace
from mail.errors import Stage
from mail.pace import Limits
from mail.pace.mended import forget_failures
from models import Store


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


def test_a_save_ends_the_pause_of_the_stores_own_lanes_only(store: Store, db: Any) -> None:
    store_id, connection_id = store.id, store.email_settings.connection_id
    db.session.commit()
    own = [Limits(key, 3, None, None) for key in (f"store:{store_id}", f"connection:{connection_id}")]
    other = Limits("store:4711", 3, None, None)
    for limits in (*own, other):
        pace.note_failure(limits, code="timed_out", detail="timed out")
    forget_failures(store_id)
    db.session.commit()
    assert [bool(pace.look(limits).pause) for limits in (*own, other)] == [False, False, True]
    assert pace.look(own[0]).is_failing


def test_a_pause_that_the_server_asked_for_stays(store: Store, db: Any) -> None:
    store_id = store.id
    db.session.commit()
    limits = Limits(f"store:{store_id}", 3, 30, None)
    detail = "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
    pace.note_throttled(limits, stage=Stage.MESSAGE, code="throttled", detail=detail, wish_s=None)
    forget_failures(store_id)
    db.session.commit()
    assert pace.look(limits).pause
