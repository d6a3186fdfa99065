"""A server that says what a script tells it to, byte for byte, for peers that no library would play.

    def script(peer: Peer) -> None:
        peer.say("220 mail.test ESMTP")
        assert peer.hear() == "EHLO localhost"
        peer.say("250 mail.test")

    with RawServer(script) as server:
        ...
    server.dialogue   ["S: 220 mail.test ESMTP", "C: EHLO localhost", ...]; binary parts as "S: <n bytes>"

Each connection runs the script anew in a thread. A client that leaves ends the script quietly; anything else the
script raises (a failed assertion) is raised again at the end of the `with` block.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

_PATIENCE_S = 30.0


class Peer:
    """One connection as the script sees it."""

    def __init__(self, sock: socket.socket, dialogue: list[str]) -> None:
        self.sock = sock
        self._dialogue = dialogue
        self._buffer = b""

    def say(self, *lines: str) -> None:
        """Send lines, each with CRLF."""
        self._dialogue += [f"S: {line}" for line in lines]
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def say_bytes(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._dialogue.append(f"S: <{len(data)} bytes>")
        self.sock.sendall(data)

    def hear(self) -> str:
        """Return the next line without its line end; ConnectionError when the client is gone."""
        line = self._line()
        self._dialogue.append(f"C: {line}")
        return line

    def hear_message(self) -> bytes:
        """Return everything up to the line with the single dot, dots still doubled."""
        while b"\r\n.\r\n" not in b"\r\n" + self._buffer:
            self._more()
        message, _, self._buffer = (b"\r\n" + self._buffer).partition(b"\r\n.\r\n")
        message = message[2:] + b"\r\n" if len(message) > 2 else b""
        self._dialogue += [f"C: <message, {len(message)} bytes>", "C: ."]
        return message

    def hear_bytes(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        self._dialogue.append(f"C: <{count} bytes>")
        return data

    def hear_chunk(self) -> bytes:
        """Hear a BDAT command and return its bytes (RFC 3030 2)."""
        words = self.hear().split()
        assert words[0] == "BDAT"
        return self.hear_bytes(int(words[1]))

    def ehlo(self, *extensions: str) -> None:
        """Hear EHLO and answer with these extensions."""
        assert self.hear().startswith("EHLO ")
        lines = ["mail.test", *extensions]
        self.say(*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}")

    def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands as the server."""
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self._dialogue.append("-- TLS --")

    def _line(self) -> str:
        while b"\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.removesuffix(b"\r").decode("utf-8", "backslashreplace")

    def _more(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionError("the client left")
        self._buffer += data


class RawServer:
    """The listener; use it as a context manager."""

    def __init__(self, script: Callable[[Peer], None], *, context: ssl.SSLContext | None = None) -> None:
        self.host = "localhost"
        self.dialogue: list[str] = []
        self._script = script
        self._context = context
        self._failures: list[BaseException] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._peers: list[Peer] = []
        self._accepting = threading.Thread(target=self._accept, name="raw-server", daemon=True)

    @property
    def said_by_client(self) -> list[str]:
        """The client's lines alone."""
        return [line[3:] for line in list(self.dialogue) if line.startswith("C: ")]

    def wait(self) -> None:
        """Wait until the scripts begun so far are through, so that the dialogue is complete."""
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def __enter__(self) -> RawServer:
        self._accepting.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(_PATIENCE_S)
        for peer in list(self._peers):
            # What the client has sent can still be read; a script that waits for more learns that none will come.
            # Not the method of a TLS socket, which would forget its encryption.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(peer.sock, socket.SHUT_RD)
        self.wait()
        if self._failures and kind is None:
            raise self._failures[0]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), name="raw-server-script", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(_PATIENCE_S)
        peer = Peer(sock, self.dialogue)
        self._peers.append(peer)
        try:
            if self._context is not None:
                peer.start_tls(self._context)
            self._script(peer)
        except OSError:
            pass  # the client left, which is what most hostile scripts lead to
        except BaseException as failure:
            self._failures.append(failure)
        finally:
            peer.sock.close()
            sock.close()
