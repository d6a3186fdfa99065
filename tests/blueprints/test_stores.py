"""Stores → Manage Stores."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import event

from extensions import db
from models import AuditEntry, Connection, EmailSettings, Store
from models.connection import Health
from models.email_settings import Method
from models.types import utcnow
from tests import factories
from tests.conftest import Browser


def test_an_empty_installation_says_what_to_do(alice: Browser) -> None:
    assert "No stores yet" in alice.get("/stores").text


def test_a_new_store_starts_on_advanced_smtp(alice: Browser) -> None:
    answer = alice.post("/stores/new", {"name": "Acme Store", "code": "acme-store", "domain": "acmestore.example"})
    store = db.session.query(Store).one()
    assert (answer.status_code, answer.location) == (303, f"/stores/{store.id}/advanced-smtp")
    assert store.email_settings.method == Method.ADVANCED_SMTP
    assert store.email_settings.use_ssl is True
    assert store.email_settings.from_name == "Acme Store", "a first suggestion"
    assert "store_created" in [e.action for e in db.session.query(AuditEntry)]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", "", "Enter the store’s name"),
        ("name", "x" * 151, "Use 150 characters or fewer"),
        ("code", "", "Enter a short code"),
        ("code", "Acme Store", "letters a–z"),
        ("code", "a--b", "letters a–z"),
        ("code", "x" * 41, "letters a–z"),
        ("domain", "https://acme.example", "without https://"),
    ],
)
def test_bad_entries_are_told_beside_the_field_and_kept(alice: Browser, field: str, value: str, words: str) -> None:
    entries = {"name": "Acme Store", "code": "acme-store", "domain": "", field: value}
    answer = alice.post("/stores/new", entries)
    assert answer.status_code == 422
    assert words in answer.text
    assert f'id="{field}-error"' in answer.text
    if value:
        assert value.lower() in answer.text.lower()
    assert db.session.query(Store).count() == 0


def test_a_code_is_taken_once(alice: Browser, store: Store) -> None:
    answer = alice.post("/stores/new", {"name": "Another", "code": store.code})
    assert answer.status_code == 422
    assert "has this code already" in answer.text


def test_it_edits_a_store(alice: Browser, store: Store) -> None:
    answer = alice.post(f"/stores/{store.id}/edit", {"name": "Acme Europe", "code": "acme-eu", "domain": ""})
    assert answer.status_code == 303
    assert db.session.get(Store, store.id).name == "Acme Europe"


def test_deleting_asks_for_the_code(alice: Browser, store: Store) -> None:
    url = f"/stores/{store.id}/delete"
    assert alice.post(url, {"code": "acme"}).status_code == 422
    assert db.session.query(Store).count() == 1
    assert alice.post(url, {"code": store.code}).status_code == 303
    assert db.session.query(Store).count() == 0
    assert db.session.query(EmailSettings).count() == 0
    assert db.session.query(Connection).count() == 0, "a connection nobody uses must not keep its tokens"


def test_the_list_tells_method_health_emails_and_last_delivery(alice: Browser, app: Flask) -> None:
    acme = factories.make_store("Acme Store")
    connection = db.session.get(EmailSettings, acme.email_settings.id).connection
    connection.health, connection.refreshed_at = Health.CONNECTED, utcnow() - timedelta(minutes=12)
    factories.make_store(
        "Bluebird Home",
        method=Method.SMTP,
        smtp_host="mail.example",
        smtp_port=587,
        from_email="a@b.example",
        username="u",
    )
    factories.make_store("Harbor", emails_off=True, emails_off_by="Jonas Weber")
    db.session.commit()
    page = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", alice.get("/stores").text))
    assert "Connected Refreshed 12 min ago" in page
    assert "Password sign-in" in page
    assert "Emails turned off By Jonas Weber" in page
    assert "No email sent yet" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("search=blue", ["Bluebird"]),
        ("method=smtp", ["Bluebird"]),
        ("connection=unfinished", ["Acme"]),
        ("search=%25", ["Acme", "Bluebird"]),
    ],
)
def test_the_list_filters(alice: Browser, app: Flask, query: str, found: list[str]) -> None:
    factories.make_store("Acme")
    factories.make_store("Bluebird", method=Method.SMTP)
    table = alice.htmx_get(f"/stores?{query}").text
    assert not table.lstrip().startswith("<!doctype")
    assert re.findall(r'class="rowlink"[^>]*>([^<]+)<', table) == found


def test_the_list_costs_the_same_number_of_queries_for_any_number_of_stores(alice: Browser, app: Flask) -> None:
    def queries() -> int:
        seen: list[str] = []

        def watch(connection, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
            seen.append(statement)

        event.listen(db.engine, "before_cursor_execute", watch)
        try:
            assert alice.get("/stores").status_code == 200
        finally:
            event.remove(db.engine, "before_cursor_execute", watch)
        return len(seen)

    factories.make_store("First")
    queries()  # the first page of a process looks a few things up for good
    few = queries()
    for number in range(30):
        factories.make_store(f"Store {number}")
    assert queries() == few


def test_pages_of_the_list(alice: Browser, app: Flask) -> None:
    for number in range(55):
        factories.make_store(f"Store {number:02}")
    first = alice.get("/stores").text
    assert "1–50 of 55 stores" in first
    assert "page=2" in first
    assert "51–55 of 55 stores" in alice.get("/stores?page=2").text
    assert "51–55 of 55 stores" in alice.get("/stores?page=99").text
    assert alice.get("/stores?page=-1").status_code == 200
