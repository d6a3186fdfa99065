"""An application that knows a sandbox, stores connected to it, and the Test button."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import pytest
from flask import Flask

from app import create_app
from extensions import db as database
from mail import doctor
from mail.doctor import examination, probes
from mail.doctor.records import Report
from mail.drafts import Draft, current
from mail.equipment import Equipment
from mail.smtp import Timeouts
from models import Store
from models.email_settings import Method
from sandbox import Sandbox
from tests import factories
from tests.conftest import settings_for
from tests.fakes import sandboxed
from tests.fakes.sandboxed import ACTOR
from tests.mail.doctor.faults import Arena
from tests.mail.doctor.pages import RECIPIENT, Press, report_of
from tests.patience import PATIENT, SECOND_LOOK_S


@pytest.fixture(scope="session")
def sandbox_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture
def sandbox(sandbox_server: Sandbox) -> Iterator[Sandbox]:
    sandbox_server.reset()
    yield sandbox_server
    sandbox_server.reset()


@pytest.fixture(autouse=True)
def patient_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second look at a server takes the time that it needs, unless a test says that nobody will answer."""
    monkeypatch.setattr(examination, "probe", partial(probes.probe, timeout_s=SECOND_LOOK_S))


@pytest.fixture
def app(database_url: str, sandbox: Sandbox) -> Iterator[Flask]:
    application = create_app(settings_for(database_url, **sandboxed.configuration(sandbox)))
    with application.app_context():
        factories.make_tables()
        yield application
        database.session.remove()
        database.engine.dispose()


@pytest.fixture
def connected(sandbox: Sandbox, equipment: Equipment) -> Store:
    return sandboxed.make_store(sandbox, equipment)


@pytest.fixture
def classic(sandbox: Sandbox, equipment: Equipment) -> Store:
    return sandboxed.make_store(sandbox, equipment, method=Method.SMTP)


@pytest.fixture
def press(app: Flask, equipment: Equipment) -> Press:
    """Press Test Email Settings for a store, wait for the end, and return what the page shows."""

    def press(
        store: Store,
        draft: Draft | None = None,
        *,
        equipment: Equipment = equipment,
        timeouts: Timeouts = PATIENT,
    ) -> Report:
        settings, store_id = store.email_settings, store.id
        started = doctor.start_run(
            settings,
            draft or current(settings, settings.method, equipment),
            recipient=RECIPIENT,
            actor=ACTOR,
            equipment=equipment,
            context=app.app_context,
            timeouts=timeouts,
        )
        assert started.is_new
        sandboxed.wait_for(started.uid)
        database.session.remove()
        return report_of(store_id, started.uid, equipment)

    return press


@pytest.fixture(scope="session")
def faulty_world(sandbox_server: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    world = Arena(tmp_path_factory.mktemp("faults"), sandbox_server)
    yield world
    world.close()


@pytest.fixture
def arena(faulty_world: Arena, sandbox: Sandbox, caplog: pytest.LogCaptureFixture) -> Iterator[Arena]:
    """One application for all faults, everything it logs, and a sandbox that behaves."""
    with faulty_world.app.app_context(), caplog.at_level(logging.DEBUG):
        yield faulty_world
        database.session.remove()
