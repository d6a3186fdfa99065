"""What is said inside AUTH, byte for byte (providers.md 11)."""

import base64

import pytest

from mail.errors import SettingsWrong
from mail.smtp import BearerLogin, PasswordLogin, sasl
from security.secret import Secret

XOAUTH2_VECTORS = {
    "google": (
        "someuser@example.com",
        "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg",
        b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0"
        b"Q2cBAQ==",
    ),
    "microsoft": (
        "test@contoso.onmicrosoft.com",
        "EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA",
        b"dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJD"
        b"M0VvQUEBAQ==",
    ),
    "yandex": (
        "test@yandex.ru",
        "ArdFfigAAKFwEUbpZq1FQxufwJlrq-pE2g",
        b"dXNlcj10ZXN0QHlhbmRleC5ydQFhdXRoPUJlYXJlciBBcmRGZmlnQUFLRndFVWJwWnExRlF4dWZ3SmxycS1wRTJnAQE=",
    ),
}
OAUTHBEARER_VECTORS = {
    143: b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52"
    b"YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB",
    587: b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9NTg3AWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52"
    b"YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB",
}
CHALLENGES = {
    "google 401": (
        "eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiYmVhcmVyIG1hYyIsInNjb3BlIjoiaHR0cHM6Ly9tYWlsLmdvb2dsZS5jb20vIn0K",
        '{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}',
    ),
    "google 400": (
        "eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIiwic2NvcGUiOiJodHRwczovL21haWwuZ29vZ2xlLmNvbS8ifQ==",
        '{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}',
    ),
    "rfc 7628": (
        "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIiwic2NoZW1lcyI6ImJlYXJlciBtYWMiLCJzY29wZSI6Imh0dHBzOi8vbWFpbC5leGFtcGxlLmNv"
        "bS8ifQ==",
        '{"status":"invalid_token","schemes":"bearer mac","scope":"https://mail.example.com/"}',
    ),
}
BEARER = BearerLogin("user@example.com", Secret("fake-token"))
PASSWORD = PasswordLogin("user@example.com", Secret("fake-password"))


@pytest.mark.parametrize(("user", "token", "expected"), XOAUTH2_VECTORS.values(), ids=XOAUTH2_VECTORS)
def test_xoauth2_equals_the_published_vector(user: str, token: str, expected: bytes) -> None:
    assert sasl.xoauth2(user, token) == expected


@pytest.mark.parametrize(("port", "expected"), OAUTHBEARER_VECTORS.items())
def test_oauthbearer_equals_the_vector_of_rfc_7628(port: int, expected: bytes) -> None:
    token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="
    assert sasl.oauthbearer("user@example.com", token, host="server.example.com", port=port) == expected


@pytest.mark.parametrize(("text", "expected"), CHALLENGES.values(), ids=CHALLENGES)
def test_a_failure_challenge_is_decoded_to_one_line(text: str, expected: str) -> None:
    assert sasl.decode_challenge(text) == expected


@pytest.mark.parametrize("text", ["not base64 at all!", "abc", "=", "é"])
def test_a_challenge_that_is_no_base64_is_kept_as_it_is(text: str) -> None:
    assert sasl.decode_challenge(text) == text


def test_a_long_challenge_is_cut() -> None:
    assert len(sasl.decode_challenge(base64.b64encode(b"x" * 9000).decode())) <= 400


def test_oauthbearer_escapes_what_would_end_the_name() -> None:
    payload = base64.b64decode(sasl.oauthbearer("a=b,c@example.com", "t", host="h", port=1))
    assert payload.startswith(b"n,a=a=3Db=2Cc@example.com,\x01host=h\x01port=1\x01")


def test_plain_has_no_authorization_identity() -> None:
    assert base64.b64decode(sasl.plain("tim", "tanstaaftanstaaf")) == b"\0tim\0tanstaaftanstaaf"


def test_after_a_failure_xoauth2_answers_an_empty_line_and_oauthbearer_one_control_a() -> None:
    offered = ["XOAUTH2", "OAUTHBEARER"]
    xoauth2 = sasl.exchange_for(BEARER, offered=offered, host="h", port=587)
    oauthbearer = sasl.exchange_for(BEARER, offered=offered[1:], host="h", port=587)
    assert (xoauth2.mechanism, xoauth2.failure_answer) == ("XOAUTH2", b"")
    assert (oauthbearer.mechanism, oauthbearer.failure_answer) == ("OAUTHBEARER", b"AQ==")


@pytest.mark.parametrize(
    ("login", "offered", "expected"),
    [
        (BEARER, ["PLAIN", "OAUTHBEARER", "XOAUTH2"], "XOAUTH2"),
        (BEARER, ["LOGIN", "OAUTHBEARER"], "OAUTHBEARER"),
        (BearerLogin("u", Secret("t"), "oauthbearer"), ["XOAUTH2", "OAUTHBEARER"], "OAUTHBEARER"),
        (PASSWORD, ["LOGIN", "PLAIN"], "PLAIN"),
        (PASSWORD, ["LOGIN", "XOAUTH2"], "LOGIN"),
    ],
)
def test_it_takes_the_first_mechanism_both_sides_know(login: object, offered: list[str], expected: str) -> None:
    assert sasl.exchange_for(login, offered=offered, host="h", port=1).mechanism == expected


@pytest.mark.parametrize(
    ("login", "offered", "words"),
    [
        (BEARER, ["PLAIN", "LOGIN"], "No suitable authentication method found: needed XOAUTH2 or OAUTHBEARER"),
        (BearerLogin("u", Secret("t"), "OAUTHBEARER"), ["XOAUTH2"], "needed OAUTHBEARER, the server offers XOAUTH2"),
        (BearerLogin("u", Secret("t"), "CRAM-MD5"), ["CRAM-MD5"], "No suitable authentication method found"),
        (PASSWORD, ["XOAUTH2"], "needed PLAIN or LOGIN"),
        (PASSWORD, [], "the server offers none"),
        (PASSWORD, None, "SMTP AUTH extension not supported"),
    ],
)
def test_no_mechanism_in_common_is_a_matter_of_settings(login: object, offered: list[str] | None, words: str) -> None:
    with pytest.raises(SettingsWrong, match=words):
        sasl.exchange_for(login, offered=offered, host="h", port=1)


@pytest.mark.parametrize(
    "login",
    [
        BearerLogin("user\x01auth=Bearer other", Secret("t")),
        BearerLogin("user", Secret("to\x01ken")),
        BearerLogin("user", Secret("to\r\nken")),
        BearerLogin("user", Secret("tökén")),
        BearerLogin("", Secret("t")),
        BearerLogin("user", Secret("")),
        PasswordLogin("us\0er", Secret("p")),
        PasswordLogin("user", Secret("pass\0word")),
    ],
)
def test_a_login_that_could_end_its_field_early_is_refused(login: BearerLogin | PasswordLogin) -> None:
    with pytest.raises(SettingsWrong) as caught:
        sasl.exchange_for(login, offered=["XOAUTH2", "PLAIN"], host="h", port=1)
    assert "word" not in caught.value.detail
    assert "ken" not in caught.value.detail.replace("access token", "")


def test_an_exchange_shows_no_secret() -> None:
    exchange = sasl.exchange_for(PASSWORD, offered=["LOGIN"], host="h", port=1)
    assert "fake-password" not in repr(exchange)
    assert exchange.answers[1].decode() not in repr(exchange)
    assert set(exchange.secrets) >= {"fake-password", exchange.answers[1].decode()}
