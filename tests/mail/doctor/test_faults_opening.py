"""Test Email Settings against servers that fail before anybody can sign in: name, port, greeting, encryption."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from mail.doctor import examination as doctor_run
from mail.doctor import probes
from mail.errors import Stage
from security.outbound import AllowRule, Door
from tests.fakes.hostile_smtp import PRIVATE, SERVERS
from tests.fakes.sandboxed import GENERAL
from tests.mail.doctor.faults import (
    IMPATIENT_FOR_ANSWERS,
    Arena,
    Fault,
    check,
    check_nothing_was_sent,
    check_secrecy,
    table,
)
from tests.patience import PATIENT

NO_GREETING = "localhost did not answer as a mail server"
NO_ENCRYPTION = "no secure connection to localhost"
# For what happens while names are looked up and encryption begins.
_IMPATIENT_TO_CONNECT = replace(PATIENT, connect_s=0.6)
_NO_TLS = frozenset({Stage.TLS})


def _not_smtp(name: str, **more: Any) -> Fault:
    """A peer that speaks something else: it is called that, and not a word of its own is repeated."""
    return Fault(
        name,
        Stage.GREET,
        NO_GREETING,
        "localhost answers on port",
        "fix_settings",
        "smtp_host",
        says=("not as a mail server", "Check SMTP Server", "Check SMTP Port"),
        hidden=(PRIVATE,),
        not_done=_NO_TLS,
        **more,
    )


def _greeting(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    return Fault(name, Stage.GREET, NO_GREETING, headline, action, mend, **{"not_done": _NO_TLS, **more})


def _encryption(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    return Fault(name, Stage.TLS, NO_ENCRYPTION, headline, action, mend, **more)


@table(
    _greeting(
        "says_nothing", "localhost sent no greeting on port", "fix_settings", "smtp_port",
        says=("kept silent",), timeouts=IMPATIENT_FOR_ANSWERS,
    ),
    _greeting(
        "drips", "localhost sent no greeting on port", "fix_settings", "smtp_port", timeouts=IMPATIENT_FOR_ANSWERS,
    ),
    _greeting("hangs_up_at_once", "The connection to localhost was cut", "retry"),
    _greeting(
        "banner_554", "localhost refuses any conversation with this server", "fix_provider",
        shown="554 5.7.1 No SMTP service for 192.0.2.7",
    ),
    _greeting(
        "banner_421", "localhost closed the connection for now", "retry",
        shown="421 4.3.2 mail.test: too many connections, come back later",
    ),
    _not_smtp("http_server"),
    _not_smtp("patient_http_server", timeouts=IMPATIENT_FOR_ANSWERS),
    _not_smtp("ssh_server"),
    _not_smtp("ftp_server"),
    _not_smtp("imap_server"),
    _not_smtp("endless_line"),
    _not_smtp("endless_reply"),
    _not_smtp("binary_garbage"),
    _greeting("hangs_up_after_the_banner", "The connection to localhost was cut", "retry"),
    _greeting(
        "ehlo_550", "localhost does not like this server's name", "fix_settings",
        shown="550 5.7.506 Access Denied, Bad HELO",
    ),
    _greeting(
        "ehlo_421", "localhost closed the connection for now", "retry",
        shown="421 4.3.0 mail.test is going down for maintenance",
    ),
    Fault(
        "endless_capabilities", Stage.GREET, NO_GREETING, "localhost answers on port", "fix_settings", "smtp_host"
    ),
)  # fmt: skip
def test_a_server_that_does_not_greet(
    arena: Arena, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    if fault.name == "says_nothing":
        # Silent both ways, it alone makes the second look take all of its time.
        monkeypatch.setattr(doctor_run, "probe", partial(probes.probe, timeout_s=0.6))
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_nothing_was_sent(arena, server)
    check_secrecy(fault, result, caplog.text, arena, server)


@table(
    _encryption(
        "no_starttls", "localhost offers no STARTTLS on port", "fix_settings", "smtp_port",
        says=("465",), shown="STARTTLS extension not supported",
    ),
    _encryption(
        "helo_only", "localhost offers no STARTTLS on port", "fix_settings", "smtp_port",
        shown="STARTTLS extension not supported",
    ),
    _encryption(
        "starttls_454", "localhost cannot start encryption just now", "retry",
        shown="454 4.7.0 TLS not available due to temporary reason",
    ),
    replace(
        _encryption(
            "starttls_injection", "Somebody may be tampering with the connection to localhost", "fix_settings",
            says=("Do not send from this network",),
        ),
        title="Somebody may be tampering with the connection to localhost",
    ),
    _encryption(
        "certificate_expired", "The certificate of localhost is out of date", "fix_provider",
        says=("renew the certificate",), shown="certificate has expired",
    ),
    _encryption(
        "certificate_not_yet_valid", "The clock of this server seems to be behind", "fix_settings",
        says=("NTP",), shown="certificate is not yet valid",
    ),
    _encryption(
        "certificate_other_name", "The certificate of localhost is for another name", "fix_settings", "smtp_host",
        shown="certificate is not valid for 'localhost'",
    ),
    _encryption(
        "certificate_self_signed", "The certificate of localhost comes from an unknown issuer", "fix_settings",
        says=("STOREPOST_CA_FILE", "Verification stays on"), shown="self-signed certificate",
    ),
    _encryption(
        "certificate_stranger", "The certificate of localhost comes from an unknown issuer", "fix_settings",
        says=("STOREPOST_CA_FILE", "Verification stays on"), shown="unable to get local issuer certificate",
    ),
    _encryption(
        "old_tls", "localhost and this server share no TLS version", "fix_provider",
        says=("TLS 1.2 or later",), shown="PROTOCOL_VERSION",
    ),
    _encryption(
        "hangs_up_in_the_handshake", "The connection to localhost was cut while encryption began", "fix_settings",
        "smtp_port",
    ),
    # The connection stands and the server agreed to encrypt: no firewall that swallows a port does that.
    _encryption(
        "silent_in_the_handshake", "localhost did not answer in time while starting encryption", "retry", "use_ssl",
        leaves_unsaid=("Nothing came back at all", "block mail ports"), timeouts=_IMPATIENT_TO_CONNECT,
    ),
)  # fmt: skip
def test_a_server_that_does_not_encrypt(arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_nothing_was_sent(arena, server)
    check_secrecy(fault, result, caplog.text, arena, server)
    assert not [line for line in server.said_by_client if line.startswith("AUTH")]


def test_implicit_tls_on_a_starttls_port(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    fault = _greeting(
        "tls_from_the_first_byte", "localhost encrypts port", "fix_settings", "smtp_port",
        says=("from the first byte", "Set SMTP Port to 465"), timeouts=IMPATIENT_FOR_ANSWERS,
    )  # fmt: skip
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, server)


def test_starttls_on_a_port_for_implicit_tls(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    fault = _encryption(
        "clear_text_at_first", "localhost begins in clear text on port", "fix_settings", "smtp_port",
        says=("STARTTLS", "Set SMTP Port to 587"), shown="WRONG_VERSION_NUMBER",
    )  # fmt: skip
    with SERVERS[fault.name].on(arena.tls) as server:
        equipment = replace(arena.equipment, implicit_tls_ports=frozenset({server.port}))
        result = arena.press(fault, arena.draft(fault, server.port), equipment)
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, server)


def test_a_password_does_not_travel_in_clear_although_ssl_is_off(
    arena: Arena, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault(
        "no_starttls", Stage.AUTH, "Storepost does not sign in without encryption",
        "Storepost does not sign in without encryption", "fix_settings", "use_ssl",
        settings={"general": replace(GENERAL, use_ssl=False)},
    )  # fmt: skip
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, server)
    assert not [line for line in server.said_by_client if line.startswith("AUTH")]


def test_a_port_where_nobody_listens(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fault = Fault(
        "port_closed", Stage.CONNECT, f"localhost could not be reached on port {port}",
        f"Nothing listens at localhost on port {port}", "fix_settings", "smtp_port", shown="Connection refused",
    )  # fmt: skip
    result = arena.press(fault, arena.draft(fault, port))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena)


_UNKNOWN_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
_NO_RESOLVER = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def _raising(error: Exception) -> Callable[..., Any]:
    def resolve(*_: Any, **__: Any) -> Any:
        raise error

    return resolve


def _at(*addresses: str) -> Callable[..., Any]:
    family = {True: socket.AF_INET6, False: socket.AF_INET}

    def resolve(_host: str, port: int, **_: Any) -> Any:
        return [(family[":" in one], socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    return resolve


@pytest.mark.parametrize(
    ("resolve", "headline", "action", "mend"),
    [
        (_raising(_UNKNOWN_NAME), "was not found", "fix_settings", "smtp_host"),
        (_raising(_NO_RESOLVER), "cannot look up names", "retry", ""),
        (_at("10.0.0.8"), "may not connect to mail.example.com", "fix_settings", "smtp_host"),
        (_at("192.0.2.10", "fd00::17"), "may not connect to mail.example.com", "fix_settings", "smtp_host"),
        (_at("::ffff:127.0.0.1"), "may not connect to mail.example.com", "fix_settings", "smtp_host"),
        (_at("100.64.1.1"), "may not connect to mail.example.com", "fix_settings", "smtp_host"),
    ],
    ids=["unknown", "resolver_down", "private", "one_of_two_private", "mapped_loopback", "shared"],
)  # fmt: skip
def test_a_name_that_leads_nowhere(
    arena: Arena,
    caplog: pytest.LogCaptureFixture,
    resolve: Callable[..., Any],
    headline: str,
    action: str,
    mend: str,
) -> None:
    title = "the name mail.example.com could not be looked up"
    if "may not" in headline:
        title = "Storepost may not connect to mail.example.com"
    fault = Fault(
        "name", Stage.RESOLVE, title, headline, action, mend,
        settings={"smtp_host": "mail.example.com"}, hidden=("10.0.0.8", "fd00::17", "100.64.1.1"),
    )  # fmt: skip
    door = Door(AllowRule.parse_list("localhost:*"), resolve=resolve)
    result = arena.press(fault, arena.draft(fault, 587), replace(arena.equipment, door=door))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena)


def test_the_words_of_a_refused_address_do_not_tell_whether_anything_listens_there(arena: Arena) -> None:
    titles = set()
    door = Door(resolve=_at("127.0.0.1"))
    with SERVERS["ssh_server"].on(arena.tls) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        ports = server.port, closed.getsockname()[1]
        closed.close()
        for port in ports:
            fault = Fault("blocked", Stage.RESOLVE, "", "", "", settings={"smtp_host": "mail.example.com"})
            result = arena.press(fault, arena.draft(fault, port), replace(arena.equipment, door=door))
            assert result.report.failure is not None
            titles.add((result.report.title, result.explanation_text.replace(str(port), "PORT")))
        assert server.dialogue == []
    assert len(titles) == 1


def test_a_resolver_that_never_answers_ends_the_test_in_time(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()

    def resolve(*_: Any, **__: Any) -> Any:
        ended.wait(40)
        raise _NO_RESOLVER

    fault = Fault(
        "silent_resolver", Stage.RESOLVE, "the name localhost could not be looked up",
        "This server cannot look up names at the moment", "retry", timeouts=_IMPATIENT_TO_CONNECT,
    )  # fmt: skip
    result = arena.press(fault, arena.draft(fault, 587), replace(arena.equipment, door=Door(resolve=resolve)))
    ended.set()
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena)
