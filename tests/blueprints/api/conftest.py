"""A store with a key, and a client that calls the API with it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from mail import api_keys
from mail.audit import SYSTEM
from models import Store
from tests.blueprints.api.calls import MESSAGE, Call, Send
from tests.conftest import Browser


@pytest.fixture
def key(store: Store, db: Any) -> str:
    store.email_settings.from_email = "orders@acme.example"
    _, secret = api_keys.create(store, "Web shop", actor=SYSTEM)
    db.session.commit()
    return secret.reveal()


@pytest.fixture
def send(client: Browser, key: str) -> Send:
    def send(document: Any = MESSAGE, *, raw: bytes | None = None, **headers: str) -> TestResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        body = json.dumps(document).encode() if raw is None else raw
        return client.open(
            "POST",
            "/api/v1/messages",
            data=body,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"} | names,
        )

    return send


@pytest.fixture
def call(client: Browser, key: str) -> Call:
    """Any call of the API, with the store's key unless another Authorization is given."""

    def call(method: str, path: str, document: Any = None, *, raw: str = "", **headers: str) -> TestResponse:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        more: dict[str, Any] = {"data": raw} if document is None else {"json": document}
        return client.open(method, f"/api/v1{path}", headers={"Authorization": f"Bearer {key}"} | names, **more)

    return call
