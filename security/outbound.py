"""The only door to the internet: resolve a name, judge every answer, dial the judged address.

Whoever fills in a form names the host that this server connects to, so without a guard the form reaches whatever the
server reaches: itself, its neighbours, the cloud's metadata service. The guard judges addresses, not names, and the
judged address is the one dialed: a name that answers differently a second time gains nothing. The certificate is
still checked against the name.

`STOREPOST_EGRESS_ALLOW` opens single ways (`AllowRule`); nobody can open one from inside the application.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from security import http
from security.addresses import AllowRule, is_allowed, normal_host, why_not_public, why_not_public_name
from security.http import AnswerTooLarge, HTTPAnswer
from security.urls import parse_endpoint_url

__all__ = ["Address", "AllowRule", "AnswerTooLarge", "Blocked", "Door", "HTTPAnswer"]

logger = logging.getLogger(__name__)

# Answers of one name that are tried; all of them are judged.
_MOST_DIALED = 8

# These say something of our own network; if another address of the host said more, that is the better message.
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


class Blocked(Exception):
    """The guard refuses this host and port. The words are the same whatever stands there, open, closed or nothing."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(
            f"{host}:{port} is not a public internet address, so no connection was opened. "
            "The operator of this server can allow it with STOREPOST_EGRESS_ALLOW."
        )


class Address(NamedTuple):
    """One answer for a name: `sockaddr` is what a socket of this `family` dials, `text` its IP address."""

    family: int
    sockaddr: tuple[Any, ...]
    text: str


class Door:
    """Opens connections for the mail engine, public addresses only.

    Args:
        allow: what the operator opened beside the public addresses.
        ca_file: PEM file of authorities to trust beside the system's.
        token_proxy: `http://` URL of a proxy for token calls. It resolves by itself, so the guard then judges names
            and literal addresses only.
        resolve: `socket.getaddrinfo` or a stand-in for it.

    Raises:
        ValueError: `ca_file` holds no certificates or `token_proxy` is no such URL; the text is for the operator.
    """

    def __init__(
        self,
        allow: Sequence[AllowRule] = (),
        *,
        ca_file: str | None = None,
        token_proxy: str | None = None,
        resolve: Callable[..., Any] = socket.getaddrinfo,
    ) -> None:
        self._allow = tuple(allow)
        self._getaddrinfo = resolve
        self._token_proxy = _checked_proxy(token_proxy) if token_proxy else None
        self.tls_context: ssl.SSLContext = _kept_context(ca_file)

    def resolve(self, host: str, port: int, *, timeout_s: float) -> list[Address]:
        """Return the addresses of `host`, at least one, in the resolver's order, all of them judged.

        Raises:
            Blocked: one of the answers may not be dialed, even if the others may.
            socket.gaierror: there is no answer.
            TimeoutError: there is no answer in time.
        """
        addresses = self._look_up(host, port, timeout_s)
        self._judge(host, port, addresses)
        return addresses

    def connect(
        self, host: str, port: int, *, timeout_s: float, addresses: Sequence[Address] | None = None
    ) -> socket.socket:
        """Return a connected socket; its timeout is what is left of `timeout_s`, so set your own.

        `addresses` come from `resolve`; they are judged again, so nothing unchecked is ever dialed. Each gets a
        fair share of the time, so one that swallows packets does not hide the next.

        Raises:
            Blocked: as `resolve`.
            OSError: of the address that tells most; `TimeoutError` and `socket.gaierror` are such.
        """
        deadline = time.monotonic() + timeout_s
        if addresses is None:
            addresses = self.resolve(host, port, timeout_s=timeout_s)
        else:
            self._judge(host, port, addresses)
        return _dial(addresses, deadline)

    def post_form(
        self,
        url: str,
        fields: Sequence[tuple[str, str]],
        *,
        headers: Mapping[str, str] | None = None,
        deadline_s: float = 15.0,
        limit_bytes: int = 65536,
        auth_basic: tuple[str, str] | None = None,
    ) -> HTTPAnswer:
        """Return what `url` answers to these fields, posted as a form.

        https only; redirects are returned, not followed; environment proxies and .netrc do not count; the body comes
        as it was sent, not decompressed. `auth_basic` is id and secret, plain: they are form-encoded here.

        Raises:
            Blocked: the guard refuses the host.
            ValueError: the URL or a value cannot be sent; the text quotes no value.
            AnswerTooLarge: more than `limit_bytes`.
            requests.exceptions.RequestException: no answer. `f"{type(e).__name__}: {e}"` is what errors.csv knows.

        Source: RFC 6749 2.3.1 and 3.2; security.md 43.
        """
        url = parse_endpoint_url(url)
        if self._token_proxy is not None:
            self._judge_name(url)
        return http.post_form(
            url,
            fields,
            headers=headers,
            auth_basic=auth_basic,
            deadline_s=deadline_s,
            limit_bytes=limit_bytes,
            dial=self._dial_guarded if self._token_proxy is None else self._dial_proxy,
            tls_context=self.tls_context,
            proxy=self._token_proxy,
        )

    def get(self, url: str, *, deadline_s: float = 15.0, limit_bytes: int = 65536) -> HTTPAnswer:
        """Return what stands at `url`, under the same rules as `post_form`.

        Raises:
            as `post_form`.
        """
        url = parse_endpoint_url(url)
        if self._token_proxy is not None:
            self._judge_name(url)
        return http.get(
            url,
            deadline_s=deadline_s,
            limit_bytes=limit_bytes,
            dial=self._dial_guarded if self._token_proxy is None else self._dial_proxy,
            tls_context=self.tls_context,
            proxy=self._token_proxy,
        )

    def _dial_guarded(self, host: str, port: int, timeout_s: float) -> socket.socket:
        return self.connect(host, port, timeout_s=timeout_s)

    def _dial_proxy(self, host: str, port: int, timeout_s: float) -> socket.socket:
        # The proxy is the operator's choice and usually stands in the private network: not judged.
        deadline = time.monotonic() + timeout_s
        return _dial(self._look_up(host, port, timeout_s), deadline)

    def _judge(self, host: str, port: int, addresses: Iterable[Address]) -> None:
        for address in addresses:
            # The address and port inside sockaddr are what is dialed, so they are what is judged.
            ip, ip_port = str(address.sockaddr[0]), int(address.sockaddr[1])
            kind = why_not_public(ip)
            if kind is not None and not is_allowed(self._allow, host, ip, ip_port):
                self._refuse(host, port, kind)

    def _judge_name(self, url: str) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
        kind = why_not_public_name(host)
        if kind is not None and not is_allowed(self._allow, host, None, port):
            self._refuse(host, port, kind)

    def _refuse(self, host: str, port: int, kind: str) -> None:
        # The kind is for the operator's log only: on a page it would tell what the internal DNS knows.
        logger.warning("outbound connection refused", extra={"host": host, "port": port, "kind": kind})
        raise Blocked(host, port)

    def _look_up(self, host: str, port: int, timeout_s: float) -> list[Address]:
        """Return the answers for a name, not judged.

        getaddrinfo has no timeout of its own and cannot be interrupted, so it runs in a thread that we may leave
        behind; the resolver's own limits (half a minute as a rule) end it.
        """
        answers: SimpleQueue[list[Any] | Exception] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(list(self._getaddrinfo(normal_host(host), port, type=socket.SOCK_STREAM)))
            except Exception as error:  # handed to the waiting thread, which raises it
                answers.put(error)

        threading.Thread(target=ask, name="name-lookup", daemon=True).start()
        try:
            answer = answers.get(timeout=max(timeout_s, 0))
        except Empty:
            raise TimeoutError("Name resolution timed out") from None
        if isinstance(answer, UnicodeError):
            # One argument, so that the text keeps the codec's words and gets no errno that says something else.
            raise socket.gaierror(str(answer)) from None
        if isinstance(answer, ValueError):  # a NUL in the name
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        if isinstance(answer, Exception):
            raise answer
        found = [
            Address(int(family), tuple(sockaddr), str(sockaddr[0]).partition("%")[0])
            for family, _, _, _, sockaddr in answer
            if family in (socket.AF_INET, socket.AF_INET6)
        ]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return list(dict.fromkeys(found))


def _dial(addresses: Sequence[Address], deadline: float) -> socket.socket:
    """Return a socket connected to the first address that answers before `deadline` (monotonic)."""
    failures: list[OSError] = []
    addresses = addresses[:_MOST_DIALED]
    for position, address in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6
            failures.append(error)
            continue
        try:
            sock.settimeout(left / (len(addresses) - position))
            sock.connect(address.sockaddr)
            # Requests and commands are small and answered at once; waiting to fill a packet only costs time.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            return sock
        except OSError as error:
            sock.close()
            failures.append(error)
        except BaseException:
            sock.close()
            raise
    if not failures:
        raise TimeoutError("timed out")
    raise next((error for error in failures if error.errno not in _NO_WAY), failures[-1])


def _checked_proxy(url: str) -> str:
    """Return the proxy's URL, or say what is wrong without quoting it: it may hold a password."""
    wrong = "The token proxy has to be a URL like http://proxy.example:3128"
    try:
        parts = urlsplit(url.strip())
        fits = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError(wrong) from None
    if not fits or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(wrong)
    return url.strip()


def _kept_context(ca_file: str | None) -> ssl.SSLContext:
    """Return the verifying context for this CA setting, the same one each time while the file is the same."""
    if not ca_file:
        return _new_context(None, None)
    try:
        return _new_context(ca_file, os.stat(ca_file).st_mtime_ns)
    except (OSError, ssl.SSLError):
        raise ValueError(f"The CA file {ca_file} cannot be read as PEM certificates") from None


@lru_cache(maxsize=8)
def _new_context(ca_file: str | None, changed_ns: int | None) -> ssl.SSLContext:
    # One for all connections: reading the system's authorities takes longer than a handshake.
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not _has_system_trust(context):
        context.load_verify_locations(cafile=DEFAULT_CA_BUNDLE_PATH)
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


def _has_system_trust(context: ssl.SSLContext) -> bool:
    """Return whether the system brought authorities: slim containers have none, and then certifi's are taken."""
    if context.cert_store_stats()["x509_ca"]:
        return True
    # A directory of authorities is read only when one is needed, so it does not count above.
    directory = ssl.get_default_verify_paths().capath
    return directory is not None and bool(os.listdir(directory))
