"""The harness's side of `tests/crash/sink.py`: starts it, scripts it, reads its ledger."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.crash.sink import EXTENSIONS
from tests.fakes.certs import ServerCert

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Copy:
    """One time that one message was taken, as the ledger has it; `at` is the sink's monotonic clock, in seconds."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    sha256: str
    port: int
    at: float


def deed(
    kind: str, *, seconds: float = 0, reply: str = "", times: int | None = None, chance: float = 1
) -> dict[str, Any]:
    """Return what a server does at one stage; see `sink.Deed`."""
    return {"kind": kind, "seconds": seconds, "reply": reply, "times": times, "chance": chance}


class Sinks:
    """A process with as many servers as `count`; use it as a context manager.

    ports      where they listen
    """

    def __init__(self, count: int = 1, *, host: str = "127.0.0.1", cert: ServerCert | None = None, seed: int = 1):
        self.host = host
        self._command = [sys.executable, "-m", "tests.crash.sink", "--ports", str(count), "--host", host]
        self._command += ["--seed", str(seed)]
        if cert is not None:
            self._command += ["--certificate", cert.cert_file, "--key", cert.key_file]
        self.ports: list[int] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        greeting = json.loads(self._process.stdout.readline())
        self.ports = greeting["ports"]
        self._control = socket.create_connection(("127.0.0.1", greeting["control"]), timeout=PATIENCE_S)
        self._lines = self._control.makefile("rb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._control.close()
        self._process.kill()
        self._process.communicate()

    def _ask(self, do: str, **order: Any) -> Any:
        self._control.sendall(json.dumps({"do": do, **order}).encode() + b"\n")
        return json.loads(self._lines.readline())

    def offer(self, kind: str = "full", *, port: int | None = None, starttls: bool = False) -> None:
        """Let a server (or all) offer "full", "pipelining" or "plain", and STARTTLS if asked for."""
        self._ask("offer", port=port, extensions=EXTENSIONS[kind], starttls=starttls)

    def script(self, port: int | None = None, /, **deeds: dict[str, Any]) -> None:
        """Say what a server (or all) does from now on, stage by stage; no deeds: nothing goes wrong any more."""
        self._ask("script", port=port, deeds=deeds)

    def release(self, port: int | None = None, /, **deeds: dict[str, Any]) -> None:
        """Begin a new script, and let those who are held go on by it."""
        self._ask("release", port=port, deeds=deeds)

    def wait_held(self, stage: str, *, port: int | None = None, within_s: float = 15) -> tuple[str, int]:
        """Wait until a client is held at this stage and return its address and port."""
        held = self._ask("wait_held", port=port or self.ports[0], stage=stage, timeout_s=within_s)
        assert held, f"nobody came to {stage} within {within_s} s"
        host, number = held[-1]["peer"]
        return host, number

    def ledger(self, since: int = 0) -> list[Copy]:
        """Return every copy taken, in order, from the one with this number on."""
        return [Copy(**{**row, "recipients": tuple(row["recipients"])}) for row in self._ask("ledger", since=since)]

    def counts(self) -> dict[int, dict[str, int]]:
        """Return what each port saw: connections, open ones, most open at a time, accepted messages."""
        return {int(port): seen for port, seen in self._ask("counts").items()}
