"""The API keys tab: made with a name, shown once, revoked for good."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from sqlalchemy import select

from extensions import db as database
from models import APIKey, AuditEntry, Store
from tests import factories
from tests.conftest import Browser

KEY = re.compile(r"sp_[A-Za-z0-9_-]{43}")
# The form as a browser sends it, with both boxes as they are at first.
FORM = {"name": "Web shop", "send-present": "1", "send": "1", "read-present": "1", "read": "1"}


@pytest.fixture
def url(store: Store) -> str:
    return f"/stores/{store.id}/api-keys"


def keys() -> list[APIKey]:
    database.session.rollback()
    return list(database.session.scalars(select(APIKey).order_by(APIKey.id)))


def test_a_key_is_shown_once_with_an_example_that_works(alice: Browser, url: str) -> None:
    answer = alice.post(url, FORM)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    shown = set(KEY.findall(answer.text))
    assert len(shown) == 1
    key = shown.pop()
    assert "curl http://localhost:8025/api/v1/messages" in answer.text
    sent = alice.open(
        "POST",
        "/api/v1/messages",
        json={"to": ["you@example.com"], "subject": "Hello from Acme Store", "text": "It works."},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert sent.status_code == 202
    page = alice.get(url).text
    assert key not in page
    assert key[:11] in page
    assert "Web shop" in page
    assert "Alice Adams" in page


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "Enter a name"), ("   ", "Enter a name"), ("x" * 81, "Use 80 characters or fewer"), ("a\u202eb", "Take out")],
)
def test_a_name_that_will_not_do_is_refused_beside_the_field(alice: Browser, url: str, name: str, words: str) -> None:
    answer = alice.post(url, FORM | {"name": name})
    assert answer.status_code == 422
    assert words in answer.text
    assert 'id="err-sum"' in answer.text
    assert keys() == []


def test_80_characters_of_any_kind_will_do(alice: Browser, url: str) -> None:
    assert alice.post(url, FORM | {"name": "📦" * 80}).status_code == 200


def test_a_revoked_key_is_refused_at_the_next_request(alice: Browser, url: str) -> None:
    key = KEY.findall(alice.post(url, FORM).text)[0]
    assert "Revoke the key “Web shop”?" in alice.get(url).text
    answer = alice.post(f"{url}/{keys()[0].id}/revoke")
    assert answer.status_code == 303
    page = alice.get(url).text
    assert "Revoked" in page
    assert "Revoke the key" not in page
    refused = alice.open("POST", "/api/v1/messages", json={}, headers={"Authorization": f"Bearer {key}"})
    assert refused.status_code == 401


def test_keys_of_other_stores_cannot_be_revoked(alice: Browser, url: str) -> None:
    other = factories.make_store("Other Store").id
    alice.post(f"/stores/{other}/api-keys", FORM | {"name": "Theirs"})
    theirs = keys()[0].id
    assert alice.post(f"{url}/{theirs}/revoke").status_code == 404
    assert keys()[0].revoked_at is None


def test_a_key_gets_the_scopes_that_are_checked(alice: Browser, url: str) -> None:
    unchecked = {name: value for name, value in FORM.items() if name != "send"}
    answer = alice.post(url, unchecked)
    assert answer.status_code == 200
    assert keys()[0].scopes == "read"
    assert "curl" not in answer.text  # it could not send
    key = KEY.findall(answer.text)[0]
    refused = alice.open("POST", "/api/v1/messages", json={}, headers={"Authorization": f"Bearer {key}"})
    assert refused.status_code == 403
    assert alice.get("/api/v1/messages", headers={"Authorization": f"Bearer {key}"}).status_code == 200
    entry = database.session.scalars(select(AuditEntry).where(AuditEntry.action == "api_key_created")).one()
    assert entry.detail.endswith(": read")
    assert entry.fields == ["scopes"]


def test_a_key_that_may_nothing_is_refused(alice: Browser, url: str) -> None:
    answer = alice.post(url, {"name": "Web shop", "send-present": "1", "read-present": "1"})
    assert answer.status_code == 422
    assert "Choose Send, Read or both" in answer.text
    assert 'value="Web shop"' in answer.text
    assert not re.search(r'name="(send|read)" value="1" checked', answer.text)
    assert keys() == []


@pytest.mark.parametrize("lost", ["send-present", "read-present"])
def test_a_form_that_lost_a_box_makes_no_key(alice: Browser, url: str, lost: str) -> None:
    answer = alice.post(url, {name: value for name, value in FORM.items() if name != lost})
    assert answer.status_code == 422
    assert "did not arrive with the form" in answer.text
    assert keys() == []


def test_the_list_shows_what_each_key_may_and_when_it_was_used(alice: Browser, url: str) -> None:
    key = KEY.findall(alice.post(url, FORM).text)
    page = alice.get(url).text
    assert re.findall(r'"badge line">(\w+)<', page) == ["Send", "Read"]
    assert "Never" in page
    alice.get("/api/v1/messages", headers={"Authorization": f"Bearer {key[0]}"})
    assert "Never" not in alice.get(url).text


def test_the_list_leads_to_the_description_of_the_api(alice: Browser, url: str) -> None:
    assert 'href="/api/v1/docs"' in alice.get(url).text


def test_an_empty_list_says_what_keys_are_for(alice: Browser, url: str) -> None:
    assert "No API keys yet" in alice.get(url).text


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({}, ("127.0.0.1", "2525", "None needed on this machine")),
        ({"RELAY_HOST": "::1", "RELAY_PORT": 2600, "RELAY_CERT_FILE": "x"}, ("::1", "2600", "STARTTLS")),
        ({"RELAY_HOST": "0.0.0.0", "RELAY_CERT_FILE": "x"}, ("localhost", "2525", "STARTTLS")),
        ({"RELAY_HOST": "10.1.2.3", "RELAY_CERT_FILE": "x"}, ("10.1.2.3", "2525", "STARTTLS")),
    ],
)
def test_it_says_how_to_send_by_smtp(
    app: Flask, alice: Browser, url: str, settings: dict[str, str], shown: tuple[str, str, str]
) -> None:
    app.config.update(settings)
    page = alice.get(url).text
    host, port, encryption = shown
    assert f'<code id="smtp-host">{host}</code>' in page
    assert f'<code id="smtp-port">{port}</code>' in page
    assert '<code id="smtp-user">acme-store</code>' in page
    assert f"<dt>Encryption</dt><dd>{encryption}</dd>" in page
