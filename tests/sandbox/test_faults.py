"""Every fault, seen by a client; and the switches themselves."""

import smtplib
import ssl
import time

import pytest
import requests

from sandbox import Sandbox
from sandbox.faults import CATALOGUE, Faults
from tests.sandbox.clients import (
    MAILBOX,
    OAuthClient,
    claims_of,
    dial,
    letter,
    parameters_of,
    signed_in,
    two_steps,
    xoauth2,
)

TO = ["ann@customer.example"]


def test_a_grant_revoked_elsewhere_is_worth_nothing_until_a_new_consent(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    tokens = oauth.connect()
    sandbox.faults.set(grant_revoked=True)
    refused = oauth.refresh(tokens["refresh_token"])
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    with dial(sandbox, trusting) as server:
        assert two_steps(server, "XOAUTH2", xoauth2(MAILBOX, tokens["access_token"]))[0] == 334
        assert server.docmd("")[0] == 535
        renewed = oauth.connect()
        signed_in(server, renewed["access_token"])
    assert oauth.refresh(renewed["refresh_token"]).status_code == 200
    sandbox.faults.set(grant_revoked=False)
    assert oauth.refresh(tokens["refresh_token"]).status_code == 200


@pytest.mark.parametrize(
    ("faults", "code", "words"),
    [
        (
            {"smtp_auth_disabled": True},
            535,
            "5.7.139 Authentication unsuccessful, SmtpClientAuthentication is "
            "disabled for the Tenant. Visit https://aka.ms/smtp_auth_disabled",
        ),
        ({"smtp_auth_disabled": "mailbox"}, 535, "SmtpClientAuthentication is disabled for the Mailbox"),
        ({"wrong_identity": True}, 535, "5.7.3 Authentication unsuccessful"),
        ({"throttled": True}, 432, "4.3.2 Concurrent connections limit exceeded"),
    ],
    ids=["tenant", "mailbox", "identity", "throttled"],
)
@pytest.mark.parametrize("by", ["token", "password"])
def test_sign_in_is_refused_at_once_in_the_words_of_exchange(
    sandbox: Sandbox,
    oauth: OAuthClient,
    trusting: ssl.SSLContext,
    faults: dict[str, object],
    code: int,
    words: str,
    by: str,
) -> None:
    token = oauth.connect()["access_token"]
    sandbox.faults.set(**faults)
    payload = f"\0{MAILBOX}\0sandbox-password".encode() if by == "password" else xoauth2(MAILBOX, token)
    with dial(sandbox, trusting) as server:
        got, text = two_steps(server, "PLAIN" if by == "password" else "XOAUTH2", payload)
        assert got == code
        assert words in text


def test_throttling_reaches_open_connections_too(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        sandbox.faults.set(throttled=True)
        with pytest.raises(smtplib.SMTPDataError) as put_off:
            server.sendmail(MAILBOX, TO, letter())
        assert put_off.value.smtp_code == 432
        sandbox.faults.set(throttled=False)
        server.sendmail(MAILBOX, TO, letter())
    assert len(sandbox.wait_for_messages(1)) == 1


def test_send_as_is_denied_at_the_sender_or_after_the_message(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        sandbox.faults.set(send_as_denied=True)
        code, text = server.mail(MAILBOX)
        assert (code, text[:6]) == (550, b"5.7.60")
        sandbox.faults.set(send_as_denied="message")
        with pytest.raises(smtplib.SMTPDataError, match="SendAsDenied") as denied:
            server.sendmail(MAILBOX, TO, letter())
        assert denied.value.smtp_code == 554
    assert sandbox.messages() == ()


def test_one_recipient_or_all_can_be_refused(sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        sandbox.faults.set(recipient_refused="ANN@customer.example")
        refused = server.sendmail(MAILBOX, ["ann@customer.example", "bob@customer.example"], letter())
        assert list(refused) == ["ann@customer.example"]
        assert refused["ann@customer.example"][0] == 550
        sandbox.faults.set(recipient_refused=True)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            server.sendmail(MAILBOX, ["bob@customer.example"], letter())
    assert [message.recipients for message in sandbox.messages()] == [("bob@customer.example",)]


def test_the_answer_to_the_final_dot_can_stay_out(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    sandbox.faults.set(hang_after_dot=True)
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        assert server.sock is not None
        server.sock.settimeout(0.5)
        with pytest.raises(smtplib.SMTPServerDisconnected, match="timed out"):
            server.sendmail(MAILBOX, TO, letter())
    assert len(sandbox.wait_for_messages(1)) == 1


def test_the_connection_can_be_cut_after_the_final_dot(
    sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext
) -> None:
    sandbox.faults.set(hang_after_dot="cut")
    started = time.monotonic()
    with dial(sandbox, trusting) as server:
        signed_in(server, oauth.connect()["access_token"])
        with pytest.raises(smtplib.SMTPServerDisconnected):
            server.sendmail(MAILBOX, TO, letter())
    assert time.monotonic() - started < 5
    assert len(sandbox.wait_for_messages(1)) == 1


@pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit TLS"])
def test_the_certificate_can_be_expired(sandbox: Sandbox, trusting: ssl.SSLContext, implicit: bool) -> None:
    sandbox.faults.set(expired_certificate=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        dial(sandbox, trusting, implicit=implicit)
    sandbox.faults.set(expired_certificate=False)
    with dial(sandbox, trusting, implicit=implicit) as server:
        assert server.noop()[0] == 250


def test_the_token_endpoint_can_be_slow(sandbox: Sandbox, oauth: OAuthClient) -> None:
    sandbox.faults.set(slow_token=0.5)
    started = time.monotonic()
    oauth.app_token()
    assert 0.5 <= time.monotonic() - started < 5


def test_the_token_endpoint_can_be_out_of_order(sandbox: Sandbox, oauth: OAuthClient) -> None:
    tokens = oauth.connect()
    sandbox.faults.set(token_5xx=True)
    answer = oauth.refresh(tokens["refresh_token"])
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_access_tokens_can_be_short_lived(sandbox: Sandbox, oauth: OAuthClient) -> None:
    sandbox.faults.set(token_lifetime=7)
    assert oauth.connect()["expires_in"] == 7


def test_consent_can_be_denied_by_policy(sandbox: Sandbox, oauth: OAuthClient) -> None:
    sandbox.faults.set(deny_consent=True)
    back = parameters_of(oauth.press(oauth.open_page()).headers["Location"])
    assert (back["error"], back["state"], back["iss"]) == ("access_denied", "fake-state", sandbox.issuer)


def test_the_refresh_token_can_be_left_out(sandbox: Sandbox, oauth: OAuthClient) -> None:
    sandbox.faults.set(no_refresh_token=True)
    assert "refresh_token" not in oauth.connect()


def test_another_mailbox_can_consent(sandbox: Sandbox, oauth: OAuthClient, trusting: ssl.SSLContext) -> None:
    sandbox.faults.set(other_mailbox="boss@sandbox.example")
    tokens = oauth.connect(MAILBOX)
    assert claims_of(tokens["id_token"])["email"] == "boss@sandbox.example"
    with dial(sandbox, trusting) as server:
        code, text = two_steps(server, "XOAUTH2", xoauth2(MAILBOX, tokens["access_token"]))
        assert (code, text[:5]) == (535, "5.7.3")


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name)
def test_every_fault_can_be_switched_on_and_off_by_http(sandbox: Sandbox, fault: object) -> None:
    name = getattr(fault, "name", "")
    url = f"{sandbox.web_url}/faults.json"
    wanted: object = 2 if isinstance(sandbox.faults.as_dict()[name], float) else True
    switched = requests.put(url, json={name: wanted}, timeout=10)
    assert switched.status_code == 200
    assert [key for key, value in requests.get(url, timeout=10).json().items() if value] == [name]
    assert not any(requests.post(f"{sandbox.web_url}/reset", timeout=10).json().values())


@pytest.mark.parametrize(
    "body",
    [
        {"no_such_fault": True},
        {"rotation": True, "throttled": "yes"},
        {"rotation": True, "slow_token": -1},
        {"rotation": True, "slow_token": True},
        {"rotation": True, "send_as_denied": "never"},
        {"rotation": True, "recipient_refused": "two\nlines"},
        {"rotation": True, "other_mailbox": 5},
    ],
)
def test_a_wrong_switch_changes_nothing_and_is_explained(sandbox: Sandbox, body: dict[str, object]) -> None:
    answer = requests.put(f"{sandbox.web_url}/faults.json", json=body, timeout=10)
    assert answer.status_code == 422
    assert answer.json()["error"].endswith(".")
    assert not any(sandbox.faults.as_dict().values())


def test_a_fault_value_is_checked_without_http_as_well() -> None:
    faults = Faults()
    with pytest.raises(ValueError, match="no_such_fault"):
        faults.set(no_such_fault=True)
    faults.set(hang_after_dot=True)
    assert faults.word("hang_after_dot") == "hang"
