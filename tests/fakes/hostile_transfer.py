"""The rest of the library of hostile servers: those that fail the sign-in or the message. See `hostile_smtp.py`."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from tests.fakes.hostile_smtp import (
    EXTENSIONS,
    MECHANISMS,
    Contexts,
    add,
    ask_for_credential,
    encrypt,
    expect_nothing_more,
    hostile,
    see_out,
)
from tests.fakes.rawserver import Peer

PIPELINING, CHUNKING = "PIPELINING", "CHUNKING"
# Exchange closes its refusals with server, time and an id that support asks for.
_TAIL = "[AM0PR04CA0001.eurprd04.prod.outlook.com 2026-10-05T10:11:12.345Z 08DC12AB34CD56EF]"
_GMAIL = "Learn more at 535 5.7.8 https://support.google.com/mail/?p=BadCredentials a640c23a62f3a-a7d6 - gsmtp"


def _challenge(**problem: str) -> str:
    return "334 " + base64.b64encode(json.dumps(problem).encode()).decode()


def sign_in(peer: Peer, tls: Contexts, *extensions: str) -> None:
    """Let the client in."""
    ask_for_credential(peer, tls, *extensions)
    peer.say("235 2.7.0 Authentication successful")


# Sign-in -------------------------------------------------------------------------------------------------------------


@hostile
def no_auth(peer: Peer, tls: Contexts) -> None:
    """Offers no sign-in, encrypted or not."""
    encrypt(peer, tls.good)
    peer.ehlo(*EXTENSIONS)
    expect_nothing_more(peer)


@hostile
def unknown_mechanisms(peer: Peer, tls: Contexts) -> None:
    """Offers only mechanisms of domains and tickets."""
    encrypt(peer, tls.good)
    peer.ehlo(*EXTENSIONS, "AUTH GSSAPI NTLM")
    expect_nothing_more(peer)


def _refusing_credential(name: str, story: str, *replies: str) -> None:
    def script(peer: Peer, tls: Contexts) -> None:
        ask_for_credential(peer, tls)
        for number, reply in enumerate(replies):
            if number:
                # RFC 7628 3.2.3 and RFC 4954 4: an empty line, a lone %x01, or "*" which gives up.
                assert peer.hear() in ("", "AQ==", "*")
            peer.say(reply)
        see_out(peer)

    add(name, story, script)


_refusing_credential(
    "auth_535_139_tenant",
    "Says that SMTP sign-in is switched off for the organization.",
    "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant. "
    f"Visit https://aka.ms/smtp_auth_disabled for more information. {_TAIL}",
)
_refusing_credential(
    "auth_535_139_mailbox",
    "Says that SMTP sign-in is switched off for the mailbox.",
    "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox. "
    f"Visit https://aka.ms/smtp_auth_disabled for more information. {_TAIL}",
)
_refusing_credential(
    "auth_535_3", "Does not find the token good for this mailbox.", f"535 5.7.3 Authentication unsuccessful {_TAIL}"
)
_refusing_credential(
    "auth_535_8", "Does not accept the password.", "535 5.7.8 Error: authentication failed: wrong user or password"
)
_refusing_credential("auth_454", "Cannot judge sign-ins for now.", "454 4.7.0 Temporary authentication failure")
_refusing_credential(
    "auth_432", "Sees too many connections.", f"432 4.3.2 Concurrent connections limit exceeded {_TAIL}"
)
_refusing_credential(
    "auth_challenge_then_535",
    "Tells in a challenge what is wrong with the token, and refuses once that is answered, as Gmail does.",
    _challenge(status="400", schemes="Bearer", scope="https://mail.google.com/"),
    f"535 5.7.8 Username and Password not accepted. {_GMAIL}",
)
_refusing_credential(
    "auth_challenge_then_235",
    "Tells in a challenge that the token is bad, and then lets the client in for an empty line.",
    _challenge(status="401", schemes="Bearer", scope="smtp.send"),
    "235 2.7.0 Authentication successful",
)


@hostile
def auth_503(peer: Peer, tls: Contexts) -> None:
    """Says "already authenticated" to a client that has shown nothing yet."""
    encrypt(peer, tls.good)
    peer.ehlo(*EXTENSIONS, MECHANISMS)
    assert peer.hear().startswith("AUTH ")
    peer.say("503 5.5.1 Already authenticated")
    see_out(peer)


@hostile
def auth_235_too_early(peer: Peer, tls: Contexts) -> None:
    """Lets the client in before it has shown anything."""
    encrypt(peer, tls.good)
    peer.ehlo(*EXTENSIONS, MECHANISMS)
    assert peer.hear().startswith("AUTH ")
    peer.say("235 2.7.0 Authentication successful")
    expect_nothing_more(peer)


@hostile
def auth_never_answered(peer: Peer, tls: Contexts) -> None:
    """Takes the credential and falls silent."""
    ask_for_credential(peer, tls)
    expect_nothing_more(peer)


@hostile
def auth_hangs_up(peer: Peer, tls: Contexts) -> None:
    """Takes the credential and ends the connection."""
    ask_for_credential(peer, tls)


@hostile
def auth_repeats_the_credential(peer: Peer, tls: Contexts) -> None:
    """Refuses, and repeats what it was told: in base64, and in clear where it can read it."""
    said = ask_for_credential(peer, tls)
    clear = base64.b64decode(said).replace(b"\0", b" ").replace(b"\x01", b" ").decode()
    peer.say(f"535-5.7.8 Cannot use {said}", f"535 5.7.8 which is {clear}")
    see_out(peer)


# One command, one reply ----------------------------------------------------------------------------------------------

_USUAL = {
    "MAIL": "250 2.1.0 Sender ok",
    "RCPT": "250 2.1.5 Recipient ok",
    "DATA": "354 End data with <CR><LF>.<CR><LF>",
}


def _transfer(peer: Peer, tls: Contexts, answers: Mapping[str, str]) -> None:
    """Take a message step by step, with these answers in place of the usual ones; "." is the one to its end."""
    sign_in(peer, tls)
    for verb, usual in _USUAL.items():
        line = peer.hear()
        assert line.startswith(verb), line
        peer.say(answers.get(verb, usual))
        if verb in answers:
            if not answers[verb].startswith("421"):
                see_out(peer)
            return
    peer.hear_message()
    peer.say(answers["."])
    see_out(peer)


def _answering(name: str, story: str, verb: str, reply: str) -> None:
    add(name, story, lambda peer, tls: _transfer(peer, tls, {verb: reply}))


_answering(
    "sender_5_7_60",
    "Does not let the mailbox send as this address.",
    "MAIL",
    f"550 5.7.60 SMTP; Client does not have permissions to send as this sender {_TAIL}",
)
_answering(
    "sender_5_1_8",
    "Blocked the mailbox for spam.",
    "MAIL",
    "550 5.1.8 Access denied, bad outbound sender AS(42004)",
)
_answering(
    "sender_not_owned",
    "Knows the sender as somebody else's.",
    "MAIL",
    "553 5.7.1 <shop@sandbox.example>: Sender address rejected: not owned by user orders",
)
_answering("sender_451", "Puts the sender off.", "MAIL", "451 4.7.1 Greylisted, come back later")
_answering("recipient_550", "Knows no such recipient.", "RCPT", "550 5.1.1 <maya.chen@acme.example>: User unknown")
_answering("recipient_450", "Puts the recipient off.", "RCPT", "450 4.2.1 The mailbox is busy, try again later")
_answering("recipient_421", "Hangs up at the recipient.", "RCPT", "421 4.4.2 mail.test timeout, closing connection")
_answering(
    "recipient_relay",
    "Does not forward for strangers.",
    "RCPT",
    "554 5.7.1 <maya.chen@acme.example>: Relay access denied",
)
_answering("data_451", "Is out of order when the message comes.", "DATA", "451 4.3.0 Queue file write error")
_answering("data_554", "Wants no message.", "DATA", "554 5.5.1 Error: no valid recipients")
_answering("data_250", "Answers DATA as if the message were there already.", "DATA", "250 2.0.0 Ok: queued as 4F2B1C")
_answering(
    "content_552", "Finds the message too large.", ".", "552 5.3.4 Message size exceeds fixed maximum message size"
)
_answering("content_554", "Takes the message for spam.", ".", "554 5.7.1 Message rejected as spam by content filter")
_answering("content_451", "Cannot keep the message now.", ".", "451 4.3.0 Mail server temporarily rejected message")
_answering(
    "send_as_denied",
    "Finds out after the message that the mailbox may not send as its From.",
    ".",
    "554 5.2.252 SendAsDenied; orders@acme.example not allowed to send as shop@sandbox.example; "
    f"STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Failed to process message {_TAIL}",
)
_answering("content_354", "Answers the end of the message with a question.", ".", "354 Go on")


@hostile
def hangs_up_within_data(peer: Peer, tls: Contexts) -> None:
    """Asks for the message and ends the connection before any of it came."""
    sign_in(peer, tls)
    for verb, usual in _USUAL.items():
        assert peer.hear().startswith(verb)
        peer.say(usual)


@hostile
def hangs_up_after_the_dot(peer: Peer, tls: Contexts) -> None:
    """Takes the whole message and ends the connection instead of answering."""
    sign_in(peer, tls)
    for verb, usual in _USUAL.items():
        assert peer.hear().startswith(verb)
        peer.say(usual)
    peer.hear_message()


@hostile
def silent_after_the_dot(peer: Peer, tls: Contexts) -> None:
    """Takes the whole message and never answers."""
    sign_in(peer, tls)
    for verb, usual in _USUAL.items():
        assert peer.hear().startswith(verb)
        peer.say(usual)
    peer.hear_message()
    expect_nothing_more(peer)


# Several commands in one write ---------------------------------------------------------------------------------------


def _hear_group(peer: Peer, tls: Contexts) -> None:
    """Take envelope and content as they come in one write, without an answer in between."""
    sign_in(peer, tls, PIPELINING, CHUNKING)
    assert peer.hear().startswith("MAIL FROM:")
    assert peer.hear().startswith("RCPT TO:")
    peer.hear_chunk()


@hostile
def group_sender_refused(peer: Peer, tls: Contexts) -> None:
    """Refuses the sender; what came along in the same write then is out of sequence."""
    _hear_group(peer, tls)
    peer.say(f"550 5.7.60 SMTP; Client does not have permissions to send as this sender {_TAIL}")
    peer.say("503 5.5.1 Bad sequence of commands", "503 5.5.1 Bad sequence of commands")
    see_out(peer)


@hostile
def group_recipient_refused(peer: Peer, tls: Contexts) -> None:
    """Refuses the only recipient; the chunk then has nobody to go to."""
    _hear_group(peer, tls)
    peer.say("250 2.1.0 Ok", "550 5.1.1 <maya.chen@acme.example>: User unknown", "554 5.5.1 No valid recipients")
    see_out(peer)


@hostile
def group_half_answered(peer: Peer, tls: Contexts) -> None:
    """Answers two of three commands and ends the connection: the third one was the message."""
    _hear_group(peer, tls)
    peer.say("250 2.1.0 Ok", "250 2.1.5 Ok")


@hostile
def group_sender_refused_then_cut(peer: Peer, tls: Contexts) -> None:
    """Refuses the sender and ends the connection, with two answers still due."""
    _hear_group(peer, tls)
    peer.say("550 5.1.8 Access denied, bad outbound sender AS(42004)")


@hostile
def bdat_552(peer: Peer, tls: Contexts) -> None:
    """Takes the envelope and refuses the chunk for its size."""
    _hear_group(peer, tls)
    peer.say("250 2.1.0 Ok", "250 2.1.5 Ok", "552 5.3.4 Message size exceeds fixed maximum message size")
    see_out(peer)


@hostile
def bdat_hangs_up(peer: Peer, tls: Contexts) -> None:
    """Takes the last chunk and ends the connection without any answer."""
    _hear_group(peer, tls)


@hostile
def bdat_silent(peer: Peer, tls: Contexts) -> None:
    """Takes the last chunk and never answers it."""
    _hear_group(peer, tls)
    peer.say("250 2.1.0 Ok", "250 2.1.5 Ok")
    expect_nothing_more(peer)


@hostile
def group_data_to_nobody(peer: Peer, tls: Contexts) -> None:
    """Pipelines without chunks, refuses the recipient and asks for the message all the same (RFC 2920 3.1)."""
    sign_in(peer, tls, PIPELINING)
    for verb, reply in (("MAIL", "250 2.1.0 Ok"), ("RCPT", "550 5.1.1 User unknown"), ("DATA", "354 Go ahead")):
        assert peer.hear().startswith(verb)
        peer.say(reply)
    assert peer.hear_message() == b"", "the message was handed over although nobody takes it"
    peer.say("554 5.5.1 Error: no valid recipients")
    see_out(peer)
