"""Every rule of the two settings pages, by form post and by htmx fragment: the words beside the field, what was typed
kept, and the stored row as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest

from app import create_app
from extensions import db
from models import Connection, CustomField, EmailSettings, Store
from tests import factories
from tests.blueprints.settings_page import read
from tests.conftest import PASSWORD, Browser, settings_for

A_NAME = "x" * 148
COMBINED = "e\u0323\u0302"  # becomes one code point in form NFC
FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # five code points, one picture

HOST = "Enter the server’s name, like smtp.office365.com"
PORT = "Use a number from 1 to 65535"
ADDRESS = "Enter a full email address, like admin@yourdomain.com"
LONG = "Use 150 characters or fewer"
TENANT = "Enter the directory’s GUID or domain, or common, organizations or consumers"

GENERAL_REFUSED = [
    ("from_name", "", "Enter the name that recipients see, like Acme Store"),
    ("from_name", "   ", "Enter the name that recipients see, like Acme Store"),
    ("from_name", "x" * 151, LONG),
    ("from_name", A_NAME + "\U0001f600\U0001f600\U0001f600", LONG),
    ("from_name", A_NAME + "q\u0323\u0307", LONG),
    ("from_name", "Acme\r\nBcc: a@b.example", "Use one line: take out the line break at position 5"),
    ("from_name", "Acme\u2028Store", "Use one line: take out the line break at position 5"),
    ("from_name", "Acme\x00Store", "Take out the control character at position 5"),
    ("from_name", "Acme\x85Store", "Take out the control character at position 5"),
    ("from_name", "Acme \u202eerotS", "Take out the text direction character at position 6"),
    ("from_email", "", ADDRESS),
    ("from_email", "orders@acmestore", ADDRESS),
    ("from_email", "orders.acmestore.example", ADDRESS),
    ("from_email", "Acme <orders@acmestore.example>", ADDRESS),
    ("from_email", "a@b.example, c@d.example", ADDRESS),
    ("from_email", "or ders@acmestore.example", ADDRESS),
    ("from_email", "orders@[192.0.2.1]", ADDRESS),
    ("from_email", "x" * 65 + "@acmestore.example", ADDRESS),
    ("from_email", "orders@acme\u202estore.example", "Take out the text direction character at position 12"),
    ("bcc", "ops@acme", "Address 1: “ops@acme” is not a full email address. Separate addresses with commas."),
    (
        "bcc",
        "records@acme.example, ops@acme, more@acme.example",
        "Address 2: “ops@acme” is not a full email address. Separate addresses with commas.",
    ),
    (
        "bcc",
        "records@acme.example; ops@acme.example",
        "Address 1: “records@acme.example; ops@acme.example” is not a full email address. "
        "Separate addresses with commas.",
    ),
    (
        "bcc",
        "a@b.example,,c@d.example",
        "Address 2 is empty. Put one comma between two addresses, and none at the end.",
    ),
    ("bcc", "a@b.example,", "Address 2 is empty. Put one comma between two addresses, and none at the end."),
    ("bcc", ", ".join(f"a{n}@b.example" for n in range(51)), "Use 50 addresses or fewer"),
    ("bcc", "a@b.example\nc@d.example", "Use one line: take out the line break at position 12"),
]
SERVER_REFUSED = [
    ("smtp_host", "smtp://smtp.acme.example", f"Leave out what stands before the name, like https://. {HOST}"),
    ("smtp_host", "smtp.acme.example/path", f"Leave out the path. {HOST}"),
    ("smtp_host", "smtp.acme.example:587", "Leave out the port: it has a field of its own"),
    ("smtp_host", "user@smtp.acme.example", f"Leave out the user name. {HOST}"),
    ("smtp_host", "smtp acme", HOST),
    ("smtp_host", "-smtp.acme.example", HOST),
    ("smtp_host", "1.2.3", HOST),
    ("smtp_host", "0x7f.1", HOST),
    ("smtp_host", "a" * 64 + ".example", HOST),
    ("smtp_host", "smtp\x00.acme.example", "Take out the control character at position 5"),
    *(("smtp_port", text, PORT) for text in ("0", "65536", "-1", "+587", "5 87", "5_87", "587.0", "0x24b", "587587")),
    *(("smtp_port", text, PORT) for text in ("٥٨٧", "５８７", "²", "५८७")),
]  # fmt: skip
ADVANCED_REFUSED = [
    ("client_id", "x" * 256, "Use 255 characters or fewer"),
    ("client_id", "id\x07", "Take out the control character at position 3"),
    ("tenant_id", "my company", TENANT),
    ("tenant_id", "common/../evil", TENANT),
    ("tenant_id", "12345", TENANT),
    ("tenant_id", "7d0c1f5a-3b4e-4a51-9a0e-5b1f62c7c9d", TENANT),
    ("grant_type", "password", "Choose one of the three grant types"),
    ("grant_type", "", "Choose one of the three grant types"),
    ("token_url", "http://login.acme.example/token", "Start the URL with https://"),
    ("token_url", "login.acme.example/token", "Start the URL with https://"),
    ("token_url", "https://", "Enter a host name after https://"),
    ("token_url", "https://me:pw@acme.example/token", "Leave out the user name and password before the host name"),
    ("token_url", "https://login.acme.example/token#x", "Leave out # and everything after it"),
    ("token_url", "https://login.acme.example:0/token", "Use a port from 1 to 65535, or none"),
    ("token_url", "https://login.acme.example\\@evil.example/", "Use / instead of \\ in the URL"),
    ("token_url", "https://login%2eacme.example/token", "Write the host name without % signs"),
    ("token_url", "https://login.acme.example/to ken", "Take the spaces and invisible characters out of the URL"),
    ("token_url", "https://login.acme.example/" + "x" * 2048, "Use 2,048 characters or fewer"),
    ("scope", 'smtp.send "x"', "Separate scopes with spaces. “\"x\"” has a character that no scope has."),
    ("scope", "smtp.sénd", "Separate scopes with spaces. “smtp.sénd” has a character that no scope has."),
    ("login", "not an address", ADDRESS),
    ("client_secret_expires_on", "tomorrow", "Enter a date like 2027-05-31"),
    ("client_secret_expires_on", "2027-02-30", "Enter a date like 2027-05-31"),
]  # fmt: skip
REFUSED = [("advanced-smtp", *case) for case in GENERAL_REFUSED + SERVER_REFUSED + ADVANCED_REFUSED]
REFUSED += [("smtp", *case) for case in GENERAL_REFUSED[:12] + SERVER_REFUSED[:10]]
REFUSED += [("smtp", "username", "u\x00ser", "Take out the control character at position 2")]
REFUSED += [("smtp", "username", "x" * 321, "Use 320 characters or fewer")]


def _name(value: Any) -> str:
    return ascii(value)[:40]


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One application and one sign-in for all cases: a refused one leaves nothing behind, as each of them proves."""
    application = create_app(settings_for(f"sqlite:///{tmp_path_factory.mktemp('rules') / 'storepost.sqlite3'}"))
    with application.app_context():
        factories.make_tables()
        factories.make_admin("alice@shop.example", name="Alice Adams", password=PASSWORD)
        browser = Browser(application.test_client())
        assert browser.post("/sign-in", {"email": "alice@shop.example", "password": PASSWORD}).status_code == 303
        yield browser
        db.session.remove()
        db.engine.dispose()


@pytest.fixture(scope="module")
def filled(alice: Browser) -> int:
    """The id of a store whose settings are good, so that each case has one fault only."""
    general = {"from_name": "Acme Store", "from_email": "orders@acmestore.example"}
    server = {"smtp_host": "smtp.acme.example", "smtp_port": 587}
    return factories.make_store("Acme Store", **general, **server).id


def stored_rows() -> list[Any]:
    """Everything the settings tables hold."""
    db.session.remove()
    return [
        sorted((column.name, repr(getattr(row, column.key))) for column in row.__table__.columns)
        for model in (EmailSettings, Connection, CustomField)
        for row in db.session.query(model).order_by(model.id)
    ]


@pytest.mark.parametrize(("tab", "name", "typed", "words"), REFUSED, ids=_name)
def test_it_refuses_beside_the_field_and_keeps_what_was_typed(
    alice: Browser, filled: int, tab: str, name: str, typed: str, words: str
) -> None:
    url = f"/stores/{filled}/{tab}"
    before = stored_rows()
    posted = read(alice.get(url).text).with_(**{name: typed})
    for ask in (alice.post, alice.htmx_post):
        answer = ask(url, posted)
        assert answer.status_code == 422
        page = read(answer.text)
        assert page.error_of(name) == words
        assert 'id="err-sum"' in answer.text
        if name != "grant_type":  # a list has no entry for what it does not offer
            assert page.values[name] == (typed.strip() if "\n" not in typed else page.values[name])
        assert page.values["from_email"] == posted["from_email"].strip()
    answer = alice.htmx_post(f"{url}/field/{name}", {name: typed, "provider": "microsoft365"})
    assert answer.status_code == 422
    assert read(answer.text).error_of(name) == words
    assert f'id="f-{name}"' in answer.text
    assert stored_rows() == before


ACCEPTED = [
    ("advanced-smtp", "from_name", "x" * 150, "x" * 150),
    ("advanced-smtp", "from_name", A_NAME + "\U0001f600\U0001f600", A_NAME + "\U0001f600\U0001f600"),
    ("advanced-smtp", "from_name", A_NAME + COMBINED + "x", A_NAME + "\u1ec7x"),
    ("advanced-smtp", "from_name", FAMILY * 30, FAMILY * 30),
    ("advanced-smtp", "from_name", "  Acme, “Store” <1>  ", "Acme, “Store” <1>"),
    ("advanced-smtp", "from_name", "متجر\u200f", "متجر\u200f"),
    ("advanced-smtp", "from_email", "bücher@bücher.example", "bücher@bücher.example"),
    ("advanced-smtp", "from_email", "Orders+EU@ACMEStore.example", "Orders+EU@acmestore.example"),
    ("smtp", "bcc", "a@b.example,c@d.example , a@b.example", "a@b.example, c@d.example"),
    ("smtp", "bcc", ", ".join(f"a{n}@b.example" for n in range(50)), ", ".join(f"a{n}@b.example" for n in range(50))),
    ("smtp", "smtp_host", "SMTP.Acme.Example.", "smtp.acme.example"),
    ("smtp", "smtp_host", "bücher.example", "xn--bcher-kva.example"),
    ("smtp", "smtp_host", "192.0.2.7", "192.0.2.7"),
    ("smtp", "smtp_host", "[2001:db8::0:1]", "2001:db8::1"),
    ("smtp", "smtp_host", "", ""),
    ("smtp", "smtp_port", "1", 1),
    ("smtp", "smtp_port", "65535", 65535),
    ("smtp", "smtp_port", " 465 ", 465),
    ("smtp", "smtp_port", "", None),
]


@pytest.mark.parametrize(("tab", "name", "typed", "kept"), ACCEPTED, ids=_name)
def test_it_accepts_and_stores(alice: Browser, filled: int, tab: str, name: str, typed: str, kept: Any) -> None:
    url = f"/stores/{filled}/{tab}"
    answer = alice.post(url, read(alice.get(url).text).with_(**{name: typed}))
    assert answer.status_code == 303, read(answer.text).error_of(name)
    assert getattr(db.session.get(Store, filled).email_settings, name) == kept


ACCEPTED_BY_THE_CONNECTION = [
    ("tenant_id", "contoso.onmicrosoft.com", "contoso.onmicrosoft.com"),
    ("tenant_id", "organizations", "organizations"),
    ("tenant_id", "", "common"),
    ("grant_type", "client_credentials", "client_credentials"),
    ("grant_type", "refresh_token", "refresh_token"),
    ("token_url", "HTTPS://Login.Acme.example:443/token", "https://login.acme.example/token"),
    ("scope", " a.b  c.d  a.b ", "a.b c.d"),
    ("login", "robot@acme.example", "robot@acme.example"),
]


@pytest.mark.parametrize(("name", "typed", "kept"), ACCEPTED_BY_THE_CONNECTION, ids=_name)
def test_it_accepts_and_stores_with_the_connection(
    alice: Browser, filled: int, name: str, typed: str, kept: str
) -> None:
    url = f"/stores/{filled}/advanced-smtp"
    answer = alice.post(url, read(alice.get(url).text).with_(**{name: typed}))
    assert answer.status_code == 303, read(answer.text).error_of(name)
    assert getattr(db.session.get(Store, filled).email_settings.connection, name) == kept


def test_no_input_cuts_a_long_value_short(alice: Browser, filled: int) -> None:
    for tab in ("smtp", "advanced-smtp"):
        assert "maxlength" not in alice.get(f"/stores/{filled}/{tab}").text


@pytest.mark.parametrize("name", ["client_secret", "refresh_token", "password"])
def test_secrets_are_never_checked_while_typing(alice: Browser, filled: int, name: str) -> None:
    tab = "smtp" if name == "password" else "advanced-smtp"
    assert alice.htmx_post(f"/stores/{filled}/{tab}/field/{name}", {name: "fake"}).status_code == 404


@pytest.mark.parametrize("name", ["from_name", "scope"])
def test_bytes_that_are_no_utf_8_are_refused_beside_their_field(alice: Browser, filled: int, name: str) -> None:
    url = f"/stores/{filled}/advanced-smtp"
    before = stored_rows()

    posted = read(alice.get(url).text).with_(**{name: "BAD"}) | {"csrf_token": alice.csrf}
    body = urlencode(posted).replace(f"{name}=BAD", f"{name}=caf%FFe").encode()
    answer = alice.open("POST", url, data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 422
    assert read(answer.text).error_of(name) == "Some characters of this entry could not be read. Type it again."
    assert stored_rows() == before


@pytest.mark.parametrize(
    "text", ["\ud800", "\x00\x00", "\u2029", "\u202d", "\ufffe" * 9, "%", "%00", "{{7*7}}", "'\"><script>"]
)
@pytest.mark.parametrize(
    "name",
    [
        "from_name",
        "bcc",
        "smtp_host",
        "smtp_port",
        "tenant_id",
        "token_url",
        "version",
        "provider",
        "custom_fields-0-key",
        "custom_fields-0-value",
        "client_secret",
        "waiting_mail",
        "urls_tenant",
        "filled_for",
    ],
)
def test_no_text_anywhere_makes_a_500(alice: Browser, filled: int, name: str, text: str) -> None:
    url = f"/stores/{filled}/advanced-smtp"

    posted = read(alice.get(url).text).values | {"csrf_token": alice.csrf, "custom_fields-0-key": "k"}
    posted[name] = text
    body = "&".join(
        f"{quote_from_bytes(key.encode())}={quote_from_bytes(value.encode('utf-8', 'surrogatepass'))}"
        for key, value in posted.items()
    )
    answer = alice.open("POST", url, data=body.encode(), content_type="application/x-www-form-urlencoded")
    assert answer.status_code in (303, 422)
