"""The second look at a server that did not answer as expected, against servers of every kind."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mail.doctor import probes
from mail.errors import Family, MailError, SettingsWrong, Stage, TryLater
from mail.smtp import Conversation, Encryption, Endpoint
from security.outbound import AllowRule, Door
from tests.fakes.certs import CA, ServerCert, make_server_cert
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer
from tests.patience import PATIENT, SECOND_LOOK_S, SOON_S

probe = partial(probes.probe, timeout_s=SECOND_LOOK_S)

QUICK = replace(PATIENT, command_s=0.3)
SILENT = TryLater("timed_out", "SMTPServerDisconnected: Connection unexpectedly closed: timed out", stage=Stage.GREET)
REFUSED = TryLater("connection_refused", "ConnectionRefusedError: [Errno 111]", stage=Stage.CONNECT)
BROKEN_TLS = SettingsWrong("tls_failed", "SSLError: [SSL: WRONG_VERSION_NUMBER]", stage=Stage.TLS)
NOT_SMTP = SettingsWrong("not_smtp", "SMTPConnectError: (-1, b'')", stage=Stage.GREET)
NO_STARTTLS = SettingsWrong("starttls_missing", "STARTTLS extension not supported by server.", stage=Stage.TLS)


@pytest.fixture
def door_to(ca: CA) -> Callable[..., Door]:
    """A door behind which well-known ports are those of fakes; every other one is where nothing listens."""

    def make(ports: dict[int, int], allow: str = "127.0.0.1:*") -> Door:
        def resolve(host: str, port: int, **_: Any) -> Any:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", ports.get(port, 1)))]

        return Door(AllowRule.parse_list(allow), ca_file=ca.cert_file, resolve=resolve)

    return make


def _endpoint(port: int, encryption: Encryption = Encryption.STARTTLS) -> Endpoint:
    return Endpoint("localhost", port, encryption, ehlo_hostname="shop.example")


def _real_failure(endpoint: Endpoint, door: Door) -> MailError:
    conversation = Conversation(endpoint, door=door, timeouts=QUICK)
    with pytest.raises(MailError) as caught:
        conversation.open()
    return caught.value


def _web_server(peer: Peer) -> None:
    peer.sock.recv(4096)
    peer.say("HTTP/1.1 400 Bad Request", "Server: secret-appliance", "")


def test_tls_from_the_first_byte_is_found_where_starttls_waited_in_vain(
    cert: ServerCert, door_to: Callable[..., Door]
) -> None:
    with MTA(cert.server_context(), implicit=True) as mta:
        door, endpoint = door_to({587: mta.port}), _endpoint(587)
        found = probe(endpoint, _real_failure(endpoint, door), door=door)
    assert found == {"speaks": "implicit_tls", "other_port": 465, "other_speaks": "nothing"}


def test_starttls_is_found_where_a_handshake_broke(cert: ServerCert, door_to: Callable[..., Door]) -> None:
    with MTA(cert.server_context()) as mta:
        door, endpoint = door_to({465: mta.port}), _endpoint(465, Encryption.IMPLICIT)
        assert probe(endpoint, _real_failure(endpoint, door), door=door) == {"speaks": "starttls"}


def test_clear_text_without_starttls_is_told_apart(door_to: Callable[..., Door]) -> None:
    with MTA() as mta:
        door, endpoint = door_to({465: mta.port}), _endpoint(465, Encryption.IMPLICIT)
        found = probe(endpoint, _real_failure(endpoint, door), door=door)
    assert found == {"speaks": "clear_smtp", "other_port": 587, "other_speaks": "nothing"}


def test_a_web_server_is_something_else_however_it_was_asked(door_to: Callable[..., Door]) -> None:
    with RawServer(_web_server) as server:
        door = door_to({465: server.port, 587: server.port, 2525: server.port})
        assert probe(_endpoint(2525), SILENT, door=door)["speaks"] == "other"
        assert probe(_endpoint(2525), NOT_SMTP, door=door)["speaks"] == "other"


def test_a_web_server_with_tls_is_something_else(cert: ServerCert, door_to: Callable[..., Door]) -> None:
    with RawServer(_web_server, context=cert.server_context()) as server:
        found = probe(_endpoint(8443), SILENT, door=door_to({8443: server.port}), timeout_s=0.6)
    assert found["speaks"] == "other"


def test_an_ftp_server_is_something_else(door_to: Callable[..., Door]) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 FTP server ready")
        peer.hear()
        peer.say("500 Unknown command")
        peer.hear()

    with RawServer(script) as server:
        endpoint = _endpoint(2465, Encryption.IMPLICIT)
        assert probe(endpoint, BROKEN_TLS, door=door_to({2465: server.port}))["speaks"] == "other"


def test_an_ssh_server_is_something_else(door_to: Callable[..., Door]) -> None:
    def script(peer: Peer) -> None:
        peer.say("SSH-2.0-OpenSSH_9.2")
        peer.sock.recv(4096)

    with RawServer(script) as server:
        door = door_to({465: server.port, 587: server.port})
        assert probe(_endpoint(465, Encryption.IMPLICIT), BROKEN_TLS, door=door)["speaks"] == "other"
        assert probe(_endpoint(587), NOT_SMTP, door=door)["speaks"] == "other"


def test_a_mail_server_that_greets_late_is_not_taken_for_something_else(door_to: Callable[..., Door]) -> None:
    def script(peer: Peer) -> None:
        peer.sock.recv(4096)
        peer.say("220 mail.test ESMTP at last")

    with RawServer(script) as server:
        assert probe(_endpoint(587), SILENT, door=door_to({587: server.port}))["speaks"] == "nothing"


def test_a_port_that_hangs_up_says_nothing(door_to: Callable[..., Door]) -> None:
    with RawServer(lambda peer: None) as server:
        door = door_to({465: server.port, 587: server.port})
        assert probe(_endpoint(587), SILENT, door=door)["speaks"] == "nothing"
        assert probe(_endpoint(465, Encryption.IMPLICIT), BROKEN_TLS, door=door)["speaks"] == "nothing"


def test_a_mail_server_with_a_refused_certificate_still_speaks_tls(ca: CA, door_to: Callable[..., Door]) -> None:
    elsewhere = make_server_cert(ca, ["other.example"], ["192.0.2.1"])
    with MTA(elsewhere.server_context(), implicit=True) as mta:
        assert probe(_endpoint(587), SILENT, door=door_to({587: mta.port}))["speaks"] == "implicit_tls"


@pytest.mark.parametrize(
    ("port", "error", "encryption", "neighbour", "speaks"),
    [
        (465, REFUSED, Encryption.IMPLICIT, 587, "starttls"),
        (587, REFUSED, Encryption.STARTTLS, 465, "implicit_tls"),
        (25, REFUSED, Encryption.STARTTLS, 587, "starttls"),
        (2465, REFUSED, Encryption.IMPLICIT, 2587, "starttls"),
        (2587, REFUSED, Encryption.STARTTLS, 2465, "implicit_tls"),
        (2525, REFUSED, Encryption.STARTTLS, 465, "implicit_tls"),
        (587, NO_STARTTLS, Encryption.STARTTLS, 465, "implicit_tls"),
        (465, TryLater("timed_out", "timed out", stage=Stage.CONNECT), Encryption.IMPLICIT, 587, "starttls"),
    ],
    ids=["465", "587", "25", "2465", "2587", "2525", "587 in clear", "465 silent"],
)
def test_the_neighbour_port_is_looked_at(
    port: int,
    error: MailError,
    encryption: Encryption,
    neighbour: int,
    speaks: str,
    cert: ServerCert,
    door_to: Callable[..., Door],
) -> None:
    with MTA(cert.server_context(), implicit=speaks == "implicit_tls") as mta:
        found = probe(_endpoint(port, encryption), error, door=door_to({neighbour: mta.port}))
    own = "clear_smtp" if error is NO_STARTTLS else "nothing"
    assert found == {"speaks": own, "other_port": neighbour, "other_speaks": speaks}


@pytest.mark.parametrize(
    "error",
    [
        SettingsWrong("blocked", "not a public internet address", stage=Stage.CONNECT),
        SettingsWrong("host_unknown", "gaierror", stage=Stage.RESOLVE),
        SettingsWrong("certificate_refused", "certificate has expired", stage=Stage.TLS),
        SettingsWrong("starttls_injection", "bytes", stage=Stage.TLS),
        SettingsWrong("tls_failed", "SSLError: UNSUPPORTED_PROTOCOL", stage=Stage.TLS),
        SettingsWrong("greeting_refused", "554 no", stage=Stage.GREET, reply_code=554),
        SettingsWrong("auth_refused", "535 no", stage=Stage.AUTH, reply_code=535),
        TryLater("timed_out", "timed out", stage=Stage.CONNECT, family=Family.TOKEN),
    ],
    ids=["blocked", "unknown host", "certificate", "injection", "tls after starttls", "greeting", "auth", "token"],
)
def test_what_another_way_of_talking_cannot_mend_opens_no_connection(
    error: MailError, door_to: Callable[..., Door]
) -> None:
    with MTA() as mta:
        door = door_to({465: mta.port, 587: mta.port})
        assert probe(_endpoint(587), error, door=door) == {}
        assert mta.connections == 0


def test_a_port_that_the_operator_did_not_open_is_not_looked_at(cert: ServerCert, door_to: Callable[..., Door]) -> None:
    with MTA(cert.server_context(), implicit=True) as mta, MTA(cert.server_context()) as neighbour:
        ports = {587: mta.port, 465: neighbour.port}
        only_own = door_to(ports, allow=f"127.0.0.1:{mta.port}")
        assert probe(_endpoint(587), SILENT, door=only_own) == {"speaks": "implicit_tls"}
        assert probe(_endpoint(587), SILENT, door=door_to(ports, allow="127.0.0.1:2")) == {}
        assert neighbour.connections == 0


def test_it_says_only_ehlo_and_quit_and_repeats_nothing_it_hears(door_to: Callable[..., Door]) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 private.appliance.internal ready")
        peer.ehlo("X-SECRET-CAPABILITY")
        assert peer.hear() == "QUIT"

    with RawServer(script) as server:
        found = probe(_endpoint(465, Encryption.IMPLICIT), BROKEN_TLS, door=door_to({465: server.port}))
        server.wait()
        assert server.said_by_client == ["EHLO shop.example", "QUIT"]
    assert set(found.values()) <= {"clear_smtp", 587, "nothing"}


def test_silence_on_both_ports_ends_within_the_time_allowed(door_to: Callable[..., Door]) -> None:
    with RawServer(lambda peer: peer.hear() and None) as server:
        door = door_to({465: server.port, 587: server.port})
        began = time.monotonic()
        found = probe(_endpoint(465, Encryption.IMPLICIT), BROKEN_TLS, door=door, timeout_s=0.4)
        took_s = time.monotonic() - began
    assert found == {"speaks": "nothing", "other_port": 587, "other_speaks": "nothing"}
    assert took_s < SOON_S


def test_a_name_that_cannot_travel_is_no_question(door_to: Callable[..., Door]) -> None:
    odd = Endpoint("bü..cher.example", 587, Encryption.STARTTLS)
    assert probe(odd, SILENT, door=door_to({})) == {}
