"""The relay's own start and end."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from relay import CannotStart, Relay
from tests.fakes.certs import CA, ServerCert, make_server_cert
from tests.relay.peer import MESSAGE, Peer, stored
from tests.relay.test_hostile import wait_for
from tests.relay.test_writing import lock


def test_who_waits_is_told_and_who_has_a_message_in_hand_may_finish(relay: Relay, key: str) -> None:
    with Peer(relay.port) as waiting, Peer(relay.port) as busy, Peer(relay.port) as fresh:
        waiting.sign_in(key)
        busy.sign_in(key).envelope().say("DATA")
        busy.send(MESSAGE)
        fresh.greet()
        relay.stop()
        assert waiting.reply().text == "421 4.3.2 The relay is stopping; try again later"
        assert fresh.reply().code == 421
        with pytest.raises(ConnectionRefusedError):
            Peer(relay.port)
        busy.send(b".\r\nMAIL FROM:<a@shop.example>\r\n")
        assert busy.reply().code == 250
        assert busy.reply().code == 421
        assert busy.reply().code == 0
    assert len(stored()) == 1


def test_a_message_being_written_is_still_answered(app: Flask, relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope().say("DATA")
        with lock(app):
            peer.send(MESSAGE + b".\r\n")
            threading.Event().wait(0.2)
            relay.stop()
            threading.Event().wait(0.2)
        assert peer.reply().code == 250
    assert len(stored()) == 1


def test_who_does_not_finish_is_cut_in_the_end(start: Callable[..., Relay], key: str) -> None:
    relay = start(stop_within_s=0.5)
    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope().say("DATA")
        peer.send(MESSAGE)
        relay.stop()
        assert peer.reply().code == 421
        assert peer.reply().code == 0
    assert stored() == []


def test_off_loopback_it_does_not_start_without_a_certificate(app: Flask) -> None:
    app.config.update(RELAY_HOST="0.0.0.0", RELAY_PORT=0)
    with pytest.raises(CannotStart, match=r"needs a certificate: set STOREPOST_RELAY_CERT_FILE"):
        Relay(app)


def test_the_command_ends_with_one_sentence(app: Flask) -> None:
    app.config.update(RELAY_HOST="0.0.0.0", RELAY_PORT=0)
    done = app.test_cli_runner().invoke(args=["relay"])
    assert done.exit_code == 1
    assert done.output.startswith("Error: The relay listens on 0.0.0.0, beyond this machine")
    assert done.output.count("\n") == 1


def test_a_taken_port_is_named(app: Flask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app.config.update(RELAY_HOST="127.0.0.1", RELAY_PORT=taken.getsockname()[1])
        with pytest.raises(CannotStart, match=f"127.0.0.1 port {taken.getsockname()[1]}"):
            Relay(app)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_named(app: Flask, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "relay.pem"
    if content:
        file.write_text(content)
    app.config.update(RELAY_PORT=0, RELAY_CERT_FILE=str(file), RELAY_KEY_FILE=str(file))
    with pytest.raises(CannotStart, match="certificate cannot be used"):
        Relay(app)


def test_a_renewed_certificate_is_used_without_a_restart(
    start: Callable[..., Relay], ca: CA, cert: ServerCert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.server.LOOK_EVERY_S", 0.05)
    mine = ServerCert(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    shutil.copy(cert.cert_file, mine.cert_file)
    shutil.copy(cert.key_file, mine.key_file)
    relay = start(cert=mine)

    def shown() -> bytes:
        with Peer(relay.port) as peer:
            peer.greet().start_tls(ca.cert_file)
            return peer.socket.getpeercert(binary_form=True)  # type: ignore[attr-defined, no-any-return]

    before = shown()
    renewed = make_server_cert(ca)
    shutil.copy(renewed.key_file, mine.key_file)
    threading.Event().wait(0.2)
    assert shown() == before  # half of a pair is no certificate
    shutil.copy(renewed.cert_file, mine.cert_file)
    wait_for(lambda: shown() != before)
