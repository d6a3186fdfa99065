"""The bounded line reader, against bytes of every kind."""

import socket
import ssl
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mail.errors import MailError, SettingsWrong, Stage, TryLater
from mail.smtp import SMTPReply
from mail.smtp import faults as smtp_faults
from mail.smtp.lines import MAX_LINE_BYTES, MAX_LINES, MAX_REPLY_BYTES, PeerClosed, UnreadableReply, Wire


@pytest.fixture
def ends() -> Iterator[tuple[Wire, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield Wire(ours), theirs
    ours.close()
    theirs.close()


def read(data: bytes) -> SMTPReply:
    """Read one reply from a peer that sends these bytes and hangs up."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return Wire(ours).read_reply(time.monotonic() + 2)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"250 ok\r\n", SMTPReply(250, ("ok",))),
        (b"250\r\n", SMTPReply(250, ("",))),
        (b"334 \r\n", SMTPReply(334, ("",))),
        (b"250 only a line feed\n", SMTPReply(250, ("only a line feed",))),
        (b"250-a\r\n250-b\r\n250 c\r\n", SMTPReply(250, ("a", "b", "c"))),
        (b"550 gr\xc3\xbcn\r\n", SMTPReply(550, ("grün",))),
        (b"550 \xff\xfe\r\n", SMTPReply(550, ("\\xff\\xfe",))),
        (b"550 a\x00b\tc\x1b[0m\r\n", SMTPReply(550, ("a\\x00b c\\x1b[0m",))),
    ],
)
def test_a_reply_is_read(data: bytes, expected: SMTPReply) -> None:
    assert read(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"25 ok\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250_ok\r\n",
        b"\r\n",
        b"250-a\r\n251 b\r\n",
    ],
)
def test_what_is_no_reply_is_not_read_as_one(data: bytes) -> None:
    with pytest.raises(UnreadableReply):
        read(data)


@pytest.mark.parametrize("data", [b"", b"250", b"250-a\r\n", b"250 no line end"])
def test_a_reply_that_breaks_off_is_a_cut(data: bytes) -> None:
    with pytest.raises(PeerClosed):
        read(data)


def test_the_limits_hold_to_the_byte() -> None:
    assert len(read(b"334 " + b"x" * (MAX_LINE_BYTES - 5) + b"\r\n").text) == MAX_LINE_BYTES - 5
    with pytest.raises(UnreadableReply, match="without end"):
        read(b"334 " + b"x" * MAX_LINE_BYTES + b"\r\n")
    assert len(read(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n").lines) == MAX_LINES
    with pytest.raises(UnreadableReply, match="too many"):
        read(b"250-x\r\n" * MAX_LINES + b"250 x\r\n")
    long = b"250-" + b"x" * 10_000 + b"\r\n"
    with pytest.raises(UnreadableReply, match="too many"):
        read(long * (MAX_REPLY_BYTES // len(long) + 2) + b"250 x\r\n")


@given(
    st.binary(max_size=400) | st.lists(st.sampled_from([b"250", b"-", b" ", b"x", b"\r", b"\n", b"\x00"])).map(b"".join)
)
@example(b"250-\r\n250 \r\n")
@settings(max_examples=200, deadline=None)
def test_any_bytes_end_in_a_reply_or_in_a_fault_we_know(data: bytes) -> None:
    try:
        reply = read(data)
    except (UnreadableReply, PeerClosed):
        return
    assert 200 <= reply.code < 600
    assert reply.text.isprintable()


def test_two_replies_in_one_packet_are_two(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall(b"250 one\r\n250 two\r\n")
    deadline = time.monotonic() + 2
    assert [wire.read_reply(deadline).text for _ in range(2)] == ["one", "two"]
    assert not wire.has_waiting()


@pytest.mark.parametrize("rest", [b"x", b"250 more\r\n"])
def test_waiting_bytes_are_noticed_in_the_buffer_and_in_the_socket(
    ends: tuple[Wire, socket.socket], rest: bytes
) -> None:
    wire, peer = ends
    assert not wire.has_waiting()
    peer.sendall(b"220 go\r\n" + rest)
    wire.read_reply(time.monotonic() + 2)
    assert wire.has_waiting()
    other, late = socket.socketpair()
    with other, late:
        late.sendall(rest)
        assert Wire(other).has_waiting()


def test_a_deadline_in_the_past_reads_and_writes_nothing(ends: tuple[Wire, socket.socket]) -> None:
    wire, peer = ends
    peer.sendall(b"250 too late\r\n")
    with pytest.raises(TimeoutError):
        wire.read_reply(time.monotonic() - 1)
    with pytest.raises(TimeoutError):
        wire.write(b"NOOP\r\n", time.monotonic() - 1)
    peer.settimeout(0)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


@pytest.mark.parametrize(
    ("fault", "stage", "kind", "code"),
    [
        (ConnectionResetError(104, "Connection reset by peer"), Stage.AUTH, TryLater, "connection_cut"),
        (BrokenPipeError(32, "Broken pipe"), Stage.MESSAGE, TryLater, "connection_cut"),
        (OSError(113, "No route to host"), Stage.CONNECT, TryLater, "connection_failed"),
        (TimeoutError("timed out"), Stage.CONNECT, TryLater, "timed_out"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), Stage.TLS, TryLater, "connection_cut"),
        (ssl.SSLError(1, "[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol"), Stage.TLS, SettingsWrong, "tls_failed"),
        (ssl.SSLError(1, "[SSL: BAD_RECORD_MAC] bad record mac"), Stage.MESSAGE, TryLater, "connection_failed"),
        (socket.gaierror(-2, "Name or service not known"), Stage.RESOLVE, SettingsWrong, "host_unknown"),
        (socket.gaierror(-3, "Temporary failure in name resolution"), Stage.RESOLVE, TryLater, "resolver_silent"),
        (UnreadableReply("a line without end"), Stage.SENDER, TryLater, "reply_unreadable"),
    ],
)
def test_a_fault_keeps_its_class_and_words(fault: Exception, stage: Stage, kind: type[MailError], code: str) -> None:
    error = smtp_faults.from_fault(fault, stage=stage)
    assert type(error) is kind
    assert (error.code, error.stage) == (code, stage)
    assert str(fault) in error.detail
    if isinstance(fault, OSError):
        assert type(fault).__name__ in error.detail
