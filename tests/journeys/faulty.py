"""An installation amid servers that go wrong, and how a person fills in the settings that lead to each of them."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

import tests.fakes.hostile_transfer  # noqa: F401  fills the library
from tests.fakes.hostile_smtp import SERVERS, make_contexts
from tests.fakes.impatient import SILENT_PORTS
from tests.fakes.installation import Installation
from tests.fakes.provider import FakeProvider, Reply, Request, granted, reply
from tests.journeys import steps

SECRET = "9Qk8Q~the-client-secret-of-this-test-0123"
SECRET_ID = "3f2b8c1d-5a6e-4f70-8192-a3b4c5d6e7f8"
PASSWORD = "s3cret-of-the-mailbox-Xq7"
CLIENT = "6e1f9a40-2b7c-4c1e-9d53-0a1b2c3d4e5f"
OTHER_MAILBOX = "someone.else@acmestore.example"
_OUTLOOK = "https://outlook.office.com/SMTP.Send offline_access"
_SERVERS = (
    "auth_535_139_tenant",
    "auth_535_3",
    "auth_535_8",
    "certificate_expired",
    "clear_text_at_first",
    "http_server",
    "says_nothing",
    "send_as_denied",
    "tls_from_the_first_byte",
)
# They wait for the client to begin, as it waits for them, or say nothing at all.
_SILENT = ("says_nothing", "tls_from_the_first_byte")


@dataclass(frozen=True)
class World:
    """What is running: the installation with its sandbox, and the ports of mail servers by their names."""

    installation: Installation
    ports: dict[str, int]
    provider: FakeProvider


Fill = Callable[[Page, World], None]


@contextmanager
def running(directory: Path) -> Iterator[World]:
    """Start everything, and stop it."""
    tls = make_contexts(directory)
    with ExitStack() as stack:
        ports = {name: stack.enter_context(SERVERS[name].on(tls)).port for name in _SERVERS}
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ports["closed"] = listener.getsockname()[1]
        provider = stack.enter_context(FakeProvider(tls.cert))
        provider.answer = _grant
        installation = Installation(
            directory,
            worker=False,
            more={
                "STOREPOST_EGRESS_ALLOW": "localhost:*",
                "STOREPOST_IMPLICIT_TLS_PORTS": f"465,{ports['clear_text_at_first']}",
                SILENT_PORTS: ",".join(str(ports[name]) for name in _SILENT),
            },
            trusted=tls.ca_file,
            application="tests.fakes.impatient:create_app()",
        )
        world = World(stack.enter_context(installation), ports, provider)
        ports["sandbox"] = installation.sandbox.smtp_port
        yield world


def _grant(request: Request) -> Reply:
    """As Microsoft answers: a token for whoever consented, unless the secret is none."""
    if request.form["client_secret"] == SECRET_ID:
        described = (
            "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client "
            f"secret value, not the client secret ID, for a secret added to app '{CLIENT}'. "
            "Trace ID: 1f2e3d4c-0000-4000-8000-000000000000"
        )
        return reply(401, {"error": "invalid_client", "error_description": described})
    user = OTHER_MAILBOX if request.form["refresh_token"].endswith("other") else steps.MAILBOX
    claims = {
        "aud": "https://outlook.office.com",
        "scp": "SMTP.Send",
        "tid": "72f988bf-0000-4000-8000-2d7cd011db47",
        "upn": user,
    }
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({"alg": "RS256"}, claims)
    ]
    return granted(".".join((*parts, "c2lnbmF0dXJl")), scope=_OUTLOOK)


# How a person fills in the page; nothing is saved ---------------------------------------------------------------------


def with_sandbox(**faults: object) -> Fill:
    """The sandbox by its tile, connected, and misbehaving like this."""

    def fill(page: Page, world: World) -> None:
        sandbox = world.installation.sandbox
        steps.fill_general(page)
        steps.pick_provider(page, "Sandbox", "localhost")
        page.get_by_label("Client Id").fill("storepost-sandbox")
        page.locator("#client_secret").fill("sandbox-secret")
        page.locator("#refresh_token").fill(sandbox.state.issue_refresh_token(steps.MAILBOX))
        sandbox.faults.set(**faults)

    return fill


def with_password(server: str) -> Fill:
    """A server by its name, with user name and password."""

    def fill(page: Page, world: World) -> None:
        page.goto(page.url.replace("advanced-smtp", "smtp"))
        steps.fill_general(page)
        page.get_by_label("SMTP Server").fill("localhost")
        page.get_by_label("SMTP Port").fill(str(world.ports[server]))
        page.get_by_label("Username").fill(steps.MAILBOX)
        page.locator("#password").fill(PASSWORD)

    return fill


def with_microsoft(
    server: str, *, secret: str = SECRET, consented: str = "owner", mailbox: str = steps.MAILBOX, login: str = ""
) -> Fill:
    """Microsoft 365 by its tile, with servers on this machine in place of Microsoft's."""

    def fill(page: Page, world: World) -> None:
        steps.fill_general(page)
        page.get_by_label("From Email Address").fill(mailbox)
        steps.pick_provider(page, "Microsoft 365", "smtp.office365.com")
        page.get_by_label("SMTP Server").fill("localhost")
        page.get_by_label("SMTP Port").fill(str(world.ports[server]))
        page.get_by_label("Client Id").fill(CLIENT)
        page.locator("#client_secret").fill(secret)
        page.locator("#refresh_token").fill(f"fake-refresh-{consented}")
        page.get_by_label("Access Token URL").fill(world.provider.token_url)
        if login:
            page.get_by_label("Sign-in address").fill(login)

    return fill
