"""Stores connected to the sandbox, and tests of their settings run to the end."""

from __future__ import annotations

import threading
from typing import Any

from extensions import db
from mail.audit import Actor
from mail.drafts import AdvancedDraft, General, SecretEdit, SMTPDraft
from mail.equipment import Equipment
from mail.settings import save, switch_method
from models import Store
from models.connection import GrantType
from models.email_settings import Method
from sandbox import Sandbox
from security.secret import Secret
from tests import factories
from tests.sandbox.clients import CLIENT_ID, CLIENT_SECRET, MAILBOX, SCOPE, OAuthClient

ACTOR = Actor("Alice Adams")
PASSWORD = "sandbox-password"
GENERAL = General(from_name="Acme Store", from_email=MAILBOX, bcc=("records@acme.example",))


def configuration(sandbox: Sandbox) -> dict[str, Any]:
    """The settings of an application that knows this sandbox."""
    return {
        "CA_FILE": str(sandbox.ca_file),
        "SANDBOX_WEB_URL": sandbox.web_url,
        "SANDBOX_TOKEN_URL": sandbox.issuer,
        "SANDBOX_SMTP_PORT": sandbox.smtp_port,
    }


def smtp_draft(sandbox: Sandbox, **changes: Any) -> SMTPDraft:
    """What a person types on the SMTP tab for the sandbox's server."""
    values: dict[str, Any] = {"smtp_host": "localhost", "smtp_port": sandbox.smtp_port, "username": MAILBOX}
    return SMTPDraft(**{"general": GENERAL, **values, "password": SecretEdit.replace(Secret(PASSWORD)), **changes})


def advanced_draft(sandbox: Sandbox, refresh_token: str | None = None, **changes: Any) -> AdvancedDraft:
    """What a person types on the Advanced SMTP tab; the refresh token is that of a new consent."""
    token = refresh_token or OAuthClient(sandbox).connect()["refresh_token"]
    values: dict[str, Any] = {
        "general": GENERAL,
        "provider": "sandbox",
        "smtp_host": "localhost",
        "smtp_port": sandbox.smtp_port,
        "client_id": CLIENT_ID,
        "client_secret": SecretEdit.replace(Secret(CLIENT_SECRET)),
        "refresh_token": SecretEdit.replace(Secret(token)),
        "grant_type": GrantType.REFRESH_TOKEN,
        "authorization_url": sandbox.authorize_url,
        "token_url": sandbox.token_url,
        "scope": SCOPE,
    }
    return AdvancedDraft(**{**values, **changes})


def make_store(
    sandbox: Sandbox, equipment: Equipment, *, method: Method = Method.ADVANCED_SMTP, **changes: Any
) -> Store:
    """A store whose settings of this method are saved and complete."""
    store = factories.make_store("Acme Store")
    settings = store.email_settings
    draft = advanced_draft(sandbox, **changes) if method is Method.ADVANCED_SMTP else smtp_draft(sandbox, **changes)
    save(settings, draft, expected_version=settings.version, actor=ACTOR, equipment=equipment)
    switch_method(settings, method, expected_version=settings.version, actor=ACTOR)
    db.session.commit()
    return store


def wait_for_all(timeout_s: float = 45.0) -> None:
    """Until no test is under way in this process any more."""
    for thread in threading.enumerate():
        if thread.name.startswith("test-"):
            thread.join(timeout_s)
            assert not thread.is_alive(), "a test did not end"


def wait_for(uid: str, timeout_s: float = 45.0) -> None:
    """Until the thread of this run is through with the database too."""
    for thread in threading.enumerate():
        if thread.name == f"test-{uid}":
            thread.join(timeout_s)
            assert not thread.is_alive(), "the test did not end"
