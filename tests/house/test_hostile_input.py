"""Nothing that anybody sends makes a 500, and what is refused changes nothing: forms, URLs, JSON, both databases."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from app import create_app
from blueprints.headers import FIELDS_MAX, FORM_BYTES_MAX
from extensions import db as database
from mail import api_keys
from mail.audit import SYSTEM
from models import APIKey, AuditEntry, EmailSettings, Message, Store, User
from tests import factories
from tests.blueprints.settings_page import read
from tests.conftest import PASSWORD, Browser, settings_for

# A new application for each example would be most of the run; every example proves for itself that nothing changed.
BOUNDED = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(params=["sqlite", "postgres"])
def app(request: pytest.FixtureRequest) -> Iterator[Flask]:
    """The application on each database: they fail on different things."""
    url = request.getfixturevalue("database_url" if request.param == "sqlite" else "postgres_url")
    application = create_app(settings_for(url))
    # As in production: a fault of ours is a 500, and not an exception in the test.
    application.config["PROPAGATE_EXCEPTIONS"] = False
    with application.app_context():
        factories.make_tables()
        yield application
        database.session.remove()
        database.engine.dispose()


@pytest.fixture
def key(store: Store) -> str:
    _, secret = api_keys.create(store, "Web shop", actor=SYSTEM)
    database.session.commit()
    return secret.reveal()


def everything() -> dict[str, Any]:
    """What must not change by a refusal."""
    database.session.rollback()
    counted = {
        model.__name__: database.session.scalar(select(func.count()).select_from(model))
        for model in (Store, User, APIKey, Message, AuditEntry)
    }
    rows = database.session.execute(
        select(EmailSettings.version, EmailSettings.emails_off, EmailSettings.use_ssl, EmailSettings.method)
    ).all()
    database.session.rollback()
    return counted | {"settings": [tuple(row) for row in rows]}


# --- URLs


@pytest.mark.parametrize(
    "path",
    [
        "/stores/99999999999999999999999/smtp",
        "/stores/2147483648/smtp",
        "/stores/" + "9" * 5000 + "/smtp",
        "/stores/١/smtp",
        "/stores/-1/smtp",
        "/stores/1/tests/%00",
        "/stores/1/messages/%00",
        "/stores/%00/smtp",
        "/static/%00",
        "/%ff",
    ],
)
def test_an_address_that_no_page_has_is_not_found(alice: Browser, store: Store, path: str) -> None:
    assert alice.get(path.replace("/1/", f"/{store.id}/")).status_code == 404


@pytest.mark.parametrize("key_id", ["99999999999999999999999", "2147483648", "4294967297"])
def test_a_key_with_an_impossible_number_is_not_found(alice: Browser, store: Store, key_id: str) -> None:
    assert alice.post(f"/stores/{store.id}/api-keys/{key_id}/revoke").status_code == 404


@BOUNDED
@given(
    page=st.sampled_from(
        ["/stores", "/sign-in", "/stores/{}/messages", "/stores/{}/advanced-smtp", "/oauth/callback", "/oauth/outcome"]
    ),
    name=st.sampled_from(
        [
            "search",
            "q",
            "page",
            "status",
            "before",
            "after",
            "method",
            "connection",
            "test",
            "next",
            "state",
            "code",
            "error",
            "error_description",
            "iss",
        ]
    ),
    value=st.one_of(
        st.binary(max_size=60), st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
    ),
    repeated=st.booleans(),
)
def test_any_query_string_is_answered(
    alice: Browser, store: Store, page: str, name: str, value: bytes, repeated: bool
) -> None:
    before = everything()
    pair = f"{name}={quote_from_bytes(value)}"
    answer = alice.get(f"{page.format(store.id)}?{pair}{'&' + pair if repeated else ''}")
    assert answer.status_code < 500, answer.text
    assert everything() == before


@pytest.mark.parametrize(
    "value", ["//[", "http://[", "/stores%0A", "/stores%0D%0AX: 1", "/%5Cevil.example", "//x", "%00"]
)
def test_next_that_is_no_page_of_ours_leads_home(client: Browser, admin: User, value: str) -> None:
    entries = {"email": admin.email, "password": PASSWORD}
    answer = client.post(f"/sign-in?next={value}", entries)
    if value == "%00":
        assert answer.status_code == 400
        return
    assert (answer.status_code, answer.location) == (303, "/stores")
    assert client.get(f"/sign-in?next={value}").location == "/stores"


@pytest.mark.parametrize(
    "referer", ["http://[", "http://localhost:8025/\\evil.example", "http://localhost:8025//x", ""]
)
def test_the_theme_leads_to_pages_of_ours_only(alice: Browser, referer: str) -> None:
    answer = alice.post("/theme", {"theme": "dark"}, headers={"Referer": referer})
    assert (answer.status_code, answer.location) == (303, "/stores")


# --- Forms

FORMS = {
    "/sign-in": {"email": "alice@shop.example", "password": PASSWORD},
    "/stores/new": {"name": "Other", "code": "other", "domain": ""},
    "/stores/{}/edit": {"name": "Acme", "code": "acme-store", "domain": ""},
    "/stores/{}/copy": {"name": "Copy", "code": "copy", "emails_off": "1", "emails_off-present": "1"},
    "/stores/{}/delete": {"code": "acme-store"},
    "/stores/{}/api-keys": {"name": "Web shop", "send-present": "1", "send": "1", "read-present": "1", "read": "1"},
}

NO_TEXT = [b"%ff%fe", b"\xff\xfe", b"%ed%a0%80", b"%c0%80", b"a%00b", b"%e2%80%ae", b"a%0ab"]


@pytest.mark.parametrize("url", FORMS)
def test_bytes_that_are_no_text_are_refused_in_every_form(client: Browser, admin: User, store: Store, url: str) -> None:
    if url != "/sign-in":
        client.post("/sign-in", FORMS["/sign-in"])
    # Of a switch only its presence counts, whatever the browser sends for it.
    switches = ("password", "emails_off", "send", "read")
    fields = [name for name in FORMS[url] if not name.startswith(switches)]
    token, before = client.csrf, everything()
    for field, bad in itertools.product(fields, NO_TEXT):
        pairs = [
            name.encode() + b"=" + (bad if name == field else quote_from_bytes(value.encode()).encode())
            for name, value in {**FORMS[url], "csrf_token": token}.items()
        ]
        answer = client.open("POST", url.format(store.id), data=b"&".join(pairs), content_type=FORM)
        # Bytes above 7F that are not even percent-encoded leave no form at all, and so no CSRF token.
        assert answer.status_code == (400 if bad == b"\xff\xfe" else 422), (field, bad, answer.status_code)
        assert everything() == before


@pytest.mark.parametrize("url", FORMS)
def test_a_form_whose_names_are_no_text_is_refused(alice: Browser, store: Store, url: str) -> None:
    if url == "/sign-in":
        return  # whoever is signed in is sent home
    token, before = alice.csrf, everything()
    values = "&".join(f"{name}={value}" for name, value in {**FORMS[url], "csrf_token": token}.items())
    answer = alice.open("POST", url.format(store.id), data=values.encode() + b"&%ff=1", content_type=FORM)
    assert answer.status_code == 422
    assert everything() == before


@pytest.mark.parametrize("password", ["x" * 5000, "\0" * 20, "🛍" * 1025, "x" * 1025, ""])
def test_no_password_is_too_much_for_sign_in(client: Browser, admin: User, password: str) -> None:
    for email in (admin.email, "nobody@shop.example", "no address"):
        assert client.post("/sign-in", {"email": email, "password": password}).status_code == 422


@pytest.mark.parametrize("method", ["smtp", "advanced-smtp"])
def test_any_text_in_the_settings_forms_is_saved_or_refused(alice: Browser, store: Store, method: str) -> None:
    url = f"/stores/{store.id}/{method}"

    @settings(BOUNDED, max_examples=12)
    @given(data=st.data())
    def save(data: st.DataObject) -> None:
        page = read(alice.get(url).text)
        names = [*page.values, *page.secrets, "custom_fields-0-key", "custom_fields-0-value", "waiting_mail"]
        odd = st.one_of(
            st.text(max_size=30),
            st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Nd", "Mn"]), max_size=8),
            st.sampled_from(
                ["9" * 400, "-1", "٣", "1_0", "a@b", "https://[", "http://x", "x" * 5000, "[::1", "%", "[]"]
            ),
        )
        chosen = data.draw(st.dictionaries(st.sampled_from(names), odd, min_size=1, max_size=4))
        chosen.pop("csrf_token", None)
        body = "&".join(
            f"{quote_from_bytes(name.encode())}={quote_from_bytes(value.encode('utf-8', 'surrogatepass'))}"
            for name, value in {**page.values, "csrf_token": alice.csrf, **chosen}.items()
        )
        before = everything()
        for fragment in ({}, {"HX-Request": "true", "HX-Request-Type": "partial"}):
            answer = alice.open("POST", url, data=body, content_type=FORM, headers=fragment)
            assert answer.status_code in (200, 303, 409, 422), (answer.status_code, chosen)
            if answer.status_code in (409, 422) and not fragment:
                assert everything() == before, chosen

    save()


INDEXES = ["x", "-1", "01", "1000", "99999999999", "٣", "0-key-0", "", "1e3", " 1", "0]", "0.5", "key"]


@BOUNDED
@given(
    rows=st.dictionaries(
        st.tuples(st.sampled_from([*INDEXES, "0", "7", "999"]), st.sampled_from(["key", "value", "csrf_token", "x"])),
        st.text(max_size=10),
        min_size=1,
        max_size=6,
    ),
    part=st.sampled_from(["", "/custom-fields", "/provider", "/field/scope"]),
)
def test_odd_custom_field_names_are_refused_in_words(
    alice: Browser, store: Store, rows: dict[tuple[str, str], str], part: str
) -> None:
    url = f"/stores/{store.id}/advanced-smtp"
    page = read(alice.get(url).text)
    filled = {"from_name": "Acme", "from_email": "orders@acme.example"}
    posted = page.values | filled | {f"custom_fields-{index}-{name}": text for (index, name), text in rows.items()}
    before = everything()
    answer = alice.post(url + part, {name: text.encode("utf-8", "replace") for name, text in posted.items()})
    is_odd = any(index in INDEXES or name not in ("key", "value") for index, name in rows)
    assert answer.status_code < 500
    if is_odd and not part:
        assert answer.status_code == 422
        assert everything() == before


def test_a_huge_number_of_fields_is_refused_unread(client: Browser, alice: Browser, store: Store) -> None:
    many = b"a=1&" * FIELDS_MAX
    for url in (f"/stores/{store.id}/advanced-smtp", f"/stores/{store.id}/test/smtp", "/sign-in", "/theme"):
        assert client.open("POST", url, data=many, content_type=FORM).status_code == 413


@pytest.mark.parametrize("url", ["/sign-in", "/stores/new", "/theme", "/stores/{}/messages/release"])
def test_small_forms_take_small_bodies(alice: Browser, store: Store, url: str) -> None:
    body = b"csrf_token=" + b"x" * FORM_BYTES_MAX
    assert alice.open("POST", url.format(store.id), data=body, content_type=FORM).status_code == 413


def test_the_settings_page_has_room_for_a_hundred_full_custom_fields(alice: Browser, store: Store) -> None:
    url = f"/stores/{store.id}/advanced-smtp"
    posted = read(alice.get(url).text).values | {"from_name": "Acme", "from_email": "orders@acme.example"}
    for number in range(100):
        posted[f"custom_fields-{number}-key"] = "🛍" * 149 + chr(0x1F600 + number % 50)
        posted[f"custom_fields-{number}-value"] = "🛍" * 4096
    assert alice.post(url, posted).status_code == 303
    database.session.rollback()
    assert len(database.session.get_one(Store, store.id).email_settings.custom_fields) == 100


def test_a_copy_without_its_switch_is_refused(alice: Browser, store: Store) -> None:
    """A form that lost its tail must not start a copy that sends mail."""
    before = everything()
    answer = alice.post(f"/stores/{store.id}/copy", {"name": "Copy", "code": "copy"})
    assert answer.status_code == 422
    assert everything() == before
    page = alice.get(f"/stores/{store.id}/copy").text
    assert 'name="emails_off-present"' in page


# --- The API

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "to",
    "cc",
    "bcc",
    "reply_to",
    "subject",
    "text",
    "html",
    "headers",
    "attachments",
    "priority",
    "expires_in",
    "send_at",
    "id",
    "status",
    "x",
]


@settings(BOUNDED, max_examples=60)
@given(document=st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
def test_any_json_is_accepted_or_refused(client: Browser, key: str, document: dict[str, Any]) -> None:
    before = everything()
    document = {"to": ["a@b.example"], "subject": "s", "text": "t"} | document
    answer = post(client, key, json.dumps(document).encode())
    assert answer.status_code in (202, 400, 422), (answer.status_code, document)
    if answer.status_code != 202:
        assert answer.mimetype == "application/problem+json"
        assert everything() == before


@BOUNDED
@given(body=st.binary(max_size=80) | st.text(alphabet='[]{}",:01eE.-+\\u d8nulltrefas', max_size=60).map(str.encode))
def test_any_bytes_to_the_api_are_answered(client: Browser, key: str, body: bytes) -> None:
    before = everything()
    assert post(client, key, body).status_code in (400, 422)
    assert everything() == before


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"to": ' + b"9" * 5000 + b"}",
        b'{"expires_in": 1e400}',
        b'{"subject": "\\ud800"}',
    ],
)
def test_json_that_breaks_parsers_is_refused(client: Browser, key: str, body: bytes) -> None:
    assert post(client, key, body).status_code in (400, 422)


def test_a_refusal_names_a_hundred_faults_at_most(client: Browser, key: str) -> None:
    answer = post(client, key, json.dumps({f"field{n}": 1 for n in range(5000)}).encode())
    assert answer.status_code == 422
    assert len(answer.get_json()["errors"]) == 100


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer sp_" + "é" * 43, "Bearer sp_" + "A" * 43, "Basic YTpi", "Bearer " + "x" * 9000],
)
def test_any_authorization_is_answered(client: Browser, key: str, authorization: str) -> None:
    headers = {"Authorization": authorization}
    assert client.get(f"/api/v1/messages/{'0' * 32}", headers=headers).status_code == 401


def test_a_message_with_an_impossible_id_is_not_found(client: Browser, key: str) -> None:
    for uid in ("%00", "x" * 3000, "%ff", "1%20OR%201=1"):
        answer = client.get(f"/api/v1/messages/{uid}", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 404
        assert not re.search("traceback|sqlalchemy|psycopg", answer.text, re.IGNORECASE)


def post(client: Browser, key: str, body: bytes) -> Any:
    return client.open(
        "POST",
        "/api/v1/messages",
        data=body,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
