"""Reading a message off the wire, and the memory that all messages share."""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.data import Incoming, Memory, begin_message, make_plain
from relay.grammar import Refusal

# Pieces of which the wire's surprises are made.
_PIECES = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\x00", b"..", b"b" * 70]), max_size=40)


def read(wire: bytes, *, limit_bytes: int = 10**6, stream_limit: int = 64, step: int = 0) -> tuple[bytes, bytes]:
    """The message at the start of the wire as it was read, and what was left for the commands behind it."""

    async def reading() -> tuple[bytes, bytes]:
        reader = asyncio.StreamReader(limit=stream_limit)
        begin_message(reader)
        incoming = Incoming(Memory(10**6, wait_s=0.01), limit_bytes=limit_bytes)
        task = asyncio.create_task(incoming.read(reader))
        for start in range(0, len(wire), step or len(wire)):
            reader.feed_data(wire[start : start + (step or len(wire))])
            await asyncio.sleep(0)
        reader.feed_eof()
        await task
        return bytes(incoming.content), await reader.read()

    return asyncio.run(reading())


def protected(message: bytes) -> bytes:
    """The message as a client sends it (RFC 5321 4.5.2)."""
    doubled = (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:]
    return doubled + b".\r\n"


MESSAGES = [
    b"", b"\r\n", b".\r\n", b"..\r\n", b"a\r\n", b"\r\n.\r\n", b".\r\n.\r\n",
    b"a: b\r\n\r\n" + b"x" * 300 + b"\r\n.y\r\n",
]  # fmt: skip


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_message_comes_out_as_it_went_in(step: int) -> None:
    for message in MESSAGES:
        content, rest = read(protected(message) + b"QUIT\r\n", step=step)
        assert make_plain(content) == message
        assert rest == b"QUIT\r\n"


@given(_PIECES, st.integers(1, 9))
def test_only_a_dot_between_two_crlf_ends_a_message(pieces: list[bytes], step: int) -> None:
    wire = b"".join(pieces) + b"\r\n.\r\nQUIT\r\n"
    content, rest = read(wire, step=step)
    # The first such end, and nothing before it that looks like one.
    end = (b"\r\n" + wire).index(b"\r\n.\r\n")
    assert content == (b"\r\n" + wire)[:end]
    assert rest == (b"\r\n" + wire)[end + 5 :]


@given(st.lists(st.sampled_from([b"\r\n", b"\n", b".", b"..", b"a"]), max_size=40))
def test_protecting_dots_are_taken_out_behind_any_line_end(pieces: list[bytes]) -> None:
    message = b"".join(pieces)
    protected_as_smtplib_does = re.sub(rb"(?m)^\.", b"..", message)
    assert make_plain(b"\r\n" + protected_as_smtplib_does) == message + b"\r\n"


def test_a_line_of_one_dot_behind_a_bare_lf_stays_what_it_is() -> None:
    assert make_plain(b"\r\na\n.\nb\n.") == b"a\n.\nb\n.\r\n"


def test_what_is_too_large_is_read_to_its_end_and_not_kept() -> None:
    with pytest.raises(Refusal, match=r"552 5[.]3[.]4"):
        read(protected(b"x\r\n" * 1000), limit_bytes=100)


def test_a_wire_that_breaks_off_has_no_message() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        read(b"Subject: x\r\n\r\nHi\r\n.")


def test_memory_goes_to_whoever_asked_first() -> None:
    async def story() -> list[str]:
        memory, order = Memory(100, wait_s=1.0), []

        async def take(name: str, count: int) -> None:
            await memory.take(count)
            order.append(name)

        await memory.take(80)
        large = asyncio.create_task(take("large", 50))
        await asyncio.sleep(0)
        small = asyncio.create_task(take("small", 10))  # fits, and still does not overtake
        await asyncio.sleep(0)
        assert order == []
        memory.give_back(80)
        await asyncio.gather(large, small)
        assert memory.free_bytes == 40
        return order

    assert asyncio.run(story()) == ["large", "small"]


def test_who_stops_waiting_for_memory_leaves_nothing_behind() -> None:
    async def story() -> None:
        memory = Memory(100, wait_s=0.01)
        await memory.take(80)
        with pytest.raises(TimeoutError):
            await memory.take(50)
        cancelled = asyncio.create_task(memory.take(50))
        behind = asyncio.create_task(memory.take(20))
        await asyncio.sleep(0)
        cancelled.cancel()
        await behind
        assert memory.free_bytes == 0
        memory.give_back(100)
        assert memory.free_bytes == 100

    asyncio.run(story())
