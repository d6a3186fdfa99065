"""One value that does not open stops one store: every page and action still answers, and overwrites nothing."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from extensions import db as database
from mail.equipment import Equipment
from tests.blueprints.settings_page import read
from tests.conftest import Browser
from tests.fakes.oauth import make_oauth_store
from tests.house.test_routes import _routes, _url

SEALED = [
    ("connections", "client_secret_sealed"),
    ("connections", "refresh_token_sealed"),
    ("connections", "access_token_sealed"),
    ("connections", "token_parameters_sealed"),
    ("email_settings", "password_sealed"),
    ("custom_fields", "value_sealed"),
]
# A cache and a copy: made again from what stands elsewhere.
DERIVED = {"access_token_sealed", "token_parameters_sealed"}
DAMAGED = "v1.k1.ZGFtYWdlZCwgYW5kIG5vdCBzaG9ydCBlaXRoZXI"


@pytest.mark.parametrize(("table", "column"), SEALED)
def test_a_damaged_value_makes_no_fault_and_is_not_overwritten(
    app: Flask, alice: Browser, equipment: Equipment, table: str, column: str
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    store = make_oauth_store(equipment, "https://localhost:1/token")
    url = f"/stores/{store.id}/advanced-smtp"
    rows = {"custom_fields-0-key": "token.audience", "custom_fields-0-value": "shops"}
    assert alice.post(url, read(alice.get(url).text).values | rows).status_code == 303
    damage(table, column)
    damaged = values(table, column)
    assert damaged == {DAMAGED}
    for rule in _routes(app):
        if "GET" in (rule.methods or set()):
            assert alice.get(_url(rule, store)).status_code < 500, rule.rule
    copied = {"name": "Copy", "code": "copy", "emails_off-present": "1", "emails_off": "1"}
    posts: list[tuple[str, dict[str, Any]]] = [
        (url, {"from_name": "Another name"}),
        (url.replace("advanced-", ""), {"from_name": "A third name"}),
        (url, {"scope": "more"}),
        (f"{url}/custom-fields", {"add": "1"}),
        (f"/stores/{store.id}/connect", {}),
        (f"/stores/{store.id}/copy", copied),
        (url, {"scope": "another scope"}),
        (f"/stores/{store.id}/tenant", {}),
    ]
    for target, typed in posts:
        page = read(alice.get(target if target.endswith("smtp") else url).text)
        answer = alice.post(target, page.values | typed)
        assert answer.status_code in (200, 303, 422), (target, answer.status_code)
    if column not in DERIVED:
        assert damaged <= values(table, column)
    assert alice.post(f"/stores/{store.id}/disconnect").status_code == 303


def damage(table: str, column: str) -> None:
    database.session.execute(text(f"UPDATE {table} SET {column} = :damaged"), {"damaged": DAMAGED})
    database.session.commit()


def values(table: str, column: str) -> set[str]:
    found = {row[0] for row in database.session.execute(text(f"SELECT {column} FROM {table}"))}
    database.session.rollback()
    return found
