"""The means to hold SMTP conversations with servers on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mail.errors import Stage
from mail.smtp import BearerLogin, Conversation, Encryption, Endpoint, PasswordLogin, Timeouts
from security.outbound import AllowRule, Door
from security.secret import Secret
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.patience import PATIENT

BEARER = BearerLogin("shop@example.com", Secret("ya29.fake-access-token-for-tests"))
PASSWORD = PasswordLogin("shop@example.com", Secret("not-a-real-password"))
MESSAGE = b"Subject: Hello\r\n\r\nGood morning.\r\n"


@dataclass
class Watch:
    """Keeps what an observer is told."""

    events: list[tuple[Stage, str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, stage: Stage, event: str, facts: dict[str, Any]) -> None:
        self.events.append((stage, event, facts))

    def facts(self, stage: Stage) -> dict[str, Any]:
        return next(facts for seen, event, facts in self.events if seen is stage and event == "done")

    def steps(self) -> list[str]:
        return [f"{stage} {event}" for stage, event, _ in self.events]


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def cert(ca: CA) -> ServerCert:
    return make_server_cert(ca)


@pytest.fixture
def door(ca: CA) -> Door:
    return Door(AllowRule.parse_list("127.0.0.1:* localhost:*"), ca_file=ca.cert_file, resolve=_only_v4)


@pytest.fixture
def dial(door: Door, request: pytest.FixtureRequest) -> Callable[..., Conversation]:
    """Make a conversation with a fake server, not opened yet; it is closed when the test ends."""

    def make(
        server: Any,
        encryption: Encryption = Encryption.STARTTLS,
        *,
        timeouts: Timeouts = PATIENT,
        observe: Any = None,
        door: Door = door,
        **endpoint: Any,
    ) -> Conversation:
        where = Endpoint(endpoint.pop("host", server.host), server.port, encryption, **endpoint)
        conversation = Conversation(where, door=door, timeouts=timeouts, observe=observe)
        request.addfinalizer(conversation._session.abort)
        return conversation

    return make


def _only_v4(host: str, port: int, **more: Any) -> Any:
    # The fakes listen on 127.0.0.1 only; "localhost" may also mean ::1.
    return socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
