"""Networks of their own for workers, as if on other machines: Linux network namespaces, joined by virtual cables.

    with Networks(2) as networks:
        networks.address      where databases, queues and servers listen; every network reaches it
        networks.enter(0)     words in front of the command of a worker in the first network
        networks.unplug(0)    as if somebody pulled its cable

Needs root and the right to make namespaces; `are_possible` tells. Names and addresses are of this process alone.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.fakes.installation import free_port

# RFC 2544, for tests between devices: nobody has these addresses.
_NET = "198.18"


class Networks:
    """So many networks with one cable each to this machine's own; taken down on leaving."""

    def __init__(self, count: int) -> None:
        self._names = [f"storepost{os.getpid()}x{number}" for number in range(count)]
        # Of 250 nets of 64 small ones each, one by chance: other test processes have others.
        self._third = free_port() % 250
        self.address = f"{_NET}.{self._third}.1"
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for number, name in enumerate(self._names):
                self._make(stack, number, name)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _make(self, stack: ExitStack, number: int, name: str) -> None:
        here, there = self._cable(number)
        inside = f"{_NET}.{self._third}.{4 * number + 2}"
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        # The other end goes with it: a cable has no single end.
        stack.callback(_ip, "link", "delete", here)
        _ip("address", "add", self.address, "peer", inside, "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", name, "address", "add", inside, "peer", self.address, "dev", there)
        _ip("-n", name, "link", "set", there, "up")
        _ip("-n", name, "link", "set", "lo", "up")

    def _cable(self, number: int) -> tuple[str, str]:
        # Fifteen characters at the most.
        return f"spo{os.getpid()}x{number}"[-15:], f"spi{os.getpid()}x{number}"[-15:]

    def enter(self, number: int) -> list[str]:
        return ["ip", "netns", "exec", self._names[number]]

    def unplug(self, number: int) -> None:
        _ip("link", "set", self._cable(number)[0], "down")

    def plug_in(self, number: int) -> None:
        here = self._cable(number)[0]
        _ip("link", "set", here, "up")


def are_possible() -> bool:
    """Whether this process may make networks."""
    try:
        with Networks(1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
