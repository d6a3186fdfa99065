"""From an application's SMTP to the store's own server: what arrives is what was handed in, as the store's mail."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

import worker
from mail.equipment import Equipment
from models import Store
from models.email_settings import Method
from relay import Relay
from security.outbound import AllowRule, Door
from security.vault import Place
from tests.fakes.certs import CA, ServerCert
from tests.fakes.mta import MTA, Received
from tests.relay.peer import Peer, stored
from tests.relay.test_hostile import FALSE_ENDINGS, SECOND


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'storepost.sqlite3'}"


@pytest.fixture
def sink(app: Flask, cert: ServerCert, ca: CA, store: Store, db: Any) -> Iterator[MTA]:
    """The store's own mail server, which its settings name."""

    def only_v4(host: str, port: int, **more: Any) -> Any:
        return socket.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)

    equipment: Equipment = app.extensions["storepost"]
    door = Door(AllowRule.parse_list("127.0.0.1:* localhost:*"), ca_file=ca.cert_file, resolve=only_v4)
    app.extensions["storepost"] = equipment = replace(equipment, door=door)
    with MTA(cert.server_context()) as server:
        settings = store.email_settings
        settings.method = Method.SMTP
        settings.from_name, settings.from_email = "Acme Store", "orders@acme.example"
        settings.smtp_host, settings.smtp_port, settings.username = server.host, server.port, "orders@acme.example"
        place = Place("email_settings", settings.uid, "password_sealed")
        settings.password_sealed = equipment.vault.seal("not-a-real-password", place)
        db.session.commit()
        yield server


@pytest.fixture
def hand_in(sink: MTA, key: str, start: Any) -> Iterator[Peer]:
    """A signed-in connection to a relay of that store."""
    relay: Relay = start()
    with Peer(relay.port) as peer:
        yield peer.sign_in(key)


def deliver(app: Flask, sink: MTA) -> list[Received]:
    """Let a worker do all that is due, and return what the store's server took."""
    worker.run(app, once=True)
    return sink.received


def test_it_arrives_as_the_stores_mail_with_its_content_untouched(app: Flask, sink: MTA, hand_in: Peer) -> None:
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"] = "Web shop <robot@shop.example>"
    mail["To"] = "Lena Groß <lena@shop.example>, Nobody <nobody@else.example>"
    mail["Cc"] = "carl@shop.example"
    mail["Bcc"] = "quiet@shop.example"
    mail["Subject"] = "Ihre Bestellung № 7 — vielen Dank"
    mail["Message-ID"] = "<order-7@shop.example>"
    mail["X-Order"] = "7"
    mail.set_content("Grüße\n.\nvon uns\n", cte="quoted-printable")
    mail.add_alternative("<p>Grüße</p>", subtype="html", cte="quoted-printable")
    mail.add_attachment(bytes(range(256)) * 20, maintype="application", subtype="pdf", filename="Rechnung №7.pdf")
    raw = mail.as_bytes()
    hand_in.envelope("lena@shop.example", "carl@shop.example", "quiet@shop.example", sender="robot@shop.example")
    assert hand_in.data((b"\r\n" + raw).replace(b"\r\n.", b"\r\n..")[2:]).code == 250

    [received] = deliver(app, sink)
    assert received.sender == "orders@acme.example"
    assert set(received.recipients) == {"lena@shop.example", "carl@shop.example", "quiet@shop.example"}
    arrived = message_from_bytes(received.content, policy=policy.default)
    assert arrived["From"] == "Acme Store <orders@acme.example>"
    assert arrived["Reply-To"] == "Web shop <robot@shop.example>"
    assert arrived["To"] == "Lena Groß <lena@shop.example>, Nobody <nobody@else.example>"
    assert arrived["Cc"] == "carl@shop.example"
    assert arrived["Bcc"] is None
    assert b"quiet@shop.example" not in received.content
    assert (arrived["Subject"], arrived["Message-ID"], arrived["X-Order"]) == (mail["Subject"], mail["Message-ID"], "7")
    # Nothing in it needs encoding, so the body is the application's own, byte for byte.
    boundary = mail.get_boundary().encode()
    assert received.content.partition(b"--" + boundary)[2] == raw.partition(b"--" + boundary)[2]
    [attachment] = arrived.iter_attachments()
    assert attachment.get_filename() == "Rechnung №7.pdf"
    assert attachment.get_content() == bytes(range(256)) * 20


def test_eight_bit_text_arrives_as_the_same_text(app: Flask, sink: MTA, hand_in: Peer) -> None:
    head = "Subject: Grüße\r\nTo: lena@shop.example\r\nContent-Type: text/plain; charset=utf-8\r\n"
    hand_in.say("MAIL FROM:<a@shop.example> BODY=8BITMIME SMTPUTF8")
    hand_in.say("RCPT TO:<lena@shop.example>")
    content = f"{head}Content-Transfer-Encoding: 8bit\r\n\r\nGrüße von №1\r\n"
    assert hand_in.data(content.encode()).code == 250
    [received] = deliver(app, sink)
    arrived = message_from_bytes(received.content, policy=policy.default)
    assert (arrived["Subject"], arrived.get_content().strip()) == ("Grüße", "Grüße von №1")


def test_nothing_smuggled_travels_on(app: Flask, sink: MTA, hand_in: Peer) -> None:
    head = b"From: a@shop.example\r\nTo: lena@shop.example\r\nSubject: First\r\n\r\n"
    for ending in FALSE_ENDINGS:
        hand_in.envelope().data(head + b"Hi" + ending + SECOND + b"\r\n")
        assert hand_in.say("NOOP").code == 250
    received = deliver(app, sink)
    assert len(received) == len(stored())
    for one in received:
        assert one.recipients == ("lena@shop.example",)
        assert one.content.count(b"\r\n") == one.content.count(b"\r") == one.content.count(b"\n")
        assert b"\x00" not in one.content
        assert one.content.count(b"\r\nSubject: First\r\n") == 1


def test_lines_with_bare_lf_arrive_as_lines(app: Flask, sink: MTA, hand_in: Peer) -> None:
    assert hand_in.envelope().data(b"Subject: Old script\nTo: lena@shop.example\n\none\n..two\nthree\n\r\n").code == 250
    [received] = deliver(app, sink)
    assert received.content.endswith(b"\r\n\r\none\r\n.two\r\nthree\r\n\r\n")
    assert b"\r\nSubject: Old script\r\n" in received.content


def test_an_empty_message_arrives_empty(app: Flask, sink: MTA, hand_in: Peer) -> None:
    assert hand_in.envelope().data(b"").code == 250
    [received] = deliver(app, sink)
    assert received.content.endswith(b"\r\n\r\n")


def test_a_large_attachment_arrives_whole(app: Flask, sink: MTA, hand_in: Peer) -> None:
    mail = EmailMessage(policy=policy.SMTP)
    mail["To"], mail["Subject"] = "lena@shop.example", "Large"
    mail.set_content("See below.\n")
    content = bytes(range(256)) * (4096 * 3)
    mail.add_attachment(content, maintype="application", subtype="zip", filename="large.zip")
    assert hand_in.envelope().data(mail.as_bytes()).code == 250
    [received] = deliver(app, sink)
    [attachment] = message_from_bytes(received.content, policy=policy.default).iter_attachments()
    assert attachment.get_content() == content
