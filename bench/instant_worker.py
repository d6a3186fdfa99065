"""`flask worker` with a server that takes every message in no time: what is left is the engine.

    python -m bench.instant_worker --threads N

Only the conversation is replaced, at the door of `mail/smtp`: claims, marks, composing and results are the real ones.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

import worker
from app import create_app
from mail.errors import Withdrawn
from mail.smtp import Conversation, Envelope, SendResult
from mail.smtp.records import RecipientResult, Sent, SMTPReply
from mail.smtp.window import AskAll

OK = SMTPReply(250, ("2.0.0 Ok: queued as 1",))


def send_all(
    self: Conversation, envelopes: Iterable[Envelope], *, window: int = 1, ask_all: AskAll | None = None
) -> Iterator[Sent]:
    """Accept everything; like the real one, asked about by halves of the window, the other half being in flight."""
    half = max(1, window // 2)
    in_flight: deque[Sent] = deque()
    source = iter(envelopes)
    while group := list(islice(source, half)):
        may_go = ask_all(group) if ask_all else [True] * len(group)
        in_flight.extend(_sent(*one) for one in zip(group, may_go, strict=True))
        while len(in_flight) + half > window:
            yield in_flight.popleft()
    yield from in_flight


def _sent(envelope: Envelope, may_go: bool) -> Sent:
    if not may_go:
        return Sent(envelope, error=Withdrawn("withdrawn", "it may not go"))
    results = tuple(RecipientResult(address, True, OK) for address in envelope.recipients)
    return Sent(envelope, result=SendResult(results, OK, "1"))


def pretend() -> None:
    """Replace what talks to a server; the types below are those of a class that is not meant to be changed."""
    nothing = {"open": None, "authenticate": None, "reset": None, "close": None}
    for name, answer in nothing.items():
        setattr(Conversation, name, lambda self, *_, _answer=answer, **__: _answer)
    Conversation.is_open = property(lambda self: True)  # type: ignore[assignment,method-assign]  # replaced
    Conversation.idle_s = property(lambda self: 0.0)  # type: ignore[assignment,method-assign]  # replaced
    Conversation.is_usable = lambda self, **_: True  # type: ignore[assignment,method-assign]  # replaced
    Conversation.send_all = send_all  # type: ignore[method-assign]  # replaced


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=4)
    arguments = parser.parse_args()
    pretend()
    worker.run(create_app(), threads=arguments.threads)


if __name__ == "__main__":
    main()
