"""Which process has which connection, by what Linux tells in /proc."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path


def owns(pid: int, peer: tuple[str, int]) -> bool:
    """Whether this process has the TCP connection whose own end is `peer` (an IPv4 address and a port)."""
    inode = _inode(pid, peer)
    if inode is None:
        return False
    try:
        return any(os.readlink(one) == f"socket:[{inode}]" for one in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # it ended while we looked


def _inode(pid: int, peer: tuple[str, int]) -> str | None:
    """Look the connection up in the network that the process lives in."""
    (address,) = struct.unpack("=I", socket.inet_aton(peer[0]))
    own_end = f"{address:08X}:{peer[1]:04X}"
    try:
        table = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii")
    except OSError:
        return None
    for line in table.splitlines()[1:]:
        fields = line.split()
        if fields[1] == own_end:
            return fields[9]
    return None
