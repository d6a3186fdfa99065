"""The SMTP server, from outside, with smtplib."""

import base64
import json
import smtplib
import socket
import ssl
import time

import pytest

from sandbox import Sandbox
from tests.sandbox.clients import (
    MAILBOX,
    OAuthClient,
    dial,
    letter,
    oauthbearer,
    signed_in,
    two_steps,
    xoauth2,
)

TO = ["ann@customer.example"]


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_it_takes_mail_for_a_token(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext, implicit: bool, mechanism: str
) -> None:
    token = oauth.connect()["access_token"]
    payload = xoauth2(MAILBOX, token) if mechanism == "XOAUTH2" else oauthbearer(MAILBOX, token)
    with dial(sandbox, trusting, implicit=implicit) as server:
        assert two_steps(server, mechanism, payload)[0] == 235
        assert server.sendmail(MAILBOX, [*TO, "hidden@customer.example"], letter()) == {}
    (message,) = sandbox.wait_for_messages(1)
    assert message.sender == MAILBOX
    assert message.recipients == ("ann@customer.example", "hidden@customer.example")
    assert message.hidden_recipients == ("hidden@customer.example",)
    assert message.content == letter()
    assert (message.subject, message.text) == ("Your order", "Thank you.\r\n")
    assert (message.user, message.mechanism, message.client_id) == (MAILBOX, mechanism, "storepost-sandbox")
    assert message.tls.startswith("TLSv1.")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
def test_it_takes_mail_for_a_password(
    sandbox: Sandbox, trusting: ssl.SSLContext, implicit: bool, mechanism: str
) -> None:
    with dial(sandbox, trusting, implicit=implicit) as server:
        server.user, server.password = MAILBOX, "sandbox-password"
        answer = server.auth_plain if mechanism == "PLAIN" else server.auth_login
        server.auth(mechanism, answer)
        server.sendmail(MAILBOX, TO, letter())
    (message,) = sandbox.wait_for_messages(1)
    assert (message.user, message.mechanism) == (MAILBOX, mechanism)


def test_a_user_that_is_no_address_may_send_as_anybody(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        server.login("relay-account", "sandbox-password")
        server.sendmail("anybody@shop.example", TO, letter("anybody@shop.example"))
    assert len(sandbox.wait_for_messages(1)) == 1


def test_it_refuses_a_wrong_password(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
            server.login(MAILBOX, "wrong")
        assert refused.value.smtp_code == 535


def test_an_initial_response_is_taken_too(sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext) -> None:
    payload = base64.b64encode(xoauth2(MAILBOX, oauth.connect()["access_token"])).decode()
    with dial(sandbox, trusting) as server:
        assert server.docmd("AUTH", f"xoauth2 {payload}")[0] == 235


def test_tokens_as_long_as_providers_make_them_reach_the_check(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        code, _challenge = two_steps(server, "XOAUTH2", xoauth2(MAILBOX, "t" * 4096))
        assert code == 334
        assert server.docmd("")[0] == 535


@pytest.mark.parametrize(
    ("mechanism", "payload", "dummy", "status"),
    [
        ("XOAUTH2", xoauth2(MAILBOX, "never-issued"), "", "401"),
        ("OAUTHBEARER", oauthbearer(MAILBOX, "never-issued"), "AQ==", "invalid_token"),
        ("OAUTHBEARER", b"n,a=x@y.example,\x01auth=Basic x\x01\x01", "AQ==", "invalid_request"),
    ],
    ids=["XOAUTH2", "OAUTHBEARER", "malformed"],
)
def test_a_wrong_token_earns_a_challenge_and_then_a_refusal(
    sandbox: Sandbox, trusting: ssl.SSLContext, mechanism: str, payload: bytes, dummy: str, status: str
) -> None:
    with dial(sandbox, trusting) as server:
        code, challenge = two_steps(server, mechanism, payload)
        assert code == 334
        assert json.loads(base64.b64decode(challenge))["status"] == status
        code, text = server.docmd(dummy)
        assert (code, text[:5]) == (535, b"5.7.8")
        assert server.noop()[0] == 250


def test_a_challenge_can_be_cancelled(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        assert two_steps(server, "XOAUTH2", xoauth2(MAILBOX, "never-issued"))[0] == 334
        assert server.docmd("*")[0] == 501
        assert server.noop()[0] == 250


@pytest.mark.parametrize("line", ["!!!not base64!!!", base64.b64encode(b"user=nobody").decode()])
def test_what_is_no_sign_in_is_a_syntax_error(sandbox: Sandbox, trusting: ssl.SSLContext, line: str) -> None:
    with dial(sandbox, trusting) as server:
        assert server.docmd("AUTH", "XOAUTH2")[0] == 334
        assert server.docmd(line)[0] == 501


def test_a_token_opens_only_the_mailbox_that_consented(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    token = oauth.connect("shop@sandbox.example")["access_token"]
    with dial(sandbox, trusting) as server:
        code, text = two_steps(server, "XOAUTH2", xoauth2("other@sandbox.example", token))
        assert (code, text[:5]) == (535, "5.7.3")
        assert two_steps(server, "XOAUTH2", xoauth2("SHOP@sandbox.example", token))[0] == 235


def test_an_app_token_opens_any_mailbox(sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.app_token(), "any@sandbox.example")
        server.sendmail("any@sandbox.example", TO, letter("any@sandbox.example"))
    assert sandbox.wait_for_messages(1)[0].user == "any@sandbox.example"


def test_a_token_without_the_send_scope_does_not_send(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    token = oauth.connect(scope="openid email")["access_token"]
    with dial(sandbox, trusting) as server:
        code, challenge = two_steps(server, "OAUTHBEARER", oauthbearer(MAILBOX, token))
        assert code == 334
        assert json.loads(base64.b64decode(challenge))["status"] == "insufficient_scope"
        assert server.docmd("AQ==")[0] == 535


def test_a_revoked_or_expired_token_does_not_sign_in(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = oauth.connect()["access_token"]
    sandbox.state.revoke(token, "storepost-sandbox")
    expired = oauth.connect()["access_token"]
    monkeypatch.setattr(sandbox.state, "clock", lambda: time.time() + 3601)
    with dial(sandbox, trusting) as server:
        for gone in (token, expired):
            assert two_steps(server, "XOAUTH2", xoauth2(MAILBOX, gone))[0] == 334
            assert server.docmd("")[0] == 535


def test_it_refuses_a_foreign_envelope_sender(sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        code, text = server.mail("other@sandbox.example")
        assert (code, text[:6]) == (550, b"5.7.60")


def test_it_refuses_a_foreign_from_header_until_it_is_allowed(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        with pytest.raises(smtplib.SMTPDataError, match=r"5\.2\.252 SendAsDenied"):
            server.sendmail(MAILBOX, TO, letter("team@sandbox.example"))
        sandbox.state.allow_send_as(MAILBOX, "team@sandbox.example")
        server.sendmail("team@sandbox.example", TO, letter("team@sandbox.example"))
    assert len(sandbox.wait_for_messages(1)) == 1


def test_nothing_but_hello_passes_without_encryption(sandbox: Sandbox) -> None:
    with smtplib.SMTP("localhost", sandbox.smtp_port, timeout=10) as server:
        server.ehlo("client.example")
        assert server.has_extn("starttls")
        assert not server.has_extn("auth")
        assert server.docmd("AUTH", "XOAUTH2")[0] == 530
        assert server.docmd("MAIL", f"FROM:<{MAILBOX}>")[0] == 530


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
def test_no_mail_without_signing_in(sandbox: Sandbox, trusting: ssl.SSLContext, implicit: bool) -> None:
    with dial(sandbox, trusting, implicit=implicit) as server:
        assert set(server.esmtp_features["auth"].split()) == {"LOGIN", "OAUTHBEARER", "PLAIN", "XOAUTH2"}
        assert server.has_extn("starttls") is False
        assert server.mail(MAILBOX)[0] == 530


def test_dots_long_lines_and_sizes_are_kept_honest(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    dotted = letter() + b"\r\n.\r\n..two\r\n" + b"x" * 998 + b"\r\n"
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        server.sendmail(MAILBOX, TO, dotted)
        with pytest.raises(smtplib.SMTPDataError):
            server.sendmail(MAILBOX, TO, letter() + b"x" * 1500 + b"\r\n")
        assert server.mail(MAILBOX, ["SIZE=99999999"])[0] == 552
    assert [message.content for message in sandbox.wait_for_messages(1)] == [dotted]


def test_international_mail_is_read(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    content = "From: Käse <käse@münchen.example>\r\nTo: <ann@customer.example>\r\nSubject: Grüße\r\n\r\nHallo\r\n"
    with dial(sandbox, trusting) as server:
        server.login("relay-account", "sandbox-password")
        server.sendmail("käse@münchen.example", TO, content.encode(), mail_options=["SMTPUTF8", "BODY=8BITMIME"])
    (message,) = sandbox.wait_for_messages(1)
    assert message.sender == "käse@münchen.example"
    assert message.subject == "Grüße"
    assert message.addresses("From") == ("käse@münchen.example",)
    assert message.hidden_recipients == ()


def test_commands_may_be_sent_ahead(sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        assert server.has_extn("pipelining")
        signed_in(server, oauth.connect()["access_token"])
        server.send(f"MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n")
        assert [server.getreply()[0] for _ in range(4)] == [250, 250, 250, 354]
        server.send(letter() + b".\r\n")
        code, text = server.getreply()
    (message,) = sandbox.wait_for_messages(1)
    assert (code, text.decode()) == (250, f"2.0.0 OK: queued as {message.queue_id}")


def test_a_client_that_hangs_up_in_the_handshake_leaves_it_working(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    for port in (sandbox.smtp_port, sandbox.smtps_port, sandbox.token_port):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as rude:
            rude.sendall(b"EHLO x\r\nSTARTTLS\r\n")
    with dial(sandbox, trusting) as server:
        assert server.noop()[0] == 250


def test_bodies_and_commands_stay_out_of_the_log(
    sandbox: Sandbox, trusting: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with dial(sandbox, trusting) as server:
        server.login(MAILBOX, "sandbox-password")
        server.sendmail(MAILBOX, TO, letter())
    assert "Thank you" not in caplog.text
    assert "customer.example" not in caplog.text
