"""A way to a server with a long road in between: every byte takes the same time, in order, at any rate.

    python -m bench.delay_proxy --one-way-ms 20 NAME=PORT ...

It prints its own ports by NAME as one line of JSON and ends with its input. The kernel answers the dialling client at
once; the server hears of the connection one way later, so its banner takes a full round trip.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import selectors
import threading
from collections import deque
from collections.abc import Callable

from bench.processes import end_of_input, say


class Road:
    """One direction: what enters leaves `delay_s` later, in the order of entering."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: float) -> None:
        self._loop = loop
        self._delay_s = delay_s
        self._under_way: deque[Callable[[], None]] = deque()

    def enter(self, arrive: Callable[[], None]) -> None:
        # The queue, not the timer, decides the order: timers of the same instant come in any.
        self._under_way.append(arrive)
        self._loop.call_later(self._delay_s, self._leave)

    def _leave(self) -> None:
        self._under_way.popleft()()


class End(asyncio.Protocol):
    """One of the two sockets of a connection. What it receives goes down `road` to the `peer`."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.peer: End | None = None
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        # asyncio sets TCP_NODELAY by itself.
        self.transport = transport
        for data in self._early:
            transport.write(data)

    def data_received(self, data: bytes) -> None:
        peer = self.peer
        assert peer is not None
        self.road.enter(lambda: peer.put(data))

    def connection_lost(self, error: Exception | None) -> None:
        if self.peer is not None:
            self.road.enter(self.peer.hang_up)

    def put(self, data: bytes) -> None:
        if self.transport is None:
            self._early.append(data)
        elif not self.transport.is_closing():
            self.transport.write(data)

    def hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Client(End):
    """The dialling side; its coming is what makes us dial the server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int, delay_s: float) -> None:
        super().__init__(Road(loop, delay_s))
        self._loop = loop
        self._port = port
        self._delay_s = delay_s
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        server = End(Road(self._loop, self._delay_s))
        self.peer, server.peer = server, self
        self.road.enter(lambda: self._dial(server))

    def _dial(self, server: End) -> None:
        self._dialling = self._loop.create_task(self._connect(server))

    async def _connect(self, server: End) -> None:
        try:
            await self._loop.create_connection(lambda: server, "127.0.0.1", self._port)
        except OSError:
            self.hang_up()


async def serve(targets: dict[str, int], delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    ports, servers = {}, []

    async def listen(name: str, port: int) -> None:
        server = await loop.create_server(lambda: Client(loop, port, delay_s), "127.0.0.1", 0)
        servers.append(server)
        ports[name] = server.sockets[0].getsockname()[1]

    for name, port in targets.items():
        await listen(name, port)
    finished = asyncio.Event()
    ending = threading.Thread(target=end_of_input, args=(lambda: loop.call_soon_threadsafe(finished.set),), daemon=True)
    ending.start()
    say(ports=ports)
    await finished.wait()
    for server in servers:
        server.close()


def _loop() -> asyncio.AbstractEventLoop:
    # epoll rounds waits up to whole milliseconds, select does not: 20 ms must not become 21.
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one-way-ms", type=float, required=True)
    parser.add_argument("targets", nargs="+")
    arguments = parser.parse_args()
    pairs = (target.partition("=") for target in arguments.targets)
    targets = {name: int(port) for name, _, port in pairs}
    # A network does not wait until this machine has a core to spare; only root may say so.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
    with asyncio.Runner(loop_factory=_loop) as runner:
        runner.run(serve(targets, arguments.one_way_ms / 1000))


if __name__ == "__main__":
    main()
