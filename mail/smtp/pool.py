"""Signed-in conversations that are kept for a while, because dialling, TLS and sign-in cost more than a message does.

Knows no database and no rule: who uses what under which key is the caller's. Safe to use from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable

from mail.smtp import Conversation

# Long enough for the next message of a busy store, short enough not to be the one the server gives up first
# (performance.md 2).
IDLE_S = 30.0
MOST = 256


class ConversationPool:
    """Idle conversations by key. A key names everything that makes two conversations interchangeable."""

    def __init__(self, *, idle_s: float = IDLE_S, most: int = MOST) -> None:
        self._idle_s = idle_s
        self._most = most
        self._lock = threading.Lock()
        self._kept: list[tuple[Hashable, Conversation]] = []

    def take(self, key: Hashable) -> Conversation | None:
        """Return a conversation that can take the next message, or None; it is the caller's until given back.

        May ask the server (one round trip) after some idle time. What the server has ended is dropped on the way.
        """
        while (conversation := self._pop(key)) is not None:
            if conversation.idle_s <= self._idle_s and conversation.is_usable():
                return conversation
            conversation.close(wait_s=0)
        return None

    def give_back(self, key: Hashable, conversation: Conversation) -> None:
        """Keep a conversation for the next one who asks; one that has ended is forgotten."""
        if not conversation.is_open:
            return
        surplus = None
        with self._lock:
            self._kept.append((key, conversation))
            if len(self._kept) > self._most:
                surplus = self._kept.pop(0)[1]
        if surplus is not None:
            surplus.close(wait_s=0)

    def close_idle(self) -> int:
        """Say goodbye where nobody has been for a while; return how many are left. Never waits for a server."""
        with self._lock:
            stale = [entry for entry in self._kept if entry[1].idle_s > self._idle_s]
            self._kept = [entry for entry in self._kept if entry[1].idle_s <= self._idle_s]
            left = len(self._kept)
        for _, conversation in stale:
            conversation.close(wait_s=0)
        return left

    def close_all(self) -> None:
        """Say goodbye to all, without waiting."""
        with self._lock:
            everybody, self._kept = self._kept, []
        for _, conversation in everybody:
            conversation.close(wait_s=0)

    def _pop(self, key: Hashable) -> Conversation | None:
        """The one used last: it is the likeliest to live, and the others may grow old and go."""
        with self._lock:
            for number in range(len(self._kept) - 1, -1, -1):
                if self._kept[number][0] == key:
                    return self._kept.pop(number)[1]
        return None
