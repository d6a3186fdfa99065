"""Secrets go through real use, and are then looked for everywhere a reader could come: pages, headers, logs, database.

One long story on purpose: a secret leaks where features meet. Source: security.md 34, 36, 78.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape, unescape
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.test import TestResponse

import sandbox.submission
import worker
from app import create_app
from extensions import db
from models.email_settings import Method
from sandbox import Sandbox
from sandbox.state import Client
from security.outbound import Door
from security.redact import JSONFormatter
from tests import factories
from tests.blueprints.settings_tab import Tab
from tests.conftest import PASSWORD, Browser, settings_for
from tests.fakes import sandboxed
from tests.house.test_routes import _url
from tests.sandbox.clients import CLIENT_ID, MAILBOX, OAuthClient

SECRETS = {
    "client secret": "mark-client-secret-Qx7!&é",
    "password": "mark smtp password Wz4%+",
    "refused secret": "mark-typed-but-refused-Rt5",
    "stale secret": "mark-typed-too-late-Ys2",
    "custom field": "mark-custom-field-Kp8",
    "text": "mark body in plain text Bn3",
    "html": "mark body in html Hv6",
    "attachment": "mark attachment bytes Jd9",
    "administrator's password": PASSWORD,
}


@dataclass
class Watch:
    """Everything that came out, and every secret that went in."""

    secrets: dict[str, str] = field(default_factory=lambda: dict(SECRETS))
    answers: list[tuple[str, str]] = field(default_factory=list)
    log: io.StringIO = field(default_factory=io.StringIO)

    def add(self, name: str, value: str) -> None:
        self.secrets[f"{name} {len(self.secrets)}"] = value

    def saw(self, where: str, answer: TestResponse, *, shows: tuple[str, ...] = ()) -> None:
        """Note an answer, all its headers but Set-Cookie included; `shows`: what this one page is there to show."""
        headers = "\n".join(f"{name}: {value}" for name, value in answer.headers if name != "Set-Cookie")
        content = unescape(f"{headers}\n\n{answer.text}")
        for value in shows:
            content = content.replace(value, "(shown here)")
        self.answers.append((where, content))


class WatchedBrowser(Browser):
    """Notes every answer and every session token."""

    watch: Watch

    def open(self, method: str, url: str, **kw: Any) -> TestResponse:
        answer = super().open(method, url, **kw)
        edits = re.match(r"/stores/\d+/(advanced-smtp|connect|test/)", url)
        shows = [self.watch.secrets["custom field"]] if edits else []
        # The journey to the provider begins with its state, and the key exists on this page only.
        shows += re.findall(r"state=([\w-]{43})", answer.text) if url.endswith("/connect") else []
        shows += re.findall(r"sp_[\w-]{43}", answer.text) if url.endswith("/api-keys") else []
        self.watch.saw(f"{method} {url[:60]} {answer.status_code}", answer, shows=tuple(shows))
        if cookie := self.client.get_cookie("storepost"):
            self.watch.secrets[f"session {cookie.value[:4]}"] = cookie.value
        return answer


class EverythingFormatter(logging.Formatter):
    """A record as a careless formatter would write it: nothing redacted, all extras."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {record.__dict__!r}"


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Sees the secrets that travel in token calls."""
    watch = Watch()
    real = Door.post_form

    def post_form(self: Door, url: str, fields: list[tuple[str, str]], **kw: Any) -> Any:
        for name, value in fields:
            if name in ("code", "code_verifier", "refresh_token", "token"):
                watch.add(name, value)
        answer = real(self, url, fields, **kw)
        try:
            given = json.loads(answer.body)
        except ValueError:
            return answer
        for name in ("access_token", "refresh_token"):
            if isinstance(given, dict) and name in given:
                watch.add(name, given[name])
        return answer

    monkeypatch.setattr(Door, "post_form", post_form)
    return watch


@pytest.fixture
def provider(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setattr(sandbox.submission, "MAILBOX_PASSWORD", SECRETS["password"])
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        running.provider.state.clients[CLIENT_ID] = Client(CLIENT_ID, SECRETS["client secret"])
        running.faults.set(rotation=True)
        yield running


@pytest.fixture
def app(database_url: str, provider: Sandbox, watch: Watch) -> Iterator[Flask]:
    """As in production, with its own logging, at the most talkative level."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    names = ("requests", "urllib3", "oauthlib", "requests_oauthlib", "sqlalchemy", "alembic", "mail.log")
    levels = {name: logging.getLogger(name).level for name in names}
    configured = sandboxed.configuration(provider)
    application = create_app(settings_for(database_url, **configured, TESTING=False, LOG_LEVEL="DEBUG"))
    for formatter in (JSONFormatter(), EverythingFormatter()):
        handler = logging.StreamHandler(watch.log)
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.handlers[:] = root.handlers[1:]  # the operator's handler would write into the test's own output
    try:
        with application.app_context():
            factories.make_tables()
            yield application
            db.session.remove()
            db.engine.dispose()
    finally:
        root.handlers[:], root.level = before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@pytest.fixture
def client(app: Flask, watch: Watch) -> Browser:
    browser = WatchedBrowser(app.test_client())
    browser.watch = watch
    return browser


def test_no_secret_comes_out_anywhere(
    app: Flask, alice: Browser, watch: Watch, provider: Sandbox, database_url: str
) -> None:
    store = factories.make_store("Acme Store")
    store_id = store.id
    advanced, classic = Tab(alice, store_id, Method.ADVANCED_SMTP), Tab(alice, store_id, Method.SMTP)
    _save_and_connect(alice, advanced, watch, provider)
    _test_with_faults(advanced, provider)
    _be_refused(alice, advanced, classic, watch)
    key = _hand_in_and_deliver(app, alice, store_id, watch, provider)
    _paste_a_token(alice, advanced, watch, provider)
    _use_the_other_method(app, alice, classic, watch, key, provider)
    _break(alice, advanced, watch, key)
    _look_at_every_page(app, alice, store_id)
    alice.post(f"/stores/{store_id}/disconnect")
    alice.post("/sign-in", {"email": "alice@shop.example", "password": PASSWORD})
    alice.post("/sign-out")
    alice.post("/sign-in", {"email": "alice@shop.example", "password": PASSWORD[:-1]})

    assert len(watch.answers) > 60
    assert {name.rsplit(" ", 1)[0] for name in watch.secrets} >= {"code", "code_verifier", "state", "access_token"}
    log = watch.log.getvalue()
    assert '"incident"' in log
    assert any("(shown here)" in content for _, content in watch.answers)
    found = [(where, name) for where, content in watch.answers for name in _found(watch, content)]
    found += [("log", name) for name in _found(watch, log)]
    found += [("database", name) for name in _found(watch, _dump(database_url))]
    assert not found


# --- The story


def _save_and_connect(alice: Browser, tab: Tab, watch: Watch, provider: Sandbox) -> None:
    filled = alice.post(f"{tab.url}/provider", tab.values(provider="sandbox", from_name="Acme", from_email=MAILBOX))
    assert filled.status_code == 200
    values = tab.values(
        provider="sandbox", from_name="Acme", from_email=MAILBOX, client_id=CLIENT_ID, smtp_host="localhost",
        smtp_port=str(provider.smtp_port), token_url=provider.token_url, scope="smtp.send offline_access",
        client_secret=SECRETS["client secret"], filled_for="sandbox",
    ) | {"custom_fields-0-key": "header.X-Trace", "custom_fields-0-value": SECRETS["custom field"]}  # fmt: skip
    assert alice.post(tab.url, values).status_code == 303
    denied = _leave(alice, tab, watch)
    alice.get(_path(provider.consent(denied, MAILBOX, allow=False)))
    alice.get("/oauth/outcome")
    back = _path(provider.consent(_leave(alice, tab, watch), MAILBOX))
    watch.add("code", parse_qs(urlsplit(back).query)["code"][0])
    arrived = alice.get(back)
    assert (arrived.status_code, urlsplit(arrived.location).path) == (303, tab.url)
    alice.get(arrived.location)
    assert "Test email sent successfully" in alice.htmx_get(tab.finish()).text
    alice.get(back)  # once more, which is refused
    alice.get("/oauth/outcome")


def _leave(alice: Browser, tab: Tab, watch: Watch) -> str:
    page = alice.post(f"/stores/{tab.store_id}/connect", tab.values())
    [url] = re.findall(r'id="continue" href="([^"]+)"', page.text)
    watch.add("state", parse_qs(urlsplit(unescape(url)).query)["state"][0])
    return unescape(url)


def _path(url: str) -> str:
    return f"{urlsplit(url).path}?{urlsplit(url).query}"


def _test_with_faults(tab: Tab, provider: Sandbox) -> None:
    faults: tuple[dict[str, Any], ...] = (
        {"smtp_auth_disabled": "tenant"}, {"send_as_denied": True}, {"token_5xx": True}, {"grant_revoked": True},
    )  # fmt: skip
    for fault in faults:
        provider.faults.set(**fault)
        # An unsaved scope makes the token call go out whatever is in the cache.
        words = tab.result(test_recipient="lena@acme.example", scope="offline_access smtp.send")
        assert "sent successfully" not in words, fault
        tab.browser.get(tab.finish())
        provider.faults.set(**{name: type(value)() for name, value in fault.items()})


def _be_refused(alice: Browser, advanced: Tab, classic: Tab, watch: Watch) -> None:
    typed = SECRETS["refused secret"]
    values = advanced.values(smtp_port="x", client_secret=typed, refresh_token=typed)
    assert alice.post(advanced.url, values).status_code == 422
    assert alice.htmx_post(advanced.url, values).status_code == 422
    assert alice.post(f"/stores/{advanced.store_id}/connect", values).status_code == 422
    assert advanced.press(smtp_port="x", client_secret=typed).status_code == 422
    assert alice.htmx_post(f"{advanced.url}/field/scope", values).status_code in (200, 422)
    assert alice.htmx_post(f"{advanced.url}/custom-fields", values | {"add": "1"}).status_code == 200
    assert alice.htmx_post(f"{advanced.url}/provider", values | {"provider": "google"}).status_code == 200
    assert alice.post(classic.url, classic.values(smtp_port="x", password=typed)).status_code == 422
    moved = alice.post(advanced.url, advanced.values(token_url="https://else.example/token"))
    assert moved.status_code == 422
    late = advanced.values(version="1", scope="else", client_secret=SECRETS["stale secret"])
    assert alice.post(advanced.url, late).status_code == 409
    assert alice.htmx_post(advanced.url, late).status_code == 409


def _hand_in_and_deliver(app: Flask, alice: Browser, store_id: int, watch: Watch, provider: Sandbox) -> str:
    made = alice.post(
        f"/stores/{store_id}/api-keys",
        {"name": "Web shop", "send-present": "1", "send": "1", "read-present": "1", "read": "1"},
    )
    [key] = set(re.findall(r"sp_[\w-]{43}", made.text))
    watch.add("api key", key)
    assert _send(alice, key).status_code == 202
    assert _send(alice, key, unknown=SECRETS["text"]).status_code == 422
    assert _send(alice, key + "x").status_code == 401
    alice.get(f"/stores/{store_id}/messages?api_key=1")
    _back_to_work(alice, store_id, watch, provider)
    before = len(provider.messages())
    worker.run(app, once=True)
    assert len(provider.messages()) > before
    provider.faults.set(recipient_refused="*")
    assert _send(alice, key).status_code == 202
    worker.run(app, once=True)
    provider.faults.set(recipient_refused="", smtp_auth_disabled="tenant")
    assert _send(alice, key).status_code == 202
    worker.run(app, once=True)
    provider.faults.set(smtp_auth_disabled="")
    return key


def _back_to_work(alice: Browser, store_id: int, watch: Watch, provider: Sandbox) -> None:
    """The revoked grant of the tests is gone; connect anew."""
    tab = Tab(alice, store_id, Method.ADVANCED_SMTP)
    alice.get(_path(provider.consent(_leave(alice, tab, watch), MAILBOX)))
    tab.finish()


def _send(alice: Browser, key: str, **more: Any) -> TestResponse:
    attached = base64.b64encode(SECRETS["attachment"].encode()).decode()
    message = {
        "to": ["lena@acme.example"],
        "subject": "Your order",
        "text": SECRETS["text"],
        "html": f"<p>{SECRETS['html']}</p>",
        "attachments": [{"filename": "note.txt", "content_type": "text/plain", "content": attached}],
    }
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answer = alice.open("POST", "/api/v1/messages", data=json.dumps(message | more), headers=headers)
    if answer.status_code == 202:
        assert alice.get(answer.location, headers=headers).status_code == 200
    return answer


def _paste_a_token(alice: Browser, tab: Tab, watch: Watch, provider: Sandbox) -> None:
    client = OAuthClient(provider)
    answer = client.redeem(client.code(), client_secret=SECRETS["client secret"])
    token = answer.json()["refresh_token"]
    watch.add("pasted token", token)
    assert alice.post(tab.url, tab.values(refresh_token=f"  {token} ", grant_type="refresh_token")).status_code == 303
    assert "Test email sent successfully" in tab.result(test_recipient="lena@acme.example")


def _use_the_other_method(app: Flask, alice: Browser, tab: Tab, watch: Watch, key: str, provider: Sandbox) -> None:
    values = tab.values(
        smtp_host="localhost", smtp_port=str(provider.smtp_port), username=MAILBOX, password=SECRETS["password"]
    )
    assert alice.post(tab.url, values).status_code == 303
    assert "Test email sent successfully" in tab.result(test_recipient="lena@acme.example")
    assert "sent successfully" not in tab.result(test_recipient="l@acme.example", password=SECRETS["refused secret"])
    copied = {"name": "Copy", "code": "copy", "emails_off-present": "1", "emails_off": "1"}
    assert alice.post(f"/stores/{tab.store_id}/copy", copied).status_code == 303
    version = tab.values()["version"]
    assert alice.post(f"/stores/{tab.store_id}/method", {"method": "smtp", "version": version}).status_code == 303
    assert _send(alice, key).status_code == 202
    before = len(provider.messages())
    worker.run(app, once=True)
    assert len(provider.messages()) > before


def _break(alice: Browser, tab: Tab, watch: Watch, key: str) -> None:
    """Faults of ours, with secrets on the way into statements that fail."""
    values = tab.values(client_secret=SECRETS["refused secret"])
    db.session.execute(text("ALTER TABLE audit_entries RENAME TO elsewhere"))
    db.session.commit()
    alice.client.application.config["PROPAGATE_EXCEPTIONS"] = False
    answer = alice.post(tab.url, values)
    assert answer.status_code == 500
    assert re.search(r"[0-9a-f]{8}", answer.text)
    assert not re.search("traceback|sqlalchemy|audit_entries", answer.text, re.IGNORECASE)
    assert alice.htmx_post(tab.url, values).status_code == 500
    db.session.execute(text("ALTER TABLE elsewhere RENAME TO audit_entries"))
    db.session.execute(text("ALTER TABLE message_contents RENAME TO elsewhere"))
    db.session.commit()
    assert _send(alice, key).status_code == 503
    db.session.execute(text("ALTER TABLE elsewhere RENAME TO message_contents"))
    db.session.commit()


def _look_at_every_page(app: Flask, alice: Browser, store_id: int) -> None:
    uids = [
        row[0] for table in ("messages", "test_runs") for row in db.session.execute(text(f"SELECT uid FROM {table}"))
    ]
    db.session.rollback()
    for rule in app.url_map.iter_rules():
        if "GET" not in (rule.methods or set()) or rule.endpoint in ("static", "consent.callback"):
            continue
        for uid in uids if "uid" in rule.arguments else [""]:
            url = str(rule.build({"store_id": store_id, "uid": uid})[1]) if uid else _url(rule, store_id)  # type: ignore[index]
            assert alice.get(url).status_code < 500, url
            assert alice.htmx_get(url).status_code < 500, url


# --- The search


def _found(watch: Watch, content: str) -> list[str]:
    return [name for name, value in watch.secrets.items() if any(form in content for form in _spellings(value))]


def _spellings(value: str) -> set[str]:
    """The value in the forms in which it could come out."""
    data = value.encode()
    forms = {value, quote(value), quote(value, safe=""), quote_plus(value), escape(value), json.dumps(value)[1:-1]}
    forms |= {repr(value)[1:-1], repr(data)[2:-1], value[: len(value) * 3 // 4]}
    for shift in range(3):
        # Somewhere inside base64, the value starts at any of three offsets; the outer characters depend on neighbours.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            forms.add(encode(b"\0" * shift + data).rstrip(b"=").decode()[4 if shift else 0 : -2])
    return forms


def test_the_search_finds_what_is_there() -> None:
    watch = Watch()
    secret = SECRETS["client secret"]
    for hidden in (secret, quote(secret), json.dumps(secret), base64.b64encode(f"x{secret}y".encode()).decode()):
        assert _found(watch, f"before {hidden} after") == ["client secret"]
    assert not _found(watch, "nothing here")


def _dump(database_url: str) -> str:
    with sqlite3.connect(database_url.removeprefix("sqlite:///")) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    # What stands in JSON columns is escaped there.
    return f"{dump}\n{unescape(dump)}\n{dump.encode().decode('unicode_escape', 'replace')}"
