"""One request to one https endpoint, with a deadline for all of it and a limit on the answer.

`security.outbound.Door.post_form` and `Door.get` are the ways in; this file holds what it takes to make requests and
urllib3 keep the promises of `security.md` 43:

- They dial through a function that we pass (the guard), once, at the checked address.
- Their timeouts are per read, so a peer that sends a byte a second never times out. Here every read and write waits
  for what is left of one deadline, in the headers too.
- They are called below `requests.Session`: it would read .netrc and the proxy variables of the environment, and even
  with `allow_redirects=False` it reads the whole body of a redirect, however large.
- requests points every connection at certifi's authorities, loading them into our shared context each time and
  undoing the operator's choice of trust; our adapter does not.

Their exceptions pass through, so that the texts known to `errors.csv` ("HTTPSConnectionPool(...)") keep matching.
"""

from __future__ import annotations

import base64
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException, RemoteDisconnected
from typing import Any, NamedTuple, cast
from urllib.parse import quote_plus, urlencode

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse, PoolManager, ProxyManager
from urllib3 import exceptions as urllib3_errors
from urllib3.connection import HTTPSConnection
from urllib3.util import parse_url

# Dials host and port within so many seconds.
Dial = Callable[[str, int, float], socket.socket]

_CHUNK_BYTES = 8192


class AnswerTooLarge(requests.exceptions.RequestException):
    """The endpoint sent more than we read. Nothing of the answer is kept."""


class HTTPAnswer(NamedTuple):
    """What an endpoint answered: any status, redirects included; `headers` finds names in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    elapsed_ms: float


class Deadline:
    """The end of a call on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def left_s(self) -> float:
        """Return the seconds that remain, above zero.

        Raises:
            TimeoutError: none remain.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


def post_form(
    url: str,
    fields: Sequence[tuple[str, str]],
    *,
    headers: Mapping[str, str] | None,
    auth_basic: tuple[str, str] | None,
    deadline_s: float,
    limit_bytes: int,
    dial: Dial,
    tls_context: ssl.SSLContext,
    proxy: str | None,
) -> HTTPAnswer:
    """Return the answer to `fields` posted as a form to `url`, one that `parse_endpoint_url` returned.

    `dial` opens the connection: to the endpoint, or with `proxy` to that, for a CONNECT tunnel. The rest is said at
    `Door.post_form`.
    """
    request = _prepare(url, fields, headers, auth_basic)
    return _exchange(request, deadline_s, limit_bytes, dial, tls_context, proxy)


def get(
    url: str, *, deadline_s: float, limit_bytes: int, dial: Dial, tls_context: ssl.SSLContext, proxy: str | None
) -> HTTPAnswer:
    """Return what stands at `url`; the rest is said at `Door.get`."""
    request = requests.Request("GET", url, headers=_common_headers(None)).prepare()
    return _exchange(request, deadline_s, limit_bytes, dial, tls_context, proxy)


def _exchange(
    request: requests.PreparedRequest,
    deadline_s: float,
    limit_bytes: int,
    dial: Dial,
    tls_context: ssl.SSLContext,
    proxy: str | None,
) -> HTTPAnswer:
    deadline = Deadline(deadline_s)
    adapter = _Adapter(dial, tls_context, deadline, proxy)
    started = time.monotonic()
    try:
        with adapter.send(request, stream=True, timeout=deadline_s) as response:
            body = _read_body(response, limit_bytes)
            elapsed_ms = (time.monotonic() - started) * 1000
            return HTTPAnswer(response.status_code, CaseInsensitiveDict(response.headers), body, elapsed_ms)
    except requests.exceptions.RequestException as error:
        # Exceptions travel far, into logs and reports; the request holds the client secret and the refresh token.
        error.request = None
        error.response = None
        if _quotes_the_peer(error):
            raise requests.exceptions.ConnectionError("Connection aborted: the answer is not HTTP") from None
        raise
    finally:
        adapter.close()


def _prepare(
    url: str, fields: Sequence[tuple[str, str]], headers: Mapping[str, str] | None, auth_basic: tuple[str, str] | None
) -> requests.PreparedRequest:
    all_headers = dict(headers or {})
    all_headers |= {"Content-Type": "application/x-www-form-urlencoded", **_common_headers(all_headers.get("Accept"))}
    try:
        if auth_basic is not None:
            # RFC 6749 2.3.1: id and secret are form-encoded before they are joined.
            pair = ":".join(quote_plus(part) for part in auth_basic)
            all_headers["Authorization"] = "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")
        body = urlencode(fields)
    except UnicodeEncodeError:
        # A UnicodeEncodeError carries the whole value.
        raise ValueError("A field of the request is not valid Unicode text") from None
    try:
        return requests.Request("POST", url, data=body, headers=all_headers).prepare()
    except requests.exceptions.InvalidHeader:
        # requests quotes the header in its message.
        raise ValueError("A header of the request holds characters that headers may not hold") from None


def _common_headers(accept: str | None) -> dict[str, str]:
    return {
        "Accept": accept or "application/json",
        "User-Agent": "Storepost",
        # A compressed answer could unpack to any size; a kept connection would outlive its check.
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def _read_body(response: requests.Response, limit_bytes: int) -> bytes:
    """Return the body as it was sent, not decompressed, in requests' family of errors."""
    too_large = f"The answer is larger than {limit_bytes} bytes"
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > limit_bytes:
        raise AnswerTooLarge(too_large)
    raw = cast(HTTPResponse, response.raw)
    body = bytearray()
    try:
        for chunk in raw.stream(_CHUNK_BYTES, decode_content=False):
            body += chunk
            if len(body) > limit_bytes:
                raise AnswerTooLarge(too_large)
    except urllib3_errors.ReadTimeoutError as error:
        raise requests.exceptions.ReadTimeout(error) from error
    except urllib3_errors.SSLError as error:
        raise requests.exceptions.SSLError(error) from error
    except (urllib3_errors.HTTPError, OSError) as error:
        if isinstance(error, requests.exceptions.RequestException):
            raise
        # Not its text: that quotes what was read (an "invalid chunk length" is whatever the peer said).
        raise requests.exceptions.ConnectionError(f"Connection aborted: {type(error).__name__}") from None
    return bytes(body)


def _quotes_the_peer(error: requests.exceptions.RequestException) -> bool:
    """Return whether this says what a peer said that does not speak HTTP (security.md 49: that is not shown)."""
    cause = error.args[0] if error.args else None
    inner = cause.args[-1] if isinstance(cause, urllib3_errors.ProtocolError) and cause.args else None
    return isinstance(inner, HTTPException) and not isinstance(inner, RemoteDisconnected)


class _Adapter(HTTPAdapter):
    """An adapter for one call: one pool, one connection, no retries, our trust."""

    def __init__(self, dial: Dial, tls_context: ssl.SSLContext, deadline: Deadline, proxy: str | None) -> None:
        self._dial = dial
        self._tls_context = tls_context
        self._deadline = deadline
        self._proxy = proxy
        self._manager: PoolManager | None = None
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> Any:
        """Return the pool for this request; its connections dial as we say."""
        url = parse_url(cast(str, request.url))
        if self._proxy is None:
            self._manager = PoolManager(num_pools=1, maxsize=1, ssl_context=self._tls_context)
        else:
            self._manager = ProxyManager(
                self._proxy,
                num_pools=1,
                maxsize=1,
                ssl_context=self._tls_context,
                proxy_headers=self.proxy_headers(self._proxy),
            )
        pool = self._manager.connection_from_host(url.host, url.port, scheme="https")

        class Connection(_GuardedConnection):
            dial = staticmethod(self._dial)
            deadline = self._deadline

        # On this one pool only: the class attribute belongs to all of urllib3.
        cast(Any, pool).ConnectionCls = Connection
        return pool

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """Demand a verified certificate, and leave the authorities to the context."""
        conn.cert_reqs = "CERT_REQUIRED"

    def close(self) -> None:
        """Close what the call left open."""
        super().close()
        if self._manager is not None:
            self._manager.clear()


class _GuardedConnection(HTTPSConnection):
    """A connection that is opened by our dialling function and lives inside one deadline."""

    dial: Dial
    deadline: Deadline

    def _new_conn(self) -> socket.socket:
        # What urllib3's own method raises, so that requests and errors.csv recognise it.
        try:
            sock = self.dial(self._dns_host, self.port, self.deadline.left_s())
        except socket.gaierror as error:
            raise urllib3_errors.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise urllib3_errors.ConnectTimeoutError(
                self, f"Connection to {self.host} timed out. (connect timeout={self.deadline.seconds})"
            ) from error
        except OSError as error:
            raise urllib3_errors.NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        # Python measures the whole TLS handshake against this, not each read of it.
        sock.settimeout(self.deadline.left_s())
        return sock

    def _tunnel(self) -> None:
        plain = self.sock
        self.sock = cast(socket.socket, _DeadlineSocket(plain, self.deadline))
        super()._tunnel()
        self.sock = plain
        plain.settimeout(self.deadline.left_s())

    def connect(self) -> None:
        """Dial, tunnel if a proxy is set, and shake hands; from here on each read and write watches the deadline."""
        super().connect()
        self.sock = cast(socket.socket, _DeadlineSocket(cast(socket.socket, self.sock), self.deadline))


class _DeadlineSocket:
    """A socket whose reads and writes wait for what is left of a deadline, and no longer."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendall(self, data: Any) -> None:
        """Send all of `data`. `SSLSocket.sendall` would wait anew for each piece."""
        view = memoryview(data).cast("B")
        while view:
            self._sock.settimeout(self._deadline.left_s())
            view = view[self._sock.send(view) :]

    def makefile(self, mode: str = "rb", buffering: int | None = None) -> io.BufferedReader:
        """Return the buffered reader that http.client reads status, headers and body from."""
        # Made from the socket's own file, which keeps the descriptor open until this is closed.
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_DeadlineReader(raw, self._sock, self._deadline))


class _DeadlineReader(io.RawIOBase):
    """The raw end of a socket's file, each read of it bounded by the deadline."""

    def __init__(self, raw: socket.SocketIO, sock: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._deadline.left_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
