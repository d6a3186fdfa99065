"""Test Email Settings against token endpoints that fail, and tokens that mail servers do not take."""

from __future__ import annotations

import base64
import json
import socket
from dataclasses import replace
from typing import Any

import pytest

import tests.fakes.hostile_transfer  # noqa: F401  fills the library
from mail import token_endpoint
from mail.drafts import SecretEdit
from mail.errors import Stage
from security.secret import Secret
from tests.fakes.hostile_smtp import PRIVATE, SERVERS
from tests.fakes.provider import FakeProvider, Reply, granted, reply
from tests.mail.doctor.faults import Arena, Fault, check, check_nothing_was_sent, check_secrecy, table
from tests.patience import SOON_S
from tests.sandbox.clients import MAILBOX

SECRET = "9Qk8Q~the-client-secret-of-this-test-0123"
SECRET_ID = "3f2b8c1d-5a6e-4f70-8192-a3b4c5d6e7f8"
GIVEN = "opaque-access-token-of-this-test-4711"
_OUTLOOK = "https://outlook.office.com/SMTP.Send offline_access"
_TRACE = "Trace ID: 1f2e3d4c-0000-4000-8000-000000000000 Correlation ID: 5a6b7c8d-0000-4000-8000-000000000000"
# A page of some proxy: its words are the network's own and nobody's business.
_PAGE = f"<html><title>Sign in to {PRIVATE}</title></html>".encode()


def _token(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    title = f"{'Microsoft' if more.get('provider') == 'microsoft365' else 'localhost'} did not issue an access token"
    return Fault(name, Stage.TOKEN, title, headline, action, mend, **{"provider": "other", **more})


def _microsoft(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    return _token(name, headline, action, mend, provider="microsoft365", **more)


def _oauth_error(error: str, description: str = "", status: int = 400) -> Reply:
    return reply(status, {"error": error, "error_description": description})


ANSWERS: dict[str, Reply] = {
    "http_503": reply(503, {"error": "temporarily_unavailable"}, Retry_After="30"),
    "html_page": reply(200, _PAGE, Content_Type="text/html"),
    "html_error_page": reply(404, _PAGE, Content_Type="text/html"),
    "redirect": reply(302, b"", Location=f"https://{PRIVATE}.example/token"),
    "too_large": reply(200, b'{"access_token": "' + b"x" * 70_000 + b'"}'),
    "no_token": reply(200, {"token_type": "Bearer", "expires_in": 3600}),
    "not_bearer": granted(GIVEN, token_type="mac"),
    "unprintable_token": granted("tok\u00e9n with blanks"),
    "twice": reply(200, b'{"access_token": "one-value-of-two", "access_token": "other-value-of-two"}'),
    "invalid_client": _oauth_error("invalid_client", "Client authentication failed", 401),
    "invalid_grant": _oauth_error("invalid_grant", "The refresh token is not known"),
    "unauthorized_client": _oauth_error("unauthorized_client"),
    "invalid_scope": _oauth_error("invalid_scope"),
    "repeats_the_secret": _oauth_error("invalid_client", f"client_secret={SECRET} does not fit, nor does {SECRET}"),
    "expired_secret": _oauth_error(
        "invalid_client", f"AADSTS7000222: The provided client secret keys for app 'x' are expired. {_TRACE}", 401
    ),
    "wrong_secret": _oauth_error("invalid_client", f"AADSTS7000215: Invalid client secret provided. {_TRACE}", 401),
    "secret_id": _oauth_error(
        "invalid_client",
        "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client "
        f"secret value, not the client secret ID, for a secret added to app 'x'. {_TRACE}",
        401,
    ),
    "single_tenant": _oauth_error(
        "invalid_request",
        "AADSTS50194: Application 'x' is not configured as a multi-tenant application. Usage of the /common endpoint "
        f"is not supported for such apps. {_TRACE}",
    ),
    "mfa": _oauth_error("invalid_grant", f"AADSTS50076: you must use multi-factor authentication. {_TRACE}"),
    "revoked_sessions": _oauth_error("invalid_grant", f"AADSTS50173: The provided grant has expired. {_TRACE}"),
}


@table(
    _token("http_503", "sign-in server is busy", "retry", shown="503"),
    _token("html_page", "localhost did not answer as a token endpoint", "fix_settings", "token_url", hidden=(PRIVATE,)),
    _token("html_error_page", "Nothing answers token requests at the Access Token URL", "fix_settings", "token_url",
           hidden=(PRIVATE,)),
    _token("redirect", "The Access Token URL redirects elsewhere", "fix_settings", "token_url", hidden=(PRIVATE,)),
    _token("too_large", "while getting an access token", "retry", leaves_unsaid=("ended the connection",)),
    _token("no_token", "The token URL answered without a token", "fix_settings", "token_url"),
    _token("not_bearer", "localhost gave a kind of token that mail sign-in cannot use", "fix_settings", "token_url"),
    _token("unprintable_token", "localhost gave a token that Storepost cannot use", "fix_settings", "token_url"),
    _token("twice", "localhost did not answer as a token endpoint", "fix_settings", "token_url",
           hidden=("one-value-of-two", "other-value-of-two")),
    _token("invalid_client", "does not accept the client ID and secret", "fix_settings", "client_secret",
           shown="invalid_client: Client authentication failed"),
    _token("invalid_grant", "no longer accepts the stored authorization", "reauthorize", shown="invalid_grant"),
    _token("unauthorized_client", "does not allow this grant for the app", "fix_provider", shown="unauthorized_client"),
    _token("invalid_scope", "does not accept the scope", "fix_settings", "scope", shown="invalid_scope"),
    _token("repeats_the_secret", "does not accept the client ID and secret", "fix_settings", "client_secret",
           shown="client_secret=*** does not fit, nor does ***"),
    _microsoft("expired_secret", "The client secret at Microsoft has expired", "fix_provider", "client_secret",
               says=("New client secret",), shown="AADSTS7000222"),
    _microsoft("wrong_secret", "Microsoft does not accept the client secret", "fix_settings", "client_secret",
               shown="AADSTS7000215"),
    _microsoft("secret_id", "Client Secret holds the Secret ID instead of the secret", "fix_settings", "client_secret",
               says=("Value",), shown="AADSTS7000215"),
    _microsoft("single_tenant", "The app belongs to one organization, but Tenant Id says common", "fix_settings",
               "tenant_id", shown="AADSTS50194", settings={"tenant_id": "common"}),
    _microsoft("mfa", "Microsoft wants multifactor authentication", "reauthorize", shown="AADSTS50076"),
    _microsoft("revoked_sessions", "Microsoft revoked this account's sessions", "reauthorize", shown="AADSTS50173"),
)  # fmt: skip
def test_a_token_endpoint_that_grants_nothing(arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    secret = SECRET_ID if fault.name == "secret_id" else SECRET
    with FakeProvider(arena.tls.cert) as provider:
        provider.answer = ANSWERS[fault.name]
        result = arena.press(fault, _draft(arena, fault, provider.token_url, secret))
    check(fault, result)
    check_nothing_was_sent(arena)
    check_secrecy(fault, result, caplog.text, arena, more=(secret, GIVEN))
    # One POST: nothing is retried within a test, and a redirect is not followed.
    assert len(provider.requests) == 1


@table(
    _token("grant_revoked", "no longer accepts the stored authorization", "reauthorize", shown="invalid_grant"),
    _token("token_5xx", "sign-in server is busy", "retry", shown="503"),
)
def test_the_faults_of_the_sandbox(arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault) -> None:
    draft = arena.draft(fault, arena.sandbox.smtp_port)
    arena.sandbox.faults.set(**{fault.name: True})
    result = arena.press(fault, draft)
    check(fault, result)
    check_nothing_was_sent(arena)
    check_secrecy(fault, result, caplog.text, arena)


def test_a_token_endpoint_that_is_too_slow(
    arena: Arena, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_endpoint, "DEADLINE_S", 0.5)
    fault = _token("slow", "localhost did not answer in time", "retry")
    with FakeProvider(arena.tls.cert) as provider:
        provider.answer = replace(granted(GIVEN), pause_s=2 * SOON_S)
        result = arena.press(fault, _draft(arena, fault, provider.token_url))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, more=(SECRET, GIVEN))
    assert result.took_s < SOON_S


def test_a_token_endpoint_that_drips(
    arena: Arena, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_endpoint, "DEADLINE_S", 0.5)
    fault = _token("drips", "localhost did not answer in time", "retry")
    with FakeProvider(arena.tls.cert) as provider:
        provider.answer = replace(granted(GIVEN), pause_s=0.05, drips=True)
        result = arena.press(fault, _draft(arena, fault, provider.token_url))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, more=(SECRET, GIVEN))


def test_a_token_endpoint_with_a_certificate_of_nobody(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    fault = _token("unknown_issuer", "The certificate of localhost is not trusted here", "fix_settings",
                   says=("STOREPOST_CA_FILE",), shown="CERTIFICATE_VERIFY_FAILED")  # fmt: skip
    with FakeProvider(arena.tls.unknown_cert) as provider:
        result = arena.press(fault, _draft(arena, fault, provider.token_url))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, more=(SECRET,))
    assert provider.requests == []


def test_a_token_endpoint_where_nobody_listens(arena: Arena, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    fault = _token("closed", "localhost could not be reached", "retry", "token_url")
    result = arena.press(fault, _draft(arena, fault, f"https://localhost:{port}/token"))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, more=(SECRET,))


def test_a_token_endpoint_in_a_network_that_stores_may_not_reach(
    arena: Arena, caplog: pytest.LogCaptureFixture
) -> None:
    fault = _token("blocked", "Storepost may not connect to 10.0.0.8", "fix_settings", "token_url")
    fault = replace(fault, title="Storepost may not connect to 10.0.0.8")
    result = arena.press(fault, _draft(arena, fault, "https://10.0.0.8/token"))
    check(fault, result)
    check_secrecy(fault, result, caplog.text, arena, more=(SECRET,))


# Tokens that were granted and do not open the mail server ------------------------------------------------------------


def _jwt(**claims: Any) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{head}.{body}.c2lnbmF0dXJl"


_EXCHANGE = {"aud": "https://outlook.office.com", "scp": "SMTP.Send", "tid": "72f988bf-0000-4000-8000-2d7cd011db47"}
_GRAPH = {"aud": "00000003-0000-0000-c000-000000000000", "scp": "SMTP.Send openid"}


def _sign_in(name: str, headline: str, action: str, mend: str = "", **more: Any) -> Fault:
    given = {"provider": "microsoft365", "settings": {"scope": _OUTLOOK}, "shown": "535 5.7.3", **more}
    return Fault(name, Stage.AUTH, "Microsoft did not accept the sign-in", headline, action, mend, **given)


@pytest.mark.parametrize(
    ("fault", "claims"),
    [
        (
            _sign_in("other_mailbox", "someone.else@acme.example", "reauthorize", "login",
                     says=(MAILBOX, "someone.else@acme.example")),
            {**_EXCHANGE, "upn": "someone.else@acme.example"},
        ),
        (
            _sign_in("other_resource", "The token is for Microsoft Graph, not for Exchange Online", "fix_settings",
                     "scope", says=("https://outlook.office.com/SMTP.Send",)),
            {**_GRAPH, "upn": MAILBOX},
        ),
        (
            _sign_in("narrower", "The token lacks the right to send by SMTP", "reauthorize", "scope",
                     says=("SMTP.Send", "IMAP.AccessAsUser.All")),
            {**_EXCHANGE, "scp": "IMAP.AccessAsUser.All", "upn": MAILBOX},
        ),
    ],
    ids=["other_mailbox", "other_resource", "narrower"],
)  # fmt: skip
def test_a_token_that_the_server_does_not_take(
    arena: Arena, caplog: pytest.LogCaptureFixture, fault: Fault, claims: dict[str, Any]
) -> None:
    token = _jwt(**claims)
    with SERVERS["auth_535_3"].on(arena.tls) as server, FakeProvider(arena.tls.cert) as provider:
        scope = str(claims["scp"]) if fault.name == "narrower" else _OUTLOOK
        provider.answer = granted(token, scope=scope)
        result = arena.press(fault, _draft(arena, fault, provider.token_url, smtp_port=server.port))
    check(fault, result)
    check_nothing_was_sent(arena, server)
    check_secrecy(fault, result, caplog.text, arena, server, more=(SECRET, token, token.split(".")[1]))


def test_switched_off_and_wrong_identity_are_told_apart_with_the_same_token(arena: Arena) -> None:
    headlines = []
    for name in ("auth_535_139_mailbox", "auth_535_3"):
        fault = _sign_in(name, "", "")
        with SERVERS[name].on(arena.tls) as server, FakeProvider(arena.tls.cert) as provider:
            provider.answer = granted(_jwt(**_EXCHANGE, upn=MAILBOX), scope=_OUTLOOK)
            result = arena.press(fault, _draft(arena, fault, provider.token_url, smtp_port=server.port))
        assert result.report.failure is not None
        headlines.append(result.report.failure.explanation.headline)
    assert "switched SMTP sign-in off" in headlines[0]
    assert "switched" not in headlines[1]


def _draft(arena: Arena, fault: Fault, token_url: str, secret: str = SECRET, **changes: Any) -> Any:
    kept = {"client_secret": SecretEdit.replace(Secret(secret)), "token_url": token_url, **changes}
    port = kept.pop("smtp_port", arena.sandbox.smtp_port)
    return arena.draft(fault, port, **kept)
