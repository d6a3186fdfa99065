"""The processes as operators run them: what they print holds no secret, each line is one JSON event."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import requests

from tests.blueprints.settings_page import read
from tests.fakes.installation import Installation
from tests.sandbox.clients import CLIENT_SECRET, MAILBOX

PASSWORD = "mark administrator password Lm6"
BODY = "mark body of a message Fk1"


def test_processes_print_no_secret_and_only_json(tmp_path: Path) -> None:
    with Installation(tmp_path) as installation:
        secrets = _story(installation)
    log = installation.log
    assert log
    assert not [name for name, value in secrets.items() if value in log]
    assert "oauth/callback?" not in log
    for line in log.splitlines():
        event = json.loads(line)
        assert {"time", "level", "logger", "message"} <= set(event), line


def _story(installation: Installation) -> dict[str, str]:
    """Connect, a refused callback, a message, a broken request; returns what must not be printed."""
    browser = requests.Session()
    browser.trust_env = False
    link = installation.flask("admin", "link")

    def post(path: str, values: dict[str, str]) -> requests.Response:
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        assert token
        answer = browser.post(
            installation.url + path, values | {"csrf_token": token.group(1)}, allow_redirects=False, timeout=30
        )
        assert answer.status_code in (200, 303), answer.text[-2000:]
        return answer

    page = browser.get(link, timeout=30)
    post(urlsplit(link).path, {"name": "Maya", "email": "maya@shop.example", "password": PASSWORD})
    page = browser.get(installation.url + "/stores/new", timeout=30)
    tab = urlsplit(post("/stores/new", {"name": "Acme", "code": "acme"}).headers["Location"]).path
    page = browser.get(installation.url + tab, timeout=30)
    general = {"from_name": "Acme", "from_email": MAILBOX}
    page = post(f"{tab}/provider", read(page.text).with_(provider="sandbox", **general))
    values = read(page.text).with_(client_id="storepost-sandbox", client_secret=CLIENT_SECRET)
    leave = post(tab.replace("advanced-smtp", "connect"), values)
    [url] = re.findall(r'id="continue" href="([^"]+)"', leave.text)
    back = installation.sandbox.consent(unescape(url), MAILBOX)
    places: list[str] = []
    for _ in range(2):  # the second time is refused
        answer = browser.get(back, allow_redirects=False, timeout=30)
        places.append(urlsplit(answer.headers["Location"]).path)
    assert places == [tab, "/oauth/outcome"]
    page = browser.get(installation.url + tab, timeout=30)
    made = post(
        tab.replace("advanced-smtp", "api-keys"),
        {"name": "Web shop", "send-present": "1", "send": "1", "read-present": "1", "read": "1"},
    )
    key = re.findall(r"sp_[\w-]{43}", made.text)[0]
    sent = requests.post(
        f"{installation.url}/api/v1/messages",
        json={"to": ["lena@acme.example"], "subject": "Hello", "text": BODY},
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
    )
    assert sent.status_code == 202
    installation.sandbox.wait_for_messages(2, timeout_s=30)  # the test after consent, and ours
    state = installation.sandbox.provider.state
    query = parse_qs(urlsplit(back).query)
    tokens = {f"token {number}": value for number, value in enumerate([*state._access, *state._refresh])}
    return tokens | {
        "administrator's password": PASSWORD,
        "body": BODY,
        "one-time link": link.rsplit("/", 1)[1],
        "code": query["code"][0],
        "state": query["state"][0],
        "api key": key,
        "client secret": CLIENT_SECRET,
        "session": browser.cookies["storepost"],
    }
