"""How much one client, and all of them together, may ask of the relay."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """The bounds of a relay process.

    Attributes:
        message_bytes: a message as it travels. 25 MB of content, as the API takes, grow by a third and line breaks in
            base64; advertised as SIZE (RFC 1870).
        commands_per_message: commands between two accepted messages; ends conversations that only keep us busy.
        mistakes: commands that are none, between two accepted messages.
        sign_in_s: from the greeting to a successful sign-in.
        idle_s: for a command to arrive whole, and for an answer to be taken off us.
        data_s: for a message to arrive whole.
        wait_s: how long a message may wait for memory or for its turn to be written, before it is put off.
        held_bytes: messages in memory, half read ones included.
        group, group_bytes: what one transaction takes at most; a larger message goes alone.
    """

    message_bytes: int = 36 * MIB
    recipients: int = 100
    command_bytes: int = 2048
    sign_in_bytes: int = 12_288
    commands_per_message: int = 400
    mistakes: int = 10
    messages_per_connection: int = 10_000
    sign_in_failures: int = 3
    connections: int = 500
    connections_per_client: int = 200
    sign_in_s: float = 60.0
    idle_s: float = 300.0
    data_s: float = 600.0
    wait_s: float = 30.0
    held_bytes: int = 256 * MIB
    writers: int = 2
    group: int = 50
    group_bytes: int = 8 * MIB
    stop_within_s: float = 25.0
