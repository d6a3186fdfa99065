"""The whole sandbox in one process: provider, SMTP server and pages, on loopback only."""

import ipaddress
import logging
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from sandbox.certificates import Certificates, ensure_certificates
from sandbox.faults import Faults
from sandbox.http_server import HTTPPort
from sandbox.inbox import Inbox, Message
from sandbox.provider import CannotAsk, Provider, Redirect
from sandbox.smtp import SMTPPorts, server_context
from sandbox.state import ACCESS_LIFETIME_S, State
from sandbox.submission import Handler
from sandbox.token_endpoint import create_token_app
from sandbox.web import create_web_app

WEB_PORT: Final = 8026
TOKEN_PORT: Final = 8027
SMTP_PORT: Final = 8587
SMTPS_PORT: Final = 2465
HOST: Final = "127.0.0.1"
# Certificates carry this name, and clients check it.
TLS_NAME: Final = "localhost"
DIRECTORY: Final = Path("instance/sandbox")


class Sandbox:
    """A running sandbox; a context manager, started on entering and stopped on leaving.

    Port 0 picks a free one. `directory` keeps the certificates and nothing else; everything else is in memory.

    Raises:
        ValueError: `host` is not a loopback address.
        OSError: a port is taken, or the directory cannot be written.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        host: str = HOST,
        web_port: int = 0,
        token_port: int = 0,
        smtp_port: int = 0,
        smtps_port: int = 0,
        access_lifetime_s: int = ACCESS_LIFETIME_S,
    ) -> None:
        self.host = loopback(host)
        self.certificates: Certificates = ensure_certificates(directory)
        self.state = State(access_lifetime_s=access_lifetime_s)
        self.inbox = Inbox()
        self._wanted = (web_port, token_port, smtp_port, smtps_port)
        self._stopping = threading.Event()
        self._running = ExitStack()

    def start(self) -> Self:
        """Open all four ports, or none."""
        with ExitStack() as opening:
            sockets = [opening.enter_context(self._listen(port)) for port in self._wanted]
            self.web_port, self.token_port, self.smtp_port, self.smtps_port = (
                bound.getsockname()[1] for bound in sockets
            )
            self.provider = Provider(self.state, issuer=self.issuer, authorize_url=self.authorize_url)
            web, token, starttls, implicit = sockets
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.minimum_version = ssl.TLSVersion.TLSv1_2
            tls.load_cert_chain(self.certificates.cert_file, self.certificates.key_file)
            handler = Handler(self.provider, self.inbox)
            parts: list[HTTPPort | SMTPPorts] = [
                HTTPPort(create_web_app(self.provider, self.inbox, self.addresses()), web),
                HTTPPort(create_token_app(self.provider, self._stopping), token, tls),
                SMTPPorts(
                    handler,
                    server_context(self.certificates, self.faults),
                    starttls=starttls,
                    implicit=implicit,
                ),
            ]
            opening.pop_all()
        self._running.enter_context(_quiet_aiosmtpd())
        for part in parts:
            part.start()
            self._running.callback(part.stop)
        return self

    def stop(self) -> None:
        """Close everything; open conversations are cut."""
        self._stopping.set()
        self._running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Where it is

    @property
    def web_url(self) -> str:
        """Address of the pages, without a slash at the end."""
        return f"http://{_bracketed(self.host)}:{self.web_port}"

    @property
    def issuer(self) -> str:
        """Identifier of the authorization server: the https address its metadata is under."""
        return f"https://{TLS_NAME}:{self.token_port}"

    @property
    def authorize_url(self) -> str:
        return f"{self.web_url}/authorize"

    @property
    def token_url(self) -> str:
        return f"{self.issuer}/token"

    @property
    def revoke_url(self) -> str:
        return f"{self.issuer}/revoke"

    @property
    def ca_file(self) -> Path:
        """The authority to trust."""
        return self.certificates.ca_file

    def addresses(self) -> dict[str, str]:
        """What a person types into a form, by label."""
        return {
            "Authorization URL": self.authorize_url,
            "Access Token URL": self.token_url,
            "Revocation URL": self.revoke_url,
            "SMTP with STARTTLS": f"{TLS_NAME}:{self.smtp_port}",
            "SMTP with implicit TLS": f"{TLS_NAME}:{self.smtps_port}",
        }

    # What a test does with it

    @property
    def faults(self) -> Faults:
        """The switches: `faults.set(throttled=True)`."""
        return self.state.faults

    def messages(self) -> tuple[Message, ...]:
        """What arrived, oldest first."""
        return self.inbox.messages()

    def wait_for_messages(self, count: int = 1, timeout_s: float = 10.0) -> tuple[Message, ...]:
        """Like `messages`, as soon as there are `count`; raises TimeoutError when there are not."""
        return self.inbox.wait_for(count, timeout_s)

    def consent(self, authorize_url: str, mailbox: str, *, allow: bool = True) -> str:
        """Answer an authorization URL as the person on the consent page would; returns where the browser goes next.

        Raises:
            CannotAsk: the page would have shown an error and redirected nowhere.
        """
        query = urlsplit(authorize_url).query
        question = self.provider.ask(query)
        if isinstance(question, Redirect):
            return question.location
        answer = self.provider.allow(query, mailbox) if allow else self.provider.deny(query)
        return answer.location

    def reset(self) -> None:
        """Back to the beginning: no faults, no messages, no grants."""
        self.faults.reset()
        self.inbox.clear()
        self.state.forget()

    def _listen(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, port), family=family, backlog=128)
        except OSError as error:
            raise OSError(error.errno, f"Port {port} of {self.host} cannot be used: {error.strerror}") from error


def serve(
    web_port: int = WEB_PORT,
    token_port: int = TOKEN_PORT,
    smtp_port: int = SMTP_PORT,
    smtps_port: int = SMTPS_PORT,
    host: str = HOST,
    directory: Path | str = DIRECTORY,
    ready: Callable[[Sandbox], None] | None = None,
) -> None:
    """Run the sandbox until SIGTERM or SIGINT. Main thread of its own process only.

    `ready` is called once all ports answer; without it the addresses are written to standard output.

    Raises:
        ValueError: `host` is not a loopback address.
        OSError: a port is taken, or the directory cannot be written.
    """
    asked_to_stop = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        asked_to_stop.set()

    sandbox = Sandbox(
        directory,
        host=host,
        web_port=web_port,
        token_port=token_port,
        smtp_port=smtp_port,
        smtps_port=smtps_port,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    with sandbox:
        (ready or _announce)(sandbox)
        asked_to_stop.wait()


def loopback(host: str) -> str:
    """Return the address to listen on.

    The sandbox signs anybody in and shows all mail: it must never be in reach of another machine.

    Raises:
        ValueError: the address is not a loopback one.
    """
    if host == "localhost":
        return HOST
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(f"The sandbox listens on loopback only, so {host!r} cannot be its host. Use 127.0.0.1.")


@contextmanager
def _quiet_aiosmtpd() -> Iterator[None]:
    # At DEBUG it logs whole messages, at INFO every command, and at WARNING a deprecation of its own per sign-in.
    logger = logging.getLogger("mail.log")
    usual = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(usual)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _announce(sandbox: Sandbox) -> None:
    lines = [f"Sandbox: {sandbox.web_url}", *(f"  {label}: {value}" for label, value in sandbox.addresses().items())]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


__all__ = ["CannotAsk", "Sandbox", "serve"]
