"""A clock that several processes share and that a test can put forward and back, by libfaketime."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes import tools

_SHARED = Path("/dev/shm")


class SharedClock:
    """Give it to a process by `environment`, and to PostgreSQL by `environment_of_postgres`.

    Its file lies where PostgreSQL's own user can read it.
    """

    def __init__(self) -> None:
        library = tools.faketime()
        if library is None:
            assert not os.environ.get("CI"), "libfaketime must be there in CI"
            pytest.skip("libfaketime is not installed")
        self._directory = tempfile.TemporaryDirectory(prefix="storepost-clock-")
        Path(self._directory.name).chmod(0o755)
        self._file = Path(self._directory.name) / "clock"
        self._owners: list[Collection[int]] = []
        self.put(timedelta())
        common = {
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DISABLE_SHM": "1",
            # Timeouts and intervals run by the monotonic clock, which no correction of the time of day touches.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.environment = {**common, "LD_PRELOAD": str(library)}
        # PostgreSQL asks for the time in signal handlers too. The form for threads takes a lock for that, which the
        # interrupted call may hold: the process would wait for itself.
        self.environment_of_postgres = {**common, "LD_PRELOAD": str(library.with_name("libfaketime.so.1"))}

    def put(self, shift: timedelta) -> None:
        """Let everybody's time of day be this far from the true one, from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{shift.total_seconds():+.0f}\n")
        new.replace(self._file)

    def cleans_up_after(self, pids: Collection[int]) -> None:
        """Remove at the end what the library leaves of these processes when they are killed; more may be added."""
        self._owners.append(pids)

    def close(self) -> None:
        """Remove its file and what is left of the processes that had it; they have ended by now."""
        self._directory.cleanup()
        for pids in self._owners:
            for pid in pids:
                for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                    (_SHARED / name).unlink(missing_ok=True)
