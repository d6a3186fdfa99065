"""Helper processes that answer each line on their input with one line of JSON, and end when their input does."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Failed(Exception):
    """The process said that it could not, fell silent or ended; the text is what it said last."""


class Child:
    """A running helper. Its first line is its greeting, kept in `greeting`."""

    def __init__(self, command: Sequence[str], *, timeout_s: float = 30) -> None:
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
            )
        finally:
            os.close(descriptor)
        try:
            self.greeting = self._answer(timeout_s)
        except Failed:
            self.close()
            raise

    @classmethod
    def module(cls, name: str, *arguments: str, timeout_s: float = 30) -> Child:
        """Start `python -m name`."""
        return cls([sys.executable, "-m", name, *arguments], timeout_s=timeout_s)

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
