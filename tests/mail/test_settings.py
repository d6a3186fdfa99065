"""Saving, switching and copying email settings, as rules without a browser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from extensions import db
from mail import settings as email_settings
from mail.audit import Actor
from mail.drafts import KEEP_SECRET, REMOVE_SECRET, AdvancedDraft, General, SecretEdit, SMTPDraft
from mail.equipment import Equipment
from mail.smtp import Encryption
from models import AuditEntry, Connection, EmailSettings, Store
from models.connection import GrantType, Health, TokenSource
from models.email_settings import Method, UncertainChoice
from models.types import utcnow
from security.secret import Secret
from security.vault import Place, Unreadable
from tests import factories

BOB = Actor("Bob Baker", 7)
GENERAL = General(from_name="Acme Store", from_email="orders@acme.example")
CLIENT_SECRET = SecretEdit.typed("fake-client-secret-1")
PASTED = SecretEdit.typed("fake-refresh-token-1")
ADVANCED = AdvancedDraft(
    general=GENERAL,
    provider="other",
    smtp_host="smtp.acme.example",
    smtp_port=587,
    client_id="client-1",
    tenant_id="common",
    authorization_url="https://login.acme.example/authorize",
    token_url="https://login.acme.example/token",
    scope="smtp.send",
    custom_fields=(),
)
SMTP = SMTPDraft(general=GENERAL, smtp_host="smtp.acme.example", smtp_port=587, username="orders@acme.example")


@pytest.fixture
def settings(store: Store) -> EmailSettings:
    return store.email_settings


def save(settings: EmailSettings, draft: Any, equipment: Equipment, **kw: Any) -> email_settings.SaveResult:
    kw.setdefault("expected_version", settings.version)
    result = email_settings.save(settings, draft, actor=BOB, equipment=equipment, **kw)
    db.session.commit()
    return result


@pytest.fixture
def connected(settings: EmailSettings, equipment: Equipment) -> EmailSettings:
    """Saved with a client secret and a refresh token as Connect would have left it."""
    save(settings, replace(ADVANCED, client_secret=CLIENT_SECRET, refresh_token=PASTED), equipment)
    connection = settings.connection
    connection.access_token_sealed = equipment.vault.seal(
        "fake-access-token", Place("connections", connection.uid, "access_token_sealed")
    )
    connection.access_token_expires_at, connection.health = utcnow(), Health.CONNECTED
    connection.account = "orders@acme.example"
    db.session.commit()
    return settings


def stored_secret(settings: EmailSettings, name: str, equipment: Equipment) -> str | None:
    connection = settings.connection
    sealed = getattr(connection, f"{name}_sealed")
    place = Place("connections", connection.uid, f"{name}_sealed")
    return equipment.vault.open_secret(sealed, place).reveal() if sealed else None


# --- New stores


def test_a_new_store_starts_on_advanced_smtp_with_a_connection_of_its_own(settings: EmailSettings) -> None:
    assert settings.method == Method.ADVANCED_SMTP
    assert settings.use_ssl
    assert settings.advanced_smtp_host == "smtp.office365.com"
    assert settings.connection.grant_type == GrantType.AUTHORIZATION_CODE
    assert settings.connection.token_url == "https://login.microsoftonline.com/common/oauth2/v2.0/token"
    assert settings.connection is not factories.make_store("Other Store").email_settings.connection


# --- Saving


def test_what_was_saved_is_what_is_stored(settings: EmailSettings, equipment: Equipment) -> None:
    draft = replace(ADVANCED, custom_fields=(("b", "2"), ("a", ""), ("b", "3")))
    save(settings, replace(draft, client_secret=CLIENT_SECRET), equipment)
    assert email_settings.current_advanced(settings, equipment) == draft
    assert stored_secret(settings, "client_secret", equipment) == "fake-client-secret-1"
    assert settings.connection.client_secret_set_by == "Bob Baker"


def test_saving_one_tab_leaves_the_values_of_the_other(connected: EmailSettings, equipment: Equipment) -> None:
    save(connected, replace(SMTP, smtp_host="mail.acme.example"), equipment)
    assert (connected.smtp_host, connected.advanced_smtp_host) == ("mail.acme.example", "smtp.acme.example")
    assert stored_secret(connected, "refresh_token", equipment) == "fake-refresh-token-1"


def test_an_identical_save_changes_nothing_even_when_it_is_late(connected: EmailSettings, equipment: Equipment) -> None:
    version, entries = connected.version, db.session.query(AuditEntry).count()
    again = replace(ADVANCED, client_secret=CLIENT_SECRET, refresh_token=PASTED)
    sealed = connected.connection.client_secret_sealed
    assert save(connected, again, equipment, expected_version=version - 1).changed == ()
    assert (connected.version, db.session.query(AuditEntry).count()) == (version, entries)
    assert connected.connection.client_secret_sealed == sealed


def test_a_stale_save_is_refused(settings: EmailSettings, equipment: Equipment) -> None:
    save(settings, ADVANCED, equipment)
    with pytest.raises(email_settings.StaleSave):
        save(settings, replace(ADVANCED, scope="other"), equipment, expected_version=settings.version - 1)
    db.session.rollback()
    assert settings.connection.scope == "smtp.send"


def test_of_two_saves_at_the_same_time_one_gets_through(settings: EmailSettings, equipment: Equipment) -> None:
    seen = settings.version
    # Somebody else's save, unseen by this session: only the statement that counts versions notices.
    db.session.execute(db.text("UPDATE email_settings SET version = version + 1"))
    assert settings.version == seen
    with pytest.raises(email_settings.StaleSave):
        email_settings.save(settings, ADVANCED, expected_version=seen, actor=BOB, equipment=equipment)
    db.session.rollback()


def test_the_audit_names_fields_and_never_values(settings: EmailSettings, equipment: Equipment) -> None:
    save(settings, replace(ADVANCED, client_secret=CLIENT_SECRET, custom_fields=(("k", "value-77"),)), equipment)
    entry = db.session.query(AuditEntry).filter_by(action="settings_saved").one()
    assert (entry.actor, entry.user_id) == ("Bob Baker", 7)
    assert {"from_name", "smtp_host", "client_secret: set", "custom_fields"} <= set(entry.fields)
    assert "value-77" not in str(vars(entry))
    assert "fake-client-secret-1" not in str(vars(entry))


def test_turning_emails_off_remembers_who_and_since_when(settings: EmailSettings, equipment: Equipment) -> None:
    save(settings, replace(ADVANCED, general=replace(GENERAL, emails_off=True)), equipment)
    assert settings.emails_off_by == "Bob Baker"
    assert settings.emails_off_since is not None
    save(settings, ADVANCED, equipment)
    assert (settings.emails_off_by, settings.emails_off_since) == ("", None)


# --- Secrets


def test_a_blank_secret_keeps_and_remove_removes(connected: EmailSettings, equipment: Equipment) -> None:
    save(connected, replace(ADVANCED, general=replace(GENERAL, from_name="Acme")), equipment)
    assert stored_secret(connected, "client_secret", equipment) == "fake-client-secret-1"
    result = save(connected, replace(ADVANCED, client_secret=REMOVE_SECRET, refresh_token=REMOVE_SECRET), equipment)
    assert {"client_secret: removed", "refresh_token: removed"} <= set(result.changed)
    assert stored_secret(connected, "client_secret", equipment) is None
    assert connected.connection.health == Health.NOT_CONNECTED
    assert connected.connection.account == ""


def test_a_replaced_client_secret_drops_the_access_token_and_nothing_else(
    connected: EmailSettings, equipment: Equipment
) -> None:
    version = connected.connection.version
    save(connected, replace(ADVANCED, client_secret=SecretEdit.typed("fake-client-secret-2")), equipment)
    assert connected.connection.access_token_sealed is None
    assert stored_secret(connected, "refresh_token", equipment) == "fake-refresh-token-1"
    assert connected.connection.version == version + 1


def test_a_pasted_refresh_token_ends_a_lost_grant(connected: EmailSettings, equipment: Equipment) -> None:
    connected.connection.health = Health.NEEDS_REAUTHORIZATION
    save(connected, replace(ADVANCED, refresh_token=SecretEdit.typed("fake-refresh-token-2")), equipment)
    assert connected.connection.health == Health.NOT_CONNECTED
    assert connected.connection.refresh_token_source == TokenSource.PASTED


ADVANCED_PLACES = [
    {"smtp_host": "evil.example"},
    {"token_url": "https://evil.example/token"},
    {"authorization_url": "https://evil.example/authorize"},
    {"client_id": "client-2"},
    {"tenant_id": "organizations"},
    {"login": "somebody@acme.example"},
    {"general": replace(GENERAL, from_email="else@acme.example")},
    {"general": replace(GENERAL, use_ssl=False)},
    {"smtp_host": "evil.example", "client_id": "client-2", "scope": "more"},
]


@pytest.mark.parametrize("change", ADVANCED_PLACES, ids=lambda change: "+".join(change))
def test_stored_secrets_go_to_no_other_place(
    connected: EmailSettings, equipment: Equipment, change: dict[str, Any]
) -> None:
    draft = replace(ADVANCED, **change)
    with pytest.raises(email_settings.SecretsNeeded) as needed:
        save(connected, draft, equipment)
    assert set(needed.value.fields) == {"client_secret", "refresh_token"}
    assert "Press Connect" in needed.value.fields["refresh_token"]
    db.session.rollback()
    assert email_settings.current_advanced(connected, equipment) == ADVANCED
    save(connected, replace(draft, client_secret=CLIENT_SECRET, refresh_token=REMOVE_SECRET), equipment)
    assert stored_secret(connected, "refresh_token", equipment) is None


def test_connecting_drops_the_refresh_token_instead_of_asking(connected: EmailSettings, equipment: Equipment) -> None:
    draft = replace(ADVANCED, client_id="client-2")
    with pytest.raises(email_settings.SecretsNeeded) as needed:
        save(connected, draft, equipment, connecting=True)
    assert set(needed.value.fields) == {"client_secret"}
    save(connected, replace(draft, client_secret=CLIENT_SECRET), equipment, connecting=True)
    assert stored_secret(connected, "refresh_token", equipment) is None


@pytest.mark.parametrize("change", [{"scope": "more"}, {"smtp_port": 465}, {"grant_type": GrantType.REFRESH_TOKEN}])
def test_other_changes_keep_the_secrets(connected: EmailSettings, equipment: Equipment, change: dict[str, Any]) -> None:
    save(connected, replace(ADVANCED, **change), equipment)
    assert stored_secret(connected, "client_secret", equipment) == "fake-client-secret-1"


def test_filling_in_for_the_first_time_is_no_change_of_place(settings: EmailSettings, equipment: Equipment) -> None:
    save(settings, replace(ADVANCED, client_id="", login="", client_secret=CLIENT_SECRET), equipment)
    save(settings, replace(ADVANCED, client_id="client-1"), equipment)
    assert stored_secret(settings, "client_secret", equipment) == "fake-client-secret-1"


SMTP_PLACES = [
    {"smtp_host": "evil.example"},
    {"username": "somebody@acme.example"},
    {"general": replace(GENERAL, use_ssl=False)},
]


@pytest.mark.parametrize("change", SMTP_PLACES, ids=lambda change: "+".join(change))
def test_a_stored_password_goes_to_no_other_place(
    settings: EmailSettings, equipment: Equipment, change: dict[str, Any]
) -> None:
    save(settings, replace(SMTP, password=SecretEdit.typed(" fake password ")), equipment)
    with pytest.raises(email_settings.SecretsNeeded) as needed:
        save(settings, replace(SMTP, **change), equipment)
    assert set(needed.value.fields) == {"password"}
    db.session.rollback()
    save(settings, replace(SMTP, **change, password=SecretEdit.typed(" fake password ")), equipment)
    opened = email_settings.open_secrets(replace(SMTP, **change), settings, equipment).password
    assert opened == Secret(" fake password ")


def test_neither_tab_turns_ssl_off_under_the_secrets_of_the_other(
    connected: EmailSettings, equipment: Equipment
) -> None:
    clear = replace(GENERAL, use_ssl=False)
    with pytest.raises(email_settings.SecretsNeeded) as needed:
        save(connected, replace(SMTP, general=clear, password=SecretEdit.typed("fake")), equipment)
    assert set(needed.value.fields) == {"use_ssl"}
    db.session.rollback()
    save(connected, replace(SMTP, password=SecretEdit.typed("fake")), equipment)
    draft = replace(ADVANCED, general=clear, client_secret=CLIENT_SECRET, refresh_token=REMOVE_SECRET)
    with pytest.raises(email_settings.SecretsNeeded) as needed:
        save(connected, draft, equipment)
    assert set(needed.value.fields) == {"use_ssl"}


def test_the_smtp_tab_does_not_change_who_signs_in_to_the_other(connected: EmailSettings, equipment: Equipment) -> None:
    save(connected, replace(SMTP, general=replace(GENERAL, from_email="else@acme.example")), equipment)
    assert connected.connection.login == "orders@acme.example"


def test_an_unreadable_value_is_neither_shown_nor_overwritten(settings: EmailSettings, equipment: Equipment) -> None:
    save(settings, replace(ADVANCED, custom_fields=(("key", "value"),)), equipment)
    row = settings.custom_fields[0]
    row.value_sealed = row.value_sealed[:-4] + ("AAAA" if not row.value_sealed.endswith("AAAA") else "BBBB")
    db.session.commit()
    damaged = row.value_sealed
    current = email_settings.current_advanced(settings, equipment)
    assert current.custom_fields is None
    save(settings, replace(current, scope="more"), equipment)
    assert settings.custom_fields[0].value_sealed == damaged
    with pytest.raises(Unreadable):
        email_settings.load_custom_fields(settings, equipment)


# --- Copies and sharing


@pytest.fixture
def copy(connected: EmailSettings, equipment: Equipment) -> EmailSettings:
    """A copy with everything set, on the same connection."""
    save(connected, replace(SMTP, password=SecretEdit.typed("fake-password")), equipment)
    save(connected, replace(ADVANCED, custom_fields=(("token.resource", "r"), ("note", "n"))), equipment)
    email_settings.choose_on_uncertain(connected, UncertainChoice.ASK, actor=BOB)
    target = Store(name="Acme Copy", code="acme-copy")
    db.session.add(target)
    db.session.flush()
    made = email_settings.copy_to(connected, target, emails_off=True, actor=BOB, equipment=equipment)
    db.session.commit()
    return made


def test_a_copy_keeps_everything_and_shares_the_connection(
    connected: EmailSettings, copy: EmailSettings, equipment: Equipment
) -> None:
    assert copy.connection is connected.connection
    off = replace(GENERAL, emails_off=True)
    assert email_settings.current_smtp(copy, equipment) == replace(SMTP, general=off)
    assert email_settings.current_advanced(copy, equipment).custom_fields == (("token.resource", "r"), ("note", "n"))
    assert email_settings.open_secrets(SMTP, copy, equipment).password == Secret("fake-password")
    assert copy.password_sealed != connected.password_sealed
    assert copy.on_uncertain is UncertainChoice.ASK
    assert [store.name for store in email_settings.sharers(copy)] == ["Acme Store"]


def test_changing_the_connection_gives_one_of_the_sharers_its_own(
    connected: EmailSettings, copy: EmailSettings, equipment: Equipment
) -> None:
    draft = replace(email_settings.current_advanced(copy, equipment), scope="more")
    result = save(copy, draft, equipment)
    assert result.split_from == ("Acme Store",)
    assert copy.connection is not connected.connection
    assert stored_secret(copy, "client_secret", equipment) == "fake-client-secret-1"
    assert stored_secret(copy, "refresh_token", equipment) is None
    assert copy.connection.token_parameters_sealed is not None
    assert (connected.connection.scope, connected.connection.has_refresh_token) == ("smtp.send", True)
    assert "connection" in db.session.query(AuditEntry).order_by(AuditEntry.id.desc()).first().fields


def test_leaving_a_shared_connection_for_another_place_needs_the_client_secret(
    copy: EmailSettings, equipment: Equipment
) -> None:
    draft = replace(email_settings.current_advanced(copy, equipment), client_id="client-2")
    with pytest.raises(email_settings.SecretsNeeded) as needed:
        save(copy, draft, equipment)
    assert set(needed.value.fields) == {"client_secret"}
    db.session.rollback()
    assert save(copy, replace(draft, client_secret=CLIENT_SECRET), equipment).split_from == ("Acme Store",)
    assert stored_secret(copy, "client_secret", equipment) == "fake-client-secret-1"


def test_a_replaced_client_secret_applies_to_all_sharers(
    connected: EmailSettings, copy: EmailSettings, equipment: Equipment
) -> None:
    draft = replace(email_settings.current_advanced(copy, equipment), client_secret=SecretEdit.typed("fake-2"))
    result = save(copy, draft, equipment)
    assert (result.sharers, result.split_from) == (("Acme Store",), ())
    assert copy.connection is connected.connection
    assert stored_secret(connected, "client_secret", equipment) == "fake-2"


@pytest.mark.parametrize(
    ("fields", "splits"), [((("note", "other"),), True), ((("token.resource", "r"), ("x", "")), False)]
)
def test_only_token_fields_among_the_custom_ones_belong_to_the_connection(
    copy: EmailSettings, equipment: Equipment, fields: Any, splits: bool
) -> None:
    draft = replace(email_settings.current_advanced(copy, equipment), custom_fields=fields)
    assert bool(save(copy, draft, equipment).split_from) is splits


def test_what_belongs_to_the_store_leaves_the_connection_shared(copy: EmailSettings, equipment: Equipment) -> None:
    current = email_settings.current_advanced(copy, equipment)
    save(copy, replace(current, smtp_port=465, general=replace(current.general, from_name="Copy")), equipment)
    assert email_settings.sharers(copy)


# --- The switch


def test_switching_keeps_both_sets_of_values(connected: EmailSettings, equipment: Equipment) -> None:
    before = email_settings.current_advanced(connected, equipment)
    assert email_settings.switch_method(connected, Method.SMTP, expected_version=connected.version, actor=BOB)
    db.session.commit()
    assert connected.method == Method.SMTP
    assert email_settings.current_advanced(connected, equipment) == before
    assert not email_settings.switch_method(connected, Method.SMTP, expected_version=1, actor=BOB)
    with pytest.raises(email_settings.StaleSave):
        email_settings.switch_method(connected, Method.ADVANCED_SMTP, expected_version=1, actor=BOB)


# --- What is missing, and the way out


def fields_missing(settings: EmailSettings, equipment: Equipment, **kw: Any) -> list[str]:
    return [item.field for item in email_settings.missing(settings, equipment, **kw)]


def test_it_names_what_is_missing(settings: EmailSettings, equipment: Equipment) -> None:
    assert fields_missing(settings, equipment) == ["from_name", "from_email", "client_id", "client_secret", "connect"]
    assert fields_missing(settings, equipment, method=Method.SMTP) == [
        "from_name",
        "from_email",
        "smtp_host",
        "smtp_port",
    ]


BY_CODE, BY_APP, BY_TOKEN = (
    {"grant_type": grant}
    for grant in (GrantType.AUTHORIZATION_CODE, GrantType.CLIENT_CREDENTIALS, GrantType.REFRESH_TOKEN)
)
GRANTS: list[tuple[dict[str, Any], list[str]]] = [
    (BY_CODE, ["connect"]),
    (BY_CODE | {"authorization_url": "", "scope": ""}, ["authorization_url", "scope", "connect"]),
    (BY_CODE | {"refresh_token": PASTED, "authorization_url": ""}, []),
    (BY_TOKEN, ["refresh_token"]),
    (BY_TOKEN | {"refresh_token": PASTED, "scope": "", "authorization_url": ""}, []),
    (BY_APP, []),
    (BY_APP | {"scope": "", "client_secret": KEEP_SECRET}, ["client_secret", "scope"]),
    (BY_APP | {"token_url": "", "client_id": ""}, ["client_id", "token_url"]),
]


@pytest.mark.parametrize(("change", "lacking"), GRANTS)
def test_each_grant_needs_its_own(
    settings: EmailSettings, equipment: Equipment, change: dict[str, Any], lacking: list[str]
) -> None:
    draft = replace(ADVANCED, **({"client_secret": CLIENT_SECRET} | change))
    assert fields_missing(settings, equipment, draft=draft) == lacking


def test_a_route_says_how_mail_leaves(connected: EmailSettings, equipment: Equipment) -> None:
    fields = (("header.X-Pool", "a"), ("ehlo_hostname", "mail.acme.example"), ("auth_mechanism", "OAUTHBEARER"))
    save(
        connected, replace(ADVANCED, custom_fields=fields, general=replace(GENERAL, bcc=("b@acme.example",))), equipment
    )
    route = email_settings.route_for(connected, equipment)
    assert (route.sender.name, route.sender.address) == ("Acme Store", "orders@acme.example")
    assert (route.bcc, route.headers) == (("b@acme.example",), (("X-Pool", "a"),))
    assert (route.endpoint.host, route.endpoint.ehlo_hostname) == ("smtp.acme.example", "mail.acme.example")
    assert route.endpoint.encryption == Encryption.STARTTLS
    assert (route.bearer_user, route.mechanism) == ("orders@acme.example", "OAUTHBEARER")
    assert (route.connection_id, route.password_login) == (connected.connection_id, None)


def test_a_route_of_the_smtp_tab_signs_in_by_password(settings: EmailSettings, equipment: Equipment) -> None:
    save(settings, replace(SMTP, password=SecretEdit.typed("fake-password"), smtp_port=465), equipment)
    email_settings.switch_method(settings, Method.SMTP, expected_version=settings.version, actor=BOB)
    route = email_settings.route_for(settings, equipment)
    assert route.password_login is not None
    assert route.password_login.password == Secret("fake-password")
    assert route.endpoint.encryption == Encryption.IMPLICIT
    assert route.connection_id is None


def test_what_is_on_the_screen_makes_a_route_too(connected: EmailSettings, equipment: Equipment) -> None:
    route = email_settings.route_from(replace(ADVANCED, smtp_host="new.acme.example"), connected, equipment)
    assert route.endpoint.host == "new.acme.example"
    with pytest.raises(email_settings.SettingsIncomplete):
        email_settings.route_from(replace(ADVANCED, client_id=""), connected, equipment)


def test_a_preset_brings_its_limits(settings: EmailSettings, equipment: Equipment) -> None:
    current = email_settings.current_advanced(settings, equipment)
    draft = replace(current, general=GENERAL, client_id="c", client_secret=CLIENT_SECRET, refresh_token=PASTED)
    route = email_settings.route_from(draft, settings, equipment)
    assert (route.messages_per_minute, route.max_connections, route.mechanism) == (30, 3, "XOAUTH2")
    assert route.recipients_per_day == 10_000


def test_every_connection_row_has_a_version_and_a_uid_of_its_own(copy: EmailSettings, equipment: Equipment) -> None:
    save(copy, replace(email_settings.current_advanced(copy, equipment), scope="x"), equipment)
    assert len({row.uid for row in db.session.query(Connection)}) == db.session.query(Connection).count()
