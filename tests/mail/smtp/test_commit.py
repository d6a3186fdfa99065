"""The moment that commits: the last question, cuts before and after it, and what the final reply tells."""

import socket
import threading
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mail.errors import Refused, Stage, TryLater, Uncertain, Withdrawn
from mail.smtp import SMTPReply
from mail.smtp.envelope import dot_stuffed
from mail.smtp.replies import queue_id
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer
from tests.mail.conftest import MESSAGE
from tests.mail.smtp.talk import ANNA, Dial, answering, opened
from tests.patience import PATIENT, SOON_S


def test_it_asks_before_the_bytes_that_commit(dial: Dial, mta: MTA) -> None:
    asked: list[int] = []
    body = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000

    def ask() -> bool:
        asked.append(len(mta.received))
        return True

    opened(dial, mta).send("s@example.com", [ANNA], body, before_commit=ask)
    assert asked == [0]
    assert mta.received[0].content == body


def test_a_no_before_the_commit_withdraws_the_message(dial: Dial, mta: MTA) -> None:
    conversation = opened(dial, mta)
    with pytest.raises(Withdrawn) as caught:
        conversation.send("s@example.com", [ANNA], MESSAGE, before_commit=lambda: False)
    assert caught.value.stage is Stage.MESSAGE
    assert not conversation.is_open
    assert mta.received == []


def test_an_error_in_the_question_withdraws_the_message_too(dial: Dial, mta: MTA) -> None:
    def fail() -> bool:
        raise RuntimeError("the database is gone")

    conversation = opened(dial, mta)
    with pytest.raises(RuntimeError):
        conversation.send("s@example.com", [ANNA], MESSAGE, before_commit=fail)
    assert not conversation.is_open
    assert mta.received == []


def test_no_byte_of_the_end_leaves_before_the_question_is_answered(dial: Dial) -> None:
    with answering("250 ok", "250 ok", "354 go", "250 never") as server:
        conversation = opened(dial, server)
        with pytest.raises(Withdrawn):
            conversation.send("s@example.com", [ANNA], MESSAGE, before_commit=lambda: False)
    assert server.dialogue[-1] == "S: 354 go"


def test_a_cut_before_the_data_is_temporary(dial: Dial) -> None:
    with answering("250 ok", "250 ok", None) as server, pytest.raises(TryLater, match="Connection unexpectedly closed"):
        opened(dial, server).send("s@example.com", [ANNA], MESSAGE)


@pytest.mark.parametrize("cut", ["data", "dot"])
def test_a_cut_after_the_final_dot_is_uncertain(dial: Dial, mta: MTA, cut: str) -> None:
    mta.faults.cut = cut
    conversation = opened(dial, mta)
    with pytest.raises(Uncertain) as caught:
        conversation.send("s@example.com", [ANNA], MESSAGE)
    assert (caught.value.code, caught.value.stage) == ("cut_after_dot", Stage.MESSAGE)
    assert not conversation.is_open
    assert len(mta.received) == (1 if cut == "dot" else 0)


def test_silence_after_the_final_dot_is_uncertain(dial: Dial, mta: MTA) -> None:
    mta.faults.answer_delay_s = 1.5
    timeouts = replace(PATIENT, final_s=0.2)
    with pytest.raises(Uncertain, match="timed out"):
        opened(dial, mta, timeouts=timeouts).send("s@example.com", [ANNA], MESSAGE)


@pytest.mark.parametrize("answer", ["garbage", "354 more?", "250-never\r\nended"])
def test_an_answer_to_the_dot_that_cannot_be_read_is_uncertain(dial: Dial, answer: str) -> None:
    with answering("250 ok", "250 ok", "354 go", answer) as server, pytest.raises(Uncertain):
        opened(dial, server).send("s@example.com", [ANNA], MESSAGE)


def test_a_server_that_hangs_up_amid_a_long_message_is_heard_out(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo()
        for answer in ("250 ok", "250 ok", "354 go"):
            peer.hear()
            peer.say(answer)
        peer.sock.recv(1000)
        peer.say("552 5.3.4 message too big")
        peer.sock.shutdown(socket.SHUT_WR)

    body = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 600_000
    with RawServer(script) as server, pytest.raises((Refused, TryLater)) as caught:
        opened(dial, server).send("s@example.com", [ANNA], body)
    # Whether the words survive the reset is the kernel's choice; that nothing was committed is certain.
    assert caught.value.code in {"message_refused", "connection_cut"}


def test_a_peer_that_stops_reading_is_left_at_the_deadline(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo()
        for answer in ("250 ok", "250 ok", "354 go"):
            peer.hear()
            peer.say(answer)
        stop.wait(2 * SOON_S)

    stop = threading.Event()
    body = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 1_000_000
    timeouts = replace(PATIENT, data_s=0.3)
    with RawServer(script) as server:
        conversation = opened(dial, server, timeouts=timeouts)
        with pytest.raises(TryLater, match="timed out"):
            conversation.send("s@example.com", [ANNA], body)
        stop.set()


def test_lines_that_begin_with_dots_arrive_unchanged(dial: Dial, mta: MTA) -> None:
    content = b"Subject: x\r\n\r\n.\r\n..\r\n.hidden\r\nend\r\n.\r\n"
    opened(dial, mta).send("s@example.com", [ANNA], content)
    assert mta.received[0].content == content


@given(st.lists(st.text(alphabet=".a\x00 \u00fc", max_size=6).map(str.encode), max_size=12))
@example([b"."])
@example([b"", b".", b""])
@settings(max_examples=200, deadline=None)
def test_dot_stuffing_can_be_undone_and_never_ends_the_message_early(lines: list[bytes]) -> None:
    content = b"".join(line + b"\r\n" for line in lines)
    stuffed = dot_stuffed(content)
    sent = stuffed.split(b"\r\n")
    assert b"." not in sent
    assert b"\r\n".join(line[1:] if line.startswith(b".") else line for line in sent) == content
    assert all(not line.startswith(b".") or line.startswith(b"..") for line in sent)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0 Ok: queued as 4F2B1C0D3E", "4F2B1C0D3E"),
        (
            "2.0.0 OK <DB7PR01MB1234@DB7PR01.prod.example> [Hostname=DB7PR01.prod.example]",
            "DB7PR01MB1234@DB7PR01.prod.example",
        ),
        (
            "2.6.0 <id@shop.example> [InternalId=77309411328, Hostname=AM0PR.example] 1234 bytes in 0.1, 12 KB/sec "
            "Queued mail for delivery",
            "77309411328",
        ),
        ("2.0.0 OK  1700000000 d2e1a72fcca58-6e7f8a9b0c1sm123.4 - gsmtp", "d2e1a72fcca58-6e7f8a9b0c1sm123.4"),
        ("OK id=1tABCd-000000012Ab-3xYz", "1tABCd-000000012Ab-3xYz"),
        ("2.0.0 4AM1b2c3 Message accepted for delivery", "4AM1b2c3"),
        (
            "Ok 0100018f00000000-11111111-2222-3333-4444-555555555555-000000",
            "0100018f00000000-11111111-2222-3333-4444-555555555555-000000",
        ),
        ("Thank you", ""),
    ],
    ids=["postfix", "exchange online", "exchange", "gmail", "exim", "sendmail", "ses", "none"],
)
def test_the_queue_id_is_found(text: str, expected: str) -> None:
    assert queue_id(SMTPReply(250, (text,))) == expected


@pytest.mark.parametrize(
    ("lines", "enhanced"),
    [
        (("5.7.139 Authentication unsuccessful",), "5.7.139"),
        (("2.1.5",), "2.1.5"),
        (("Ok",), ""),
        (("3.1.2 not a class",), ""),
        (("5.7.x",), ""),
        (("1.2.3.4 is listed",), ""),
        ((), ""),
    ],
)
def test_the_enhanced_code_is_read_from_the_first_line(lines: tuple[str, ...], enhanced: str) -> None:
    assert SMTPReply(550, lines).enhanced == enhanced
