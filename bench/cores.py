"""Who runs on which core: a server is another machine, so it gets a core of its own.

Left to itself the kernel puts both sides on one core in some rounds and on two in others, which differs more than what
is compared does.
"""

from __future__ import annotations

import os


def keep_on(cores: set[int]) -> None:
    """Keep this process, and with it all it starts from now on, on these cores; where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def free_cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else {0}


def shares(cores: int) -> tuple[set[int], set[int]]:
    """The cores of the server's side and those of the clients: 2 for one each, 1 for the same one, 0 for any."""
    free = free_cores()
    if cores == 0:
        return free, free
    return {min(free) if cores == 2 else max(free)}, {max(free)}
