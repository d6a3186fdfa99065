"""A mail server for whoever needs nothing special of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.mta import MTA


@pytest.fixture
def mta() -> Iterator[MTA]:
    with MTA() as server:
        yield server
