"""`flask worker` with a server that takes every message in no time: what is left is the engine.

    python -m bench.instant_worker --threads N [--engine-alone]

Only the conversation is replaced, at the door of `mail/smtp`: claims, marks, composing and results are the real ones.
With `--engine-alone` contents are neither read nor composed either, as a queue's job does neither: what is left are
claims, recipients, marks and results.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import worker
from app import create_app
from mail import delivery, outbox_recipients
from mail.delivery import Mark
from mail.errors import Withdrawn
from mail.outbox_finish import Leave
from mail.outbox_recipients import RecipientRow
from mail.outbox_work import ClaimedMessage
from mail.outcomes import Outcome, RecipientOutcome
from mail.smtp import Conversation, Envelope, SendResult
from mail.smtp.records import RecipientResult, Sent, SMTPReply
from mail.smtp.window import AskAll
from mail.way_out import WayOut
from models.outbox import MessageStatus, RecipientStatus

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


def deliver_nothing(
    claimed: Sequence[ClaimedMessage],
    way: WayOut,
    *,
    window: int = 1,
    mark: Mark,
    goes_on: Callable[[], bool],
    **_: object,
) -> Iterator[tuple[ClaimedMessage, Outcome]]:
    """What `delivery.deliver_all` does, without the messages themselves."""
    route = way.route
    leave = Leave(route.method.value, route.sender.name, route.sender.address, way.settings_version)
    recipients = outbox_recipients.load(claimed, route.bcc)
    half = max(1, window // 2)
    in_flight: deque[ClaimedMessage] = deque()
    left = deque(claimed)
    while left and goes_on():
        group = [left.popleft() for _ in range(min(half, len(left)))]
        may_go = mark(group, leave)
        in_flight.extend(one for one in group if one.id in may_go)
        while len(in_flight) + half > window:
            yield _outcome(in_flight.popleft(), recipients)
    for one in in_flight:
        yield _outcome(one, recipients)


def _outcome(
    claimed: ClaimedMessage, recipients: Mapping[int, Sequence[RecipientRow]]
) -> tuple[ClaimedMessage, Outcome]:
    results = tuple(
        RecipientOutcome(row.address, RecipientStatus.ACCEPTED, OK.code, OK.text) for row in recipients[claimed.id]
    )
    return claimed, Outcome(
        MessageStatus.SENT,
        detail=OK.text,
        reply_code=OK.code,
        recipients=results,
        remote_id="1",
        method="smtp",
        host="-",
    )


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
    parser.add_argument("--engine-alone", action="store_true")
    arguments = parser.parse_args()
    if arguments.engine_alone:
        delivery.deliver_all = deliver_nothing  # type: ignore[assignment]  # replaced
    else:
        pretend()
    worker.run(create_app(), threads=arguments.threads)


if __name__ == "__main__":
    main()
