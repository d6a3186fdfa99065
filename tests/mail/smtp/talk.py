"""Servers that answer by a list, and conversations opened with them in clear."""

from __future__ import annotations

from collections.abc import Callable

from mail.smtp import Conversation, Encryption
from tests.fakes.rawserver import Peer, RawServer

Dial = Callable[..., Conversation]
CLEAR = Encryption.OPPORTUNISTIC
ANNA, BEN, CLEO = "anna@example.com", "ben@example.com", "cleo@example.com"


def opened(dial: Dial, server: object, **more: object) -> Conversation:
    conversation = dial(server, CLEAR, **more)
    conversation.open()
    return conversation


def answering(*answers: str | None, extensions: tuple[str, ...] = ()) -> RawServer:
    """A server that gives these answers in turn; after a 354 it hears the message; None hangs up."""

    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo(*extensions)
        is_data = False
        for answer in answers:
            peer.hear_message() if is_data else peer.hear()
            if answer is None:
                return
            peer.say(answer)
            is_data = answer.startswith("354")
        while True:
            if peer.hear() == "RSET":
                peer.say("250 reset")

    return RawServer(script)
