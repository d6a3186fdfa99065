"""The ordinary conversation: what the relay offers, takes and answers."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

from models import Store
from models.outbox import MessageStatus, Priority
from relay import Relay
from tests import factories
from tests.relay.peer import CODE, MESSAGE, Peer, make_key, stored, uid_of


def test_a_message_is_in_the_outbox_when_it_is_accepted(relay: Relay, store: Store, key: str) -> None:
    with Peer(relay.port) as peer:
        uid = uid_of(peer.sign_in(key).envelope("lena@shop.example").data())
    [message] = stored()
    assert (message.uid, message.store_id, message.source) == (uid, store.id, "relay")
    assert (message.subject, message.status) == ("Hello", MessageStatus.QUEUED)
    assert message.api_key_id is not None
    assert [(one.address, one.kind.value) for one in message.recipients] == [("lena@shop.example", "to")]


def test_it_offers_what_it_can_and_no_more(relay: Relay) -> None:
    with Peer(relay.port) as peer:
        peer.reply()
        offers = peer.say("EHLO app.example").text.splitlines()
    assert [line[4:] for line in offers[1:]] == [
        f"SIZE {36 * 1024 * 1024}", "8BITMIME", "SMTPUTF8", "PIPELINING", "ENHANCEDSTATUSCODES", "AUTH PLAIN LOGIN",
    ]  # fmt: skip


def test_the_envelope_decides_who_gets_it_and_the_header_only_what_is_shown(relay: Relay, key: str) -> None:
    raw = (
        b"From: a@shop.example\r\nTo: Lena <LENA@shop.example>, nobody@shop.example\r\n"
        b"Cc: carl@shop.example\r\nSubject: Who\r\n\r\nHi\r\n"
    )
    everyone = ("lena@shop.example", "carl@shop.example", "quiet@shop.example")
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope(*everyone).data(raw)
    [message] = stored()
    kinds = {one.address: one.kind.value for one in message.recipients}
    assert kinds == {"lena@shop.example": "to", "carl@shop.example": "cc", "quiet@shop.example": "bcc"}


HEADERS = [
    (b"", Priority.NORMAL),
    (b"Precedence: bulk\r\n", Priority.LOW),
    (b"Precedence: list\r\nX-Priority: 1\r\n", Priority.LOW),
    (b"X-Priority: 1 (Highest)\r\n", Priority.HIGH),
    (b"X-Priority: 3\r\n", Priority.NORMAL),
    (b"X-Priority: 5\r\n", Priority.LOW),
    (b"Importance: High\r\n", Priority.HIGH),
    (b"Importance: nonsense\r\n", Priority.NORMAL),
]


def test_the_header_says_how_urgent_it_is(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        for header, _ in HEADERS:
            assert peer.envelope().data(header + MESSAGE).code == 250
    assert [message.priority for message in stored()] == [priority for _, priority in HEADERS]


def test_several_messages_go_over_one_connection(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        uids = [uid_of(peer.envelope().data()) for _ in range(3)]
        assert peer.say("RSET").code == 250
        assert peer.say("NOOP").code == 250
        assert peer.say("QUIT").code == 221
        assert peer.reply().code == 0
    assert [message.uid for message in stored()] == uids


def test_pipelined_commands_are_answered_in_order(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        peer.send(b"MAIL FROM:<>\r\nRCPT TO:<bad>\r\nRCPT TO:<lena@shop.example>\r\nDATA\r\n")
        assert [peer.reply().code for _ in range(4)] == [250, 553, 250, 354]
        peer.send(MESSAGE + b".\r\nMAIL FROM:<a@shop.example>\r\nRSET\r\nQUIT\r\n")
        assert [peer.reply().code for _ in range(4)] == [250, 250, 250, 221]
    assert len(stored()) == 1


def test_a_client_that_has_said_everything_still_gets_its_answers(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope()
        peer.say("DATA")
        peer.send(MESSAGE + b".\r\nQUIT\r\n")
        peer.socket.shutdown(1)
        assert [peer.reply().code for _ in range(3)] == [250, 221, 0]
    assert len(stored()) == 1


def test_an_international_address_needs_smtputf8(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        peer.say("MAIL FROM:<app@shop.example>")
        assert peer.say("RCPT TO:<jörg@shop.example>").text.startswith("553 5.6.7 ")
        peer.say("RSET")
        assert peer.say("MAIL FROM:<app@shop.example> BODY=8BITMIME SMTPUTF8").code == 250
        assert peer.say("RCPT TO:<jörg@bücher.example>").code == 250
        assert peer.data("To: jörg@bücher.example\r\nSubject: Grüße\r\n\r\nHallo\r\n".encode()).code == 250
    [message] = stored()
    assert message.subject == "Grüße"
    assert [one.address for one in message.recipients] == ["jörg@bücher.example"]


def test_eight_bit_bodies_pass_unchanged(relay: Relay, key: str) -> None:
    client = smtplib.SMTP("127.0.0.1", relay.port)
    client.login(CODE, key)
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@shop.example", "lena@shop.example", "Äpfel"
    message.set_content("Äpfel\n.dot\n..two\n", cte="8bit")
    client.send_message(message)
    client.quit()
    assert [message.subject for message in stored()] == ["Äpfel"]


def test_the_same_recipient_named_twice_counts_once(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope("lena@shop.example", "Lena@shop.example").data()
    assert [len(message.recipients) for message in stored()] == [1]


def test_mail_of_a_store_whose_emails_are_off_is_held_and_not_lost(relay: Relay, db: Any) -> None:
    key = make_key(factories.make_store("Quiet", emails_off=True))
    with Peer(relay.port) as peer:
        uid_of(peer.sign_in(key, "quiet").envelope().data())
    assert [message.status for message in stored()] == [MessageStatus.HELD]


COMMANDS = [
    ("MAIL lena@shop.example", "501 5.5.4"),
    ("MAIL FROM:<a b@shop.example>", "553 5.1.7"),
    ("MAIL FROM:<a@shop.example> SIZE=99999999999", "552 5.3.4"),
    ("MAIL FROM:<a@shop.example> SIZE=x", "555 5.5.4"),
    ("MAIL FROM:<a@shop.example> BODY=BINARYMIME", "555 5.5.4"),
    ("MAIL FROM:<a@shop.example> RET=FULL", "555 5.5.4"),
    ("MAIL FROM:<a@shop.example> =x", "501 5.5.4"),
    ("MAIL FROM:<a@shop.example> AUTH=<>", "250 2.1.0"),
    ("mail from: <www-data@localhost>", "250 2.1.0"),
    ("MAIL FROM:<a@shop.example> SIZE=100 BODY=8BITMIME", "250 2.1.0"),
    ("RCPT TO:<lena@shop.example>", "503 5.5.1"),
    ("DATA", "503 5.5.1"),
    ("VRFY lena@shop.example", "252 2.5.0"),
    ("EXPN staff", "500 5.5.1"),
    ("BDAT 5 LAST", "500 5.5.1"),
    ("STARTTLS", "502 5.5.1"),
    ("EHLO", "501 5.5.4"),
    ("AUTH PLAIN AGEAYg==", "503 5.5.1"),
    ("HELP", "214 2.0.0"),
]


def test_each_command_gets_the_answer_that_fits(start: Callable[..., Relay], key: str) -> None:
    with Peer(start(mistakes=100).port) as peer:
        peer.sign_in(key)
        for line, answer in COMMANDS:
            assert peer.say(line).text.startswith(f"{answer} "), line
            peer.say("RSET")


RECIPIENTS = [
    ("<lena>", "553 5.1.3"),
    ("<lena@localhost>", "553 5.1.3"),
    ("<@route.example:lena@shop.example>", "553 5.1.3"),
    ('<"lena smith"@shop.example>', "553 5.1.3"),
    ("<lena@shop.example,carl@shop.example>", "553 5.1.3"),
    ("<lena@[127.0.0.1]>", "553 5.1.3"),
    ("<>", "553 5.1.3"),
    ("<lena@shop.example> NOTIFY=NEVER", "555 5.5.4"),
    ("<lena@shop.example", "501 5.5.4"),
    ("lena@shop.example", "250 2.1.5"),
]


def test_only_full_addresses_are_recipients(start: Callable[..., Relay], key: str) -> None:
    with Peer(start(mistakes=100).port) as peer:
        peer.sign_in(key).say("MAIL FROM:<a@shop.example>")
        for recipient, answer in RECIPIENTS:
            assert peer.say(f"RCPT TO:{recipient}").text.startswith(f"{answer} "), recipient


def test_helo_is_enough_to_be_greeted_and_not_to_sign_in(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.reply()
        assert peer.say("HELO app.example").code == 250
        assert peer.auth(key).code == 503


def test_a_second_message_in_hand_is_refused(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope()
        assert peer.say("MAIL FROM:<b@shop.example>").code == 503
        assert peer.data().code == 250


def test_it_runs_beside_another_relay(start: Callable[..., Relay], key: str) -> None:
    for relay in (start(), start()):
        with Peer(relay.port) as peer:
            peer.sign_in(key).envelope().data()
    assert len(stored()) == 2
