"""One token call against a real https endpoint on loopback: what is sent, what is believed, what an error means."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote_plus

import pytest

from mail import token_endpoint
from mail.errors import ConnectionLost, Family, MailError, SettingsWrong, Stage, TryLater
from mail.explain import explain
from mail.token_endpoint import TokenAnswer, TokenCall
from models.connection import ClientAuth
from security.outbound import AllowRule, Door
from security.secret import Secret
from tests.fakes.certs import CA, ServerCert, make_ca, make_server_cert
from tests.fakes.provider import FakeProvider, Reply, granted, reply
from tests.patience import SOON_S

CLIENT_SECRET = "fake-client-secret-Zq8"
REFRESH_TOKEN = "fake-refresh-token-Kx3"


@pytest.fixture
def provider(cert: ServerCert) -> Iterator[FakeProvider]:
    with FakeProvider(cert) as running:
        running.answer = granted()
        yield running


@pytest.fixture
def refresh(provider: FakeProvider) -> TokenCall:
    return TokenCall(
        provider="other",
        token_url=provider.token_url,
        client_id="client-1",
        client_secret=Secret(CLIENT_SECRET),
        grant_type="refresh_token",
        scope="smtp.send",
        refresh_token=Secret(REFRESH_TOKEN),
    )


def error_of(token_call: TokenCall, door: Door) -> MailError:
    with pytest.raises(MailError) as caught:
        token_endpoint.call(token_call, door=door)
    error = caught.value
    assert error.stage is Stage.TOKEN
    assert error.family is Family.TOKEN
    return error


# --- What is sent


def test_a_refresh_posts_grant_client_and_refresh_token_as_a_form(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    token_endpoint.call(refresh, door=door)
    [request] = provider.requests
    assert request.form == {
        "grant_type": "refresh_token",
        "client_id": "client-1",
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
    }
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["Accept"] == "application/json"
    assert request.headers["Accept-Encoding"] == "identity"
    assert "Authorization" not in request.headers


def test_a_refresh_names_the_scope_to_microsoft_only(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    token_endpoint.call(dataclasses.replace(refresh, provider="microsoft365"), door=door)
    assert provider.requests[0].form["scope"] == "smtp.send"


def test_a_code_goes_with_redirect_uri_and_verifier(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    token_call = dataclasses.replace(
        refresh,
        grant_type="authorization_code",
        refresh_token=None,
        code=Secret("fake-code"),
        redirect_uri="http://localhost:8025/oauth/callback",
        code_verifier=Secret("v" * 64),
    )
    token_endpoint.call(token_call, door=door)
    form = provider.requests[0].form
    assert (form["code"], form["redirect_uri"], form["code_verifier"]) == (
        "fake-code",
        "http://localhost:8025/oauth/callback",
        "v" * 64,
    )
    assert "scope" not in form


def test_client_credentials_name_the_scope_and_no_refresh_token(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    token_endpoint.call(dataclasses.replace(refresh, grant_type="client_credentials"), door=door)
    form = provider.requests[0].form
    assert form["scope"] == "smtp.send"
    assert "refresh_token" not in form


def test_an_app_registered_for_basic_sends_id_and_secret_in_the_header_only(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    secret = "a b+c/d=é:%"
    token_endpoint.call(
        dataclasses.replace(refresh, client_auth=ClientAuth.BASIC, client_secret=Secret(secret)), door=door
    )
    [request] = provider.requests
    scheme, _, pair = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    # Form-encoded before they are joined (RFC 6749 2.3.1).
    client_id, _, sent = base64.b64decode(pair).decode("ascii").partition(":")
    assert (unquote_plus(client_id), unquote_plus(sent)) == (refresh.client_id, secret)
    assert not {"client_id", "client_secret"} & set(request.form)


def test_a_public_client_has_nothing_to_put_into_a_header(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    token_endpoint.call(dataclasses.replace(refresh, client_auth=ClientAuth.BASIC, client_secret=None), door=door)
    [request] = provider.requests
    assert "Authorization" not in request.headers
    assert request.form["client_id"] == refresh.client_id


def test_a_public_client_sends_its_id_alone(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    token_endpoint.call(dataclasses.replace(refresh, client_secret=None), door=door)
    assert "client_secret" not in provider.requests[0].form


def test_custom_parameters_never_replace_a_standard_one(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    extra = (("resource", "mail"), ("Scope", "everything"), ("client_id", "evil"), ("resource", "smtp"))
    token_endpoint.call(dataclasses.replace(refresh, extra=extra), door=door)
    form = provider.requests[0].form
    assert form["resource"] == "smtp"
    assert form["client_id"] == "client-1"
    assert "Scope" not in form


# --- What is believed


def ask(provider: FakeProvider, refresh: TokenCall, door: Door, answer: Reply) -> TokenAnswer:
    provider.answer = answer
    return token_endpoint.call(refresh, door=door)


def test_an_answer_gives_token_lifetime_and_scope(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    before = datetime.now(UTC)
    answer = ask(provider, refresh, door, granted("fake-token-1", scope="smtp.send", refresh_token="fake-refresh-2"))
    assert answer.access_token == Secret("fake-token-1")
    assert answer.refresh_token == Secret("fake-refresh-2")
    assert answer.scope == "smtp.send"
    assert answer.expires_in_s == 3600
    assert before <= answer.expires_at - timedelta(seconds=3600) <= datetime.now(UTC)
    assert not answer.single_use
    assert "fake-token-1" not in repr(answer)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (None, 3600),
        (3599, 3599),
        ("3599", 3599),
        (3599.9, 3599),
        ("soon", 3600),
        (True, 3600),
        ([60], 3600),
        ("1e3", 3600),
        (86_401, 86_400),
        (10**15, 86_400),
        ("9" * 400, 3600),
    ],
    ids=str,
)
def test_a_lifetime_is_read_as_people_write_it(
    provider: FakeProvider, refresh: TokenCall, door: Door, given: Any, seconds: int
) -> None:
    assert ask(provider, refresh, door, granted(expires_in=given)).expires_in_s == seconds


@pytest.mark.parametrize("given", [0, -5, "0", "-1", 0.4], ids=str)
def test_a_token_without_life_is_for_one_use(
    provider: FakeProvider, refresh: TokenCall, door: Door, given: Any
) -> None:
    answer = ask(provider, refresh, door, granted(expires_in=given))
    assert answer.single_use
    assert answer.expires_in_s == 0


def test_an_infinite_lifetime_counts_as_absent(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    body = b'{"access_token": "t", "token_type": "bearer", "expires_in": 1e999}'
    assert ask(provider, refresh, door, reply(200, body)).expires_in_s == 3600


def test_an_absent_scope_means_as_asked_for(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    assert ask(provider, refresh, door, granted()).scope == "smtp.send"


def test_a_narrower_scope_is_told_and_is_no_error(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    wide = dataclasses.replace(refresh, scope="smtp.send imap.read")
    assert ask(provider, wide, door, granted(scope="smtp.send")).scope == "smtp.send"


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
def test_the_token_type_is_bearer_in_any_case(
    provider: FakeProvider, refresh: TokenCall, door: Door, word: str
) -> None:
    assert ask(provider, refresh, door, granted(token_type=word)).access_token


def test_the_longest_token_is_16_kib(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    assert ask(provider, refresh, door, granted("t" * 16_384)).access_token == Secret("t" * 16_384)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"token_type": "bearer"}, "missing_token"),
        ({"access_token": "", "token_type": "bearer"}, "missing_token"),
        ({"access_token": 7, "token_type": "bearer"}, "unusable_token"),
        ({"access_token": "t" * 16_385, "token_type": "bearer"}, "unusable_token"),
        ({"access_token": "two words", "token_type": "bearer"}, "unusable_token"),
        ({"access_token": "new\nline", "token_type": "bearer"}, "unusable_token"),
        ({"access_token": "tökén", "token_type": "bearer"}, "unusable_token"),
        ({"access_token": "t", "token_type": "mac"}, "unusable_token_type"),
        ({"access_token": "t"}, "unusable_token_type"),
        ({"access_token": "t", "token_type": "bearer", "refresh_token": 5}, "unusable_token"),
        ({"access_token": "t", "token_type": "bearer", "refresh_token": "a\x01b"}, "unusable_token"),
        ([{"access_token": "t", "token_type": "bearer"}], "not_json"),
        ("a text", "not_json"),
        (b'{"access_token": "t", "access_token": "u", "token_type": "bearer"}', "not_json"),
        (b'{"access_token": "t", "token_type": "bearer", "expires_in": NaN}', "not_json"),
        (b'{"a": ' * 50_000, "not_json"),
        (b'{"access_token": "\xff", "token_type": "bearer"}', "not_json"),
        (b"access_token=t&token_type=bearer", "not_json"),
        (b"<html>Welcome to the hotel network</html>", "not_json"),
        (b"", "not_json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_unsound_answer_gives_no_token_and_is_temporary(
    provider: FakeProvider, refresh: TokenCall, door: Door, body: Any, code: str
) -> None:
    provider.answer = reply(200, body)
    error = error_of(refresh, door)
    assert isinstance(error, TryLater)
    assert error.code in (code, "connection_failed") if len(str(body)) > 65_536 else error.code == code


def test_an_answer_beyond_64_kib_is_not_read(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    provider.answer = granted(padding="x" * 70_000)
    assert isinstance(error_of(refresh, door), TryLater)


def test_a_clock_that_is_off_is_measured(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    answer = ask(provider, refresh, door, Reply(200, granted().body, {"Date": date}))
    assert answer.clock_skew_s is not None
    assert 3_590 < answer.clock_skew_s <= 3_600


def test_a_server_that_does_not_tell_the_time_is_not_judged(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    assert ask(provider, refresh, door, granted()).clock_skew_s is None


# --- What an error means


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "invalid_grant", ConnectionLost),
        (400, "interaction_required", ConnectionLost),
        (400, "consent_required", ConnectionLost),
        (401, "invalid_client", SettingsWrong),
        (400, "invalid_client", SettingsWrong),
        (400, "unauthorized_client", SettingsWrong),
        (400, "invalid_scope", SettingsWrong),
        (400, "unsupported_grant_type", SettingsWrong),
        (400, "temporarily_unavailable", TryLater),
        (400, "server_error", TryLater),
        (400, "something_new", TryLater),
        (503, "invalid_grant", TryLater),
        (429, "invalid_client", TryLater),
        (200, "invalid_grant", ConnectionLost),
    ],
)
def test_the_oauth_error_decides_what_to_do(
    provider: FakeProvider, refresh: TokenCall, door: Door, status: int, error: str, kind: type[MailError]
) -> None:
    provider.answer = reply(status, {"error": error, "error_description": "In words."})
    raised = error_of(refresh, door)
    assert type(raised) is kind
    assert raised.code == error
    assert raised.detail == f"HTTP {status} {error}: In words."
    assert raised.reply_code == status


def test_a_lost_grant_is_a_wrong_setting_where_there_is_no_grant(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    provider.answer = reply(400, {"error": "invalid_grant"})
    error = error_of(dataclasses.replace(refresh, grant_type="client_credentials"), door)
    assert isinstance(error, SettingsWrong)


def test_microsofts_passing_faults_are_temporary_under_any_error(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    provider.answer = reply(400, {"error": "invalid_grant", "error_description": "AADSTS50033: A retryable error."})
    error = error_of(dataclasses.replace(refresh, provider="microsoft365"), door)
    assert isinstance(error, TryLater)


@pytest.mark.parametrize("status", [301, 302, 307, 403, 404, 405, 500, 502])
def test_an_answer_without_oauths_words_is_temporary(
    provider: FakeProvider, refresh: TokenCall, door: Door, status: int
) -> None:
    provider.answer = reply(status, b"<h1>Hello</h1>", Location="/elsewhere")
    error = error_of(refresh, door)
    assert isinstance(error, TryLater)
    assert error.detail.startswith(f"HTTP {status}")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("120", 120.0), ("999999999", 86_400.0), ("junk", None), ("-3", None), ("", None)],
)
def test_retry_after_is_the_endpoints_wish(
    provider: FakeProvider, refresh: TokenCall, door: Door, written: str, seconds: float | None
) -> None:
    provider.answer = reply(429, {"error": "slow_down"}, Retry_After=written)
    error = error_of(refresh, door)
    assert isinstance(error, TryLater)
    assert error.after_s == seconds


def test_retry_after_may_be_a_date(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)
    provider.answer = reply(503, {}, Retry_After=at)
    error = error_of(refresh, door)
    assert isinstance(error, TryLater)
    assert error.after_s is not None
    assert 100 < error.after_s <= 120


def test_secrets_that_come_back_are_masked(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    words = f"The secret {CLIENT_SECRET} does not fit the token {REFRESH_TOKEN}.\r\nSet-Cookie: a=b"
    provider.answer = reply(400, {"error": "invalid_request", "error_description": words})
    error = error_of(refresh, door)
    assert CLIENT_SECRET not in str(error)
    assert REFRESH_TOKEN not in str(error)
    assert "\n" not in error.detail


def test_a_long_description_is_cut(provider: FakeProvider, refresh: TokenCall, door: Door) -> None:
    provider.answer = reply(400, {"error": "invalid_request", "error_description": "very " * 5_000})
    assert len(error_of(refresh, door).detail) <= 1_000


def test_an_error_that_is_no_word_does_not_become_a_code(
    provider: FakeProvider, refresh: TokenCall, door: Door
) -> None:
    provider.answer = reply(400, {"error": {"code": 400, "message": "<script>"}})
    assert error_of(refresh, door).code == "unknown_error"


def test_a_closed_port_is_temporary_and_explained(refresh: TokenCall, door: Door, ca: CA) -> None:
    with FakeProvider(make_server_cert(ca)) as gone:
        url = gone.token_url
    error = error_of(dataclasses.replace(refresh, token_url=url), door)
    assert isinstance(error, TryLater)
    assert explain(error.detail, stage=error.stage, family=error.family, provider="other").signature is not None


def test_a_foreign_certificate_is_not_trusted(
    refresh: TokenCall, door: Door, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with FakeProvider(make_server_cert(make_ca(tmp_path_factory.mktemp("other")))) as stranger:
        error = error_of(dataclasses.replace(refresh, token_url=stranger.token_url), door)
        assert "CERTIFICATE_VERIFY_FAILED" in error.detail
        assert stranger.requests == []


def test_an_address_the_guard_refuses_is_a_wrong_setting_and_is_not_called(
    provider: FakeProvider, refresh: TokenCall, ca: CA
) -> None:
    error = error_of(refresh, Door(AllowRule.parse_list(""), ca_file=ca.cert_file))
    assert isinstance(error, SettingsWrong)
    assert error.code == "blocked"
    assert provider.requests == []


@pytest.mark.parametrize(
    "url", ["http://localhost/token", "https://user:pw@localhost/token", "https://localhost/#a", ""]
)
def test_a_url_that_is_none_is_a_wrong_setting(refresh: TokenCall, door: Door, url: str) -> None:
    assert isinstance(error_of(dataclasses.replace(refresh, token_url=url), door), SettingsWrong)


def test_an_answer_that_drips_ends_with_the_deadline(
    provider: FakeProvider, refresh: TokenCall, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_endpoint, "DEADLINE_S", 0.6)
    body = json.dumps({"access_token": "t" * 500, "token_type": "bearer"}).encode()
    provider.answer = Reply(200, body, {}, pause_s=0.1, drips=True)
    started = time.monotonic()
    error = error_of(refresh, door)
    assert time.monotonic() - started < SOON_S
    assert isinstance(error, TryLater)
    assert error.code == "timed_out"
