"""Which process has which connection, by what Linux tells in /proc."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection
from pathlib import Path

ESTABLISHED = "01"


def owns(pid: int, peer: tuple[str, int]) -> bool:
    """Whether this process has the TCP connection whose own end is `peer` (an IPv4 address and a port)."""
    (address,) = struct.unpack("=I", socket.inet_aton(peer[0]))
    own_end = f"{address:08X}:{peer[1]:04X}"
    return any(line[1] == own_end for line in _connections(pid))


def connections_to(pid: int, ports: Collection[int]) -> int:
    """How many connections this process has to these ports."""
    return sum(int(line[2].rpartition(":")[2], 16) in ports for line in _connections(pid))


def _connections(pid: int) -> list[list[str]]:
    """The lines of /proc/net/tcp, of the network that the process lives in, for its own connections."""
    try:
        table = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        own = {_target(one) for one in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return []  # it ended while we looked
    lines = [line.split() for line in table]
    return [line for line in lines if line[3] == ESTABLISHED and f"socket:[{line[9]}]" in own]


def _target(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except OSError:
        return ""  # a busy process closes some while we look at the others
