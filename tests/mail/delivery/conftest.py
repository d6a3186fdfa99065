"""A store that sends to a server on loopback, by either method."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from mail.equipment import Equipment
from models import Message, Store
from models.connection import GrantType
from models.database import reading
from models.email_settings import Method
from models.types import utcnow
from security.outbound import AllowRule, Door
from security.vault import Place
from tests.fakes.certs import CA, ServerCert
from tests.fakes.mta import MTA
from tests.patience import PATIENT

PASSWORD, TOKEN = "not-a-real-password", "fake-access-token"


@pytest.fixture
def mta(cert: ServerCert) -> Iterator[MTA]:
    with MTA(cert.server_context()) as server:
        yield server


@pytest.fixture
def equipment(app: Any, ca: CA) -> Equipment:
    found: Equipment = app.extensions["storepost"]

    def only_v4(host: str, port: int, **more: Any) -> Any:
        return socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)

    door = Door(AllowRule.parse_list("127.0.0.1:* localhost:*"), ca_file=ca.cert_file, resolve=only_v4)
    return replace(found, door=door, timeouts=PATIENT)


@pytest.fixture
def shop(store: Store, mta: MTA, equipment: Equipment, db: Any) -> Store:
    """Acme Store on classic SMTP, with a Bcc of its own."""
    settings = store.email_settings
    settings.method = Method.SMTP
    settings.from_name, settings.from_email = "Acme Store", "orders@acme.example"
    settings.bcc = "records@acme.example"
    settings.smtp_host, settings.smtp_port, settings.username = mta.host, mta.port, "orders@acme.example"
    place = Place("email_settings", settings.uid, "password_sealed")
    settings.password_sealed = equipment.vault.seal(PASSWORD, place)
    db.session.commit()
    return store


@pytest.fixture
def connected(shop: Store, mta: MTA, equipment: Equipment, db: Any) -> Store:
    """The same store on Advanced SMTP, with a token in the cache."""
    settings = shop.email_settings
    settings.method = Method.ADVANCED_SMTP
    settings.advanced_smtp_host, settings.advanced_smtp_port = mta.host, mta.port
    connection = settings.connection
    assert connection is not None
    connection.provider, connection.grant_type = "other", GrantType.REFRESH_TOKEN
    connection.client_id, connection.token_url = "fake-client", "https://localhost:1/token"

    def seal(column: str, value: str) -> str:
        return equipment.vault.seal(value, Place("connections", connection.uid, column))

    connection.client_secret_sealed = seal("client_secret_sealed", "fake-client-secret")
    connection.refresh_token_sealed = seal("refresh_token_sealed", "fake-refresh-0")
    connection.access_token_sealed = seal("access_token_sealed", TOKEN)
    connection.access_token_expires_at = utcnow() + timedelta(hours=1)
    connection.refreshed_at = utcnow()
    db.session.commit()
    return shop


@pytest.fixture
def row(db: Any) -> Any:
    def row(uid: str) -> Message:
        db.session.rollback()
        with reading():  # as a writer it would keep the next claim waiting
            message = db.session.scalar(select(Message).where(Message.uid == uid))
        assert message is not None
        return message

    return row
