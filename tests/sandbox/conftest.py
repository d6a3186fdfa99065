"""One sandbox for all tests of this folder, put back to the beginning before each; ports are free ones."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox import Sandbox
from tests.sandbox.clients import OAuthClient


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox") / "certificates") as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Iterator[Sandbox]:
    running.reset()
    yield running
    running.reset()


@pytest.fixture
def oauth(sandbox: Sandbox) -> OAuthClient:
    return OAuthClient(sandbox)


@pytest.fixture
def trusting(sandbox: Sandbox) -> ssl.SSLContext:
    """What a careful client uses: full verification, and the sandbox's authority as the only one."""
    return ssl.create_default_context(cafile=str(sandbox.ca_file))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "certificates"
