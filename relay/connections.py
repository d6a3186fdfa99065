"""Who is connected: bounds for all and for each client, and a way to tell everybody that we close."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING

from relay.limits import Limits

if TYPE_CHECKING:
    from relay.conversation import Conversation

TOO_MANY = "421 4.3.2 Too many connections; try again later"
TOO_MANY_OF_CLIENT = "421 4.7.0 Too many connections from your address; try again later"
CLOSING = "421 4.3.2 The relay is stopping; try again later"


class Connections:
    """The conversations of this process. One event loop only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._open: set[Conversation] = set()
        self._of_client: Counter[str] = Counter()
        self.are_closing = False

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, conversation: Conversation) -> str:
        """Count it in and return nothing, or return the reply that turns it away."""
        if self.are_closing:
            return CLOSING
        if len(self._open) >= self._limits.connections:
            return TOO_MANY
        if self._of_client[conversation.client] >= self._limits.connections_per_client:
            return TOO_MANY_OF_CLIENT
        self._open.add(conversation)
        self._of_client[conversation.client] += 1
        return ""

    def forget(self, conversation: Conversation) -> None:
        """Count it out; one that was turned away never counted."""
        if conversation in self._open:
            self._open.remove(conversation)
            self._of_client[conversation.client] -= 1
            self._of_client += Counter()  # drops the zeros

    def close(self) -> None:
        """From now on nobody is admitted; who has no message in hand is told, the others when they have finished."""
        self.are_closing = True
        for conversation in tuple(self._open):
            conversation.leave()

    def cut(self) -> None:
        """End what is left, in the middle of whatever it is."""
        for conversation in tuple(self._open):
            conversation.cut()


def client_of(peer: object) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 that one IPv6 customer usually has."""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])  # type: ignore[index]
    except (ValueError, TypeError, IndexError):
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((int(address), 64), strict=False))
    return str(address)
