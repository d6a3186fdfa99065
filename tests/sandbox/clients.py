"""Clients as a program would write them: requests for the OAuth side, smtplib for the SMTP side."""

import base64
import hashlib
import html
import json
import re
import secrets
import smtplib
import ssl
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests

from sandbox import Sandbox

CLIENT_ID = "storepost-sandbox"
CLIENT_SECRET = "sandbox-secret"
CALLBACK = "http://localhost:8025/oauth/callback"
SCOPE = "smtp.send offline_access"
MAILBOX = "shop@sandbox.example"


def challenge_for(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def parameters_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def claims_of(id_token: str) -> dict[str, Any]:
    part = id_token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


class OAuthClient:
    """The whole code flow over HTTP, without cookies."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.verifier = secrets.token_urlsafe(48)

    def query(self, **changes: str | None) -> dict[str, str]:
        asked: dict[str, str | None] = {
            "response_type": "code",
            "client_id": CLIENT_ID,
            "redirect_uri": CALLBACK,
            "scope": SCOPE,
            "state": "fake-state",
            "code_challenge": challenge_for(self.verifier),
            "code_challenge_method": "S256",
            "login_hint": MAILBOX,
            **changes,
        }
        return {name: value for name, value in asked.items() if value is not None}

    def open_page(self, **changes: str | None) -> requests.Response:
        return requests.get(self.sandbox.authorize_url, params=self.query(**changes), allow_redirects=False, timeout=10)

    def press(self, page: requests.Response, button: str = "allow", mailbox: str = MAILBOX) -> requests.Response:
        found = re.search(r'name="ticket" value="([^"]+)"', page.text)
        assert found is not None, page.text
        form = {"ticket": html.unescape(found[1]), "mailbox": mailbox}
        url = f"{self.sandbox.web_url}/consent/{button}"
        return requests.post(url, data=form, allow_redirects=False, timeout=10)

    def code(self, mailbox: str = MAILBOX, **changes: str | None) -> str:
        answer = self.press(self.open_page(**changes), mailbox=mailbox)
        return parameters_of(answer.headers["Location"])["code"]

    def post(self, path: str = "/token", /, **fields: str | None) -> requests.Response:
        return self.post_raw(urlencode({name: value for name, value in fields.items() if value is not None}), path)

    def post_raw(self, body: str, path: str = "/token", **more: Any) -> requests.Response:
        return requests.post(
            self.sandbox.issuer + path,
            data=body,
            headers={"Content-Type": "application/x-www-form-urlencoded", **more.pop("headers", {})},
            verify=str(self.sandbox.ca_file),
            timeout=10,
            **more,
        )

    def redeem(self, code: str, /, **changes: str | None) -> requests.Response:
        fields: dict[str, str | None] = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
        return self.post(**{**fields, **changes})

    def connect(self, mailbox: str = MAILBOX, **changes: str | None) -> dict[str, Any]:
        answer = self.redeem(self.code(mailbox, **changes))
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens

    def refresh(self, refresh_token: str, **changes: str | None) -> requests.Response:
        fields: dict[str, str | None] = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
        }
        return self.post(**{**fields, **changes})

    def app_token(self, scope: str = "smtp.send") -> str:
        answer = self.post(
            grant_type="client_credentials", scope=scope, client_id=CLIENT_ID, client_secret=CLIENT_SECRET
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


def dial(sandbox: Sandbox, context: ssl.SSLContext, *, implicit: bool = False) -> smtplib.SMTP:
    """An encrypted conversation that has said EHLO; the caller closes it."""
    if implicit:
        server: smtplib.SMTP = smtplib.SMTP_SSL("localhost", sandbox.smtps_port, timeout=10, context=context)
    else:
        server = smtplib.SMTP("localhost", sandbox.smtp_port, timeout=10)
        try:
            server.starttls(context=context)
        except OSError:
            server.close()
            raise
    server.ehlo("client.example")
    return server


def xoauth2(user: str, token: str) -> bytes:
    return f"user={user}\x01auth=Bearer {token}\x01\x01".encode()


def oauthbearer(user: str, token: str) -> bytes:
    name = user.replace("=", "=3D").replace(",", "=2C")
    return f"n,a={name},\x01host=localhost\x01port=587\x01auth=Bearer {token}\x01\x01".encode()


def two_steps(server: smtplib.SMTP, mechanism: str, payload: bytes) -> tuple[int, str]:
    """AUTH as RFC 4954 has it for long payloads; the reply to the payload."""
    code, text = server.docmd("AUTH", mechanism)
    assert (code, text) == (334, b"")
    code, text = server.docmd(base64.b64encode(payload).decode())
    return code, text.decode()


def signed_in(server: smtplib.SMTP, token: str, user: str = MAILBOX) -> smtplib.SMTP:
    code, text = two_steps(server, "XOAUTH2", xoauth2(user, token))
    assert code == 235, text
    return server


def letter(sender: str = MAILBOX, subject: str = "Your order") -> bytes:
    lines = [f"From: Shop <{sender}>", "To: Ann <ann@customer.example>", f"Subject: {subject}", "", "Thank you."]
    return "\r\n".join([*lines, ""]).encode()
