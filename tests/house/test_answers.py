"""What every answer carries, and what servers, proxies and our own faults must not tell."""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text

from app import create_app
from extensions import db as database
from models import AuditEntry, Store, User
from tests import factories
from tests.conftest import PASSWORD, Browser, settings_for
from tests.house.test_routes import _routes, _url

POLICY = {
    "default-src": "'none'", "style-src": "'self'", "img-src": "'self'", "font-src": "'self'", "connect-src": "'self'",
    "form-action": "'self'", "base-uri": "'none'", "frame-ancestors": "'none'", "object-src": "'none'",
}  # fmt: skip

# What a frame shows: mails, which bring styles of their own.
MAIL_FRAMES = {"templates.preview", "brand.preview"}


def test_every_page_is_locked_down(app: Flask, alice: Browser, store: Store) -> None:
    for rule in _routes(app):
        if "GET" not in (rule.methods or set()) or rule.endpoint in MAIL_FRAMES:
            continue
        answer = alice.get(_url(rule, store))
        headers = answer.headers
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert {name: policy.get(name) for name in POLICY} == POLICY, rule.rule
        assert re.fullmatch(r"'nonce-[\w-]{22}'", policy["script-src"]), rule.rule
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert headers["Cache-Control"] == "no-store"
        assert {"HX-Request", "HX-Request-Type"} <= set(answer.vary)
        wanted = "no-referrer" if rule.endpoint == "consent.callback" else "same-origin"
        assert headers["Referrer-Policy"] == wanted, rule.rule
        assert "Server" not in headers or "Werkzeug" not in headers["Server"]


@pytest.mark.parametrize("path", ["brand", "order-confirmation/en"])
def test_only_pages_with_a_mail_hold_frames_and_only_of_ours(alice: Browser, store: Store, path: str) -> None:
    policy = alice.get(f"/stores/{store.id}/templates/{path}").headers["Content-Security-Policy"]
    assert "frame-src 'self';" in policy
    assert "frame-src" not in alice.get(f"/stores/{store.id}/templates").headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path", ["brand/preview", "order-confirmation/en/preview", "order-confirmation/en/preview?view=text"]
)
def test_a_mail_in_a_frame_can_do_nothing(alice: Browser, store: Store, path: str) -> None:
    answer = alice.get(f"/stores/{store.id}/templates/{path}")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' https: data:; frame-ancestors 'self'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Robots-Tag"] == "noindex"
    assert "csrf" not in answer.text


def test_pictures_of_samples_may_be_shown_elsewhere_and_nothing_else_may(alice: Browser) -> None:
    rules = {}
    for path in ("samples/linen-shirt.png", "favicon.svg"):
        with alice.get(f"/static/{path}") as answer:
            rules[path] = answer.headers["Cross-Origin-Resource-Policy"]
    assert rules == {"samples/linen-shirt.png": "cross-origin", "favicon.svg": "same-origin"}


def test_two_answers_have_two_nonces(alice: Browser) -> None:
    assert (
        alice.get("/stores").headers["Content-Security-Policy"]
        != alice.get("/stores").headers["Content-Security-Policy"]
    )


def test_no_page_has_inline_script_or_style(app: Flask, alice: Browser, store: Store) -> None:
    for rule in _routes(app):
        if "GET" in (rule.methods or set()) and rule.endpoint not in MAIL_FRAMES:
            page = alice.get(_url(rule, store)).text
            assert not re.search(r"<style|\sstyle=|\son[a-z]+=[\"']|javascript:", page), rule.rule
            assert all("src=" in tag and "nonce=" in tag for tag in re.findall(r"<script[^>]*>", page)), rule.rule
            assert not re.search(
                r"(?:src|href|action)=[\"'](?:https?:)?//(?!localhost:8025)[^\"']*\.(?:js|css|woff2|png|svg)", page
            )


def test_htmx_keeps_no_history_and_obeys_the_policy(alice: Browser) -> None:
    """Eval is barred by the policy itself; the extension runs nothing without the nonce of its page."""
    answer = alice.get("/stores")
    found = re.search(r"<meta name=\"htmx-config\" content='([^']+)'>", answer.text)
    assert found
    told = json.loads(found.group(1))
    assert (told["extensions"], told["history"]) == ("hx-csp", "reload")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_https_is_for_good(database_url: str) -> None:
    app = create_app(
        settings_for(database_url, PUBLIC_URL="https://mail.shop.example", TRUSTED_HOSTS=["mail.shop.example"])
    )
    with app.app_context():
        factories.make_tables()
        answer = app.test_client().get("/sign-in", base_url="https://mail.shop.example")
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
        database.session.remove()
        database.engine.dispose()


def test_other_methods_are_refused(app: Flask, alice: Browser, store: Store) -> None:
    for rule in _routes(app):
        for method in {"POST", "PUT", "PATCH", "DELETE", "TRACE"} - (rule.methods or set()):
            answer = alice.open(method, _url(rule, store), data={"csrf_token": alice.csrf})
            # Another rule may own the same address.
            assert answer.status_code in (405, 403, 404) or method == "POST", (method, rule.rule, answer.status_code)


@pytest.mark.parametrize("override", [{"X-HTTP-Method-Override": "POST"}, {"X-HTTP-Method": "POST"}])
def test_no_header_or_field_turns_a_get_into_a_post(alice: Browser, store: Store, override: dict[str, str]) -> None:
    url = f"/stores/{store.id}/delete"
    answer = alice.get(f"{url}?_method=POST&code={store.code}&csrf_token={alice.csrf}", headers=override)
    assert answer.status_code == 200
    database.session.rollback()
    assert database.session.get(Store, store.id) is not None


def test_forwarded_headers_count_only_with_a_set_number_of_proxies(database_url: str) -> None:
    told = {"X-Forwarded-Host": "evil.example", "X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    for proxies, seen in ((0, "127.0.0.1"), (1, "203.0.113.9")):
        app = create_app(settings_for(database_url, PROXY_COUNT=proxies, PROPAGATE_EXCEPTIONS=False))
        with app.app_context():
            factories.make_tables()
        addresses: list[str] = []
        app.before_request_funcs.setdefault(None, []).insert(
            0, lambda addresses=addresses: addresses.append(_address())
        )
        answer = app.test_client().get("/sign-in", base_url="http://localhost:8025", headers=told)
        assert answer.status_code == (200 if proxies == 0 else 400)
        kept = {name: value for name, value in told.items() if name != "X-Forwarded-Host"}
        app.test_client().get("/sign-in", base_url="http://localhost:8025", headers=kept)
        assert addresses[-1] == seen
        with app.app_context():
            database.engine.dispose()


def _address() -> str | None:  # what the throttle counts by
    from flask import request

    return request.remote_addr


def test_our_fault_is_a_sentence_and_a_number_in_the_log(
    app: Flask, alice: Browser, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    def break_down(*args: Any, **kw: Any) -> None:
        raise RuntimeError("words that only we may read")

    monkeypatch.setattr("blueprints.stores.listing.load_page", break_down)
    answer = alice.get("/stores")
    assert answer.status_code == 500
    assert "words that only we may read" not in answer.text
    [incident] = [record.incident for record in caplog.records if hasattr(record, "incident")]
    assert incident in answer.text
    assert "Traceback" not in answer.text
    assert "words that only we may read" in caplog.text


def test_health_tells_no_detail(app: Flask, client: Browser) -> None:
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").text == "ok\n"


def test_not_ready_tells_no_detail_either(app: Flask, client: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: Any, *args: Any, **kw: Any) -> None:
        raise sqlite3_error()

    monkeypatch.setattr("blueprints.health.db.session.execute", away.__get__(object()), raising=True)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.text) == (503, "not ready\n")


def sqlite3_error() -> Exception:
    from sqlalchemy.exc import OperationalError

    return OperationalError("SELECT 1", {}, sqlite3.OperationalError("/secret/path/storepost.sqlite3 is away"))


def test_what_was_accepted_survives_a_power_cut(app: Flask, db: Any) -> None:
    """SQLite: write-ahead log, and every commit on the disk before it is told (2 is FULL)."""
    for pragma, wanted in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
        assert db.session.execute(text(f"PRAGMA {pragma}")).scalar() == wanted


def test_statements_in_errors_hide_their_values(app: Flask, db: Any) -> None:
    assert db.engine.hide_parameters
    assert not db.engine.echo
    with pytest.raises(Exception, match="no such table") as caught:
        db.session.execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "mark-parameter-Vb1"})
    assert "mark-parameter-Vb1" not in str(caught.value)


def test_talkative_libraries_stay_silent_in_a_debug_run(database_url: str) -> None:
    root, names = (
        logging.getLogger(),
        ("requests", "urllib3", "oauthlib", "requests_oauthlib", "sqlalchemy", "mail.log"),
    )
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in names}
    try:
        create_app(settings_for(database_url, TESTING=False, LOG_LEVEL="DEBUG"))
        assert root.level == logging.DEBUG
        assert all(logging.getLogger(name).getEffectiveLevel() >= logging.WARNING for name in names)
        assert logging.getLogger("urllib3.connectionpool").getEffectiveLevel() >= logging.WARNING
        assert logging.getLogger("sqlalchemy.engine.Engine").getEffectiveLevel() >= logging.WARNING
    finally:
        root.handlers[:], root.level = before[:2]
        for name, level in before[2].items():
            logging.getLogger(name).setLevel(level)


def test_the_trail_can_only_grow(alice: Browser, db: Any) -> None:
    entry = db.session.query(AuditEntry).first()
    assert entry.action == "signed_in"
    entry.actor = "somebody else"
    with pytest.raises(RuntimeError, match="append-only"):
        db.session.commit()
    db.session.rollback()
    db.session.delete(db.session.query(AuditEntry).first())
    with pytest.raises(RuntimeError, match="append-only"):
        db.session.commit()
    db.session.rollback()


# --- Sign-in


def test_the_spelling_of_an_address_does_not_reset_its_count(client: Browser, admin: User) -> None:
    spellings = [
        " alice@shop.example",
        "ALICE@shop.example",
        "alice@SHOP.example ",
        "  Alice@shop.example",
        "alice@ｓhop.example",
    ]
    for email in spellings:
        assert client.post("/sign-in", {"email": email, "password": "wrong"}).status_code == 422
    answer = client.post("/sign-in", {"email": "   alice@shop.example", "password": PASSWORD})
    assert answer.status_code == 429


def test_a_hash_of_weaker_parameters_is_renewed_at_sign_in(app: Flask, client: Browser, admin: User, db: Any) -> None:
    from flask_security import hash_password

    assert "t=1" in hash_password(PASSWORD)
    security = app.extensions["security"]
    security.pwd_context = security.pwd_context.using(argon2__time_cost=2)
    client.post("/sign-in", {"email": admin.email, "password": PASSWORD})
    db.session.expire_all()
    assert "t=2" in db.session.get_one(User, admin.id).password


def test_an_ended_session_has_lost_access_at_the_next_request(alice: Browser, db: Any) -> None:
    assert alice.get("/stores").status_code == 200
    db.session.execute(text("UPDATE user_sessions SET ended_at = 1"))
    db.session.commit()
    assert alice.get("/stores").status_code == 303
