"""The two settings pages by the front door: saving, secrets, rows, presets, stale saves, the switch."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html import unescape
from typing import Any

import pytest

from blueprints.email_settings import pages
from extensions import db
from mail import settings as email_settings
from mail.audit import Actor
from mail.equipment import Equipment
from mail.providers import catalogue, sandbox_provider
from models import AuditEntry, EmailSettings, Message, Store
from models.email_settings import Method
from models.outbox import HoldReason, MessageStatus
from models.types import new_uid, utcnow
from tests import factories
from tests.blueprints.settings_page import Page, read
from tests.conftest import Browser

GENERAL = {"from_name": "Acme Store", "from_email": "orders@acme.example"}
OTHER = GENERAL | {
    "provider": "other",
    "filled_for": "other",
    "smtp_host": "smtp.acme.example",
    "smtp_port": "587",
    "client_id": "client-1",
    "token_url": "https://login.acme.example/token",
    "authorization_url": "https://login.acme.example/authorize",
    "scope": "smtp.send",
}


class Tab:
    """One of the two pages of a store, in one browser."""

    def __init__(self, browser: Browser, store_id: int, path: str):
        self.browser, self.store_id = browser, store_id
        self.url = f"/stores/{store_id}/{path}"

    def open(self) -> Page:
        answer = self.browser.get(self.url)
        assert answer.status_code == 200
        return read(answer.text)

    def save(self, **changes: str | None) -> Any:
        return self.browser.post(self.url, self.open().with_(**changes))

    def saved(self, **changes: str | None) -> EmailSettings:
        answer = self.save(**changes)
        assert answer.status_code == 303, re.findall(r'class="err".*?</p>', answer.text, re.S)
        return self.row

    @property
    def row(self) -> EmailSettings:
        db.session.remove()
        store = db.session.get(Store, self.store_id)
        assert store is not None
        return store.email_settings


@pytest.fixture
def advanced(alice: Browser, store: Store) -> Tab:
    return Tab(alice, store.id, "advanced-smtp")


@pytest.fixture
def smtp(alice: Browser, store: Store) -> Tab:
    return Tab(alice, store.id, "smtp")


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


# --- What stands on the pages


def test_the_pages_carry_every_label_of_the_specification(advanced: Tab, smtp: Tab) -> None:
    general = ["From Display Name", "From Email Address", "Bcc Email Address", "Enable SSL For SMTP", "Turn Off Emails"]
    own = ["SMTP Server", "SMTP Port", "Client Id", "Tenant Id", "Client Secret", "Refresh Token", "Grant Type"]
    own += ["Access Token URL", "Scope", "Custom Fields", "Add Field", "Sign-in address", "Email provider"]
    page = text_of(advanced.open().text)
    for label in [*general, *own, "General Settings", "Advanced SMTP Settings"]:
        assert label in page, label
    page = text_of(smtp.open().text)
    for label in [*general, "SMTP Server", "SMTP Port", "Username", "Password", "SMTP Settings"]:
        assert label in page, label


def test_a_new_page_is_filled_from_the_first_preset(advanced: Tab) -> None:
    values = advanced.open().values
    assert values["provider"] == "microsoft365"
    assert (values["smtp_host"], values["smtp_port"]) == ("smtp.office365.com", "587")
    assert (values["tenant_id"], values["grant_type"], values["use_ssl"]) == ("common", "authorization_code", "1")


def test_both_tabs_share_the_general_settings(advanced: Tab, smtp: Tab) -> None:
    smtp.saved(**GENERAL, bcc="records@acme.example")
    values = advanced.open().values
    assert [values[name] for name in ("from_name", "bcc")] == ["Acme Store", "records@acme.example"]
    advanced.saved(from_name="Acme Europe")
    assert smtp.open().values["from_name"] == "Acme Europe"


def test_it_says_what_is_still_missing_before_mail_can_go_out(advanced: Tab) -> None:
    def missing() -> str:
        found = re.search(r'id="missing".*?</section>', advanced.open().text, re.S)
        return text_of(found.group()) if found else ""

    assert "Client Id" in missing()
    advanced.saved(**OTHER, client_secret="fake-secret", refresh_token="fake-token")
    assert missing() == ""


def test_every_element_that_asks_by_htmx_carries_the_nonce(advanced: Tab, smtp: Tab) -> None:
    for page in (advanced.open().text, smtp.open().text):
        for tag in re.findall(r"<(?!hx-partial)[a-z]+ [^>]*hx-(?:post|get)=[^>]*>", page):
            assert "hx-nonce=" in tag, tag


def test_the_first_button_of_the_form_saves(advanced: Tab) -> None:
    # Enter in a field presses it, whatever stands first on the page.
    first = re.search(r'<button[^>]*form="smtp-form"[^>]*>', advanced.open().text)
    assert first
    assert "formaction" not in first.group()


# --- Saving


def test_a_plain_save_goes_on_and_an_htmx_save_answers_the_form(advanced: Tab, alice: Browser) -> None:
    answer = advanced.save(**GENERAL)
    assert (answer.status_code, answer.location) == (303, advanced.url)
    answer = alice.htmx_post(advanced.url, advanced.open().with_(from_name="Acme Europe"))
    assert answer.status_code == 200
    assert "<html" not in answer.text
    assert "All changes saved just now" in answer.text
    assert read(answer.text).values["version"] == str(advanced.row.version)


def test_an_identical_save_changes_nothing(advanced: Tab) -> None:
    advanced.saved(**OTHER)
    version, entries = advanced.row.version, db.session.query(AuditEntry).count()
    advanced.saved()
    assert (advanced.row.version, db.session.query(AuditEntry).count()) == (version, entries)


@pytest.mark.parametrize("name", ["use_ssl", "emails_off"])
def test_a_form_without_its_switch_switches_nothing(advanced: Tab, name: str) -> None:
    advanced.saved(**GENERAL)
    answer = advanced.save(**{f"{name}-present": None, name: None, "from_name": "Changed"})
    assert answer.status_code == 422
    assert "did not arrive" in read(answer.text).error_of(name)
    assert (advanced.row.from_name, advanced.row.use_ssl) == ("Acme Store", True)


def test_an_unticked_switch_is_off(advanced: Tab) -> None:
    assert not advanced.saved(**GENERAL, use_ssl=None).use_ssl


@pytest.mark.parametrize("version", [None, "", "x", "-1", "9" * 30])
def test_a_form_without_its_version_is_refused(advanced: Tab, version: str | None) -> None:
    answer = advanced.save(**GENERAL, version=version)
    assert answer.status_code in (422, 409)
    assert advanced.row.from_name == ""


def test_fields_that_did_not_arrive_keep_what_is_stored(advanced: Tab) -> None:
    advanced.saved(**OTHER, **{"custom_fields-0-key": "note", "custom_fields-0-value": "n"})
    partly = {"version": str(advanced.row.version), "use_ssl-present": "1", "use_ssl": "1", "emails_off-present": "1"}
    answer = advanced.browser.post(advanced.url, partly | {"from_name": "Acme Europe"})
    assert answer.status_code == 303, answer.text
    row = advanced.row
    assert (row.from_name, row.advanced_smtp_host, len(row.custom_fields)) == ("Acme Europe", "smtp.acme.example", 1)


def test_fields_that_are_not_of_this_page_are_not_bound(advanced: Tab) -> None:
    row = advanced.saved(**GENERAL, method="smtp", store_id="99", id="99", password="fake", access_token="fake")
    assert (row.method, row.store_id, row.has_password) == (Method.ADVANCED_SMTP, advanced.store_id, False)


# --- Secrets


SECRETS = {"client_secret": "fake-client-secret-77", "refresh_token": "fake-refresh-token-77"}


def test_a_secret_is_written_and_never_read(advanced: Tab) -> None:
    row = advanced.saved(**OTHER, **SECRETS)
    assert "fake-client-secret-77" not in str(row.connection.client_secret_sealed)
    page = advanced.open().text
    assert not any(value in page for value in SECRETS.values())
    assert re.search(r"Saved \d+ \w+ by Alice Adams", page)
    assert re.search(r"Pasted \d+ \w+ by Alice Adams", page)


def test_a_refused_page_gives_no_typed_secret_back(advanced: Tab, alice: Browser) -> None:
    posted = advanced.open().with_(**SECRETS, from_email="nonsense")
    for ask in (alice.post, alice.htmx_post):
        page = ask(advanced.url, posted).text
        assert not any(value in page for value in SECRETS.values())
    assert "Type the secrets again" in alice.post(advanced.url, posted).text
    assert "Type the secrets again" not in alice.htmx_post(advanced.url, posted).text


@pytest.mark.parametrize("typed", ["", "••••••••", "   "])
def test_blank_and_the_mask_keep_a_secret(advanced: Tab, equipment: Equipment, typed: str) -> None:
    before = advanced.saved(**OTHER, **SECRETS).connection.client_secret_sealed
    assert advanced.saved(client_secret=typed, from_name="Acme").connection.client_secret_sealed == before


def test_remove_is_an_action_of_its_own(advanced: Tab) -> None:
    advanced.saved(**OTHER, **SECRETS)
    answer = advanced.save(client_secret="fake-new", **{"client_secret-remove": "1"})
    assert read(answer.text).error_of("client_secret") == "Either type a new Client Secret or remove the saved one"
    row = advanced.saved(**{"client_secret-remove": "1"})
    assert (row.connection.has_client_secret, row.connection.has_refresh_token) == (False, True)


def test_pasted_tokens_are_trimmed_and_passwords_are_not(advanced: Tab, smtp: Tab, equipment: Equipment) -> None:
    advanced.saved(**OTHER, client_secret="  fake secret\n")
    smtp.saved(smtp_host="smtp.acme.example", username="orders", password="  fake é password ")
    row = smtp.row
    advanced_secret = email_settings.open_secrets(email_settings.current_advanced(row, equipment), row, equipment)
    assert advanced_secret.client_secret is not None
    assert advanced_secret.client_secret.reveal() == "fake secret"
    password = email_settings.open_secrets(email_settings.current_smtp(row, equipment), row, equipment).password
    assert password is not None
    assert password.reveal() == "  fake é password "


def test_a_secret_for_another_place_is_asked_for_beside_its_field(advanced: Tab) -> None:
    advanced.saved(**OTHER, **SECRETS)
    version = advanced.row.version
    answer = advanced.save(smtp_host="evil.example", client_id="client-2")
    assert answer.status_code == 422
    page = read(answer.text)
    words = "Type the client secret again: SMTP Server and Client Id changed, and the saved one belongs to the old"
    assert page.error_of("client_secret") == words
    assert "Press Connect to get a new one" in page.error_of("refresh_token")
    assert page.values["smtp_host"] == "evil.example"
    assert advanced.row.version == version


def test_the_expiry_date_counts_down(advanced: Tab) -> None:
    soon = utcnow().date() + timedelta(days=12)
    advanced.saved(**OTHER, client_secret_expires_on=soon.isoformat())
    assert "Expires in 12 days" in advanced.open().text
    advanced.saved(client_secret_expires_on=(utcnow().date() - timedelta(days=1)).isoformat())
    assert "Expired 1 day ago" in advanced.open().text


# --- Custom fields


def rows_in(page: Page) -> list[tuple[str, str]]:
    count = sum(1 for name in page.values if name.endswith("-key"))
    return [(page.values[f"custom_fields-{n}-key"], page.values[f"custom_fields-{n}-value"]) for n in range(count)]


def test_rows_are_added_and_removed_by_fragment(advanced: Tab, alice: Browser) -> None:
    url = f"{advanced.url}/custom-fields"
    rows = {"custom_fields-present": "1", "custom_fields-0-key": "a", "custom_fields-0-value": "1"}
    answer = alice.htmx_post(url, rows | {"add": "1"})
    assert answer.text.lstrip().startswith("<fieldset")
    assert rows_in(read(f'<form id="smtp-form">{answer.text}</form>')) == [("a", "1"), ("", "")]
    assert re.search(r'id="custom_fields-1-key"[^>]*autofocus', answer.text)
    rows |= {"custom_fields-1-key": "b", "custom_fields-1-value": "2", "custom_fields-7-key": "c"}
    answer = alice.htmx_post(url, rows | {"remove": "1"})
    assert rows_in(read(f'<form id="smtp-form">{answer.text}</form>')) == [("a", "1"), ("c", "")]
    assert re.search(r'id="custom_fields-1-x"[^>]*autofocus', answer.text)
    answer = alice.htmx_post(url, {"custom_fields-present": "1", "custom_fields-0-key": "a", "remove": "0"})
    assert re.search(r'id="add-field"[^>]*autofocus', answer.text)


def test_rows_are_added_and_removed_without_javascript(advanced: Tab, alice: Browser) -> None:
    posted = advanced.open().with_(**OTHER | {"from_name": "Typed"})
    answer = alice.post(f"{advanced.url}/custom-fields", posted | {"add": "1"})
    page = read(answer.text)
    assert answer.status_code == 200
    assert "<html" in answer.text
    assert (page.values["from_name"], rows_in(page)) == ("Typed", [("", "")])
    posted = page.with_(**{"custom_fields-0-key": "header.X-Pool", "custom_fields-0-value": "a", "remove": "0"})
    page = read(alice.post(f"{advanced.url}/custom-fields", posted).text)
    assert (page.values["from_name"], rows_in(page)) == ("Typed", [])
    assert advanced.row.from_name == ""


def test_rows_keep_their_order_and_their_repeats(advanced: Tab, equipment: Equipment) -> None:
    rows = {
        "custom_fields-5-key": "b",
        "custom_fields-5-value": "2",
        "custom_fields-2-key": "b",
        "custom_fields-9-key": "",
    }
    advanced.saved(**GENERAL, **rows, **{"custom_fields-2-value": "1"})
    assert email_settings.load_custom_fields(advanced.row, equipment) == (("b", "1"), ("b", "2"))
    page = advanced.open().text
    assert "the last one applies" in page
    assert "Stored, not used" in page


def test_the_effects_are_told_where_the_fields_are(advanced: Tab) -> None:
    page = text_of(advanced.open().text)
    for name in ("token.<name>", "authorize.<name>", "header.<Name>", "ehlo_hostname", "auth_mechanism"):
        assert name in page


BAD_ROWS = [
    {"custom_fields-x-key": "a"},
    {"custom_fields-٣-key": "a"},
    {"custom_fields-0001-key": "a"},
    {"custom_fields-00-key": "a"},
    {"custom_fields-1000-key": "a"},
    {"custom_fields--1-key": "a"},
    {"custom_fields-0-key-more": "a"},
    {"custom_fields-0": "a"},
    {"custom_fields-²-key": "a"},
    {"custom_fields": "a"},
]


@pytest.mark.parametrize("bad", BAD_ROWS, ids=lambda bad: ascii(next(iter(bad))))
def test_odd_rows_are_refused_in_words_and_none_is_dropped(advanced: Tab, alice: Browser, bad: dict[str, str]) -> None:
    advanced.saved(**GENERAL, **{"custom_fields-0-key": "kept", "custom_fields-0-value": "1"})
    answer = alice.post(advanced.url, advanced.open().with_(from_name="Changed") | bad)
    assert answer.status_code == 422
    assert "The custom fields did not arrive whole" in text_of(answer.text)
    assert alice.htmx_post(f"{advanced.url}/custom-fields", bad | {"add": "1"}).status_code == 422
    assert (advanced.row.from_name, len(advanced.row.custom_fields)) == ("Acme Store", 1)


def test_a_hundred_rows_are_taken_and_one_more_is_refused(advanced: Tab, alice: Browser) -> None:
    def rows(count: int) -> dict[str, str]:
        return {f"custom_fields-{n}-key": f"k{n}" for n in range(count)}

    answer = alice.post(advanced.url, advanced.open().with_(**GENERAL) | rows(101))
    assert answer.status_code == 422
    assert "Use 100 custom fields or fewer; 101 were sent." in answer.text
    assert len(rows_in(read(answer.text))) == 101
    advanced.saved(**GENERAL, **rows(100))
    assert len(advanced.row.custom_fields) == 100
    answer = alice.htmx_post(f"{advanced.url}/custom-fields", rows(100) | {"add": "1"})
    assert answer.status_code == 422
    assert "Use 100 custom fields or fewer" in answer.text


@pytest.mark.parametrize(
    ("row", "part", "words"),
    [
        ({"value": "x"}, "key", "Enter a name for this value, or remove the field"),
        ({"key": "k" * 151}, "key", "Use 150 characters or fewer"),
        ({"key": "k\x07"}, "key", "Take out the control character at position 2"),
        ({"key": "k", "value": "v" * 4097}, "value", "Use 4,096 characters or fewer"),
        ({"key": "k", "value": "a\u202eb"}, "value", "Take out the text direction character at position 2"),
    ],
)
def test_the_form_of_a_row_is_checked_and_its_meaning_is_not(
    advanced: Tab, row: dict[str, str], part: str, words: str
) -> None:
    posted = {f"custom_fields-0-{name}": text for name, text in row.items()}
    answer = advanced.save(**GENERAL, **posted)
    assert answer.status_code == 422
    assert read(answer.text).error_of(f"custom_fields-0-{part}") == words


# --- Provider, tenant, grant


def test_picking_a_provider_fills_what_was_not_typed(advanced: Tab, alice: Browser) -> None:
    posted = advanced.open().with_(provider="google", smtp_port="465")
    answer = alice.htmx_post(f"{advanced.url}/provider", posted)
    page = read(f'<form id="smtp-form">{answer.text}</form>')
    assert answer.text.count("<hx-partial") == 7
    assert (page.values["smtp_host"], page.values["smtp_port"]) == ("smtp.gmail.com", "465")
    assert page.values["token_url"] == "https://oauth2.googleapis.com/token"
    assert page.values["scope"].startswith("https://mail.google.com/")
    assert "filled in for Google" in text_of(answer.text)
    kept = alice.htmx_post(f"{advanced.url}/provider", posted | {"smtp_host": "relay.acme.example"})
    assert read(f'<form id="smtp-form">{kept.text}</form>').values["smtp_host"] == "relay.acme.example"


def test_picking_a_provider_works_without_javascript(advanced: Tab, alice: Browser) -> None:
    answer = alice.post(f"{advanced.url}/provider", advanced.open().with_(provider="google", from_name="Typed"))
    page = read(answer.text)
    assert (page.values["smtp_host"], page.values["from_name"]) == ("smtp.gmail.com", "Typed")
    assert advanced.row.connection.provider == "microsoft365"
    # Nobody presses that button? Saving catches up.
    row = advanced.saved(**GENERAL, provider="google")
    assert (row.advanced_smtp_host, row.connection.token_url) == (
        "smtp.gmail.com",
        "https://oauth2.googleapis.com/token",
    )
    assert row.connection.authorization_url == "https://accounts.google.com/o/oauth2/v2/auth"


def test_other_shows_the_authorization_url_and_empties_the_presets_values(advanced: Tab, alice: Browser) -> None:
    assert "authorization_url" not in advanced.open().values
    page = read(alice.post(f"{advanced.url}/provider", advanced.open().with_(provider="other")).text)
    assert page.values["authorization_url"] == ""
    assert (page.values["smtp_host"], page.values["token_url"]) == ("", "")
    row = advanced.saved(**OTHER)
    assert row.connection.authorization_url == "https://login.acme.example/authorize"


def test_the_sandbox_brings_its_client_id_and_takes_it_away_again(
    advanced: Tab, alice: Browser, equipment: Equipment, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = ("http://127.0.0.1:8026/authorize", "https://localhost:8027/token", "https://localhost:8027/revoke")
    sandbox = sandbox_provider(*addresses, "localhost", 8587, "https://localhost:8027")
    with_sandbox = replace(equipment, providers=catalogue(sandbox))
    monkeypatch.setitem(alice.client.application.extensions, "storepost", with_sandbox)
    page = read(alice.post(f"{advanced.url}/provider", advanced.open().with_(provider="sandbox")).text)
    assert page.values["client_id"] == sandbox.client_id
    page = read(alice.post(f"{advanced.url}/provider", page.with_(provider="google")).text)
    assert page.values["client_id"] == ""
    page = read(alice.post(f"{advanced.url}/provider", page.with_(provider="sandbox", client_id="my-own")).text)
    assert page.values["client_id"] == "my-own"


def test_who_may_only_look_finds_nothing_to_press(advanced: Tab, smtp: Tab, monkeypatch: pytest.MonkeyPatch) -> None:
    advanced.saved(**OTHER, **SECRETS, **{"custom_fields-0-key": "note"})
    monkeypatch.setattr(pages, "may", lambda *who: False)
    for tab in (advanced, smtp):
        page = tab.open()
        assert "You can view these settings but not change them" in page.text
        for control in (
            'id="save-btn"',
            'id="test-btn"',
            'id="add-field"',
            'commandfor="switch-method"',
            'type="password"',
        ):
            assert control not in page.text, control
        assert "readonly" in page.text


def test_an_unknown_provider_is_refused(advanced: Tab, alice: Browser) -> None:
    assert alice.htmx_post(f"{advanced.url}/provider", {"provider": "nobody"}).status_code == 422
    answer = advanced.save(**GENERAL, provider="nobody")
    assert (answer.status_code, read(answer.text).error_of("provider")) == (422, "Choose one of the providers shown")


def test_the_tenant_is_rewritten_in_both_urls(advanced: Tab, alice: Browser) -> None:
    connection = advanced.saved(**GENERAL, tenant_id="contoso.example").connection
    assert connection.token_url == "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token"
    assert connection.authorization_url == "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/authorize"
    values = advanced.open().with_(tenant_id="organizations")
    answer = alice.htmx_post(f"{advanced.url}/field/tenant_id", values)
    assert read(f'<form id="smtp-form">{answer.text}</form>').values["token_url"].split("/")[3] == "organizations"


def test_a_token_url_edited_by_hand_wins_with_a_warning(advanced: Tab) -> None:
    by_hand = "https://login.microsoftonline.com/fabrikam.example/oauth2/v2.0/token"
    advanced.saved(**GENERAL, token_url=by_hand)
    connection = advanced.saved(tenant_id="contoso.example").connection
    assert connection.token_url == by_hand
    assert connection.authorization_url == "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/authorize"
    assert "names the tenant fabrikam.example, while Tenant Id says contoso.example" in advanced.open().text
    advanced.saved(token_url="https://proxy.acme.example/token")
    assert "edited by hand" in advanced.open().text


def test_the_presets_scope_follows_the_grant(advanced: Tab, alice: Browser) -> None:
    values = advanced.open().with_(grant_type="client_credentials")
    answer = alice.htmx_post(f"{advanced.url}/field/grant_type", values)
    scope = "https://outlook.office365.com/.default"
    assert read(f'<form id="smtp-form">{answer.text}</form>').values["scope"] == scope
    assert advanced.saved(**GENERAL, grant_type="client_credentials").connection.scope == scope
    assert advanced.saved(scope="my.own", grant_type="refresh_token").connection.scope == "my.own"


# --- Stale saves


def test_a_stale_save_shows_both_versions_and_loses_nothing(advanced: Tab, alice: Browser) -> None:
    advanced.saved(**OTHER)
    mine = advanced.open().with_(from_name="Mine", scope="mine.scope", client_secret="fake-typed-secret")
    advanced.saved(from_name="Theirs", bcc="theirs@acme.example")
    for ask in (alice.htmx_post, alice.post):
        answer = ask(advanced.url, mine)
        assert answer.status_code == 409
        table = text_of(re.search(r'id="conflict".*?</table>', answer.text, re.S).group())  # type: ignore[union-attr]
        assert "Alice Adams saved this page while you were editing it" in table
        assert "From Display Name Mine Theirs" in table
        assert "Bcc Email Address Empty theirs@acme.example" in table
        assert "Scope mine.scope smtp.send" in table
        assert "SMTP Server" not in table
        assert "fake-typed-secret" not in answer.text
        assert ("Type the secrets again" in answer.text) is (ask == alice.post)
    page = read(answer.text)
    assert (page.values["from_name"], page.values["scope"]) == ("Mine", "mine.scope")
    assert advanced.row.from_name == "Theirs"
    # Saving again, with both in view, is a decision.
    assert alice.post(advanced.url, page.with_(client_secret="fake-typed-secret")).status_code == 303
    assert (advanced.row.from_name, advanced.row.connection.has_client_secret) == ("Mine", True)


# --- Emails off


def hold(store_id: int, count: int, reason: HoldReason = HoldReason.EMAILS_OFF) -> None:
    now = utcnow()
    for _ in range(count):
        row = Message(
            store_id=store_id, uid=new_uid(), status=MessageStatus.HELD, hold_reason=reason, due_at=now,
            created_at=now, message_id=f"<{new_uid()}@acme.example>", date=now,
        )  # fmt: skip
        db.session.add(row)
    db.session.commit()


def states(store_id: int) -> set[MessageStatus]:
    db.session.remove()
    return {row.status for row in db.session.query(Message).filter_by(store_id=store_id)}


def test_turning_emails_off_says_what_it_means(advanced: Tab) -> None:
    row = advanced.saved(**GENERAL, emails_off="1")
    assert row.emails_off
    assert "Emails turned off" in advanced.open().text


@pytest.mark.parametrize(("choice", "state"), [("send", MessageStatus.QUEUED), ("discard", MessageStatus.CANCELLED)])
def test_turning_emails_on_asks_what_happens_to_what_waited(advanced: Tab, choice: str, state: MessageStatus) -> None:
    advanced.saved(**GENERAL, emails_off="1")
    hold(advanced.store_id, 3)
    assert "3 emails waited" in text_of(advanced.open().text)
    answer = advanced.save(emails_off=None)
    assert answer.status_code == 422
    words = "Choose what happens to the 3 emails that waited: send or discard"
    assert read(answer.text).error_of("waiting_mail") == words
    assert advanced.row.emails_off
    assert states(advanced.store_id) == {MessageStatus.HELD}
    assert not advanced.saved(emails_off=None, waiting_mail=choice).emails_off
    assert states(advanced.store_id) == {state}


def test_a_save_lets_mail_go_that_waited_for_the_settings(advanced: Tab) -> None:
    advanced.saved(**GENERAL)
    hold(advanced.store_id, 1, HoldReason.NOT_COMPLETE)
    advanced.saved(**OTHER, client_secret="fake", refresh_token="fake")
    assert states(advanced.store_id) == {MessageStatus.QUEUED}


def test_saving_while_emails_stay_off_asks_nothing(advanced: Tab) -> None:
    advanced.saved(**GENERAL, emails_off="1")
    hold(advanced.store_id, 1)
    advanced.saved(from_name="Acme Europe")
    assert states(advanced.store_id) == {MessageStatus.HELD}


# --- The switch


def test_switching_asks_first_and_keeps_the_other_values(advanced: Tab, alice: Browser) -> None:
    advanced.saved(**OTHER)
    url = f"/stores/{advanced.store_id}/method"
    page = alice.get(url).text
    assert "Switch Acme Store to SMTP?" in page
    assert "SMTP is not complete" in page
    version = re.search(r'name="version" value="(\d+)"', page)
    assert version
    answer = alice.post(url, {"method": "smtp", "version": version.group(1)})
    assert (answer.status_code, answer.location) == (303, f"/stores/{advanced.store_id}/smtp")
    assert advanced.row.method == Method.SMTP
    assert "This store sends with SMTP" in text_of(advanced.open().text)
    assert advanced.open().values["smtp_host"] == "smtp.acme.example"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({}, 422),
        ({"method": "pigeon", "version": "1"}, 422),
        ({"method": "smtp"}, 422),
        ({"method": "smtp", "version": "77"}, 409),
    ],
)
def test_a_half_answer_switches_nothing(advanced: Tab, alice: Browser, data: dict[str, str], status: int) -> None:
    assert alice.post(f"/stores/{advanced.store_id}/method", data).status_code == status
    assert advanced.row.method == Method.ADVANCED_SMTP


def test_the_smtp_tab_leads_to_advanced_smtp_before_the_switch(smtp: Tab, advanced: Tab, alice: Browser) -> None:
    assert "Move to Advanced SMTP" not in smtp.open().text
    alice.post(f"/stores/{smtp.store_id}/method", {"method": "smtp", "version": str(smtp.row.version)})
    assert "Fill in the Advanced SMTP tab (to do)" in text_of(smtp.open().text)
    advanced.saved(**OTHER, client_secret="fake")
    page = text_of(smtp.open().text)
    assert "Fill in the Advanced SMTP tab (done)" in page
    assert "Connect the mailbox (to do)" in page


# --- Connect


def test_connect_saves_and_shows_where_it_leads(advanced: Tab, alice: Browser) -> None:
    posted = advanced.open().with_(**OTHER, client_secret="fake-secret")
    answer = alice.post(f"/stores/{advanced.store_id}/connect", posted)
    assert answer.status_code == 200
    assert re.search(r'href="https://login\.acme\.example/authorize\?[^"]*code_challenge_method=S256', answer.text)
    assert advanced.row.connection.client_id == "client-1"


def test_connect_says_what_it_still_needs(advanced: Tab, alice: Browser) -> None:
    answer = alice.post(f"/stores/{advanced.store_id}/connect", advanced.open().with_(**GENERAL))
    assert answer.status_code == 422
    assert read(answer.text).error_of("client_id") == "Enter the id of the app registered at the provider"
    answer = alice.post(f"/stores/{advanced.store_id}/connect", advanced.open().with_(from_email="x"))
    assert answer.status_code == 422


# --- Sharing


def test_sharers_are_named_and_a_split_is_told(advanced: Tab, alice: Browser, equipment: Equipment) -> None:
    advanced.saved(**OTHER, **SECRETS)
    target = factories.make_store("Acme Copy")
    db.session.delete(target.email_settings)
    db.session.commit()
    source = db.session.get(Store, advanced.store_id)
    assert source is not None
    email_settings.copy_to(
        source.email_settings,
        db.session.get(Store, target.id),
        emails_off=False,
        actor=Actor("Bob"),
        equipment=equipment,
    )
    db.session.commit()
    assert "This connection is shared with Acme Copy" in text_of(advanced.open().text)
    answer = alice.htmx_post(advanced.url, advanced.open().with_(client_secret="fake-secret-2"))
    assert "The new client secret applies to Acme Copy as well" in text_of(answer.text)
    answer = alice.htmx_post(advanced.url, advanced.open().with_(scope="more"))
    assert "no longer shared with Acme Copy" in text_of(answer.text)
    assert "This connection is shared" not in text_of(advanced.open().text)


def test_recent_changes_tell_fields_and_no_values(advanced: Tab) -> None:
    advanced.saved(**OTHER, client_secret="fake-secret-one")
    advanced.saved(client_secret="fake-secret-two", scope="very.special")
    found = re.search(r"Recent changes.*?</ol>", advanced.open().text, re.S)
    assert found
    assert "Client secret replaced; Scope changed" in text_of(found.group())
    assert "very.special" not in found.group()
