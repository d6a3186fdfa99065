"""Test Email Settings against servers that let people in and fail the message, with and without PIPELINING and BDAT."""

from __future__ import annotations

from typing import Any

import pytest

import tests.fakes.hostile_transfer  # noqa: F401  fills the library
from mail.errors import Stage
from tests.fakes.hostile_smtp import SERVERS
from tests.mail.doctor.faults import (
    IMPATIENT_AT_THE_END,
    Arena,
    Fault,
    check,
    check_nothing_was_sent,
    check_secrecy,
    table,
)
from tests.sandbox.clients import MAILBOX

_LOGIN = "orders@acme.example"
_MICROSOFT: dict[str, Any] = {"provider": "microsoft365", "settings": {"login": _LOGIN}}
_BLOCKED = "550 5.1.8 Access denied, bad outbound sender"
_TOO_LARGE = "552 5.3.4 Message size exceeds fixed maximum message size"
_NOT_ASKED = frozenset({Stage.SENDER, Stage.RECIPIENT})


def _sender(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    who = "Microsoft" if "provider" in more else "localhost"
    return Fault(name, Stage.SENDER, f"{who} did not accept {MAILBOX} as sender", headline, action, mend, **more)


def _recipient(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    return Fault(name, Stage.RECIPIENT, "localhost did not accept the recipient", headline, action, mend, **more)


def _message(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    who = "Microsoft" if "provider" in more else "localhost"
    return Fault(name, Stage.MESSAGE, f"{who} did not accept the message", headline, action, mend, **more)


def _unknown(name: str, **more: Any) -> Fault:
    """Nobody can say whether the message went out, and the page does not claim to."""
    title = "localhost did not say whether it took the message"
    headline = "The message may have been sent"
    says = ("Check the recipient's inbox",)
    return Fault(name, Stage.MESSAGE, title, headline, "retry", says=says, may_be_sent=True, **more)


_REFUSALS = (
    _sender(
        "sender_5_7_60", f"{_LOGIN} may not send as {MAILBOX}", "fix_settings", "from_email",
        says=(f"Set From Email Address to {_LOGIN}", f"Add-RecipientPermission -Identity {MAILBOX} -Trustee {_LOGIN}"),
        shown="550 5.7.60 SMTP; Client does not have permissions to send as this sender", **_MICROSOFT,
    ),
    _sender("sender_5_1_8", "Microsoft blocked this mailbox for spam", "fix_provider", shown=_BLOCKED, **_MICROSOFT),
    _sender(
        "sender_not_owned", "may not send as shop@sandbox.example", "fix_settings", "from_email",
        settings={"username": _LOGIN}, says=(f"Set From Email Address to {_LOGIN}",), shown="Sender address rejected",
    ),
    _sender("sender_451", "asks to come back later", "retry", shown="451 4.7.1 Greylisted, come back later"),
    _recipient("recipient_550", "The recipient address was refused", "permanent", shown="550 5.1.1"),
    _recipient("recipient_450", "localhost reports a temporary fault", "retry", shown="450 4.2.1 The mailbox is busy"),
    _recipient("recipient_421", "localhost closed the connection for now", "retry", shown="421 4.4.2 mail.test"),
    _recipient(
        "recipient_relay", "localhost does not forward mail for this sender", "fix_settings", "smtp_host",
        shown="554 5.7.1 <maya.chen@acme.example>: Relay access denied",
    ),
    _message("data_451", "localhost reports a temporary fault", "retry", shown="451 4.3.0 Queue file write error"),
    _message("data_554", "localhost refused the message for good", "permanent", shown="554 5.5.1 Error: no valid"),
    _message("data_250", "while handing over the message", "retry", leaves_unsaid=("4xx",), shown="250 2.0.0 Ok"),
    # PIPELINING and CHUNKING: what leaves in one write is answered one by one, and the first reason counts.
    _sender(
        "group_sender_refused", f"{_LOGIN} may not send as {MAILBOX}", "fix_settings", "from_email",
        shown="550 5.7.60 SMTP", hidden=("Bad sequence of commands",), **_MICROSOFT,
    ),
    _sender(
        "group_sender_refused_then_cut", "Microsoft blocked this mailbox for spam", "fix_provider", shown=_BLOCKED,
        **_MICROSOFT,
    ),
    _recipient(
        "group_recipient_refused", "The recipient address was refused", "permanent", shown="550 5.1.1",
        hidden=("554 5.5.1 No valid recipients",),
    ),
    _recipient("group_data_to_nobody", "The recipient address was refused", "permanent", shown="User unknown"),
)  # fmt: skip
_AFTER_THE_MESSAGE = (
    _message("content_552", "The message is too large for localhost", "permanent", shown=_TOO_LARGE),
    _message("content_554", "localhost rates the message as spam", "fix_provider", shown="554 5.7.1 Message rejected"),
    _message("content_451", "localhost reports a temporary fault", "retry", shown="451 4.3.0 Mail server temporarily"),
    _message(
        "send_as_denied", f"{_LOGIN} may not send as {MAILBOX}", "fix_settings", "from_email",
        says=(f"Set From Email Address to {_LOGIN}", f"Add-RecipientPermission -Identity {MAILBOX} -Trustee {_LOGIN}"),
        shown="554 5.2.252 SendAsDenied", **_MICROSOFT,
    ),
    _message("bdat_552", "The message is too large for localhost", "permanent", shown=_TOO_LARGE),
    _unknown("content_354", shown="354 Go on"),
    _unknown("hangs_up_within_data"),
    _unknown("hangs_up_after_the_dot"),
    # Nothing was cut: the time ran out.
    _unknown("silent_after_the_dot", timeouts=IMPATIENT_AT_THE_END, leaves_unsaid=("was cut",)),
    _unknown("group_half_answered"),
    _unknown("bdat_hangs_up", not_done=_NOT_ASKED),
    _unknown("bdat_silent", timeouts=IMPATIENT_AT_THE_END, leaves_unsaid=("was cut",)),
)  # fmt: skip


@table(*_REFUSALS)
def test_a_server_that_refuses_before_it_has_the_message(
    arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, server)
    assert arena.sandbox.messages() == ()
    if not fault.name.startswith("group_"):
        check_nothing_was_sent(arena, server)


@table(*_AFTER_THE_MESSAGE)
def test_a_server_that_has_the_message_and_does_not_accept_it(
    arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    with SERVERS[fault.name].on(arena.tls) as server:
        result = arena.press(fault, arena.draft(fault, server.port))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, server)
    # Handed over once at most: a test is never sent a second time behind somebody's back.
    assert len([line for line in server.said_by_client if line.startswith(("DATA", "BDAT"))]) == 1
