"""Clients that are broken, slow, greedy or mean: bounded, told off in words, and never a message that nobody sent."""

from __future__ import annotations

import base64
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest

from relay import Relay
from tests.fakes.certs import ServerCert
from tests.relay.peer import Peer, stored

HEADER = b"From: a@shop.example\r\nTo: lena@shop.example\r\nSubject: First\r\n\r\n"
SECOND = b"MAIL FROM:<evil@shop.example>\r\nRCPT TO:<victim@shop.example>\r\nDATA\r\nSubject: Second\r\n\r\nx"

# Endings that some servers take for the end of a message and others do not.
FALSE_ENDINGS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\r\r\n",
    b"\r\n\x00.\r\n", b"\r\n.\x00\r\n", b"\n\r\n.\n",
]  # fmt: skip


def test_no_message_is_smuggled_behind_another_one(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        for ending in FALSE_ENDINGS:
            # Whether it is taken or refused, it is one message with one answer.
            peer.envelope().data(HEADER + b"Hi" + ending + SECOND + b"\r\n")
            assert peer.say("NOOP").text == "250 2.0.0 OK", ending
    assert len(stored()) <= len(FALSE_ENDINGS)
    assert {message.subject for message in stored()} <= {"First"}
    assert {one.address for message in stored() for one in message.recipients} <= {"lena@shop.example"}


def test_dots_at_line_starts_are_neither_lost_nor_added(relay: Relay, key: str) -> None:
    body = b"..\r\n...\r\n..a\r\nb.\r\n"
    with Peer(relay.port) as peer:
        assert peer.sign_in(key).envelope().data(HEADER + body).code == 250
        # Without its protection a line of one dot ends the message, and the rest are commands.
        peer.envelope().say("DATA")
        peer.send(HEADER + b"a\r\n.\r\nNOOP\r\n")
        assert [peer.reply().code for _ in range(2)] == [250, 250]
    assert len(stored()) == 2


def test_a_nul_is_refused(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        answer = peer.sign_in(key).envelope().data(HEADER + b"ok\r\na\x00b\r\n")
    assert answer.text.startswith("554 5.6.0 ")
    assert "NUL" in answer.text
    assert stored() == []


def test_long_lines_will_do(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        assert peer.sign_in(key).envelope().data(HEADER + b"x" * 200_000 + b"\r\n").code == 250


# Sizes and counts -----------------------------------------------------------------------------------------------------


def test_too_large_a_message_is_refused_and_the_next_one_taken(start: Callable[..., Relay], key: str) -> None:
    relay = start(message_bytes=100_000)
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        assert peer.say("MAIL FROM:<a@shop.example> SIZE=100001").text.startswith("552 5.3.4 ")
        large = HEADER + (b"x" * 70 + b"\r\n") * 3000
        assert peer.envelope().data(large).text == "552 5.3.4 A message may have 100000 bytes"
        assert relay.memory.free_bytes == relay.limits.held_bytes
        assert peer.envelope().data().code == 250
    assert len(stored()) == 1


def test_25_mb_of_attachment_fit(relay: Relay, key: str) -> None:
    encoded = base64.encodebytes(bytes(25 * 1024 * 1024)).replace(b"\n", b"\r\n")
    head = b"Subject: Large\r\nContent-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    with Peer(relay.port, timeout_s=60) as peer:
        peer.sign_in(key).say(f"MAIL FROM:<a@shop.example> SIZE={len(head) + len(encoded)}")
        peer.say("RCPT TO:<lena@shop.example>")
        assert peer.data(head + encoded).code == 250
    assert [message.subject for message in stored()] == ["Large"]


def test_a_message_of_exactly_the_limit_will_do(start: Callable[..., Relay], key: str) -> None:
    relay = start(message_bytes=10_000)
    body = HEADER + (b"x" * 98 + b"\r\n") * ((10_000 - len(HEADER)) // 100)
    body += b"y" * (10_000 - len(body) - 2) + b"\r\n"
    assert len(body) == 10_000
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        assert peer.envelope().data(body).code == 250
        assert peer.envelope().data(b"Y" + body).code == 552


def test_too_many_recipients_are_put_off(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope(*(f"p{n}@shop.example" for n in range(100)))
        assert peer.say("RCPT TO:<one-too-many@shop.example>").text.startswith("452 4.5.3 ")
        assert peer.data().code == 250
    assert [len(message.recipients) for message in stored()] == [100]


def test_a_connection_ends_after_its_share_of_messages(start: Callable[..., Relay], key: str) -> None:
    relay = start(messages_per_connection=2)
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        assert [peer.envelope().data().code for _ in range(2)] == [250, 250]
        assert peer.say("MAIL FROM:<a@shop.example>").code == 421
        assert peer.reply().code == 0


def test_a_client_that_only_talks_is_sent_away(start: Callable[..., Relay], key: str) -> None:
    relay = start(commands_per_message=30)
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        for _ in range(28):
            assert peer.say("NOOP").code == 250
        assert peer.say("NOOP").code == 421
        assert peer.reply().code == 0


GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\nAccept: *\r\nA: b\r\nC: d\r\nE: f\r\nG: h\r\nI: j\r\nK: l\r\nM: n\r\n\r\n",
    b"\r\n" * 20,
    b"NOOP\n" * 20,
    b"\x00\x01\x02\xff\xfe\r\n" * 20,
    b"NOOP\x00\r\n" * 20,
    b"NO\rOP\r\n" * 20,
    b"\xc3\x28\r\n" * 20,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n" * 20,
]


def test_garbage_is_answered_a_few_times_and_cut_off(relay: Relay) -> None:
    for garbage in GARBAGE:
        with Peer(relay.port) as peer:
            peer.greet()
            peer.send(garbage)
            codes = []
            while (reply := peer.reply()).code:
                codes.append(reply.code)
        assert codes[-1] == 421, garbage
        assert set(codes[:-1]) == {500}, garbage
        assert len(codes) <= 11, garbage


def test_a_line_without_end_ends_the_connection(relay: Relay) -> None:
    with Peer(relay.port) as peer:
        peer.greet()
        try:
            for _ in range(400):
                peer.send(b"A" * 1000)
        except OSError:
            pass  # it was closed before we had said it all
        assert peer.reply().code in (500, 0)
        assert peer.reply().code == 0


def test_a_long_command_is_refused(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        assert peer.sign_in(key).say("NOOP " + "x" * 3000).text.startswith("500 5.5.2 ")
        assert peer.say("NOOP").code == 250


# Slowness -------------------------------------------------------------------------------------------------------------


def drip(peer: Peer, content: bytes, every_s: float = 0.05) -> None:
    """Send byte by byte until it ends or the relay has had enough."""
    try:
        for byte in content:
            peer.send(bytes([byte]))
            time.sleep(every_s)
    except OSError:
        pass


def test_whoever_does_not_sign_in_is_sent_away(start: Callable[..., Relay]) -> None:
    relay = start(sign_in_s=0.4)
    with Peer(relay.port) as peer:
        peer.greet()
        drip(peer, b"NOOP\r\n" * 4)
        replies = [peer.reply().code for _ in range(6)]
    assert 421 in replies
    assert replies[-1] == 0


def test_a_dripping_command_does_not_hold_a_connection(start: Callable[..., Relay], key: str) -> None:
    relay = start(idle_s=0.4)
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        drip(peer, b"N" * 20)
        assert peer.reply().text.startswith("421 4.4.2 ")


def test_a_dripping_message_does_not_hold_a_connection(start: Callable[..., Relay], key: str) -> None:
    relay = start(data_s=0.4)
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope().say("DATA")
        drip(peer, b"x" * 20)
        assert peer.reply().text.startswith("421 4.4.2 ")
    assert stored() == []
    assert relay.memory.free_bytes == relay.limits.held_bytes


def test_a_long_conversation_is_not_ended_while_it_goes_on(
    start: Callable[..., Relay], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The library would end every connection after its one timeout, which nothing here sets back.
    monkeypatch.setattr("aiosmtpd.smtp.SMTP._reset_timeout", _soon)
    with Peer(start().port) as peer:
        peer.sign_in(key)
        for _ in range(5):
            time.sleep(0.05)
            assert peer.envelope().data().code == 250


def _soon(self: Any, duration: float | None = None) -> None:
    self._timeout_handle = self.loop.call_later(0.05, self._timeout_cb)


def test_a_sign_in_that_stops_halfway_does_not_hold_a_connection(start: Callable[..., Relay]) -> None:
    relay = start(sign_in_s=0.4)
    with Peer(relay.port) as peer:
        peer.greet().say("AUTH LOGIN")
        assert peer.reply().code == 421


def test_a_handshake_that_never_comes_harms_nobody(start: Callable[..., Relay], cert: ServerCert, key: str) -> None:
    relay = start(cert=cert)
    with Peer(relay.port) as stuck, Peer(relay.port) as broken, Peer(relay.port) as peer:
        assert stuck.greet().say("STARTTLS").code == 220
        assert broken.greet().say("STARTTLS").code == 220
        broken.send(b"this is no handshake\r\n")
        assert broken.is_closed()
        assert peer.sign_in(key).envelope().data().code == 250
        wait_for(lambda: len(relay.connections) == 2)  # the broken one has left its place


# Connections ----------------------------------------------------------------------------------------------------------


def test_too_many_connections_are_turned_away_and_places_come_free(start: Callable[..., Relay]) -> None:
    relay = start(connections=3)
    peers = [Peer(relay.port).greet() for _ in range(3)]
    with Peer(relay.port) as late:
        assert late.reply().text.startswith("421 4.3.2 ")
        assert late.reply().code == 0
    peers.pop().close()
    wait_for(lambda: len(relay.connections) == 2)
    with Peer(relay.port) as next_one:
        next_one.greet()
    for peer in peers:
        peer.close()


def test_one_client_does_not_take_all_places(start: Callable[..., Relay]) -> None:
    relay = start(connections_per_client=2)
    with Peer(relay.port) as one, Peer(relay.port) as two, Peer(relay.port) as late:
        one.greet()
        two.greet()
        assert late.reply().text.startswith("421 4.7.0 ")
        source = socket.create_connection(("127.0.0.1", relay.port), 5, source_address=("127.0.0.2", 0))
        with source:
            assert source.recv(100).startswith(b"220 ")


def test_who_goes_away_within_a_message_has_sent_none(relay: Relay, key: str) -> None:
    for said in (HEADER, HEADER + b"Hi\r\n.", HEADER + b"Hi\r\n.\r", b""):
        for is_rude in (False, True):
            with Peer(relay.port) as peer:
                peer.sign_in(key).envelope().say("DATA")
                peer.send(said)
                if is_rude:  # a reset instead of an end
                    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: len(relay.connections) == 0)
    assert stored() == []
    assert relay.memory.free_bytes == relay.limits.held_bytes


def test_a_client_that_reads_no_answers_is_cut(start: Callable[..., Relay]) -> None:
    relay = start(idle_s=0.5, commands_per_message=10**9)
    # Accepted sockets inherit it: with the usual megabytes it would take long until nothing more can be said.
    relay._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with Peer(relay.port) as peer:
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.socket.settimeout(1.0)
        try:
            while True:
                peer.send(b"EHLO x\r\n" * 1000)
        except OSError:
            pass
        wait_for(lambda: len(relay.connections) == 0, 15)


# Memory ---------------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_into_memory_is_put_off_and_fits_later(start: Callable[..., Relay], key: str) -> None:
    relay = start(held_bytes=200_000, message_bytes=200_000, wait_s=0.3)
    large = HEADER + (b"x" * 98 + b"\r\n") * 1500
    with Peer(relay.port) as greedy, Peer(relay.port) as late:
        greedy.sign_in(key).envelope().say("DATA")
        greedy.send(large)
        wait_for(lambda: relay.memory.free_bytes < 150_000)
        assert late.sign_in(key).envelope().data(large).text.startswith("451 4.3.1 ")
        greedy.send(b".\r\n")
        assert greedy.reply().code == 250
        assert late.envelope().data(large).code == 250
    assert relay.memory.free_bytes == 200_000
    assert len(stored()) == 2


def wait_for(is_so: Callable[[], bool], within_s: float = 5.0) -> None:
    ends = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.01)
