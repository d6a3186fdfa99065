"""A certified OpenID provider (oidc-provider, from npm) as a process: what an authorization server of others does.

Ours is shown to work with it as it is: discovery by its issuer, its consent pages, PKCE demanded, rotation with reuse
detection, HTTP Basic or the body as each app is registered, revocation.
"""

from __future__ import annotations

import html
import json
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import requests

from tests.fakes.certs import CA, ServerCert
from tests.fakes.installation import free_port
from tests.fakes.tools import OIDC, oidc_provider

SECRET = "fake-secret-of-a-registered-app+/="  # "+/=" must arrive whole by either way
CLIENTS = {"client_secret_basic": "app-by-basic", "client_secret_post": "app-by-post"}
_READY_S = 30


class CertifiedProvider:
    """Started on entering, stopped on leaving."""

    def __init__(self, ca: CA, cert: ServerCert, redirect_uri: str) -> None:
        self._ca, self._cert, self._redirect_uri = ca, cert, redirect_uri
        self.port = free_port()
        self.issuer = f"https://localhost:{self.port}"
        self._log: Path = ca.directory / f"oidc-{self.port}.log"

    def __enter__(self) -> Self:
        node = oidc_provider()
        assert node is not None
        clients = [
            {
                "client_id": client_id,
                "client_secret": SECRET,
                "token_endpoint_auth_method": method,
                "redirect_uris": [self._redirect_uri],
                "grant_types": ["authorization_code", "refresh_token"],
                "response_types": ["code"],
            }
            for method, client_id in CLIENTS.items()
        ]
        settings = {
            "issuer": self.issuer,
            "port": self.port,
            "cert": self._cert.cert_file,
            "key": self._cert.key_file,
            "clients": clients,
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [node, str(OIDC / "server.mjs")], cwd=OIDC, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT
            )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(settings).encode())
        self._process.stdin.close()
        ends_at = time.monotonic() + _READY_S
        while '{"ready":true}' not in self._text:
            assert self._process.poll() is None, self._text
            assert time.monotonic() < ends_at, self._text
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def _text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def calls(self, path: str) -> list[dict[str, Any]]:
        """What was asked of one of its endpoints, in order: status, and `auth` basic or body."""
        lines = [json.loads(line) for line in self._text.splitlines() if line.startswith('{"path"')]
        return [line for line in lines if line["path"] == path]

    def consent(self, authorization_url: str, mailbox: str) -> str:
        """Sign in and consent as a person does, page by page; returns where the browser is sent at the end."""
        session = requests.Session()
        session.verify = self._ca.cert_file
        session.trust_env = False
        answer = session.get(authorization_url, allow_redirects=False, timeout=10)
        for _ in range(12):
            if answer.is_redirect:
                location = urljoin(answer.url, answer.headers["Location"])
                if location.startswith(self._redirect_uri):
                    return location
                answer = session.get(location, allow_redirects=False, timeout=10)
                continue
            assert answer.status_code == 200, answer.text
            action, fields = _form_in(answer.text)
            fields |= {"login": mailbox, "password": "any will do"} if fields["prompt"] == "login" else {}
            answer = session.post(urljoin(answer.url, action), data=fields, allow_redirects=False, timeout=10)
        raise AssertionError("the consent pages lead nowhere")

    def refuses(self, refresh_token: str, client_id: str) -> bool:
        """Whether a refresh token is worth nothing any more."""
        answer = requests.post(
            f"{self.issuer}/token",
            data={"grant_type": "refresh_token", "refresh_token": refresh_token},
            auth=requests.auth.HTTPBasicAuth(client_id, requests.utils.quote(SECRET, safe="")),
            verify=self._ca.cert_file,
            timeout=10,
        )
        return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"


def _form_in(page: str) -> tuple[str, dict[str, str]]:
    """Return where the page's form goes and its hidden fields."""
    action = re.search(r'<form[^>]*action="([^"]+)"', page)
    assert action, page
    hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return html.unescape(action.group(1)), {name: html.unescape(value) for name, value in hidden}
