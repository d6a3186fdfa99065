"""Opening a conversation: names, sockets, encryption, greeting, and peers that do not play by the rules."""

import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mail.errors import MailError, SettingsWrong, Stage, TryLater
from mail.smtp import Conversation, Encryption
from security.outbound import Door
from tests.fakes.certs import CA
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer
from tests.mail.conftest import Watch
from tests.patience import PATIENT, SOON_S

Dial = Callable[..., Conversation]
CLEAR = Encryption.OPPORTUNISTIC
QUICK = replace(PATIENT, command_s=0.4)


def test_an_international_name_goes_out_in_ascii(dial: Dial, ca: CA) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(SettingsWrong, match="Name or service not known") as caught:
        dial(_Nowhere(587), host="post.bücher.example", door=Door(resolve=resolve)).open()
    assert asked == ["post.xn--bcher-kva.example"]
    assert (caught.value.code, caught.value.stage) == ("host_unknown", Stage.RESOLVE)


def test_a_name_without_ascii_form_is_a_matter_of_settings(dial: Dial) -> None:
    with pytest.raises(SettingsWrong) as caught:
        dial(_Nowhere(587), host="ex..ämple").open()
    assert (caught.value.code, caught.value.stage) == ("host_unknown", Stage.RESOLVE)
    assert "'idna' codec" in caught.value.detail


def test_a_resolver_that_is_down_is_temporary(dial: Dial) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(TryLater, match=r"\[Errno -3\] Temporary failure in name resolution"):
        dial(_Nowhere(587), door=Door(resolve=resolve)).open()


def test_a_silent_resolver_is_left_at_the_deadline(dial: Dial) -> None:
    ended = threading.Event()

    def resolve(*_: Any, **__: Any) -> list[Any]:
        ended.wait(2 * SOON_S)
        return []

    began = time.monotonic()
    with pytest.raises(TryLater, match="timed out") as caught:
        dial(_Nowhere(587), door=Door(resolve=resolve), timeouts=replace(PATIENT, connect_s=0.2)).open()
    assert time.monotonic() - began < SOON_S
    ended.set()
    assert caught.value.stage is Stage.RESOLVE


def test_the_guard_stands_before_the_socket(dial: Dial, ca: CA) -> None:
    with MTA() as mta, pytest.raises(SettingsWrong, match="not a public internet address") as caught:
        dial(mta, door=Door(ca_file=ca.cert_file)).open()
    assert (caught.value.code, caught.value.stage) == ("blocked", Stage.RESOLVE)
    assert mta.connections == 0


def test_a_closed_port_is_temporary_and_says_connection_refused(dial: Dial) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TryLater, match=r"ConnectionRefusedError: .*Connection refused") as caught:
        dial(_Nowhere(port)).open()
    assert (caught.value.code, caught.value.stage) == ("connection_refused", Stage.CONNECT)


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\nServer: intranet-secrets\r\n\r\n",
        b"SSH-2.0-intranet-secrets\r\n",
        b"* OK intranet-secrets IMAP4rev1\r\n",
        b"+OK intranet-secrets POP3\r\n",
        b"200 intranet-secrets NNTP ready\r\n",
        b"\x4a\x00\x00\x00\x0aintranet-secrets\n",
        b"22 intranet-secrets\r\n",
        b"2200 intranet-secrets\r\n",
    ],
)
def test_the_words_of_a_peer_that_is_not_smtp_are_not_shown(dial: Dial, words: bytes) -> None:
    with RawServer(lambda peer: peer.say_bytes(words)) as server, pytest.raises(SettingsWrong) as caught:
        dial(server).open()
    assert caught.value.code == "not_smtp"
    assert "(-1, b'" in caught.value.detail
    assert "intranet" not in caught.value.detail + str(caught.value)


def test_an_ftp_server_is_not_taken_for_smtp(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 intranet-secrets FTP")
        while peer.hear():
            peer.say("530 Please login with USER and PASS at intranet-secrets.")

    with RawServer(script) as server, pytest.raises(SettingsWrong) as caught:
        dial(server).open()
    assert caught.value.code == "not_smtp"
    assert "intranet" not in caught.value.detail


@pytest.mark.parametrize(
    ("greeting", "kind", "code"),
    [
        ("421 4.3.2 too busy", TryLater, "temporary"),
        ("450 come back", TryLater, "temporary"),
        ("554 no SMTP service here", SettingsWrong, "greeting_refused"),
        ("554 5.7.1 transaction failed", SettingsWrong, "greeting_refused"),
    ],
)
def test_a_refusing_greeting_never_fails_a_message(dial: Dial, greeting: str, kind: type[MailError], code: str) -> None:
    with RawServer(lambda peer: peer.say(greeting)) as server, pytest.raises(kind) as caught:
        dial(server).open()
    assert (caught.value.code, caught.value.stage, caught.value.detail) == (code, Stage.GREET, greeting)


def test_a_server_without_ehlo_is_greeted_with_helo(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 old.test")
        peer.hear()
        peer.say("500 what?")
        peer.hear()
        peer.say("250 old.test")
        peer.hear()

    with RawServer(script) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        assert conversation.is_open
    assert server.said_by_client[:2] == ["EHLO localhost", "HELO localhost"]


def test_a_refused_helo_names_the_server_words(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.hear()
        peer.say("550 Access denied - Invalid HELO name")
        peer.hear()

    with RawServer(script) as server, pytest.raises(SettingsWrong, match="Invalid HELO") as caught:
        dial(server).open()
    assert caught.value.stage is Stage.GREET


@pytest.mark.parametrize("name", ["x\r\nMAIL FROM:<a@b>", "two words", "", "ex..ämple"])
def test_a_malformed_name_of_our_own_becomes_localhost(dial: Dial, name: str) -> None:
    with MTA() as mta, RawServer(lambda peer: (peer.say("220 x"), peer.ehlo(), peer.hear())) as server:
        dial(server, CLEAR, ehlo_hostname=name).open()
        dial(mta, CLEAR, ehlo_hostname=name).open()
    assert server.said_by_client[0] == "EHLO localhost"


def _endless_line(peer: Peer) -> None:
    for _ in range(2000):
        peer.say_bytes(b"2" * 16384)


def _endless_reply(peer: Peer) -> None:
    for _ in range(100_000):
        peer.say_bytes(b"220-and another thing\r\n" * 50)


@pytest.mark.parametrize("script", [_endless_line, _endless_reply])
def test_an_endless_reply_is_not_listened_to(dial: Dial, script: Callable[[Peer], None]) -> None:
    began = time.monotonic()
    with RawServer(script) as server, pytest.raises(SettingsWrong) as caught:
        dial(server).open()
    assert caught.value.code == "not_smtp"
    assert time.monotonic() - began < SOON_S


def test_a_dripping_reply_is_left_at_the_deadline_of_the_command(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.hear()
        for byte in b"250-" + b"x" * 500:
            peer.say_bytes(bytes([byte]))
            time.sleep(0.1)

    began = time.monotonic()
    with RawServer(script) as server, pytest.raises(TryLater, match="timed out") as caught:
        dial(server, timeouts=QUICK).open()
    assert time.monotonic() - began < SOON_S
    assert caught.value.stage is Stage.GREET


def test_many_slow_commands_are_left_at_the_end_of_the_attempt(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        for answer in ("500 no", "250 yes", "250 reset"):
            peer.hear()
            time.sleep(0.3)
            peer.say(answer)

    timeouts = replace(PATIENT, attempt_s=0.5)
    with RawServer(script) as server, pytest.raises(TryLater, match="timed out"):
        dial(server, CLEAR, timeouts=timeouts).open()


@pytest.mark.parametrize("said", ["", "220 mail.test"])
def test_a_cut_is_temporary(dial: Dial, said: str) -> None:
    def script(peer: Peer) -> None:
        if said:
            peer.say(said)
            peer.hear()

    with RawServer(script) as server, pytest.raises(TryLater, match="Connection unexpectedly closed") as caught:
        dial(server).open()
    assert caught.value.code == "connection_cut"


def test_control_characters_of_a_server_are_made_visible(dial: Dial) -> None:
    watch = Watch()
    with RawServer(lambda peer: (peer.say("220 a\x1b[31mb\x9bc\u202ed"), peer.ehlo(), peer.hear())) as server:
        dial(server, CLEAR, observe=watch).open()
    banner = watch.facts(Stage.GREET)["banner"]
    assert banner.isprintable()
    assert "\\x1b" in banner


def test_a_broken_line_in_the_middle_of_a_reply_ends_the_conversation(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.hear()
        peer.say("250-mail.test", "550 and now something else")

    with RawServer(script) as server, pytest.raises(SettingsWrong) as caught:
        dial(server).open()
    assert caught.value.code == "not_smtp"


def test_close_is_quick_and_quiet_whatever_the_server_does(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo()
        peer.hear()

    with RawServer(script) as server:
        conversation = dial(server, CLEAR)
        conversation.open()
        conversation.close()
        conversation.close()
    assert server.said_by_client[-1] == "QUIT"
    assert not conversation.is_open


def test_reset_clears_and_tells_whether_a_kept_connection_lives(dial: Dial) -> None:
    with MTA() as mta:
        conversation = dial(mta, CLEAR)
        conversation.open()
        conversation.reset()
    with pytest.raises(TryLater):
        conversation.reset()
    with pytest.raises(TryLater, match="please run connect"):
        conversation.reset()


class _Nowhere:
    host = "localhost"

    def __init__(self, port: int) -> None:
        self.port = port
