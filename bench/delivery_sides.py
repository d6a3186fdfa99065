"""Those who are compared: each can be given messages, told to deliver, and says what that took."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import smtp_messages
from bench.installation import Installation
from bench.processes import ROOT, Child, Failed, cpu_s
from bench.servers import plain_url
from bench.smtp import PEERS, node

PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Took:
    """Seconds by the clock and of CPU, in all processes of a side; databases and brokers do not count."""

    seconds: float
    cpu_s: float


class Side(Protocol):
    """One of those who are compared."""

    def queue(self, number: int) -> Took:
        """Hand in so many messages, one by one, each safe before the next; nothing is delivered yet."""
        ...

    def deliver(self, number: int) -> Took:
        """Deliver them: from the starting signal until the server has the last one. CPU until all is written down."""
        ...

    def clear(self) -> None:
        """Make the next round begin as this one did."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...


class Ours:
    """Storepost: `enqueue` and a commit for each message, `flask worker` for delivery."""

    def __init__(self, sink: Child, port: int, database_url: str, connections: int) -> None:
        self._sink = sink
        self._installation = Installation(database_url=database_url).__enter__()
        try:
            fields = {"max_connections": str(connections)}
            self._stores = self._installation.ask("stores", port=port, fields=fields)["ids"]
            self._worker = self._installation.start_worker()
        except Failed:
            self._installation.__exit__()
            raise

    def queue(self, number: int) -> Took:
        self._installation.hold_still(self._worker)
        answer = self._installation.ask("enqueue", stores=self._stores, count=number, timeout_s=TIMEOUT_S)
        return Took(answer["seconds"], answer["cpu_s"])

    def deliver(self, number: int) -> Took:
        self._sink.ask("reset")
        cpu, began = cpu_s(self._worker.pid), time.monotonic()
        self._worker.signal(signal.SIGCONT)
        seconds = _last_at(self._sink, number) - began
        self._installation.wait_until_done(timeout_s=30)
        return Took(seconds, cpu_s(self._worker.pid) - cpu)

    def clear(self) -> None:
        self._installation.ask("clear")

    def close(self) -> None:
        self._installation.__exit__()


class Peer:
    """A peer written in Python, in the environment of the peers; see the scripts in bench/peers."""

    # Whether its starting signal takes a while that is not its own; then the first message is the beginning.
    starts_late = False

    def __init__(self, sink: Child, script: str, *arguments: str) -> None:
        if not PEERS_PYTHON.exists():
            raise Failed("the peers are not installed; `make bench` does that")
        self._sink = sink
        environment = {**os.environ, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        self.child = Child([str(PEERS_PYTHON), str(PEERS / script), *arguments], timeout_s=60, environment=environment)

    def queue(self, number: int) -> Took:
        return self._timed(f"queue {number}")

    def deliver(self, number: int) -> Took:
        self._sink.ask("reset")
        cpu, began = cpu_s(self.child.pid), time.monotonic()
        self.child.ask("deliver", timeout_s=TIMEOUT_S)
        counts = _counts(self._sink, number)
        seconds = counts["last_at"] - (counts["first_at"] if self.starts_late else began)
        used = cpu_s(self.child.pid) - cpu
        self.child.ask("rest")
        return Took(seconds, used)

    def clear(self) -> None:
        self.child.ask("clear")

    def close(self) -> None:
        self.child.close()

    def _timed(self, question: str) -> Took:
        cpu, began = cpu_s(self.child.pid), time.monotonic()
        self.child.ask(question, timeout_s=TIMEOUT_S)
        return Took(time.monotonic() - began, cpu_s(self.child.pid) - cpu)


class DjangoOutbox(Peer):
    """django-post_office, sending with so many threads, each with a connection that it keeps."""

    def __init__(self, sink: Child, port: int, database: str, connections: int, lockfile: Path) -> None:
        arguments = ("--database", plain_url(database), "--connections", str(connections))
        super().__init__(sink, "django_outbox.py", *arguments, "--lockfile", str(lockfile), "--port", str(port))


class HueyMail(Peer):
    """A Huey task with Flask-Mailman for each message."""

    def __init__(self, sink: Child, port: int, storage: str) -> None:
        super().__init__(sink, "huey_mail.py", "--storage", plain_url(storage), "--port", str(port))


class CeleryMail(Peer):
    """A Celery task with Flask-Mailman for each message."""

    starts_late = True

    def __init__(self, sink: Child, port: int, broker: str, directory: Path) -> None:
        arguments = ("--broker", broker, "--port", str(port), "--directory", str(directory))
        super().__init__(sink, "celery_mail.py", *arguments)


class Nodemailer:
    """Nodemailer with a pool, its messages in memory: there is nothing to hand in and nothing survives a crash."""

    def __init__(self, sink: Child, port: int, directory: Path, connections: int) -> None:
        self._sink = sink
        messages = directory / "messages.json"
        smtp_messages.write(messages)
        command = [node(), str(PEERS / "nodemailer.mjs"), str(port), str(messages)]
        command += [smtp_messages.SENDER, smtp_messages.RECIPIENT, smtp_messages.TOKEN, str(connections)]
        self._child = Child(command)

    def queue(self, number: int) -> Took:
        return Took(0.0, 0.0)

    def deliver(self, number: int) -> Took:
        self._sink.ask("reset")
        answer: dict[str, Any] = self._child.ask(str(number), timeout_s=TIMEOUT_S)
        _last_at(self._sink, number)
        return Took(answer["seconds"], answer["cpu_s"])

    def clear(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        self._child.close()


def _last_at(sink: Child, number: int) -> float:
    return float(_counts(sink, number)["last_at"])


def _counts(sink: Child, number: int) -> dict[str, Any]:
    """Wait for so many messages; exactly so many must have come."""
    counts = sink.ask(f"wait {number} {TIMEOUT_S}", timeout_s=TIMEOUT_S + 10)
    if counts["messages"] != number:
        raise Failed(f"{counts['messages']} of {number} messages arrived")
    return counts
