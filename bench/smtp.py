"""SMTP clients side by side: one sink, one long road, the same messages, alternating rounds.

The sink, the road and each client are processes of their own. `SmtpBench` starts them and measures; what the figures
mean is told in `bench/smtp_report.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bench import smtp_messages, smtp_report
from bench.cores import free_cores, keep_on, shares
from bench.figures import Figures, in_turn
from bench.processes import ROOT, Child, Failed, progress
from tests.fakes.certs import make_ca, make_server_cert

ONE_WAY_MS = 20
PEERS = ROOT / "bench" / "peers"
SMTP_SOURCE_PLACES = ("/usr/sbin/smtp-source", "/usr/lib/postfix/sbin/smtp-source", "/usr/local/sbin/smtp-source")

ALL = ("ours", "ours-8", "smtplib", "smtplib-each", "aiosmtplib", "nodemailer", "smtp-source")
TWO = ("noop", "ours", "smtplib")
TLS = ("ours-tls", "ours-new-tls")


@dataclass(frozen=True)
class Scene:
    """Some clients against one port of the sink, directly or over the long road."""

    key: str
    port: str
    delayed: bool
    clients: tuple[str, ...]


SCENES = (
    Scene("near", "full", False, ALL),
    Scene("far", "full", True, ("noop", *ALL)),
    Scene("far-pipelining", "pipelining", True, TWO),
    Scene("far-plain", "plain", True, TWO),
    Scene("tls", "tls", False, TLS),
)


@dataclass
class Results:
    """Everything one run found out. `missing` says why a client was not measured, `damaged` and such must be 0."""

    rounds: int
    cores: int
    figures: dict[str, dict[str, Figures]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    sink_cpu_ms: float = 0.0
    sink: Mapping[str, Any] = field(default_factory=dict)


class Runner(Protocol):
    """Sends so many messages and says how long that took."""

    def ask(self, line: str, *, timeout_s: float = 120) -> dict[str, Any]: ...

    def close(self) -> None: ...


class SmtpSource:
    """Postfix's generator of load. It ends after each run, so the cost of a session with one message is taken off."""

    def __init__(self, program: str, port: int) -> None:
        self._command = [program, "-d", "-s", "1", "-l", str(smtp_messages.MESSAGE_BYTES)]
        self._command += ["-f", smtp_messages.SENDER, "-t", smtp_messages.RECIPIENT]
        self._target = f"inet:127.0.0.1:{port}"

    def ask(self, line: str, *, timeout_s: float = 120) -> dict[str, Any]:
        number = int(line)
        seconds_one, cpu_one = self._run(1, timeout_s)
        seconds, cpu = self._run(number + 1, timeout_s)
        return {
            "delivered": number + 2,
            "seconds": max(seconds - seconds_one, 1e-6),
            "cpu_s": max(cpu - cpu_one, 0.0),
        }

    def close(self) -> None:
        """Nothing is left running."""

    def _run(self, number: int, timeout_s: float) -> tuple[float, float]:
        before, began = _children_cpu_s(), time.perf_counter()
        try:
            subprocess.run(
                [*self._command, "-m", str(number), self._target],
                check=True,
                timeout=timeout_s,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Failed(f"smtp-source: {error}") from None
        return time.perf_counter() - began, _children_cpu_s() - before


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class SmtpBench:
    """Sink, road and messages of one run; a context manager, so that nothing stays behind.

    `cores` is 2 for one core for the server's side and another for the clients, 1 for one for all, 0 for any.
    """

    def __init__(self, *, cores: int = 0) -> None:
        self._cores = cores
        self._stack = contextlib.ExitStack()
        self.ports: dict[str, int] = {}
        self.far_ports: dict[str, int] = {}
        self.messages = ""
        self.ca_file = ""

    def __enter__(self) -> SmtpBench:
        with contextlib.ExitStack() as stack:
            server_cores, client_cores = shares(self._cores)
            stack.callback(keep_on, free_cores())
            keep_on(server_cores)
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="storepost-bench-")))
            messages = directory / "messages.json"
            smtp_messages.write(messages)
            ca = make_ca(directory)
            certificate = make_server_cert(ca)
            self.messages, self.ca_file = str(messages), ca.cert_file
            arguments = ["--messages", self.messages]
            arguments += ["--certificate", certificate.cert_file, "--key", certificate.key_file]
            sink = stack.enter_context(Child.module("bench.smtp_sink", *arguments))
            self.ports = sink.greeting["ports"]
            targets = [f"{name}={port}" for name, port in self.ports.items() if name != "stats"]
            road = Child.module("bench.delay_proxy", "--one-way-ms", str(ONE_WAY_MS), *targets)
            self.far_ports = stack.enter_context(road).greeting["ports"]
            keep_on(client_cores)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def counts(self) -> dict[str, Any]:
        """What the sink has seen so far."""
        with socket.create_connection(("127.0.0.1", self.ports["stats"]), timeout=10) as sock, sock.makefile() as lines:
            counts: dict[str, Any] = json.loads(lines.readline())
        return counts

    def start(self, client: str, scene: Scene) -> Runner:
        """Start a client, connected and signed in.

        Raises:
            Failed: it cannot be measured here; the text says why.
        """
        ports = self.far_ports if scene.delayed else self.ports
        port = str(ports[scene.port])
        if client == "smtp-source":
            program = shutil.which("smtp-source") or next(filter(os.path.exists, SMTP_SOURCE_PLACES), None)
            if program is None:
                raise Failed("Postfix is not installed")
            # It cannot sign in, so it gets a port where nobody has to.
            return SmtpSource(program, ports["open"])
        if client == "nodemailer":
            command = [node(), str(PEERS / "nodemailer.mjs"), port, self.messages]
            return Child([*command, smtp_messages.SENDER, smtp_messages.RECIPIENT, smtp_messages.TOKEN])
        more = ["--ca", self.ca_file] if scene.port == "tls" else []
        return Child.module("bench.smtp_clients", client, "--port", port, "--messages", self.messages, *more)

    def run_checked(self, runner: Runner, number: int) -> tuple[float, float]:
        """Let a client send, and return messages a second and CPU milliseconds per message.

        Raises:
            Failed: the sink did not get exactly these messages, undamaged.
        """
        before = self.counts()
        answer = runner.ask(str(number))
        after = self.counts()
        arrived = after["messages"] - before["messages"]
        if arrived != answer["delivered"]:
            raise Failed(f"{arrived} of {answer['delivered']} messages arrived")
        if after["damaged"] or after["violations"]:
            raise Failed(f"{after['damaged']} messages damaged, {after['violations']} violations of the protocol")
        return number / answer["seconds"], answer["cpu_s"] / number * 1000


def run(*, rounds: int, seconds: float, cores: int) -> list[str]:
    """Measure everything and return the section as Markdown lines.

    Args:
        seconds: about what one client gets in one round.
        cores: 2 shows what a distant server does; 1, clients and server on the same, their work without the waiting.
    """
    results = Results(rounds, cores=min(cores, len(free_cores())))
    with SmtpBench(cores=cores) as bench:
        for scene in SCENES:
            _play(bench, scene, results, seconds)
        results.sink = bench.counts()
    return smtp_report.section(results)


def _play(bench: SmtpBench, scene: Scene, results: Results, seconds: float) -> None:
    runners: dict[str, Runner] = {}
    numbers: dict[str, int] = {}
    figures: dict[str, Figures] = {}
    with contextlib.ExitStack() as stack:
        for client in scene.clients:
            try:
                runner = bench.start(client, scene)
                stack.callback(runner.close)
                rate, _ = bench.run_checked(runner, 50 if scene.key == "near" else 3)
            except Failed as reason:
                results.missing[client] = str(reason)
                progress(f"{client} is not measured: {reason}")
                continue
            runners[client], numbers[client], figures[client] = runner, _number(rate, seconds, client), Figures()
        progress(f"{scene.key}: " + ", ".join(f"{client} {numbers[client]}" for client in runners))
        for turn in range(results.rounds):
            for client in in_turn(list(runners), turn):
                before = bench.counts()
                rate, cpu = bench.run_checked(runners[client], numbers[client])
                figures[client].rates.append(rate)
                figures[client].cpu_ms.append(cpu)
                if scene.key == "near" and client == "ours":
                    results.sink_cpu_ms = (bench.counts()["cpu_s"] - before["cpu_s"]) / numbers[client] * 1000
    results.figures[scene.key] = figures


def _number(rate: float, seconds: float, client: str) -> int:
    """So many as take about `seconds`; a window needs enough for its beginning and end not to count."""
    return max(int(rate * seconds), 64 if client == "ours-8" else 4)


def node() -> str:
    """Return node, with the peers installed as their lock file says.

    Raises:
        Failed: there is no node or npm, or the registry is not reachable.
    """
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        raise Failed("node and npm are not installed")
    stamp, lock = PEERS / "node_modules" / ".package-lock.json", PEERS / "package-lock.json"
    if not stamp.exists() or stamp.stat().st_mtime < lock.stat().st_mtime:
        progress("installing the peers with npm")
        command: Sequence[str] = (npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
        try:
            subprocess.run(command, cwd=PEERS, check=True, timeout=300, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            raise Failed("npm could not install it") from None
    return program
