"""Encryption on the way to a server: certificates, STARTTLS, and what stands in between."""

import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from mail.errors import MailError, SettingsWrong, Stage, TryLater
from mail.smtp import Conversation, Encryption
from security.outbound import AllowRule, Door
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer
from tests.mail.conftest import Watch
from tests.patience import PATIENT

Dial = Callable[..., Conversation]
CLEAR = Encryption.OPPORTUNISTIC
QUICK = replace(PATIENT, command_s=0.4)


def test_it_tells_the_facts_of_every_step_with_starttls(dial: Dial, cert: ServerCert) -> None:
    watch = Watch()
    with MTA(cert.server_context()) as mta:
        dial(mta, observe=watch).open()
    assert watch.facts(Stage.RESOLVE) == {"addresses": ["127.0.0.1"]}
    assert watch.facts(Stage.CONNECT) == {"address": "127.0.0.1", "port": mta.port}
    tls = watch.facts(Stage.TLS)
    assert tls["version"] in {"TLSv1.2", "TLSv1.3"}
    assert tls["cipher"]
    assert tls["subject"] == "CN=localhost"
    assert tls["issuer"] == "CN=Storepost test authority"
    assert tls["not_after"].endswith("Z")
    assert tls["implicit"] is False
    greet = watch.facts(Stage.GREET)
    assert greet["banner"].startswith("mta.test ESMTP")
    assert "AUTH XOAUTH2 OAUTHBEARER PLAIN LOGIN" in greet["capabilities"]
    assert watch.steps() == [
        "resolve started",
        "resolve done",
        "connect started",
        "connect done",
        "greet started",
        "tls started",
        "tls done",
        "greet done",
    ]


def test_implicit_tls_encrypts_before_the_greeting(dial: Dial, cert: ServerCert) -> None:
    watch = Watch()
    with MTA(cert.server_context(), implicit=True) as mta:
        dial(mta, Encryption.IMPLICIT, observe=watch).open()
    assert watch.facts(Stage.TLS)["implicit"] is True
    assert watch.steps()[4:] == ["tls started", "tls done", "greet started", "greet done"]


def test_opportunistic_uses_tls_where_it_is_offered_and_goes_on_where_not(dial: Dial, cert: ServerCert) -> None:
    for context, is_encrypted in ((cert.server_context(), True), (None, False)):
        watch = Watch()
        with MTA(context) as mta:
            dial(mta, CLEAR, observe=watch).open()
        assert bool(watch.facts(Stage.TLS)["version"]) is is_encrypted


def test_starttls_that_is_required_and_not_offered_ends_the_conversation(dial: Dial) -> None:
    with MTA() as mta, pytest.raises(SettingsWrong, match="STARTTLS extension not supported") as caught:
        dial(mta).open()
    assert (caught.value.code, caught.value.stage) == ("starttls_missing", Stage.TLS)


def test_the_dialogue_is_ehlo_starttls_and_ehlo_again(dial: Dial, cert: ServerCert) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test ESMTP")
        peer.ehlo("SIZE 1000", "STARTTLS", "AUTH LOGIN")
        assert peer.hear() == "STARTTLS"
        peer.say("220 go ahead")
        peer.start_tls(cert.server_context())
        peer.ehlo("AUTH XOAUTH2")
        assert peer.hear() == "QUIT"
        peer.say("221 bye")

    watch = Watch()
    with RawServer(script) as server:
        conversation = dial(server, ehlo_hostname="shop.example.com", observe=watch)
        conversation.open()
        conversation.close()
    assert server.said_by_client == ["EHLO shop.example.com", "STARTTLS", "EHLO shop.example.com", "QUIT"]
    # What was offered in clear is forgotten: it may have been put there by somebody in between.
    assert watch.facts(Stage.GREET)["capabilities"] == ["AUTH XOAUTH2"]


def test_what_was_offered_in_clear_is_forgotten_even_where_nothing_is_offered_after(
    dial: Dial, cert: ServerCert
) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo("STARTTLS", "AUTH PLAIN")
        peer.hear()
        peer.say("220 go ahead")
        peer.start_tls(cert.server_context())
        peer.hear()
        peer.say("502 no EHLO any more")
        peer.hear()
        peer.say("250 mail.test")
        peer.hear()

    watch = Watch()
    with RawServer(script) as server:
        dial(server, observe=watch).open()
    assert watch.facts(Stage.GREET)["capabilities"] == []


@pytest.mark.parametrize("extra", [b"250 injected\r\n", b"\x16\x03\x01"])
def test_bytes_waiting_behind_the_starttls_answer_abort(dial: Dial, extra: bytes) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo("STARTTLS")
        peer.hear()
        peer.say_bytes(b"220 go ahead\r\n" + extra)
        assert peer.hear() == "never reached"

    with RawServer(script) as server, pytest.raises(SettingsWrong) as caught:
        dial(server).open()
    assert (caught.value.code, caught.value.stage) == ("starttls_injection", Stage.TLS)
    assert "injected" not in caught.value.detail


@pytest.mark.parametrize(
    ("answer", "kind"), [("454 4.3.0 TLS not available", TryLater), ("502 5.5.1 not now", SettingsWrong)]
)
def test_a_refused_starttls_is_never_followed_by_clear_text(dial: Dial, answer: str, kind: type[MailError]) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo("STARTTLS")
        peer.hear()
        peer.say(answer)
        peer.hear()

    for encryption in (Encryption.STARTTLS, CLEAR):
        with RawServer(script) as server, pytest.raises(kind) as caught:
            dial(server, encryption).open()
        assert caught.value.stage is Stage.TLS
        assert server.said_by_client[-1] == "STARTTLS"


def _foreign(ca: CA) -> ServerCert:
    return make_server_cert(make_ca(ca.directory / "foreign", "Somebody else"))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_foreign, "unable to get local issuer certificate"),
        (lambda ca: make_server_cert(ca, ["other.example"], ["192.0.2.1"]), "Hostname mismatch"),
        (lambda ca: make_server_cert(ca, expired=True), "certificate has expired"),
    ],
    ids=["unknown issuer", "other name", "expired"],
)
@pytest.mark.parametrize("implicit", [True, False], ids=["implicit", "starttls"])
def test_a_bad_certificate_is_never_accepted(
    dial: Dial, ca: CA, make: Callable[[CA], ServerCert], words: str, implicit: bool
) -> None:
    encryption = Encryption.IMPLICIT if implicit else Encryption.STARTTLS
    with MTA(make(ca).server_context(), implicit=implicit) as mta, pytest.raises(SettingsWrong, match=words) as caught:
        dial(mta, encryption).open()
    assert (caught.value.code, caught.value.stage) == ("certificate_refused", Stage.TLS)
    assert "CERTIFICATE_VERIFY_FAILED" in caught.value.detail


def test_the_certificate_is_checked_by_name_and_sent_for_by_name(dial: Dial, ca: CA, door: Door) -> None:
    seen: list[str] = []
    context = make_server_cert(ca, ["mail.shop.test"], []).server_context()
    context.sni_callback = lambda sock, name, ctx: seen.append(name)
    loopback = Door(
        AllowRule.parse_list("127.0.0.1:*"),
        ca_file=ca.cert_file,
        resolve=lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
    )
    with MTA(context, implicit=True) as mta:
        dial(mta, Encryption.IMPLICIT, host="mail.shop.test", door=loopback).open()
    assert seen == ["mail.shop.test"]


def test_tls_before_1_2_is_refused(dial: Dial, cert: ServerCert) -> None:
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context = cert.server_context(maximum=ssl.TLSVersion.TLSv1_1)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with MTA(context, implicit=True) as mta, pytest.raises(MailError) as caught:
        dial(mta, Encryption.IMPLICIT).open()
    assert caught.value.stage is Stage.TLS


def test_implicit_tls_to_a_clear_text_port_names_the_wrong_version(dial: Dial) -> None:
    with MTA() as mta, pytest.raises(SettingsWrong, match=r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE") as caught:
        dial(mta, Encryption.IMPLICIT).open()
    assert caught.value.stage is Stage.TLS


def test_clear_text_to_an_implicit_tls_port_ends_as_a_missing_greeting(dial: Dial, cert: ServerCert) -> None:
    with MTA(cert.server_context(), implicit=True) as mta, pytest.raises(TryLater) as caught:
        dial(mta, timeouts=QUICK).open()
    assert caught.value.detail == "SMTPServerDisconnected: Connection unexpectedly closed: timed out"
    assert caught.value.stage is Stage.GREET


def test_a_cut_inside_the_tls_handshake_is_temporary(dial: Dial) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(100)

    with RawServer(script) as server, pytest.raises(TryLater) as caught:
        dial(server, Encryption.IMPLICIT).open()
    assert caught.value.stage is Stage.TLS


def test_a_silent_tls_handshake_ends_at_the_deadline(dial: Dial) -> None:
    with RawServer(lambda peer: time.sleep(0.8)) as server, pytest.raises(TryLater, match="timed out") as caught:
        dial(server, Encryption.IMPLICIT, timeouts=replace(PATIENT, connect_s=0.2)).open()
    assert caught.value.stage is Stage.TLS
