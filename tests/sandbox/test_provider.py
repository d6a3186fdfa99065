"""The authorization server, from outside."""

import base64
import os
import time

import pytest
import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sandbox import Sandbox
from tests.sandbox.clients import CALLBACK, CLIENT_ID, CLIENT_SECRET, MAILBOX, OAuthClient, claims_of, parameters_of


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


def number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def test_it_walks_the_whole_code_flow(sandbox: Sandbox, oauth: OAuthClient) -> None:
    page = oauth.open_page()
    assert page.status_code == 200
    assert not page.cookies
    for shown in (CLIENT_ID, "localhost:8025", "Send email from the mailbox", f'value="{MAILBOX}"'):
        assert shown in page.text
    answer = oauth.press(page)
    assert answer.status_code == 303
    location = answer.headers["Location"]
    assert location.startswith(CALLBACK + "?")
    back = parameters_of(location)
    assert (back["state"], back["iss"]) == ("fake-state", sandbox.issuer)
    tokens = oauth.redeem(back["code"])
    assert tokens.headers["Cache-Control"] == "no-store"
    body = tokens.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 3600
    assert body["scope"] == "smtp.send offline_access"
    assert body["refresh_token"]


def test_it_names_who_consented_in_a_signed_id_token(sandbox: Sandbox, oauth: OAuthClient) -> None:
    token = oauth.connect("Ann@sandbox.example", nonce="fake-nonce")["id_token"]
    claims = claims_of(token)
    assert claims["iss"] == sandbox.issuer
    assert claims["aud"] == CLIENT_ID
    assert claims["email"] == "Ann@sandbox.example"
    assert claims["nonce"] == "fake-nonce"
    assert claims["sub"]
    assert claims["tid"]
    assert claims["iat"] <= time.time() < claims["exp"]
    key = requests.get(f"{sandbox.issuer}/jwks.json", verify=str(sandbox.ca_file), timeout=10).json()["keys"][0]
    signed, _, signature = token.rpartition(".")
    public = rsa.RSAPublicNumbers(number(key["e"]), number(key["n"])).public_key()
    raw = number(signature).to_bytes(256, "big")
    public.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


def test_cancel_returns_access_denied_with_state_and_issuer(sandbox: Sandbox, oauth: OAuthClient) -> None:
    answer = oauth.press(oauth.open_page(), "cancel")
    back = parameters_of(answer.headers["Location"])
    assert (answer.status_code, back["error"], back["state"]) == (303, "access_denied", "fake-state")
    assert back["iss"] == sandbox.issuer
    assert "code" not in back


def test_a_consent_page_can_be_answered_once(oauth: OAuthClient) -> None:
    page = oauth.open_page()
    assert oauth.press(page).status_code == 303
    assert oauth.press(page).status_code == 400
    assert oauth.press(page, "cancel").status_code == 400


def test_the_consent_page_asks_again_for_something_that_is_no_mailbox(oauth: OAuthClient) -> None:
    page = oauth.open_page()
    refused = oauth.press(page, mailbox="not <a> mailbox")
    assert refused.status_code == 422
    assert "Enter a full email address" in refused.text
    assert "not &lt;a&gt; mailbox" in refused.text
    assert oauth.press(page).status_code == 303


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "http://localhost:1/oauth/callback",
        "https://localhost/oauth/callback",
        "http://127.0.0.1:65535/oauth/callback",
    ],
)
def test_it_redirects_to_this_machine(oauth: OAuthClient, redirect_uri: str) -> None:
    answer = oauth.press(oauth.open_page(redirect_uri=redirect_uri))
    assert answer.headers["Location"].startswith(redirect_uri + "?code=")


@pytest.mark.parametrize(
    "redirect_uri",
    [
        None,
        "https://evil.example/oauth/callback",
        "http://localhost.evil.example/oauth/callback",
        "http://localhost:8025/oauth/callback/",
        "http://localhost:8025/oauth/callback?next=x",
        "http://localhost:8025/oauth/callback#x",
        "http://localhost:8025/oauth/../oauth/callback",
        "http://user@localhost:8025/oauth/callback",
        "http://localhost:99999/oauth/callback",
        "ftp://localhost/oauth/callback",
        "http://LOCALHOST:8025/oauth/callback",
    ],
)
def test_it_redirects_nowhere_else(oauth: OAuthClient, redirect_uri: str | None) -> None:
    page = oauth.open_page(redirect_uri=redirect_uri)
    assert page.status_code == 400
    assert "Location" not in page.headers
    assert "ticket" not in page.text


def test_it_does_not_ask_for_an_unknown_client(oauth: OAuthClient) -> None:
    assert oauth.open_page(client_id="stranger").status_code == 400


def test_it_refuses_a_repeated_parameter(sandbox: Sandbox, oauth: OAuthClient) -> None:
    twice = [*oauth.query().items(), ("nonce", "a"), ("nonce", "b")]
    page = requests.get(sandbox.authorize_url, params=twice, allow_redirects=False, timeout=10)
    assert page.status_code == 400


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "tooshort"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "smtp.send everything"}, "invalid_scope"),
        ({"scope": "offline_access"}, "invalid_scope"),
    ],
    ids=["no PKCE", "method left out", "plain", "no hash", "implicit", "unknown scope", "nothing to do offline"],
)
def test_it_sends_errors_back_to_the_client(
    sandbox: Sandbox, oauth: OAuthClient, changes: dict[str, str | None], error: str
) -> None:
    answer = oauth.open_page(**changes)
    back = parameters_of(answer.headers["Location"])
    assert (answer.status_code, back["error"], back["iss"]) == (303, error, sandbox.issuer)
    assert back["state"] == "fake-state"


def test_a_wrong_verifier_is_refused_and_the_code_is_spent(oauth: OAuthClient) -> None:
    code = oauth.code()
    refused = oauth.redeem(code, code_verifier="x" * 64)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert oauth.redeem(code).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"code_verifier": None}, 400, "invalid_request"),
        ({"redirect_uri": "http://localhost:9/oauth/callback"}, 400, "invalid_grant"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"client_id": "stranger"}, 401, "invalid_client"),
        ({"client_id": "storepost-sandbox-public", "client_secret": None}, 400, "invalid_grant"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"code": "never-issued"}, 400, "invalid_grant"),
    ],
)
def test_it_refuses_a_code_exchange_that_does_not_fit(
    oauth: OAuthClient, changes: dict[str, str | None], status: int, error: str
) -> None:
    answer = oauth.redeem(oauth.code(), **changes)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_a_replayed_code_ends_what_its_first_use_gave_out(sandbox: Sandbox, oauth: OAuthClient) -> None:
    code = oauth.code()
    tokens = oauth.redeem(code).json()
    assert oauth.redeem(code).json()["error"] == "invalid_grant"
    assert oauth.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.state.access_token(tokens["access_token"]) is None


def test_a_code_lives_ten_minutes(sandbox: Sandbox, oauth: OAuthClient, monkeypatch: pytest.MonkeyPatch) -> None:
    code = oauth.code()
    monkeypatch.setattr(sandbox.state, "clock", lambda: time.time() + 601)
    assert oauth.redeem(code).json()["error"] == "invalid_grant"


def test_a_public_client_needs_no_secret(oauth: OAuthClient) -> None:
    code = oauth.code(client_id="storepost-sandbox-public")
    answer = oauth.redeem(code, client_id="storepost-sandbox-public", client_secret=None)
    assert answer.status_code == 200
    refused = oauth.post(grant_type="client_credentials", client_id="storepost-sandbox-public")
    assert refused.json()["error"] == "invalid_client"


def test_a_refresh_keeps_the_refresh_token_by_default(oauth: OAuthClient) -> None:
    tokens = oauth.connect()
    first, second = oauth.refresh(tokens["refresh_token"]), oauth.refresh(tokens["refresh_token"])
    assert (first.status_code, second.status_code) == (200, 200)
    assert "refresh_token" not in first.json()
    assert first.json()["access_token"] != second.json()["access_token"]


def test_rotation_replaces_the_refresh_token_and_reuse_ends_the_family(sandbox: Sandbox, oauth: OAuthClient) -> None:
    sandbox.faults.set(rotation=True)
    old = oauth.connect()["refresh_token"]
    rotated = oauth.refresh(old).json()
    assert rotated["refresh_token"] != old
    assert sandbox.state.access_token(rotated["access_token"]) is not None
    assert oauth.refresh(old).json()["error"] == "invalid_grant"
    assert oauth.refresh(rotated["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.state.access_token(rotated["access_token"]) is None


def test_a_refresh_cannot_widen_the_scope(oauth: OAuthClient) -> None:
    token = oauth.connect()["refresh_token"]
    assert oauth.refresh(token, scope="smtp.send openid").json()["error"] == "invalid_scope"
    assert oauth.refresh(token, scope="smtp.send").json()["scope"] == "smtp.send"


def test_a_refresh_token_belongs_to_its_client(oauth: OAuthClient) -> None:
    token = oauth.connect()["refresh_token"]
    answer = oauth.refresh(token, client_id="storepost-sandbox-public", client_secret=None)
    assert answer.json()["error"] == "invalid_grant"


def test_without_offline_access_there_is_no_refresh_token(oauth: OAuthClient) -> None:
    assert "refresh_token" not in oauth.connect(scope="smtp.send")


def test_client_credentials_give_a_short_answer(oauth: OAuthClient) -> None:
    answer = oauth.post(
        grant_type="client_credentials",
        scope="smtp.send offline_access",
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
    ).json()
    assert set(answer) == {"access_token", "expires_in", "token_type", "scope"}
    assert answer["scope"] == "smtp.send"


def test_the_secret_may_come_by_basic(oauth: OAuthClient) -> None:
    headers = {"Authorization": basic(CLIENT_ID, "sandbox%2Dsecret")}
    assert oauth.post_raw("grant_type=client_credentials", headers=headers).status_code == 200
    wrong = oauth.post_raw("grant_type=client_credentials", headers={"Authorization": basic(CLIENT_ID, "no")})
    assert wrong.status_code == 401
    assert wrong.headers["WWW-Authenticate"].startswith("Basic")


def test_the_secret_comes_only_once(oauth: OAuthClient) -> None:
    body = f"grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"
    answer = oauth.post_raw(body, headers={"Authorization": basic(CLIENT_ID, CLIENT_SECRET)})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_a_token_request_has_one_form(sandbox: Sandbox, oauth: OAuthClient) -> None:
    body = f"grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"
    assert oauth.post_raw(body).status_code == 200
    repeated = oauth.post_raw(body + "&scope=smtp.send&scope=smtp.send")
    in_url = oauth.post_raw("", f"/token?{body}")
    as_json = oauth.post_raw("{}", headers={"Content-Type": "application/json"})
    got = requests.get(sandbox.token_url, params=body, verify=str(sandbox.ca_file), timeout=10)
    for answer in (repeated, in_url, as_json, got):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


def test_revoking_a_refresh_token_ends_the_grant(sandbox: Sandbox, oauth: OAuthClient) -> None:
    tokens = oauth.connect()
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert oauth.post("/revoke", token=tokens["refresh_token"], **client).status_code == 200
    assert oauth.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert sandbox.state.access_token(tokens["access_token"]) is None


def test_revoking_an_access_token_leaves_the_grant(sandbox: Sandbox, oauth: OAuthClient) -> None:
    tokens = oauth.connect()
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert oauth.post("/revoke", token=tokens["access_token"], **client).status_code == 200
    assert sandbox.state.access_token(tokens["access_token"]) is None
    assert oauth.refresh(tokens["refresh_token"]).status_code == 200


def test_revoking_needs_the_client_and_forgives_unknown_tokens(oauth: OAuthClient) -> None:
    tokens = oauth.connect()
    assert oauth.post("/revoke", token=tokens["refresh_token"], client_id=CLIENT_ID).status_code == 401
    assert oauth.refresh(tokens["refresh_token"]).status_code == 200
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    assert oauth.post("/revoke", token="never-issued", **client).status_code == 200


def test_its_metadata_is_true(sandbox: Sandbox) -> None:
    url = f"{sandbox.issuer}/.well-known/openid-configuration"
    said = requests.get(url, verify=str(sandbox.ca_file), timeout=10).json()
    assert said["issuer"] == sandbox.issuer
    assert said["authorization_endpoint"] == sandbox.authorize_url
    assert said["token_endpoint"] == sandbox.token_url
    assert said["revocation_endpoint"] == sandbox.revoke_url
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["authorization_response_iss_parameter_supported"] is True


def test_a_refresh_token_can_be_had_for_pasting(sandbox: Sandbox, oauth: OAuthClient) -> None:
    pasted = sandbox.state.issue_refresh_token(MAILBOX)
    assert oauth.refresh(pasted).status_code == 200


def test_oauthlib_stays_strict_in_this_process(sandbox: Sandbox, oauth: OAuthClient) -> None:
    oauth.connect()
    assert "OAUTHLIB_INSECURE_TRANSPORT" not in os.environ
