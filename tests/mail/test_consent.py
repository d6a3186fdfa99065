"""Connect against a real token endpoint: what is asked, what is refused before anybody is called, what is stored."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from extensions import db
from mail import connection_care, consent
from mail.audit import Actor
from mail.consent import Arrival, ConsentFailed, Departure, NotReady
from mail.drafts import custom_value_place
from mail.equipment import Equipment
from mail.providers import Catalogue, Provider
from models import AuditEntry, Store, User, clock
from models.authorization_request import AuthorizationRequest
from models.connection import ClientAuth, Connection, GrantType, Health
from models.email_settings import CustomField
from models.types import new_uid
from security.secret import Secret
from tests import factories
from tests.conftest import PUBLIC_URL, running, settings_for
from tests.fakes.certs import CA, ServerCert
from tests.fakes.oauth import CLIENT_ID, CLIENT_SECRET, MAILBOX, connection_of, make_id_token, make_oauth_store, opened
from tests.fakes.provider import FakeProvider, Reply, Request, granted, reply

SESSION = "a" * 64
ISSUER = "https://login.example"
CODE = "fake-code-7Yt"


@pytest.fixture
def app(database_url: str, ca: CA) -> Iterator[Flask]:
    with running(settings_for(database_url, CA_FILE=ca.cert_file)) as application:
        yield application


@pytest.fixture
def provider(cert: ServerCert) -> Iterator[FakeProvider]:
    with FakeProvider(cert) as running:
        running.answer = granted(refresh_token="fake-new-refresh", id_token=make_id_token(), scope="smtp.send")
        yield running


@pytest.fixture
def user(app: Flask) -> User:
    return factories.make_admin("alice@shop.example", name="Alice Adams")


@pytest.fixture
def shop(equipment: Equipment, provider: FakeProvider) -> Store:
    return make_oauth_store(equipment, provider.token_url, refresh_token=None)


class Journey:
    """A Connect of one person in one session, from leaving to coming back."""

    def __init__(self, store: Store, user: User, equipment: Equipment) -> None:
        self.store_id, self.user_id, self.equipment = store.id, user.id, equipment
        self.session_hash = SESSION
        self.may_connect = True
        self.departure: Departure | None = None

    def begin(self) -> dict[str, str]:
        """Leave; returns the parameters of the authorization request."""
        store = db.session.get_one(Store, self.store_id)
        self.departure = consent.begin(
            store.email_settings, user_id=self.user_id, session_hash=self.session_hash, equipment=self.equipment
        )
        db.session.commit()
        query = parse_qs(urlsplit(self.departure.authorization_url).query, keep_blank_values=True, strict_parsing=True)
        assert all(len(values) == 1 for values in query.values())
        return {name: values[0] for name, values in query.items()}

    def come_back(self, answer: Mapping[str, Any]) -> Arrival:
        lists = {name: value if isinstance(value, list) else [value] for name, value in answer.items()}
        arrival = consent.finish(
            lists,
            user_id=self.user_id,
            session_hash=self.session_hash,
            may_connect=lambda store_id: self.may_connect,
            actor=Actor("Alice Adams", self.user_id),
            equipment=self.equipment,
        )
        db.session.commit()
        return arrival

    def connect(self) -> Arrival:
        return self.come_back({"state": self.begin()["state"], "code": CODE})


@pytest.fixture
def journey(shop: Store, user: User, equipment: Equipment) -> Journey:
    return Journey(shop, user, equipment)


def stored(store_id: int) -> Connection:
    return connection_of(store_id)


def opened_token(journey: Journey) -> str | None:
    return opened(stored(journey.store_id).id, "refresh_token_sealed", journey.equipment)


def actions() -> list[str]:
    return list(db.session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


# --- Leaving


def test_the_request_carries_state_and_a_sha256_challenge(journey: Journey) -> None:
    query = journey.begin()
    assert query["response_type"] == "code"
    assert query["client_id"] == CLIENT_ID
    assert query["redirect_uri"] == f"{PUBLIC_URL}/oauth/callback"
    assert query["scope"] == "smtp.send offline_access"
    assert query["login_hint"] == MAILBOX
    assert query["code_challenge_method"] == "S256"
    assert len(base64.urlsafe_b64decode(query["code_challenge"] + "=")) == 32
    assert len(base64.urlsafe_b64decode(query["state"] + "=")) == 32


def test_neither_state_nor_verifier_is_stored_in_clear(journey: Journey) -> None:
    query = journey.begin()
    request = db.session.scalars(select(AuthorizationRequest)).one()
    assert request.state_hash == hashlib.sha256(query["state"].encode()).hexdigest()
    assert request.verifier_sealed.startswith("v1.k1.")
    assert request.expires_at - request.created_at == timedelta(minutes=10)


def test_the_page_before_leaving_names_both_hosts(journey: Journey, provider: FakeProvider) -> None:
    journey.begin()
    host = urlsplit(provider.token_url).netloc
    assert journey.departure is not None
    assert (journey.departure.authorization_host, journey.departure.token_host) == (host, host)


def test_custom_and_preset_parameters_come_along_once_and_replace_nothing(
    journey: Journey, provider: FakeProvider, equipment: Equipment
) -> None:
    preset = Provider("other", "Other", "Other", "server", authorize_params=(("prompt", "consent"), ("a", "preset")))
    journey.equipment = replace(equipment, providers=Catalogue([preset]))
    settings = db.session.get_one(Store, journey.store_id).email_settings
    assert settings.connection is not None
    settings.connection.authorization_url += "?a=url&state=evil&tenant=x"
    for position, (key, value) in enumerate((("authorize.prompt", "login"), ("authorize.State", "evil"))):
        uid = new_uid()
        sealed = equipment.vault.seal(value, custom_value_place(uid))
        settings.custom_fields.append(CustomField(uid=uid, position=position, key=key, value_sealed=sealed))
    db.session.commit()
    query = journey.begin()
    assert (query["prompt"], query["a"], query["tenant"]) == ("login", "preset", "x")
    assert query["state"] != "evil"
    assert "State" not in query


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"client_id": ""}, "client_id"),
        ({"client_secret_sealed": None}, "client_secret"),
        ({"authorization_url": ""}, "authorization_url"),
        ({"token_url": ""}, "token_url"),
        ({"scope": ""}, "scope"),
        ({"grant_type": GrantType.CLIENT_CREDENTIALS}, "grant_type"),
        ({"authorization_url": "http://localhost/authorize"}, "authorization_url"),
        ({"authorization_url": "https://user:pw@localhost/authorize"}, "authorization_url"),
        ({"authorization_url": "https://elsewhere.example/authorize"}, "token_url"),
    ],
)
def test_connect_waits_for_what_it_needs(journey: Journey, values: dict[str, Any], field: str) -> None:
    db.session.execute(update(Connection).values(values))
    db.session.commit()
    with pytest.raises(NotReady) as caught:
        journey.begin()
    assert field in [one.field for one in caught.value.missing]
    assert all(one.sentence for one in caught.value.missing)
    assert db.session.scalar(select(func.count()).select_from(AuthorizationRequest)) == 0


def test_old_questions_are_cleared_away(journey: Journey) -> None:
    journey.begin()
    with clock.shifted(timedelta(days=2)):
        journey.begin()
    assert db.session.scalar(select(func.count()).select_from(AuthorizationRequest)) == 1


# --- Coming back


def test_a_good_answer_stores_the_grant_and_who_gave_it(
    journey: Journey, provider: FakeProvider, equipment: Equipment
) -> None:
    query = journey.begin()
    arrival = journey.come_back({"state": query["state"], "code": CODE, "session_state": "ignored"})
    assert arrival == Arrival(journey.store_id, MAILBOX)
    [request] = provider.requests
    form = request.form
    assert form["grant_type"] == "authorization_code"
    assert (form["code"], form["client_id"], form["client_secret"]) == (CODE, CLIENT_ID, CLIENT_SECRET)
    assert form["redirect_uri"] == query["redirect_uri"]
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == query["code_challenge"]
    assert 43 <= len(form["code_verifier"]) <= 128
    connection = stored(journey.store_id)
    assert opened(connection.id, "refresh_token_sealed", equipment) == "fake-new-refresh"
    assert opened(connection.id, "access_token_sealed", equipment) == "fake-access-token"
    connection = stored(journey.store_id)
    assert (connection.account, connection.login, connection.connected_by) == (MAILBOX, MAILBOX, "Alice Adams")
    assert connection.granted_scope == "smtp.send"
    assert connection.health is Health.CONNECTED
    assert actions() == ["connected"]


def test_the_access_token_of_connect_serves_the_first_mail(
    journey: Journey, provider: FakeProvider, equipment: Equipment
) -> None:
    from mail.tokens import access_token_for

    journey.connect()
    connection_id = stored(journey.store_id).id
    token = access_token_for(connection_id, equipment=equipment)
    assert token.value == Secret("fake-access-token")
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("claims", "account"),
    [
        ({"email": MAILBOX, "preferred_username": "x@y.example"}, MAILBOX),
        ({"email": None, "preferred_username": MAILBOX}, MAILBOX),
        ({"email": None, "preferred_username": None, "upn": MAILBOX}, MAILBOX),
        ({"email": "not an address", "upn": MAILBOX.upper()}, MAILBOX.upper()),
        ({"email": None}, ""),
    ],
)
def test_who_consented_is_read_from_the_id_token(
    journey: Journey, provider: FakeProvider, claims: dict[str, Any], account: str
) -> None:
    provider.answer = granted(refresh_token="r", id_token=make_id_token(tid="tenant-1", **claims))
    journey.connect()
    connection = stored(journey.store_id)
    assert (connection.account, connection.account_tenant) == (account, "tenant-1")


@pytest.mark.parametrize("id_token", [None, "junk", "a.b", "a.b.c.d.e", 7])
def test_a_provider_that_does_not_say_who_is_fine(journey: Journey, provider: FakeProvider, id_token: Any) -> None:
    provider.answer = granted(refresh_token="r", id_token=id_token)
    assert journey.connect().account == MAILBOX
    assert stored(journey.store_id).account == ""


def test_the_sign_in_address_is_pinned(journey: Journey) -> None:
    journey.connect()
    assert stored(journey.store_id).login == MAILBOX


# --- Refused before anybody is called

Twist = Callable[[Journey, dict[str, Any]], Any]


def change_settings(journey: Journey, answer: dict[str, Any]) -> None:
    db.session.execute(update(Connection).values(scope="smtp.send", version=Connection.version + 1))
    db.session.commit()


def replace_secret(journey: Journey, answer: dict[str, Any]) -> None:
    db.session.execute(update(Connection).values(client_secret_set_at=clock.now()))
    db.session.commit()


def change_sender(journey: Journey, answer: dict[str, Any]) -> None:
    db.session.get_one(Store, journey.store_id).email_settings.from_email = "else@acme.example"
    db.session.commit()


def come_from_elsewhere(journey: Journey, answer: dict[str, Any]) -> None:
    journey.session_hash = "b" * 64


def be_somebody_else(journey: Journey, answer: dict[str, Any]) -> None:
    journey.user_id = factories.make_user().id


def lose_the_right(journey: Journey, answer: dict[str, Any]) -> None:
    journey.may_connect = False


def move_house(journey: Journey, answer: dict[str, Any]) -> None:
    journey.equipment = replace(journey.equipment, public_url="https://mail.example")


def delete_the_store(journey: Journey, answer: dict[str, Any]) -> None:
    db.session.delete(db.session.get_one(Store, journey.store_id).email_settings)
    db.session.commit()


def spoil_the_verifier(journey: Journey, answer: dict[str, Any]) -> None:
    request = db.session.scalars(select(AuthorizationRequest)).one()
    request.verifier_sealed = request.verifier_sealed[:-4] + "AAAA"
    db.session.commit()


def swap_verifiers(journey: Journey, answer: dict[str, Any]) -> None:
    """The sealed verifier of another Connect of the same person, put beside this state."""
    other = journey.begin()["state"]
    mine = hashlib.sha256(answer["state"].encode()).hexdigest()
    rows = {row.state_hash: row for row in db.session.scalars(select(AuthorizationRequest))}
    rows[mine].verifier_sealed = rows[hashlib.sha256(other.encode()).hexdigest()].verifier_sealed
    db.session.commit()


def point_elsewhere(journey: Journey, answer: dict[str, Any]) -> None:
    db.session.execute(update(Connection).values(token_url="https://evil.example/token"))
    db.session.commit()


def turn_into_an_issuers(journey: Journey, answer: dict[str, Any]) -> None:
    db.session.execute(update(Connection).values(issuer="https://evil.example"))
    db.session.commit()


ABUSES: dict[str, tuple[Twist, str]] = {
    "error twice": (lambda _, answer: answer.update(error=["access_denied"] * 2), "parameter_repeated"),
    "what we do not know twice": (lambda _, answer: answer.update(session_state=["a", "b"]), "parameter_repeated"),
    "an error without a state": (
        lambda _, answer: (answer.clear(), answer.update(error="access_denied")),
        "state_missing",
    ),
    "an error for an invented state": (
        lambda _, answer: answer.update(state="A" * 43, error="access_denied"),
        "state_unknown",
    ),
    "endless state": (lambda _, answer: answer.update(state="A" * 9_000), "parameter_unusable"),
    "state cut": (lambda _, answer: answer.update(state=answer["state"][:-1]), "state_unknown"),
    "state in other capitals": (lambda _, answer: answer.update(state=answer["state"].swapcase()), "state_unknown"),
    "empty code": (lambda _, answer: answer.update(code=""), "code_missing"),
    "code with a NUL": (lambda _, answer: answer.update(code="a\0b"), "parameter_unusable"),
    "store without settings": (delete_the_store, "store_gone"),
    "verifier spoiled": (spoil_the_verifier, "unreadable"),
    "verifier of another Connect": (swap_verifiers, "unreadable"),
    "token URL changed": (point_elsewhere, "settings_changed"),
    "issuer changed": (turn_into_an_issuers, "settings_changed"),
    "no state": (lambda _, answer: answer.pop("state"), "state_missing"),
    "empty state": (lambda _, answer: answer.update(state=""), "state_missing"),
    "nothing at all": (lambda _, answer: answer.clear(), "state_missing"),
    "invented state": (lambda _, answer: answer.update(state="A" * 43), "state_unknown"),
    "junk state": (lambda _, answer: answer.update(state="\u2028x"), "state_unknown"),
    "state twice": (lambda _, answer: answer.update(state=[answer["state"]] * 2), "parameter_repeated"),
    "code twice": (lambda _, answer: answer.update(code=[CODE, CODE]), "parameter_repeated"),
    "iss twice": (lambda _, answer: answer.update(iss=[ISSUER, ISSUER]), "parameter_repeated"),
    "no code": (lambda _, answer: answer.pop("code"), "code_missing"),
    "code with a line end": (lambda _, answer: answer.update(code="a\nb"), "parameter_unusable"),
    "endless code": (lambda _, answer: answer.update(code="x" * 9_000), "parameter_unusable"),
    "another session": (come_from_elsewhere, "state_foreign"),
    "another person": (be_somebody_else, "state_foreign"),
    "right lost": (lose_the_right, "forbidden"),
    "settings changed": (change_settings, "settings_changed"),
    "secret replaced": (replace_secret, "settings_changed"),
    "sender changed": (change_sender, "settings_changed"),
    "public address changed": (move_house, "redirect_changed"),
    "denied": (lambda _, answer: answer.update(error="access_denied"), "access_denied"),
}


@pytest.mark.parametrize("case", ABUSES)
def test_a_bad_answer_is_refused_with_its_own_words_before_anybody_is_called(
    journey: Journey, provider: FakeProvider, case: str
) -> None:
    twist, code = ABUSES[case]
    answer: dict[str, Any] = {"state": journey.begin()["state"], "code": CODE}
    twist(journey, answer)
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    assert caught.value.code == code
    assert caught.value.sentence.endswith((".", "used."))
    assert caught.value.way_out
    assert provider.requests == []
    assert db.session.scalars(select(Connection.refresh_token_sealed)).all() == [None]


def test_each_refusal_of_ours_has_a_sentence_of_its_own() -> None:
    from mail.consent_faults import FAULTS

    assert len({fault.sentence for fault in FAULTS.values()}) == len(FAULTS)
    assert all(fault.way_out for fault in FAULTS.values())


def test_an_answer_works_once(journey: Journey, provider: FakeProvider) -> None:
    answer = {"state": journey.begin()["state"], "code": CODE}
    journey.come_back(answer)
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    assert caught.value.code == "state_used"
    assert len(provider.requests) == 1


def test_of_two_answers_at_the_same_time_one_is_used(journey: Journey, provider: FakeProvider, app: Flask) -> None:
    answer = {"state": journey.begin()["state"], "code": CODE}
    db.session.remove()
    start, outcomes = threading.Barrier(2, timeout=10), []

    def come_back() -> None:
        with app.app_context():
            start.wait()
            try:
                journey.come_back(answer)
                outcomes.append("connected")
            except ConsentFailed as failure:
                outcomes.append(failure.code)
            finally:
                db.session.remove()

    threads = [threading.Thread(target=come_back) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["connected", "state_used"]
    assert len(provider.requests) == 1


def test_an_answer_after_ten_minutes_is_too_late(journey: Journey, provider: FakeProvider) -> None:
    answer = {"state": journey.begin()["state"], "code": CODE}
    with clock.shifted(timedelta(minutes=10, seconds=1)), pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    assert caught.value.code == "state_expired"
    assert provider.requests == []


def test_a_state_seen_elsewhere_stays_good_for_its_own_session(journey: Journey) -> None:
    answer = {"state": journey.begin()["state"], "code": CODE}
    journey.session_hash = "b" * 64
    with pytest.raises(ConsentFailed):
        journey.come_back(answer)
    journey.session_hash = SESSION
    assert journey.come_back(answer).account == MAILBOX


def test_renewing_the_token_meanwhile_does_not_spoil_a_connect(journey: Journey) -> None:
    answer = {"state": journey.begin()["state"], "code": CODE}
    db.session.execute(update(Connection).values(version=Connection.version + 1, refreshed_at=clock.now()))
    db.session.commit()
    assert journey.come_back(answer).account == MAILBOX


# --- Which server answered


def with_issuer(journey: Journey, *, required: bool) -> None:
    url = stored(journey.store_id).authorization_url
    preset = Provider(
        "other", "Example Mail", "Example", "server", authorization_url=url, issuer=ISSUER, iss_required=required
    )
    journey.equipment = replace(journey.equipment, providers=Catalogue([preset]))


@pytest.mark.parametrize(
    ("required", "iss", "code"),
    [
        (True, None, "issuer_missing"),
        (True, "https://evil.example", "issuer_mismatch"),
        (True, ISSUER + "/", "issuer_mismatch"),
        (False, "https://evil.example", "issuer_mismatch"),
        (True, ISSUER, None),
        (False, None, None),
        (False, ISSUER, None),
    ],
)
def test_the_issuer_is_compared_when_known_and_demanded_when_promised(
    journey: Journey, provider: FakeProvider, required: bool, iss: str | None, code: str | None
) -> None:
    with_issuer(journey, required=required)
    expect_back(journey, provider, iss, code)


def expect_back(journey: Journey, provider: FakeProvider, iss: str | None, code: str | None) -> None:
    """Come back with this `iss`: refused with this code before the provider is asked, or connected without one."""
    answer = {"state": journey.begin()["state"], "code": CODE, **({"iss": iss} if iss else {})}
    if code is None:
        assert journey.come_back(answer).account == MAILBOX
        return
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    assert caught.value.code == code
    assert provider.requests == []


def of_an_issuer(journey: Journey, **columns: Any) -> None:
    db.session.execute(update(Connection).values({"issuer": ISSUER, "iss_required": True, **columns}))
    db.session.commit()


@pytest.mark.parametrize(
    ("required", "iss", "code"),
    [
        (True, None, "issuer_missing"),
        (True, "https://evil.example", "issuer_mismatch"),
        (True, ISSUER.upper(), "issuer_mismatch"),
        (False, "https://evil.example", "issuer_mismatch"),
        (False, None, None),
        (True, ISSUER, None),
    ],
)
def test_an_issuer_that_was_looked_up_is_held_to_its_promise(
    journey: Journey, provider: FakeProvider, required: bool, iss: str | None, code: str | None
) -> None:
    of_an_issuer(journey, iss_required=required)
    expect_back(journey, provider, iss, code)


def test_another_server_is_noticed_before_its_error_is_believed(journey: Journey, provider: FakeProvider) -> None:
    of_an_issuer(journey)
    answer = {"state": journey.begin()["state"], "iss": "https://evil.example", "error": "access_denied"}
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    assert caught.value.code == "issuer_mismatch"
    assert provider.requests == []


def test_the_endpoints_of_an_issuer_are_a_pair_whatever_their_hosts(journey: Journey) -> None:
    of_an_issuer(journey, authorization_url="https://id.elsewhere.example/authorize")
    query = journey.begin()
    assert journey.departure is not None
    assert journey.departure.authorization_host == "id.elsewhere.example"
    # Without it, such servers leave offline_access out (OpenID Connect Core 11).
    assert query["prompt"] == "consent"


def test_an_id_token_of_another_issuer_than_the_looked_up_one_is_refused(
    journey: Journey, provider: FakeProvider
) -> None:
    of_an_issuer(journey)
    provider.answer = granted(refresh_token="r", id_token=make_id_token(iss="https://evil.example"))
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back({"state": journey.begin()["state"], "code": CODE, "iss": ISSUER})
    assert caught.value.code == "id_token_wrong"


def test_the_code_goes_to_the_token_url_that_was_recorded(
    journey: Journey, provider: FakeProvider, cert: ServerCert
) -> None:
    answer = {"state": journey.begin()["state"], "code": CODE}
    with FakeProvider(cert) as thief:
        db.session.execute(update(Connection).values(token_url=thief.token_url))
        db.session.commit()
        with pytest.raises(ConsentFailed):
            journey.come_back(answer)
        assert thief.requests == []
    assert provider.requests == []


# --- The provider says no


def test_a_refusal_is_calm_and_explained(journey: Journey, provider: FakeProvider) -> None:
    answer = {"state": journey.begin()["state"], "error": "access_denied", "error_description": "AADSTS65004: no <b>"}
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    failure = caught.value
    assert failure.is_calm
    assert failure.store_id == journey.store_id
    assert failure.detail == "access_denied: AADSTS65004: no <b>"
    assert failure.explanation is not None
    assert failure.explanation.signature is not None
    assert actions() == ["connect_denied"]


def test_a_providers_words_are_cut_escaped_and_masked(journey: Journey) -> None:
    words = "bad\r\nSet-Cookie: a=b client_secret=hunter2hunter2 \u202e " + "x" * 5_000
    answer = {"state": journey.begin()["state"], "error": "server_error", "error_description": words}
    with pytest.raises(ConsentFailed) as caught:
        journey.come_back(answer)
    assert not caught.value.is_calm
    assert len(caught.value.detail) <= 1_000
    assert "\n" not in caught.value.detail
    assert "\u202e" not in caught.value.detail
    assert "hunter2" not in caught.value.detail


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(400, {"error": "invalid_grant", "error_description": "Code expired"}), "invalid_grant"),
        (reply(401, {"error": "invalid_client"}), "invalid_client"),
        (reply(503, {}), "http_503"),
        (granted(refresh_token=None), "refresh_token_missing"),
        (granted(refresh_token="r", scope="offline_access"), "scope_missing"),
        (granted(refresh_token="r", scope="contacts.read"), "scope_missing"),
        (granted(refresh_token="r", id_token=make_id_token(aud="another-app")), "id_token_wrong"),
        (granted(refresh_token="r", id_token=make_id_token(aud=[CLIENT_ID, "b"], azp="b")), "id_token_wrong"),
        (granted(refresh_token="r", id_token=make_id_token(exp=1)), "id_token_wrong"),
        (granted(refresh_token="r", id_token=make_id_token(exp=None)), "id_token_wrong"),
        (granted(refresh_token="r", id_token=make_id_token(iss=None)), "id_token_wrong"),
        (granted(refresh_token="r", id_token=make_id_token(email="boss@acme.example")), "other_mailbox"),
    ],
)
def test_a_failed_authorization_leaves_the_old_token_in_place(
    equipment: Equipment, provider: FakeProvider, user: User, answer: Reply, code: str
) -> None:
    store = make_oauth_store(equipment, provider.token_url, name="Old", account=MAILBOX)
    journey = Journey(store, user, equipment)
    before = stored(journey.store_id).version
    provider.answer = answer
    with pytest.raises(ConsentFailed) as caught:
        journey.connect()
    assert caught.value.code == code
    assert caught.value.way_out
    assert opened_token(journey) == "fake-refresh-0"
    connection = stored(journey.store_id)
    assert (connection.version, connection.health) == (before, Health.CONNECTED)
    assert actions() == ["connect_failed"]


def test_an_issuer_of_the_id_token_that_is_not_the_providers_is_refused(
    journey: Journey, provider: FakeProvider
) -> None:
    with_issuer(journey, required=False)
    provider.answer = granted(refresh_token="r", id_token=make_id_token(iss="https://evil.example"))
    with pytest.raises(ConsentFailed) as caught:
        journey.connect()
    assert caught.value.code == "id_token_wrong"


def test_a_narrower_scope_that_still_sends_is_a_warning(journey: Journey, provider: FakeProvider) -> None:
    db.session.execute(update(Connection).values(scope="smtp.send imap.read offline_access"))
    db.session.commit()
    provider.answer = granted(refresh_token="r", scope="smtp.send")
    [warning] = journey.connect().warnings
    assert "imap.read" in warning


def test_another_mailbox_at_the_first_connect_is_a_warning_with_the_way_out(
    journey: Journey, provider: FakeProvider
) -> None:
    provider.answer = granted(refresh_token="r", id_token=make_id_token(email="boss@acme.example"))
    [warning] = journey.connect().warnings
    assert "boss@acme.example" in warning
    assert "Sign-in address" in warning
    connection = stored(journey.store_id)
    assert (connection.account, connection.login) == ("boss@acme.example", MAILBOX)
    assert journey.connect().account == "boss@acme.example"  # the same person again


def test_settings_that_change_during_the_call_refuse_the_answer(
    journey: Journey, provider: FakeProvider, app: Flask
) -> None:
    def save_while_asked(request: Request) -> Reply:
        with app.app_context():
            db.session.execute(update(Connection).values(client_id="client-2", version=Connection.version + 1))
            db.session.commit()
        return granted(refresh_token="fake-late")

    provider.answer = save_while_asked
    with pytest.raises(ConsentFailed) as caught:
        journey.connect()
    assert caught.value.code == "settings_changed"
    assert stored(journey.store_id).refresh_token_sealed is None


# --- Sharing


def make_copy(source: Store, name: str = "Copy Store") -> Store:
    """Another store on the same connection, as Copy makes it."""
    copy = factories.make_store(name, from_name=name, from_email=MAILBOX)
    copy.email_settings.connection = source.email_settings.connection
    db.session.commit()
    return copy


def test_connecting_anew_gives_a_sharer_a_connection_of_its_own(
    equipment: Equipment, provider: FakeProvider, user: User
) -> None:
    original = make_oauth_store(equipment, provider.token_url, name="Original", account=MAILBOX)
    original_id = original.id
    copy = make_copy(original)
    arrival = Journey(copy, user, equipment).connect()
    assert arrival.split_from == ("Original",)
    mine, theirs = stored(arrival.store_id), stored(original_id)
    mine_id, their_id = mine.id, theirs.id
    assert mine_id != their_id
    assert opened(mine_id, "refresh_token_sealed", equipment) == "fake-new-refresh"
    assert opened(mine_id, "client_secret_sealed", equipment) == CLIENT_SECRET
    assert opened(their_id, "refresh_token_sealed", equipment) == "fake-refresh-0"


# --- The end


@pytest.fixture
def revoking(equipment: Equipment, provider: FakeProvider) -> Equipment:
    preset = Provider(
        "other",
        "Example Mail",
        "Example",
        "server",
        token_url=provider.token_url,
        revocation_url=provider.revoke_url,
    )
    return replace(equipment, providers=Catalogue([preset]))


def disconnect(store_id: int, equipment: Equipment) -> connection_care.Farewell:
    settings = db.session.get_one(Store, store_id).email_settings
    farewell = connection_care.disconnect(settings, actor=Actor("Alice Adams"), equipment=equipment)
    db.session.commit()
    return farewell


def test_disconnecting_revokes_and_removes_both_tokens(provider: FakeProvider, revoking: Equipment) -> None:
    store_id = make_oauth_store(revoking, provider.token_url, account=MAILBOX).id
    provider.answer = reply(200, b"")
    farewell = disconnect(store_id, revoking)
    assert farewell.is_revoked is True
    [request] = provider.requests
    assert request.path == "/revoke"
    assert request.form == {
        "token": "fake-refresh-0",
        "token_type_hint": "refresh_token",
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
    }
    connection = stored(store_id)
    assert (connection.refresh_token_sealed, connection.access_token_sealed, connection.account) == (None, None, "")
    assert connection.health is Health.NOT_CONNECTED
    assert connection.has_client_secret
    assert actions() == ["disconnected"]


def test_a_provider_that_does_not_answer_keeps_no_token_here(provider: FakeProvider, revoking: Equipment) -> None:
    store_id = make_oauth_store(revoking, provider.token_url).id
    provider.answer = reply(503, {})
    assert disconnect(store_id, revoking).is_revoked is False
    assert stored(store_id).refresh_token_sealed is None


def test_the_token_is_not_sent_beside_the_server_it_came_from(
    provider: FakeProvider, revoking: Equipment, cert: ServerCert
) -> None:
    with FakeProvider(cert) as elsewhere:
        store_id = make_oauth_store(revoking, elsewhere.token_url).id
        assert disconnect(store_id, revoking).is_revoked is None
        assert elsewhere.requests == []
    assert provider.requests == []
    assert stored(store_id).refresh_token_sealed is None


@pytest.mark.parametrize("auth", ClientAuth)
def test_an_issuers_grant_is_revoked_where_its_metadata_says(
    provider: FakeProvider, equipment: Equipment, auth: ClientAuth
) -> None:
    columns = {"issuer": ISSUER, "revocation_url": provider.revoke_url, "client_auth": auth}
    store_id = make_oauth_store(equipment, provider.token_url, **columns).id
    provider.answer = reply(200, b"")
    assert disconnect(store_id, equipment).is_revoked is True
    [request] = provider.requests
    assert (request.path, request.form["token"]) == ("/revoke", "fake-refresh-0")
    in_header = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
    assert (request.headers.get("Authorization") == f"Basic {in_header}") is (auth is ClientAuth.BASIC)
    # Never both (RFC 6749 2.3).
    assert ("client_secret" in request.form) is (auth is ClientAuth.POST)


def test_an_issuer_without_revocation_only_loses_the_tokens_here(provider: FakeProvider, equipment: Equipment) -> None:
    store_id = make_oauth_store(equipment, provider.token_url, issuer=ISSUER).id
    assert disconnect(store_id, equipment).is_revoked is None
    assert provider.requests == []


def test_disconnecting_names_those_who_shared(provider: FakeProvider, equipment: Equipment) -> None:
    original = make_oauth_store(equipment, provider.token_url, name="Original")
    store_id = original.id
    make_copy(original)
    assert disconnect(store_id, equipment).stores == ("Copy Store",)


# --- The tenant that consented

TENANT = "11111111-2222-3333-4444-555555555555"


def microsoft_store(equipment: Equipment, **columns: Any) -> Store:
    login = "https://login.microsoftonline.com/common/oauth2/v2.0"
    values = {
        "provider": "microsoft365",
        "tenant_id": "common",
        "authorization_url": f"{login}/authorize",
        "account_tenant": TENANT,
        **columns,
    }
    return make_oauth_store(equipment, f"{login}/token", **values)


def test_the_learned_tenant_takes_the_place_of_common_and_keeps_the_secrets(equipment: Equipment) -> None:
    store_id = microsoft_store(equipment).id
    settings = db.session.get_one(Store, store_id).email_settings
    version = settings.version
    assert connection_care.learned_tenant(settings, equipment) == TENANT
    assert connection_care.use_learned_tenant(settings, actor=Actor("Alice Adams"), equipment=equipment) == TENANT
    db.session.commit()
    connection = stored(store_id)
    assert connection.tenant_id == TENANT
    assert connection.token_url == f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token"
    assert connection.authorization_url == f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/authorize"
    assert connection.has_refresh_token
    assert connection.has_client_secret
    assert db.session.get_one(Store, store_id).email_settings.version == version + 1
    assert actions() == ["tenant_learned"]


@pytest.mark.parametrize(
    "columns",
    [
        {"account_tenant": ""},
        {"account_tenant": "9188040d-6c67-4c5b-b112-36a304b66dad"},
        {"account_tenant": "../evil"},
        {"tenant_id": "acme.example"},
        {"tenant_id": "consumers"},
        {"authorization_url": "https://login.microsoftonline.com/common/oauth2/v2.0/authorize?by=hand"},
    ],
)
def test_a_tenant_that_fits_nowhere_is_not_offered(equipment: Equipment, columns: dict[str, Any]) -> None:
    settings = microsoft_store(equipment, **columns).email_settings
    assert connection_care.learned_tenant(settings, equipment) == ""
    assert connection_care.use_learned_tenant(settings, actor=Actor("Alice"), equipment=equipment) == ""


def test_a_shared_connection_is_not_narrowed(equipment: Equipment) -> None:
    store = microsoft_store(equipment)
    make_copy(store)
    assert connection_care.learned_tenant(store.email_settings, equipment) == ""
