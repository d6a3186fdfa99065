"""A relay that runs beside the test, a store with a key for it, and a certificate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from models import Store
from relay import Relay
from relay.limits import Limits
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.relay.peer import make_key

QUICK = Limits(stop_within_s=5.0)


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CA:
    return make_ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def cert(ca: CA) -> ServerCert:
    return make_server_cert(ca)


@pytest.fixture
def key(store: Store) -> str:
    """An API key of the store that may send; the user name is the store's code, acme-store."""
    return make_key(store)


@pytest.fixture
def start(app: Flask) -> Iterator[Callable[..., Relay]]:
    """Starts relays on free ports of loopback, with other limits where a test names them."""
    with ExitStack() as running:

        def start(*, host: str = "127.0.0.1", cert: ServerCert | None = None, **limits: Any) -> Relay:
            app.config.update(RELAY_HOST=host, RELAY_PORT=0)
            if cert:
                app.config.update(RELAY_CERT_FILE=cert.cert_file, RELAY_KEY_FILE=cert.key_file)
            relay = Relay(app, replace(QUICK, **limits))
            thread = threading.Thread(target=relay.run)
            thread.start()
            assert relay.is_ready.wait(10)

            def stop() -> None:
                relay.stop()
                thread.join(20)
                assert not thread.is_alive()

            running.callback(stop)
            return relay

        yield start


@pytest.fixture
def relay(start: Callable[..., Relay]) -> Relay:
    """A relay with the usual limits."""
    return start()
