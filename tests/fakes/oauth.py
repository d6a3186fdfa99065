"""Stores with an OAuth connection, and ID tokens, for tests of Connect and of renewing tokens."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

from sqlalchemy import select

from extensions import db
from mail import token_lease
from mail.drafts import connection_place
from mail.equipment import Equipment
from models import EmailSettings, Store
from models.connection import Connection, GrantType, Health, TokenSource
from tests import factories

CLIENT_ID = "client-1"
CLIENT_SECRET = "fake-client-secret-Zq8"
MAILBOX = "orders@acme.example"


def make_oauth_store(
    equipment: Equipment,
    token_url: str,
    *,
    name: str = "Acme Store",
    from_email: str = MAILBOX,
    refresh_token: str | None = "fake-refresh-0",
    client_secret: str | None = CLIENT_SECRET,
    **columns: Any,
) -> Store:
    """A complete store whose token endpoint is `token_url`; `columns` are columns of its connection."""
    store = factories.make_store(
        name,
        from_name=name,
        from_email=from_email,
        advanced_smtp_host="smtp.acme.example",
        advanced_smtp_port=587,
    )
    connection = store.email_settings.connection
    assert connection is not None
    values: dict[str, Any] = {
        "provider": "other",
        "client_id": CLIENT_ID,
        "grant_type": GrantType.AUTHORIZATION_CODE,
        "authorization_url": token_url.replace("/token", "/authorize"),
        "token_url": token_url,
        "scope": "smtp.send offline_access",
        **columns,
    }
    for column, value in values.items():
        setattr(connection, column, value)
    if client_secret:
        seal(connection, "client_secret_sealed", client_secret, equipment)
    if refresh_token:
        seal(connection, "refresh_token_sealed", refresh_token, equipment)
        connection.refresh_token_source = TokenSource.CONNECT
        connection.health = columns.get("health", Health.CONNECTED)
    db.session.commit()
    return store


def seal(connection: Connection, column: str, value: str, equipment: Equipment) -> None:
    setattr(connection, column, equipment.vault.seal(value, connection_place(connection, column)))


def opened(connection_id: int, column: str, equipment: Equipment) -> str | None:
    """What is stored now, in clear."""
    connection = token_lease.read(connection_id).connection
    sealed = getattr(connection, column)
    return equipment.vault.open_secret(sealed, connection_place(connection, column)).reveal() if sealed else None


def connection_of(store_id: int) -> Connection:
    """The connection as it is stored now, detached: no transaction stays open that others would wait for."""
    connection_id = db.session.scalar(select(EmailSettings.connection_id).where(EmailSettings.store_id == store_id))
    db.session.rollback()
    assert connection_id is not None
    return token_lease.read(connection_id).connection


def make_id_token(**claims: Any) -> str:
    """An unsigned ID token for our client, good for ten minutes; a claim given as None is left out."""
    body = {"iss": "https://login.example", "aud": CLIENT_ID, "exp": int(time.time()) + 600, "email": MAILBOX, **claims}
    parts = ({"alg": "none"}, {name: value for name, value in body.items() if value is not None})
    head, payload = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{head}.{payload}.c2ln"
