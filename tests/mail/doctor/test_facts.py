"""What each step learned, in words: one line, the details below it, and which check of an encryption failed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mail.doctor.facts import details, failed_check, learned
from mail.errors import MailError, Stage
from mail.smtp import Conversation, Encryption, Endpoint, Timeouts
from security.outbound import Door
from tests.fakes.certs import CA, make_ca, make_server_cert
from tests.fakes.mta import MTA

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOST = "smtp.acme.example"
TLS = {
    "version": "TLSv1.3",
    "cipher": "TLS_AES_256_GCM_SHA384",
    "subject": "CN=smtp.acme.example, O=Acme",
    "issuer": "CN=Good CA, O=Trust",
    "not_after": "2026-12-04T12:00:00Z",
    "implicit": False,
}
TOKEN = {
    "scope": "https://outlook.office.com/SMTP.Send",
    "expires_at": "2026-11-22T13:00:00+00:00",
    "fresh": True,
    "rotated": True,
}


def _told(stage: Stage, facts: dict[str, Any]) -> dict[str, str]:
    pairs = details(stage, facts, host=HOST, now=NOW)
    assert all(value for _, value in pairs)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("stage", list(Stage), ids=str)
def test_a_step_without_facts_has_no_details(stage: Stage) -> None:
    assert details(stage, {}, host=HOST, now=NOW) == ()


def test_all_addresses_are_listed_and_the_used_one_is_marked() -> None:
    facts = {"addresses": ["192.0.2.1", "2001:db8::1"], "used": "2001:db8::1"}
    assert learned(Stage.RESOLVE, facts, host=HOST, now=NOW) == "192.0.2.1 and 1 more address"
    assert _told(Stage.RESOLVE, facts) == {"Addresses": "192.0.2.1, 2001:db8::1", "Used": "2001:db8::1"}


def test_a_single_address_is_said_by_the_line_alone() -> None:
    assert _told(Stage.RESOLVE, {"addresses": ["192.0.2.1"], "used": "192.0.2.1"}) == {}


def test_encryption_tells_cipher_certificate_issuer_and_the_days_left() -> None:
    assert _told(Stage.TLS, TLS) == {
        "Version": "TLS 1.3",
        "Cipher": "TLS_AES_256_GCM_SHA384",
        "Begun": "After a greeting in clear, by STARTTLS",
        "Certificate for": "CN=smtp.acme.example, O=Acme",
        "Issued by": "CN=Good CA, O=Trust",
        "Valid until": "4 Dec 2026, 12 days left",
    }
    assert _told(Stage.TLS, {**TLS, "implicit": True})["Begun"] == "From the first byte (implicit TLS)"


@pytest.mark.parametrize(
    ("not_after", "left"),
    [
        (NOW + timedelta(days=1, hours=1), "23 Nov 2026, 1 day left"),
        (NOW + timedelta(hours=1), "22 Nov 2026, ends today"),
        (NOW - timedelta(days=2), "20 Nov 2026, has ended"),
    ],
    ids=["a day", "hours", "past"],
)
def test_the_last_days_of_a_certificate_are_counted(not_after: datetime, left: str) -> None:
    assert _told(Stage.TLS, {**TLS, "not_after": not_after.isoformat()})["Valid until"] == left


def test_an_unencrypted_connection_has_no_details() -> None:
    assert _told(Stage.TLS, dict.fromkeys(TLS, "")) == {}


def test_an_opaque_token_tells_what_came_with_it() -> None:
    assert _told(Stage.TOKEN, TOKEN) == {
        "Granted scopes": "https://outlook.office.com/SMTP.Send",
        "Expires": "22 Nov 2026, 13:00:00 UTC",
        "Refresh token": "Replaced by a new one",
        "Content": "Opaque: this token does not say whom or what it is for",
    }


def test_a_token_for_another_service_is_said_not_to_be_for_exchange() -> None:
    claims = {
        "audience": "Microsoft Graph",
        "audience_id": "00000003-0000-0000-c000-000000000000",
        "scopes": ["SMTP.Send", "openid"],
        "roles": [],
        "user": "admin@acme.example",
        "is_app": False,
        "tenant": "6f1e2d3c-0000-4000-8000-000000000000",
        "app_id": "1b2c",
        "app_name": "Storepost",
        "expires_at": "",
    }
    told = _told(Stage.TOKEN, {**TOKEN, "rotated": False, "claims": claims})
    assert told["Audience"] == "Microsoft Graph, not Exchange Online (00000003-0000-0000-c000-000000000000)"
    assert told["Scopes in the token"] == "SMTP.Send, openid"
    assert told["User"] == "admin@acme.example"
    assert told["App"] == "Storepost 1b2c"
    assert told["Refresh token"] == "Not replaced"
    assert "Roles in the token" not in told
    assert "Content" not in told


def test_the_right_service_and_an_unknown_one_are_named_as_they_are() -> None:
    exchange = {"audience": "Exchange Online", "audience_id": "https://outlook.office.com"}
    assert _told(Stage.TOKEN, {**TOKEN, "claims": exchange})["Audience"] == (
        "Exchange Online (https://outlook.office.com)"
    )
    own = {"audience": "mail.acme.example", "audience_id": "mail.acme.example"}
    assert _told(Stage.TOKEN, {**TOKEN, "claims": own})["Audience"] == "mail.acme.example"


def test_a_token_of_an_app_is_said_to_have_no_user() -> None:
    claims = {"audience": "Exchange Online", "roles": ["SMTP.SendAsApp"], "is_app": True}
    told = _told(Stage.TOKEN, {**TOKEN, "claims": claims})
    assert told["User"] == "No user: the app itself"
    assert told["Roles in the token"] == "SMTP.SendAsApp"


@pytest.mark.parametrize(
    ("skew_s", "words"),
    [
        (600.0, "This server's clock is 10 minutes behind the provider's"),
        (-180.0, "This server's clock is 3 minutes ahead of the provider's"),
        (90.0, None),
        (None, None),
        ("junk", None),
    ],
    ids=str,
)
def test_a_clock_that_is_off_is_mentioned(skew_s: Any, words: str | None) -> None:
    assert _told(Stage.TOKEN, {**TOKEN, "clock_skew_s": skew_s}).get("Clock") == words


def test_the_greeting_is_told_with_every_capability_in_words() -> None:
    capabilities = ["SIZE 157286400", "PIPELINING", "CHUNKING", "AUTH LOGIN XOAUTH2", "LIMITS RCPTMAX=500", "X-ODD 5"]
    assert _told(Stage.GREET, {"banner": "mail.test ESMTP ready", "capabilities": capabilities}) == {
        "Greeting": "mail.test ESMTP ready",
        "Largest message": "157.3 MB (157,286,400 bytes)",
        "Sign-in by": "LOGIN, XOAUTH2",
        "Limits": "recipients 500",
        "Also offers": (
            "Several commands in one round trip (PIPELINING) · Content in chunks, without dot-stuffing (CHUNKING) · "
            "X-ODD 5"
        ),
    }


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("SIZE", "Not said"),
        ("SIZE 0", "No fixed limit"),
        ("SIZE 1000000", "1 MB (1,000,000 bytes)"),
        ("SIZE 35882577", "35.9 MB (35,882,577 bytes)"),
        ("SIZE 512000", "512 kB (512,000 bytes)"),
        ("SIZE " + "9" * 40, "Not said"),
        ("SIZE ٣", "Not said"),
    ],
    ids=["none", "zero", "a million", "gmail", "small", "absurd", "other digits"],
)
def test_the_largest_message_is_told_in_megabytes(line: str, words: str) -> None:
    assert _told(Stage.GREET, {"capabilities": [line]}) == {"Largest message": words}


def test_the_sign_in_tells_mechanism_and_user() -> None:
    facts = {"mechanism": "XOAUTH2", "user": "orders@acme.example"}
    assert _told(Stage.AUTH, facts) == {"Mechanism": "XOAUTH2", "User": "orders@acme.example"}


def test_the_acceptance_tells_words_queue_id_and_size() -> None:
    facts = {"code": 250, "text": "2.0.0 Ok: queued as 4F2B", "queue_id": "4F2B", "size_bytes": 1234}
    assert _told(Stage.MESSAGE, facts) == {
        "The server's words": "250 2.0.0 Ok: queued as 4F2B",
        "Queue id": "4F2B",
        "Size": "1,234 bytes",
    }


def test_odd_facts_of_an_old_row_are_left_out() -> None:
    odd = {"not_after": "soon", "version": "TLSv1.2", "capabilities": None, "expires_at": 5, "claims": "x"}
    assert _told(Stage.TLS, odd) == {"Version": "TLS 1.2", "Begun": "After a greeting in clear, by STARTTLS"}
    assert _told(Stage.GREET, odd) == {}
    assert "Expires" not in _told(Stage.TOKEN, odd)


# Which check failed --------------------------------------------------------------------------------------------------

VERIFY = "SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {} (_ssl.c:992)"


@pytest.mark.parametrize(
    ("detail", "words"),
    [
        (VERIFY.format("certificate has expired"), "The certificate has expired"),
        (VERIFY.format("certificate is not yet valid"), "The certificate is not valid yet"),
        (
            VERIFY.format("Hostname mismatch, certificate is not valid for 'smtp.acme.example'."),
            "The certificate names another server",
        ),
        (
            VERIFY.format("IP address mismatch, certificate is not valid for '192.0.2.1'."),
            "The certificate names another server",
        ),
        (VERIFY.format("self-signed certificate"), "The certificate is self-signed: no issuer vouches for it"),
        (VERIFY.format("self signed certificate"), "The certificate is self-signed: no issuer vouches for it"),
        (
            VERIFY.format("self-signed certificate in certificate chain"),
            "The certificate comes from an issuer that is not trusted here",
        ),
        (
            VERIFY.format("unable to get local issuer certificate"),
            "The issuer of the certificate is not known here, or is missing from the server's chain",
        ),
        (VERIFY.format("EE key too small"), "The certificate uses a key or signature that is too weak"),
        (VERIFY.format("something new"), "The certificate was not accepted"),
        ("SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number", "The server did not answer with TLS"),
        ("SSLError: [SSL: RECORD_LAYER_FAILURE] record layer failure", "The server did not answer with TLS"),
        (
            "SSLError: [SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version",
            "No common TLS version: Storepost needs TLS 1.2 or later",
        ),
        (
            "SSLError: [SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure",
            "No common cipher: the server refused the handshake",
        ),
        ("SSLError: [SSL: DH_KEY_TOO_SMALL] dh key too small", "The handshake used a key that is too weak"),
        ("SSLError: [SSL: TLSV1_UNRECOGNIZED_NAME] unrecognized name", "The server does not know itself by this name"),
        ("SSLEOFError: EOF occurred in violation of protocol", "The handshake was cut off"),
        ("ConnectionResetError: [Errno 104] Connection reset by peer", "The handshake was cut off"),
        ("TimeoutError: _ssl.c:989: The handshake operation timed out", "The handshake did not end in time"),
        ("STARTTLS extension not supported by server.", "The server does not offer STARTTLS"),
        ("SSLError: [SSL: SOMETHING_ELSE]", "The handshake failed"),
        ("454 4.3.0 not now", ""),
        ("", ""),
    ],
    ids=lambda value: value[-50:] or "nothing",
)
def test_the_words_of_a_fault_name_the_check_that_failed(detail: str, words: str) -> None:
    assert failed_check(detail) == words


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda ca: make_server_cert(ca, expired=True), "The certificate has expired"),
        (lambda ca: make_server_cert(ca, ["other.example"], []), "The certificate names another server"),
        (
            lambda ca: make_server_cert(make_ca(ca.directory / "foreign", "Somebody else")),
            "The issuer of the certificate is not known here, or is missing from the server's chain",
        ),
    ],
    ids=["expired", "another name", "unknown issuer"],
)
def test_a_real_refusal_names_its_check(ca: CA, door: Door, make: Callable[[CA], Any], words: str) -> None:
    with MTA(make(ca).server_context(), implicit=True) as mta:
        endpoint = Endpoint("localhost", mta.port, Encryption.IMPLICIT)
        conversation = Conversation(endpoint, door=door, timeouts=Timeouts.for_test())
        with pytest.raises(MailError) as caught:
            conversation.open()
    assert failed_check(caught.value.detail) == words
