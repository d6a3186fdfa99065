"""Test Email Settings against servers that refuse, garble or never answer the sign-in, by token and by password."""

from __future__ import annotations

from typing import Any

import pytest

import tests.fakes.hostile_transfer  # noqa: F401  fills the library
from mail.errors import Stage
from tests.fakes.hostile_smtp import SERVERS
from tests.mail.doctor.faults import (
    IMPATIENT_FOR_ANSWERS,
    Arena,
    Fault,
    check,
    check_nothing_was_sent,
    check_secrecy,
    table,
)


def _sign_in(name: str, who: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    return Fault(name, Stage.AUTH, f"{who} did not accept the sign-in", headline, action, mend, **more)


def _by_token(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    return _sign_in(name, "Microsoft", headline, action, mend, **{"provider": "microsoft365", **more})


_SWITCH = "Tick Authenticated SMTP"


@table(
    _sign_in(
        "no_auth", "localhost", "localhost offers no sign-in Storepost can use", "fix_settings", "smtp_port",
        shown="SMTP AUTH extension not supported",
    ),
    _sign_in(
        "unknown_mechanisms", "localhost", "localhost offers no sign-in Storepost can use", "fix_settings", "smtp_port",
        shown="the server offers GSSAPI, NTLM",
    ),
    _by_token(
        "auth_535_139_tenant", "Microsoft switched SMTP sign-in off for the organization", "fix_provider",
        says=(_SWITCH, "Set-CASMailbox -Identity shop@sandbox.example", "Connect would change nothing"),
        shown="disabled for the Tenant",
    ),
    _by_token(
        "auth_535_139_mailbox", "Microsoft switched SMTP sign-in off for", "fix_provider",
        says=(_SWITCH, "Set-CASMailbox -Identity shop@sandbox.example"), shown="disabled for the Mailbox",
    ),
    _sign_in(
        "auth_535_8", "localhost", "localhost does not accept this user name and password", "fix_settings", "password",
        shown="535 5.7.8 Error: authentication failed",
    ),
    _sign_in(
        "auth_454", "localhost", "Sign-in at localhost fails for the moment", "retry",
        shown="454 4.7.0 Temporary authentication failure",
    ),
    _by_token("auth_432", "Microsoft allows three connections per mailbox", "throttle", shown="432 4.3.2 Concurrent"),
    # What the challenge says comes out decoded, beside the refusal that follows its answer.
    _sign_in(
        "auth_challenge_then_535", "Google", "Gmail takes no SMTP sign-in with this scope", "fix_settings", "scope",
        provider="google", says=("https://mail.google.com/",), shown='"scope": "https://mail.google.com/"',
    ),
    _sign_in(
        "auth_challenge_then_235", "localhost", "while signing in", "retry", provider="other",
        leaves_unsaid=("4xx",), shown="235 2.7.0",
    ),
    _sign_in("auth_503", "localhost", "localhost did not accept a command", "retry", provider="other", shown="503"),
    _sign_in(
        "auth_235_too_early", "localhost", "while signing in", "retry", leaves_unsaid=("4xx",), shown="235 2.7.0"
    ),
    # Connected, encrypted and greeted: a firewall that blocks the port is not what happened.
    _sign_in(
        "auth_never_answered", "localhost", "localhost did not answer in time while signing in", "retry",
        leaves_unsaid=("Nothing came back at all", "block mail ports", "SMTP Port"), timeouts=IMPATIENT_FOR_ANSWERS,
    ),
    _sign_in("auth_hangs_up", "localhost", "The connection to localhost was cut", "retry"),
    _sign_in(
        "auth_repeats_the_credential", "localhost", "localhost refused the sign-in", "reauthorize", provider="other",
        shown="535 5.7.8 Cannot use *** 5.7.8 which is",
    ),
)  # fmt: skip
def test_a_server_that_lets_nobody_in(arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_nothing_was_sent(arena, server)
    check_secrecy(fault, result, caplog.text, arena, server)
    assert not [line for line in server.said_by_client if line.startswith("MAIL")]


def test_a_password_that_is_repeated_is_masked_too(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    fault = _sign_in(
        "auth_repeats_the_credential", "localhost", "localhost does not accept this user name and password",
        "fix_settings", "password", shown="535 5.7.8 Cannot use ***",
    )  # fmt: skip
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, server)


def test_switched_off_for_all_and_for_one_mailbox_are_told_apart(arena: Arena) -> None:
    told = []
    for name in ("auth_535_139_tenant", "auth_535_139_mailbox"):
        fault = _by_token(name, "", "")
        with SERVERS[name].on(arena.tls) as server:
            result = arena.press(fault, arena.draft(fault, server.port))
        assert result.report.failure is not None
        told.append(result.report.failure.explanation)
    tenant, mailbox = told
    assert tenant.headline != mailbox.headline
    assert "Set-TransportConfig" in " ".join(tenant.commands)
    assert "Set-TransportConfig" not in " ".join(mailbox.commands)
