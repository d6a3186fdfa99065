"""Processes of the benchmarks: helpers that talk in lines, programs that just run, and what either has used.

A helper answers each line on its input with one line of JSON, and ends when its input does.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """The process said that it could not, fell silent or ended; the text is what it said last."""


class Child:
    """A running helper. Its first line is its greeting, kept in `greeting`."""

    def __init__(
        self, command: Sequence[str], *, timeout_s: float = 30, environment: Mapping[str, str] | None = None
    ) -> None:
        descriptor, self._said = tempfile.mkstemp(prefix="storepost-bench-")
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=descriptor,
                text=True,
                bufsize=1,
                cwd=ROOT,
                env=environment,
            )
        finally:
            os.close(descriptor)
        self.pid = self._process.pid
        try:
            self.greeting = self._answer(timeout_s)
        except Failed:
            self.close()
            raise

    @classmethod
    def module(
        cls, name: str, *arguments: str, timeout_s: float = 30, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Start `python -m name`."""
        return cls([sys.executable, "-m", name, *arguments], timeout_s=timeout_s, environment=environment)

    def ask(self, line: str, *, timeout_s: float = 120) -> dict[str, Any]:
        """Send a line and return the answer.

        Raises:
            Failed: there is none, or it says "error".
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError:
            raise Failed(self._last_words()) from None
        return self._answer(timeout_s)

    def close(self) -> None:
        """End the process: by the end of its input, and by force when that is not enough."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        process.stdout.close()
        os.unlink(self._said)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        # One question, one line: nothing of it can already wait in the buffer of the text layer.
        ready, _, _ = select.select([self._process.stdout], [], [], timeout_s)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            raise Failed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(str(answer["error"]))
        return answer

    def _last_words(self) -> str:
        lines = Path(self._said).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else "no answer"


class Program:
    """A server or worker that is only started, watched and ended, together with all it starts itself."""

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        descriptor, self._said = tempfile.mkstemp(prefix="storepost-bench-")
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def log(self) -> str:
        """Everything it has printed."""
        return Path(self._said).read_text(encoding="utf-8", errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the program and to all it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        self._process.wait(10)

    def close(self) -> None:
        """End it in good order, and by force when that takes longer than half a minute."""
        if not os.path.exists(self._said):
            return
        # One that was stopped cannot hear that it shall end.
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        os.unlink(self._said)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used, with all its descendants, the ended ones included.

    Counted in hundredths by the kernel, so it takes a second's work to be worth something. Linux only.
    """
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    # After the name in parentheses, which may hold anything: utime, stime, cutime, cstime are fields 14 to 17.
    fields = stat.rpartition(")")[2].split()
    used = sum(int(ticks) for ticks in fields[11:15]) / os.sysconf("SC_CLK_TCK")
    return used + sum(cpu_s(child) for child in children(pid))


def children(pid: int) -> list[int]:
    """The direct children of a process, whichever of its threads started them. Linux only."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
    return found


def memory_bytes(pid: int, *, peak: bool = False) -> int:
    """Resident memory of one process now, or the most it ever had (since `forget_peak`). Linux only."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise Failed(f"no memory is known of process {pid}")


def forget_peak(pid: int) -> None:
    """Begin anew to measure the peak. Source: proc_pid_clear_refs(5), value 5."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def wait_for(what: Callable[[], bool], *, timeout_s: float, words: str, every_s: float = 0.02) -> None:
    """Return when it is so.

    Raises:
        Failed: it is not so after that time; `words` say what was waited for.
    """
    ends = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > ends:
            raise Failed(f"{words}: not within {timeout_s:g} s")
        time.sleep(every_s)


def progress(line: str) -> None:
    """Tell whoever watches the benchmark what it is at."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def say(**answer: Any) -> None:
    """Write one line of JSON, from inside a helper process."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def end_of_input(then: Any) -> None:
    """Call `then` when the parent has closed our input; for use as a thread's target."""
    with contextlib.suppress(OSError):
        while sys.stdin.buffer.read(65_536):
            pass
    then()
