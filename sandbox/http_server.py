"""An HTTP port in a thread: werkzeug's server with the handshake moved off the accept loop."""

import logging
import socket
import ssl
import threading
from typing import Any

from flask import Flask
from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

POLL_S = 0.1
CLIENT_TIMEOUT_S = 30.0
HANDSHAKE_TIMEOUT_S = 10.0
logger = logging.getLogger(__name__)


class QuietHandler(WSGIRequestHandler):
    """Answers requests and logs none: their addresses carry states and login hints."""

    # A silent client holds its thread this long and no longer.
    timeout = CLIENT_TIMEOUT_S

    def log(self, type: str, message: str, *args: Any) -> None:
        if type == "error":
            logger.error(message, *args)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing, see above."""


class Server(ThreadedWSGIServer):
    """With `tls`, each connection does its handshake in its own thread.

    werkzeug wraps the listening socket instead, so that one client that connects and says nothing stops them all.
    """

    tls: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        try:
            request.settimeout(HANDSHAKE_TIMEOUT_S)
            with self.tls.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError as error:
            # Includes every ssl.SSLError: a client that does not trust our authority is its own affair.
            logger.debug("connection ended: %s", error)


class HTTPPort:
    """One application on one listening socket, which it takes over."""

    def __init__(self, app: Flask, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        host, port = listening.getsockname()[:2]
        # Given a descriptor werkzeug does not end the process when a port is taken; whoever bound it got the error.
        self._server = Server(host, port, app, handler=QuietHandler, fd=listening.fileno())
        listening.close()
        if tls is not None:
            self._server.tls = tls
            self._server.ssl_context = tls
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(POLL_S,), name=f"sandbox-http-{port}", daemon=True
        )

    def start(self) -> None:
        """Start answering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop taking connections and free the port; requests under way are left to end by themselves."""
        self._server.shutdown()
        self._thread.join()
