"""A disk that can be full: a small file system of its own where that may be mounted, else a limit on files' size."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

SIZE_MB = 12


class Disk(Protocol):
    directory: Path

    def fill(self, *pids: int) -> None:
        """Let nothing be written any more, by this process and these."""
        ...

    def make_room(self, *pids: int) -> None:
        """End that."""
        ...


@contextmanager
def small_disk(directory: Path) -> Iterator[Disk]:
    """Give a folder on a disk that can be filled."""
    place = directory / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SIZE_MB}m,mode=700", "storepost-test", str(place)]
    is_mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True).returncode == 0
    try:
        yield _Mounted(place) if is_mounted else _Limited(place)
    finally:
        if is_mounted:
            # Whoever still has a file open there keeps it to himself.
            subprocess.run(["umount", "--lazy", str(place)], check=True)


class _Mounted:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._filler = directory / "filler"

    def fill(self, *pids: int) -> None:
        with self._filler.open("wb", buffering=0) as filler:
            # A block at a time in the end, so that not even a page of the database finds room.
            for size in (65_536, 4096, 512):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError:
                    continue

    def make_room(self, *pids: int) -> None:
        self._filler.unlink()


class _Limited:
    """Writes fail as on a full disk, because files may not grow beyond nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, *pids: int) -> None:
        self._limit(0, pids)

    def make_room(self, *pids: int) -> None:
        self._limit(self._before[0], pids)

    def _limit(self, size_bytes: int, pids: tuple[int, ...]) -> None:
        for pid in (0, *pids):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, self._before[1]))
