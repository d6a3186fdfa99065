"""Signing in and out, throttling, the one-time link, sessions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask

from blueprints.auth import accounts, throttle
from blueprints.sessions import hash_token
from extensions import db
from models import AuditEntry, OneTimeLink, SignInAttempt, User, UserSession
from models.clock import shifted
from tests import factories
from tests.conftest import PASSWORD, PUBLIC_URL, Browser

GOOD_PASSWORD = "quiet harbour lamp seventeen"


def test_it_signs_in_and_out(client: Browser, admin: User) -> None:
    answer = client.post("/sign-in", {"email": admin.email.upper(), "password": PASSWORD})
    assert (answer.status_code, answer.location) == (303, "/stores")
    assert client.get("/stores").status_code == 200
    assert client.post("/sign-out").location == "/sign-in"
    assert client.get("/stores").status_code == 303
    assert [e.action for e in db.session.query(AuditEntry)] == ["signed_in", "signed_out"]


@pytest.mark.parametrize("email", ["alice@shop.example", "nobody@shop.example", "not an address"])
def test_unknown_and_known_people_get_the_same_words(client: Browser, admin: User, email: str) -> None:
    answer = client.post("/sign-in", {"email": email, "password": "wrong wrong wrong"})
    assert answer.status_code == 422
    assert "Email or password is not right" in answer.text
    assert "wrong wrong wrong" not in answer.text


def test_unknown_people_cost_a_hash_too(client: Browser, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    from blueprints.auth import views

    checked = []
    monkeypatch.setattr(views, "verify_password", lambda password, hashed: checked.append(hashed) or False)
    client.post("/sign-in", {"email": "nobody@shop.example", "password": "x"})
    assert [hashed[:10] for hashed in checked] == ["$argon2id$"]


def test_passwords_are_argon2id(admin: User) -> None:
    assert admin.password.startswith("$argon2id$")


def test_a_disabled_person_is_out_at_the_next_request(alice: Browser, admin: User) -> None:
    assert alice.get("/stores").status_code == 200
    db.session.get(User, 1).active = False
    db.session.commit()
    assert alice.get("/stores").status_code == 303


def test_sign_in_pauses_after_five_failures_and_says_for_how_long(client: Browser, admin: User) -> None:
    for _ in range(throttle.PER_ACCOUNT):
        assert client.post("/sign-in", {"email": admin.email, "password": "nope nope nope"}).status_code == 422
    answer = client.post("/sign-in", {"email": admin.email, "password": PASSWORD})
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 900
    assert "paused" in answer.text
    # Never a lock: once the window has passed, the right password opens.
    for attempt in db.session.query(SignInAttempt):
        attempt.at -= timedelta(minutes=16)
    db.session.commit()
    assert client.post("/sign-in", {"email": admin.email, "password": PASSWORD}).status_code == 303


def test_sign_in_takes_a_new_session(client: Browser, admin: User) -> None:
    client.get("/sign-in")
    before = client.client.get_cookie("storepost", domain="localhost")
    client.post("/sign-in", {"email": admin.email, "password": PASSWORD})
    after = client.client.get_cookie("storepost", domain="localhost")
    assert after is not None
    assert before is None or before.value != after.value
    hashes = {row.token_hash for row in db.session.query(UserSession)}
    assert hash_token(after.value) in hashes
    assert before is None or hash_token(before.value) not in hashes
    assert after.value not in str([row.data for row in db.session.query(UserSession)])


@pytest.mark.parametrize(
    ("column", "age"),
    [("last_seen_at", timedelta(minutes=31)), ("created_at", timedelta(hours=13))],
    ids=["idle", "old"],
)
def test_sessions_end(alice: Browser, column: str, age: timedelta) -> None:
    assert alice.get("/stores").status_code == 200
    for row in db.session.query(UserSession):
        setattr(row, column, getattr(row, column) - age)
    db.session.commit()
    assert alice.get("/stores").status_code == 303


def test_an_ended_session_is_not_brought_back(alice: Browser) -> None:
    from models.types import utcnow

    for row in db.session.query(UserSession):
        row.ended_at = utcnow()
    db.session.commit()
    assert alice.get("/stores").status_code == 303
    assert alice.get("/stores").status_code == 303


def test_the_cookie_is_guarded(client: Browser, admin: User) -> None:
    answer = client.post("/sign-in", {"email": admin.email, "password": PASSWORD})
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Domain" not in cookie


def test_on_https_the_cookie_carries_the_host_prefix(database_url: str) -> None:
    from app import create_app
    from tests.conftest import settings_for

    app = create_app(
        settings_for(database_url, PUBLIC_URL="https://mail.shop.example", TRUSTED_HOSTS=["mail.shop.example"])
    )
    assert app.config["SESSION_COOKIE_NAME"] == "__Host-storepost"
    assert app.config["SESSION_COOKIE_SECURE"] is True


def test_a_post_without_the_token_is_refused(alice: Browser) -> None:
    answer = alice.client.post("/sign-out", base_url=PUBLIC_URL)
    assert answer.status_code == 400
    assert alice.get("/stores").status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_foreign_origin_is_refused(alice: Browser, headers: dict[str, str]) -> None:
    assert alice.post("/sign-out", headers=headers).status_code == 403
    assert alice.get("/stores").status_code == 200


def test_unknown_hosts_are_refused(client: Browser) -> None:
    assert client.get("/sign-in", base_url="http://evil.example").status_code == 400


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "/no/such/page", "stores"]
)
def test_next_leads_to_our_own_pages_only(client: Browser, admin: User, target: str) -> None:
    answer = client.post(f"/sign-in?next={target}", {"email": admin.email, "password": PASSWORD})
    assert answer.location == "/stores"


def test_sign_in_comes_back_to_where_it_was_asked(client: Browser, admin: User) -> None:
    asked = client.get("/stores/new")
    assert asked.location.startswith("/sign-in?next=")
    answer = client.post(asked.location, {"email": admin.email, "password": PASSWORD})
    assert answer.location == "/stores/new"


def test_an_expired_session_moves_the_whole_page(client: Browser) -> None:
    answer = client.htmx_get("/stores")
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"].startswith("/sign-in")


# --- The first administrator


def test_the_one_time_link_makes_the_first_administrator_once(app: Flask, client: Browser) -> None:
    link = accounts.make_first_link()
    assert link is not None
    path = link.removeprefix(PUBLIC_URL)
    assert client.get(path).status_code == 200
    assert client.get(path).status_code == 200, "looking must not use it up"
    entries = {"name": "Maya Chen", "email": "maya@shop.example", "password": GOOD_PASSWORD}
    assert client.post(path, entries).location == "/stores"
    assert client.get("/stores").status_code == 200
    assert db.session.query(User).one().is_platform_admin
    assert client.post(path, {**entries, "email": "second@shop.example"}).status_code == 410
    assert accounts.make_first_link() is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("password", "short", "at least 12 characters"),
        ("password", "password1234", "easily guessed"),
        ("password", "", "Choose a password"),
        ("email", "maya", "Enter a full email address"),
        ("email", "", "Enter your email address"),
    ],
)
def test_refused_entries_leave_the_link_good(app: Flask, client: Browser, field: str, value: str, words: str) -> None:
    path = (accounts.make_first_link() or "").removeprefix(PUBLIC_URL)
    entries = {"name": "Maya Chen", "email": "maya@shop.example", "password": GOOD_PASSWORD, field: value}
    answer = client.post(path, entries)
    assert answer.status_code == 422
    assert words in answer.text
    assert "Maya Chen" in answer.text
    assert GOOD_PASSWORD not in answer.text
    assert db.session.query(User).count() == 0
    assert client.get(path).status_code == 200


def test_the_one_time_link_expires(app: Flask, client: Browser) -> None:
    path = (accounts.make_first_link() or "").removeprefix(PUBLIC_URL)
    with shifted(timedelta(minutes=61)):
        assert client.get(path).status_code == 410
    assert db.session.query(OneTimeLink).one().used_at is None


def test_a_link_is_worthless_once_somebody_exists(app: Flask, client: Browser) -> None:
    path = (accounts.make_first_link() or "").removeprefix(PUBLIC_URL)
    factories.make_admin("first@shop.example")
    assert client.get(path).status_code == 410


def test_the_link_is_stored_as_a_hash(app: Flask) -> None:
    token = (accounts.make_first_link() or "").rsplit("/", 1)[1]
    assert token not in str([(row.token_hash, row.purpose) for row in db.session.query(OneTimeLink)])


def test_flask_admin_create_reads_the_password_from_standard_input(app: Flask) -> None:
    done = app.test_cli_runner().invoke(
        args=["admin", "create", "ops@shop.example", "--name", "Ops"], input=GOOD_PASSWORD + "\n"
    )
    assert done.exit_code == 0, done.output
    assert db.session.query(User).one().email == "ops@shop.example"
    assert GOOD_PASSWORD not in done.output
    again = app.test_cli_runner().invoke(args=["admin", "create", "ops@shop.example"], input=GOOD_PASSWORD + "\n")
    assert again.exit_code != 0
    assert "exists already" in again.output


def test_the_theme_is_a_cookie(client: Browser) -> None:
    assert "theme=dark" in client.post("/theme", {"theme": "dark"}).headers["Set-Cookie"]
    assert 'data-theme="dark"' in client.get("/sign-in").text
    client.post("/theme", {"theme": "system"})
    assert "data-theme" not in client.get("/sign-in").text
