"""One message in one round trip: PIPELINING and CHUNKING, every answer read in order, and clean ways back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from mail.errors import MailError, Refused, SettingsWrong, Stage, TryLater, Uncertain, Withdrawn
from mail.smtp import Conversation, Encryption, SendResult
from mail.smtp.transfer import GROUP_RECIPIENTS, ONE_WRITE_BYTES
from tests.fakes.rawserver import Peer, RawServer
from tests.mail.conftest import MESSAGE, Watch
from tests.patience import PATIENT

Dial = Callable[..., Conversation]
Script = Callable[[Peer], None]
CLEAR = Encryption.OPPORTUNISTIC
ANNA, BEN, CLEO = "anna@example.com", "ben@example.com", "cleo@example.com"
BOTH = ("PIPELINING", "CHUNKING")
LONG = b"Subject: long\r\n\r\n" + b"0123456789abcde\r\n" * (ONE_WRITE_BYTES // 17 + 100)


def _server(then: Script, *, extensions: tuple[str, ...] = BOTH) -> RawServer:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo(*extensions)
        then(peer)

    return RawServer(script)


def _opened(dial: Dial, server: RawServer, **more: object) -> Conversation:
    conversation = dial(server, CLEAR, **more)
    conversation.open()
    return conversation


def _hear_group(peer: Peer, *, recipients: int = 1) -> bytes:
    """Hear MAIL, the RCPTs and the chunk before anything is answered, which proves that they came together."""
    assert peer.hear().startswith("MAIL FROM:")
    for _ in range(recipients):
        assert peer.hear().startswith("RCPT TO:")
    return peer.hear_chunk()


def _send(conversation: Conversation, *recipients: str, content: bytes = MESSAGE, **more: object) -> SendResult:
    return conversation.send("s@example.com", recipients or (ANNA,), content, **more)  # type: ignore[arg-type]


def _failed(kind: type[MailError], conversation: Conversation, *recipients: str, **more: object) -> MailError:
    with pytest.raises(kind) as caught:
        _send(conversation, *recipients, **more)
    return caught.value


# The bytes -----------------------------------------------------------------------------------------------------------


def test_the_whole_transaction_is_one_write_byte_for_byte(dial: Dial) -> None:
    heard = []
    content = b"Subject: x\r\n\r\n.dots stay\r\n..as they are\r\n"

    def script(peer: Peer) -> None:
        expected = (
            b"MAIL FROM:<s@example.com> SIZE=%d\r\nRCPT TO:<anna@example.com>\r\nRCPT TO:<ben@example.com>\r\n"
            b"BDAT %d LAST\r\n%s" % (len(content), len(content), content)
        )
        heard.append(peer.hear_bytes(len(expected)) == expected)
        peer.say("250 2.1.0 ok", "250 2.1.5 ok", "250 2.1.5 ok", "250 2.0.0 queued as 4F2B1C0D3E")

    with _server(script, extensions=(*BOTH, "SIZE 1000000")) as server:
        result = _send(_opened(dial, server), ANNA, BEN, content=content)
    assert heard == [True]
    assert [(one.address, one.accepted) for one in result.recipients] == [(ANNA, True), (BEN, True)]
    assert result.queue_id == "4F2B1C0D3E"


def test_a_bounce_is_asked_to_name_our_message_and_to_leave_the_body_out(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        assert peer.hear() == "MAIL FROM:<s@example.com> RET=HDRS ENVID=6b8f-1.x"
        assert peer.hear() == f"RCPT TO:<{ANNA}>"
        peer.hear_chunk()
        peer.say("250 ok", "250 ok", "250 ok")

    with _server(script, extensions=(*BOTH, "DSN")) as server:
        _send(_opened(dial, server), envelope_id="6b8f-1.x")


def test_an_envelope_id_that_is_none_is_left_out(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        assert peer.hear() == "MAIL FROM:<s@example.com>"
        assert peer.hear() == f"RCPT TO:<{ANNA}>"
        peer.hear_chunk()
        peer.say("250 ok", "250 ok", "250 ok")

    with _server(script, extensions=(*BOTH, "DSN")) as server:
        _send(_opened(dial, server), envelope_id="two words\r\nRCPT TO:<evil@example.com>")


def test_without_chunking_the_envelope_and_data_leave_together(dial: Dial) -> None:
    content = b"Subject: x\r\n\r\n.first\r\n..second\r\nlast\r\n"
    heard = []

    def script(peer: Peer) -> None:
        group = b"MAIL FROM:<s@example.com>\r\nRCPT TO:<anna@example.com>\r\nRCPT TO:<ben@example.com>\r\nDATA\r\n"
        heard.append(peer.hear_bytes(len(group)) == group)
        peer.say("250 ok", "250 ok", "250 ok", "354 go")
        stuffed = b"Subject: x\r\n\r\n..first\r\n...second\r\nlast\r\n.\r\n"
        heard.append(peer.hear_bytes(len(stuffed)) == stuffed)
        peer.say("250 ok")

    with _server(script, extensions=("PIPELINING",)) as server:
        _send(_opened(dial, server), ANNA, BEN, content=content)
    assert heard == [True, True]


def test_a_long_content_waits_for_its_envelope_and_goes_in_two_chunks(dial: Dial) -> None:
    heard: list[bytes] = []
    asked: list[int] = []

    def script(peer: Peer) -> None:
        assert peer.hear().startswith("MAIL FROM:")
        assert peer.hear().startswith("RCPT TO:")
        peer.say("250 ok", "250 ok")
        heard.append(peer.hear_chunk())
        peer.say("250 first chunk")
        heard.append(peer.hear_chunk())
        peer.say("250 done")

    def ask() -> bool:
        asked.append(len(heard))
        return True

    with _server(script) as server:
        _send(_opened(dial, server), content=LONG, before_commit=ask)
    assert b"".join(heard) == LONG
    assert asked == [1]


def test_many_recipients_are_offered_in_groups(dial: Dial) -> None:
    everybody = [f"r{number}@example.com" for number in range(2 * GROUP_RECIPIENTS + 1)]

    def script(peer: Peer) -> None:
        assert peer.hear().startswith("MAIL FROM:")
        for size in (GROUP_RECIPIENTS, GROUP_RECIPIENTS, 1):
            for _ in range(size):
                assert peer.hear().startswith("RCPT TO:")
            peer.say(*(["250 ok"] * (size + (size == GROUP_RECIPIENTS and peer not in seen))))
            seen.append(peer)
        assert peer.hear_chunk() == MESSAGE
        peer.say("250 ok")

    seen: list[Peer] = []
    with _server(script) as server:
        result = _send(_opened(dial, server), *everybody)
    assert [one.address for one in result.recipients] == everybody
    assert all(one.accepted for one in result.recipients)


def test_the_steps_are_told_in_order(dial: Dial) -> None:
    watch = Watch()

    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say("250 ok", "250 ok", "250 ok")

    with _server(script) as server:
        conversation = _opened(dial, server, observe=watch)
        watch.events.clear()
        _send(conversation)
    assert watch.steps() == [
        "sender started", "sender done", "recipient started", "recipient done", "message started", "message done"
    ]  # fmt: skip


# Refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extensions", [BOTH, ("PIPELINING",)], ids=["chunking", "data"])
def test_a_refused_sender_is_told_and_the_void_answers_are_read(dial: Dial, extensions: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        for _ in range(3):
            peer.hear()
        if "CHUNKING" in extensions:
            peer.hear_bytes(len(MESSAGE))
        peer.say("550 5.7.60 SMTP; Client does not have permissions to send as this sender")
        peer.say("503 5.5.1 no MAIL", "503 5.5.1 no MAIL")
        assert peer.hear() == "RSET"
        peer.say("250 ok")
        for _ in range(3):
            peer.hear()
        if "CHUNKING" in extensions:
            peer.hear_bytes(len(MESSAGE))
            peer.say("250 ok", "250 ok", "250 the second arrived")
        else:
            peer.say("250 ok", "250 ok", "354 go")
            peer.hear_message()
            peer.say("250 the second arrived")

    with _server(script, extensions=extensions) as server:
        conversation = _opened(dial, server)
        error = _failed(SettingsWrong, conversation)
        assert (error.stage, error.reply_code) == (Stage.SENDER, 550)
        assert error.results == ()
        assert _send(conversation).reply.text == "the second arrived"


def test_each_recipient_has_a_result_of_its_own_in_a_group(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        _hear_group(peer, recipients=3)
        peer.say("250 ok", "250 ok", "550 5.1.1 no such user", "450 4.2.1 later", "250 ok")

    with _server(script) as server:
        result = _send(_opened(dial, server), ANNA, BEN, CLEO)
    assert [(one.accepted, one.temporary) for one in result.recipients] == [
        (True, False),
        (False, False),
        (False, True),
    ]


@pytest.mark.parametrize("extensions", [BOTH, ("PIPELINING",)], ids=["chunking", "data"])
def test_when_all_recipients_are_refused_the_next_message_finds_a_clean_session(
    dial: Dial, extensions: tuple[str, ...]
) -> None:
    chunks = "CHUNKING" in extensions

    def script(peer: Peer) -> None:
        for _ in range(3):
            peer.hear()
        if chunks:
            peer.hear_bytes(len(MESSAGE))
        peer.say("250 ok", "550 5.1.1 no such user", "554 5.5.1 no valid recipients")
        assert peer.hear() == "RSET"
        peer.say("250 ok")
        for _ in range(3):
            peer.hear()
        if chunks:
            peer.hear_bytes(len(MESSAGE))
            peer.say("250 ok", "250 ok", "250 ok")
        else:
            peer.say("250 ok", "250 ok", "354 go")
            peer.hear_message()
            peer.say("250 ok")

    with _server(script, extensions=extensions) as server:
        conversation = _opened(dial, server)
        error = _failed(Refused, conversation)
        assert error.code == "recipients_refused"
        assert [one.accepted for one in error.results] == [False]
        assert _send(conversation).recipients[0].accepted


def test_a_data_begun_for_nobody_is_ended_by_a_single_dot(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        for _ in range(3):
            peer.hear()
        peer.say("250 ok", "550 5.1.1 no such user", "354 go")
        assert peer.hear() == "."
        peer.say("554 5.5.1 no valid recipients")
        assert peer.hear() == "RSET"
        peer.say("250 ok")

    with _server(script, extensions=("PIPELINING",)) as server:
        conversation = _opened(dial, server)
        assert _failed(Refused, conversation).code == "recipients_refused"
        assert conversation.is_open


def test_a_refused_chunk_is_a_refused_message(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say("250 ok", "250 ok", "552 5.3.4 message size exceeds fixed limit")
        assert peer.hear() == "RSET"
        peer.say("250 ok")

    with _server(script) as server:
        conversation = _opened(dial, server)
        error = _failed(Refused, conversation)
        assert (error.stage, error.reply_code) == (Stage.MESSAGE, 552)
        assert conversation.is_open


def test_a_refused_first_chunk_stops_a_long_message(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.hear(), peer.hear()
        peer.say("250 ok", "250 ok")
        peer.hear_chunk()
        peer.say("452 4.3.1 no space")
        assert peer.hear() == "RSET"
        peer.say("250 ok")

    with _server(script) as server:
        conversation = _opened(dial, server)
        assert _failed(TryLater, conversation, content=LONG).reply_code == 452
        assert conversation.is_open


@pytest.mark.parametrize(
    "answers",
    [
        ("421 4.4.2 rate exceeded",),
        ("250 ok", "421 4.4.2 rate exceeded"),
        ("250 ok", "250 ok", "421 4.4.2 rate exceeded"),
    ],
    ids=["sender", "recipient", "message"],
)
def test_a_421_anywhere_is_a_definite_no_and_ends_the_connection(dial: Dial, answers: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say(*answers)

    with _server(script) as server:
        conversation = _opened(dial, server)
        assert _failed(TryLater, conversation).reply_code == 421
        assert not conversation.is_open


# Not knowing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answers",
    [(), ("250 ok",), ("250 ok", "250 ok"), ("250 ok", "250 ok", "garbage")],
    ids=["at-once", "after-sender", "after-recipient", "garbage"],
)
def test_a_cut_after_the_last_chunk_is_uncertain(dial: Dial, answers: tuple[str, ...]) -> None:
    """A server may keep its answers back until the group is through, so none of them proves that nothing was taken."""

    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say(*answers)

    with _server(script) as server:
        conversation = _opened(dial, server)
        assert _failed(Uncertain, conversation).code == "cut_after_dot"
        assert not conversation.is_open


@pytest.mark.parametrize(
    ("answers", "kind", "code"),
    [
        (("550 5.7.60 not yours",), SettingsWrong, "sender_refused"),
        (("250 ok", "550 5.1.1 no such user"), Refused, "recipients_refused"),
    ],
    ids=["sender", "recipient"],
)
def test_a_server_that_hangs_up_over_a_refusal_is_believed(
    dial: Dial, answers: tuple[str, ...], kind: type[MailError], code: str
) -> None:
    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say(*answers)

    with _server(script) as server:
        assert _failed(kind, _opened(dial, server)).code == code


@pytest.mark.parametrize(
    "answers",
    [("354 go",), ("250 ok", "334 ?"), ("550 5.1.8 no", "503 no", "250 taken all the same")],
    ids=["sender", "recipient", "taken"],
)
def test_answers_out_of_step_are_uncertain(dial: Dial, answers: tuple[str, ...]) -> None:
    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say(*answers)
        peer.hear()

    with _server(script) as server:
        conversation = _opened(dial, server)
        assert _failed(Uncertain, conversation).code == "answer_unclear"
        assert not conversation.is_open


def test_a_cut_before_a_long_content_is_temporary(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.hear(), peer.hear()
        peer.say("250 ok", "250 ok")

    with _server(script) as server:
        assert _failed(TryLater, _opened(dial, server), content=LONG).reply_code is None


def test_answers_held_back_to_the_end_may_take_as_long_as_the_last(dial: Dial) -> None:
    released = threading.Event()

    def script(peer: Peer) -> None:
        _hear_group(peer)
        released.wait(0.5)
        peer.say("250 ok", "250 ok", "250 ok")

    timeouts = replace(PATIENT, command_s=0.2)
    with _server(script) as server:
        assert _send(_opened(dial, server, timeouts=timeouts)).reply.code == 250


# The question --------------------------------------------------------------------------------------------------------


def test_nothing_leaves_before_the_question_is_answered_and_a_no_costs_no_connection(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        _hear_group(peer)
        peer.say("250 ok", "250 ok", "250 only this one")

    with _server(script) as server:
        conversation = _opened(dial, server)
        assert isinstance(_failed(Withdrawn, conversation, before_commit=lambda: False), Withdrawn)
        assert _send(conversation).reply.text == "only this one"
    assert sum(line.startswith("MAIL") for line in server.said_by_client) == 1


def test_a_no_between_chunks_drops_the_connection(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.hear(), peer.hear()
        peer.say("250 ok", "250 ok")
        peer.hear_chunk()
        peer.say("250 ok")
        assert peer.hear() == "nothing more"

    with _server(script) as server:
        conversation = _opened(dial, server)
        _failed(Withdrawn, conversation, content=LONG, before_commit=lambda: False)
        assert not conversation.is_open
    assert not any("LAST" in line for line in server.said_by_client)
