"""Several messages in flight: order, room, refusals that must not spill over, and what a cut leaves open."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from mail.errors import Refused, SettingsWrong, TryLater, Uncertain, Withdrawn
from mail.smtp import Conversation, Encryption, Envelope, Sent
from mail.smtp.transfer import ONE_WRITE_BYTES
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer

Dial = Callable[..., Conversation]
CLEAR = Encryption.OPPORTUNISTIC
BOTH = ("PIPELINING", "CHUNKING")


def _message(number: int) -> bytes:
    return b"Subject: %d\r\n\r\nbody\r\n" % number


def _envelopes(count: int, **more: object) -> list[Envelope]:
    return [
        Envelope("s@example.com", (f"r{number}@example.com",), _message(number), **more)  # type: ignore[arg-type]
        for number in range(count)
    ]


class Inbox:
    """A server that works through pipelined groups like a real one, one answer for each command, in order.

    Args:
        refuse: sender answers, recipient answers and final answers that are not 250, by message number.
        hang_up_at: hang up instead of giving this message's final answer.
        hold: answer nothing before this is set.
    """

    def __init__(
        self,
        *,
        sender: dict[int, str] | None = None,
        recipient: dict[int, str] | None = None,
        final: dict[int, str] | None = None,
        hang_up_at: int = -1,
        hold: threading.Event | None = None,
        extensions: tuple[str, ...] = BOTH,
    ) -> None:
        self.sender, self.recipient, self.final = sender or {}, recipient or {}, final or {}
        self.hang_up_at, self.hold, self.extensions = hang_up_at, hold, extensions
        self.taken: list[bytes] = []
        self.begun = threading.Semaphore(0)
        self.resets = 0

    def __call__(self, peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo(*self.extensions)
        number, in_mail, recipients = -1, False, 0
        while True:
            line = peer.hear()
            verb = line.split(" ", 1)[0].split(":", 1)[0].upper()
            if verb == "RSET":
                in_mail, recipients = False, 0
                self.resets += 1
                peer.say("250 reset")
            elif verb == "MAIL" and in_mail:
                peer.say("503 5.5.1 nested MAIL command")
            elif verb == "MAIL":
                number += 1
                answer = self.sender.get(number, "250 2.1.0 ok")
                in_mail, recipients = answer.startswith("250"), 0
                self._say(peer, answer)
                if answer.startswith("421"):
                    _leave(peer)
            elif verb == "RCPT":
                answer = self.recipient.get(number, "250 2.1.5 ok") if in_mail else "503 5.5.1 no MAIL"
                recipients += answer.startswith("250")
                self._say(peer, answer)
            elif verb == "BDAT":
                content = peer.hear_bytes(int(line.split()[1]))
                self.begun.release()
                if number == self.hang_up_at:
                    _leave(peer)
                if not in_mail or not recipients:
                    # Like Postfix: the transaction stays open, and the next MAIL is nested in it.
                    self._say(peer, "554 5.5.1 no valid recipients")
                    continue
                answer = self.final.get(number, f"250 2.0.0 queued as M{number}")
                if answer.startswith("250"):
                    self.taken.append(content)
                in_mail = False
                self._say(peer, answer)
            else:
                peer.say("221 bye" if verb == "QUIT" else "500 what")

    def _say(self, peer: Peer, answer: str) -> None:
        if self.hold is not None:
            self.hold.wait(5)
        peer.say(answer)


def _run(dial: Dial, inbox: Inbox, envelopes: Iterator[Envelope] | list[Envelope], window: int) -> list[Sent]:
    with RawServer(inbox) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        return list(conversation.send_all(iter(envelopes), window=window))


@pytest.mark.parametrize("window", [1, 2, 8, 50])
def test_everything_arrives_once_and_in_order(dial: Dial, window: int) -> None:
    inbox = Inbox()
    sent = _run(dial, inbox, _envelopes(20), window)
    assert inbox.taken == [_message(number) for number in range(20)]
    assert [one.result.queue_id for one in sent if one.result] == [f"M{number}" for number in range(20)]


def test_as_many_as_the_window_are_in_flight_before_the_first_answer(dial: Dial) -> None:
    hold = threading.Event()
    inbox = Inbox(hold=hold)
    taken: list[int] = []

    def source() -> Iterator[Envelope]:
        for number, envelope in enumerate(_envelopes(10)):
            taken.append(number)
            yield envelope

    with RawServer(inbox) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        outcomes = conversation.send_all(source(), window=4)
        threading.Timer(0.2, hold.set).start()
        next(outcomes)
        assert taken == [0, 1, 2, 3]
        assert len(list(outcomes)) == 9


def test_a_refused_message_does_not_spill_into_the_next(dial: Dial) -> None:
    """Of a transaction that stays open, the next message's recipients would be taken for its own."""
    inbox = Inbox(
        sender={2: "550 5.7.60 not yours"},
        recipient={4: "550 5.1.1 no such user"},
        final={6: "552 5.3.4 message too large"},
    )
    sent = _run(dial, inbox, _envelopes(9), 4)
    assert inbox.taken == [_message(number) for number in (0, 1, 3, 5, 7, 8)]
    kinds = {number: type(one.error) for number, one in enumerate(sent) if one.error}
    assert kinds == {2: SettingsWrong, 4: Refused, 6: Refused}
    assert inbox.resets >= 3


def test_what_was_in_flight_at_a_cut_is_uncertain_and_nothing_more_is_taken(dial: Dial) -> None:
    inbox = Inbox(hang_up_at=3)
    source = iter(_envelopes(20))
    sent = _run(dial, inbox, source, 4)
    assert [type(one.error) for one in sent[:3]] == [type(None)] * 3
    assert len(sent) > 3
    assert {type(one.error) for one in sent[3:]} == {Uncertain}
    assert len(sent) <= 3 + 4
    assert len(sent) + len(list(source)) == 20


def test_after_a_421_the_messages_behind_it_are_known_not_to_be_sent(dial: Dial) -> None:
    inbox = Inbox(sender={3: "421 4.4.2 Message submission rate for this client has exceeded the configured limit"})
    sent = _run(dial, inbox, _envelopes(6), 6)
    assert [type(one.error) for one in sent] == [type(None)] * 3 + [TryLater] * 3
    assert {one.error.code for one in sent[3:] if one.error} == {"throttled"}


def test_a_withdrawn_message_is_left_out_and_the_others_go(dial: Dial) -> None:
    envelopes = _envelopes(5)
    envelopes[2] = Envelope("s@example.com", ("r2@example.com",), _message(2), lambda: False)
    inbox = Inbox()
    sent = _run(dial, inbox, envelopes, 3)
    assert [type(one.error) for one in sent] == [type(None), type(None), Withdrawn, type(None), type(None)]
    assert inbox.taken == [_message(number) for number in (0, 1, 3, 4)]


def test_a_message_that_cannot_go_is_told_in_its_turn(dial: Dial) -> None:
    envelopes = _envelopes(4)
    envelopes[1] = Envelope("s@example.com", ("r1@example.com",), b"bare\nline feed\r\n")
    sent = _run(dial, Inbox(), envelopes, 4)
    assert [one.envelope for one in sent] == envelopes
    assert isinstance(sent[1].error, Refused)


def test_a_long_message_goes_alone_between_the_others(dial: Dial) -> None:
    envelopes = _envelopes(3)
    long = b"Subject: long\r\n\r\n" + b"x" * 70 + b"\r\n" + b"0123456789abcde\r\n" * (ONE_WRITE_BYTES // 17)
    envelopes.insert(1, Envelope("s@example.com", ("long@example.com",), long))
    inbox = Inbox()

    with RawServer(_chunk_server(inbox)) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        sent = list(conversation.send_all(envelopes, window=4))
    assert [one.error for one in sent] == [None] * 4
    assert inbox.taken == [envelope.content for envelope in envelopes]


def test_servers_without_the_extensions_get_one_message_after_another(dial: Dial) -> None:
    with MTA() as mta:
        conversation = dial(mta, CLEAR)
        conversation.open()
        sent = list(conversation.send_all(_envelopes(5), window=8))
    assert [one.error for one in sent] == [None] * 5
    assert [one.content for one in mta.received] == [_message(number) for number in range(5)]
    assert mta.connections == 1


def test_stopping_early_drops_the_connection(dial: Dial) -> None:
    with RawServer(Inbox()) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        outcomes = conversation.send_all(_envelopes(8), window=4)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        assert not conversation.is_open


def test_after_the_last_one_the_connection_is_kept_and_usable(dial: Dial) -> None:
    inbox = Inbox()
    with RawServer(inbox) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        assert len(list(conversation.send_all(_envelopes(3), window=3))) == 3
        assert conversation.is_usable()
        assert conversation.is_usable(ask_after_s=0)
        assert conversation.send("s@example.com", ["r@example.com"], _message(9)).reply.code == 250
    assert inbox.resets >= 1


@pytest.mark.parametrize("farewell", ["", "421 4.4.2 idle too long\r\n"], ids=["silent", "421"])
def test_a_kept_connection_that_the_server_ended_is_seen_without_asking(dial: Dial, farewell: str) -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo()
        peer.say_bytes(farewell.encode())
        peer.sock.close()
        ended.set()

    with RawServer(script) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        assert ended.wait(5)
        assert not conversation.is_usable(ask_after_s=60)
        assert not conversation.is_open


def _leave(peer: Peer) -> None:
    """Hang up in a way that lets what was said arrive: closing with unread input would throw it away."""
    peer.sock.shutdown(socket.SHUT_WR)
    while True:
        peer.hear_bytes(1)


def _chunk_server(inbox: Inbox) -> Callable[[Peer], None]:
    """Like `Inbox`, for contents in more than one chunk."""

    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo(*BOTH)
        content = b""
        while True:
            line = peer.hear()
            if line.startswith("BDAT"):
                content += peer.hear_bytes(int(line.split()[1]))
                if line.endswith("LAST"):
                    inbox.taken.append(content)
                    content = b""
            peer.say("250 ok")

    return script
