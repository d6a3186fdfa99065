"""Kept conversations: whoever asks under the same key gets one that lives, nobody gets another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from mail.smtp import Conversation, Encryption
from mail.smtp.pool import ConversationPool
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer
from tests.mail.conftest import MESSAGE

Dial = Callable[..., Conversation]


@pytest.fixture
def mta() -> Iterator[MTA]:
    with MTA() as server:
        yield server


@pytest.fixture
def opened(dial: Dial, mta: MTA) -> Callable[[], Conversation]:
    def opened() -> Conversation:
        conversation = dial(mta, Encryption.OPPORTUNISTIC)
        conversation.open()
        return conversation

    return opened


def test_it_gives_back_what_was_given_under_the_same_key_only(opened: Callable[[], Conversation]) -> None:
    pool, one = ConversationPool(), opened()
    pool.give_back("a", one)
    assert pool.take("b") is None
    assert pool.take("a") is one
    assert pool.take("a") is None


def test_the_one_used_last_comes_first(opened: Callable[[], Conversation]) -> None:
    pool, first, second = ConversationPool(), opened(), opened()
    pool.give_back("a", first)
    pool.give_back("a", second)
    assert pool.take("a") is second


def test_one_that_has_ended_is_not_kept(opened: Callable[[], Conversation]) -> None:
    pool, one = ConversationPool(), opened()
    one.close()
    pool.give_back("a", one)
    assert pool.take("a") is None


def test_one_the_server_ended_is_passed_over(dial: Dial, opened: Callable[[], Conversation]) -> None:
    ended = threading.Event()

    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo()
        peer.say("421 4.4.2 idle")
        peer.sock.close()
        ended.set()

    pool, living = ConversationPool(), opened()
    with RawServer(script) as server:
        dead = dial(server, Encryption.OPPORTUNISTIC)
        dead.open()
        assert ended.wait(5)
        pool.give_back("a", living)
        pool.give_back("a", dead)
        assert pool.take("a") is living
    assert not dead.is_open


def test_the_idle_ones_say_goodbye(opened: Callable[[], Conversation], mta: MTA) -> None:
    pool, one = ConversationPool(idle_s=0), opened()
    pool.give_back("a", one)
    assert pool.close_idle() == 0
    assert not one.is_open
    assert pool.take("a") is None


def test_one_idle_for_too_long_is_not_handed_out(opened: Callable[[], Conversation]) -> None:
    pool, one = ConversationPool(idle_s=0), opened()
    pool.give_back("a", one)
    assert pool.take("a") is None
    assert not one.is_open


def test_there_is_a_limit_and_the_oldest_goes(opened: Callable[[], Conversation]) -> None:
    pool = ConversationPool(most=2)
    conversations = [opened() for _ in range(3)]
    for number, conversation in enumerate(conversations):
        pool.give_back(number, conversation)
    assert [conversation.is_open for conversation in conversations] == [False, True, True]
    pool.close_all()
    assert not any(conversation.is_open for conversation in conversations)


def test_a_goodbye_never_waits_for_a_server(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo()
        while peer.hear():
            pass

    pool = ConversationPool(idle_s=0)
    with RawServer(script) as server:
        silent = dial(server, Encryption.OPPORTUNISTIC)
        silent.open()
        pool.give_back("a", silent)
        pool.close_idle()
        assert not silent.is_open
        server.wait()
    assert server.said_by_client[-1] == "QUIT"


def test_several_threads_share_it_without_sharing_a_conversation(opened: Callable[[], Conversation]) -> None:
    pool, in_use, doubled = ConversationPool(), set[int](), []
    for _ in range(3):
        pool.give_back("a", opened())
    lock = threading.Lock()

    def work() -> None:
        for _ in range(20):
            conversation = pool.take("a")
            if conversation is None:
                continue
            with lock:
                doubled.extend([1] if id(conversation) in in_use else [])
                in_use.add(id(conversation))
            conversation.send("s@example.com", ["r@example.com"], MESSAGE)
            with lock:
                in_use.discard(id(conversation))
            pool.give_back("a", conversation)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert doubled == []
