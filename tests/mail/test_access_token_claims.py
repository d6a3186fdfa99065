"""An access token read for display: what Microsoft's tokens say, and what hostile ones try."""

import base64
import json
import string
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.access_token_claims import EXCHANGE, GRAPH, TokenClaims, claims_of
from security.secret import Secret

USER_TOKEN = {
    "aud": "https://outlook.office.com",
    "iss": "https://sts.windows.net/6f1e2d3c-0000-4000-8000-000000000000/",
    "exp": 1_800_000_000,
    "appid": "1b2c3d4e-0000-4000-8000-000000000000",
    "app_displayname": "Storepost",
    "scp": "SMTP.Send User.Read",
    "tid": "6f1e2d3c-0000-4000-8000-000000000000",
    "upn": "orders@acme.example",
}


def jwt(claims: Any) -> Secret:
    parts = ({"alg": "RS256", "typ": "JWT"}, claims)
    return Secret(".".join([*(_encoded(json.dumps(part).encode()) for part in parts), "c2lnbmF0dXJl"]))


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _read(**claims: Any) -> TokenClaims:
    found = claims_of(jwt(claims))
    assert found is not None
    return found


def test_it_reads_a_token_of_a_user() -> None:
    assert claims_of(jwt(USER_TOKEN)) == TokenClaims(
        audience=EXCHANGE,
        audience_id="https://outlook.office.com",
        scopes=("SMTP.Send", "User.Read"),
        user="orders@acme.example",
        tenant="6f1e2d3c-0000-4000-8000-000000000000",
        app_id="1b2c3d4e-0000-4000-8000-000000000000",
        app_name="Storepost",
        expires_at=datetime.fromtimestamp(1_800_000_000, UTC),
    )


def test_its_facts_are_plain_json() -> None:
    facts = _read(**USER_TOKEN).as_facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["scopes"] == ["SMTP.Send", "User.Read"]
    assert facts["expires_at"] == "2027-01-15T08:00:00+00:00"


@pytest.mark.parametrize(
    ("audience", "words"),
    [
        ("00000003-0000-0000-c000-000000000000", GRAPH),
        ("https://graph.microsoft.com", GRAPH),
        ("https://graph.microsoft.com/", GRAPH),
        ("00000002-0000-0FF1-CE00-000000000000", EXCHANGE),
        ("https://outlook.office365.com/", EXCHANGE),
        ("https://outlook.office365.us", EXCHANGE),
        ("https://management.azure.com", "Azure Resource Manager"),
        ("api://shop.example", "api://shop.example"),
        (["https://outlook.office.com", "https://outlook.office365.com"], EXCHANGE),
        (["account", "mail.acme.example"], "account, mail.acme.example"),
    ],
    ids=str,
)
def test_the_audience_is_named_in_words(audience: Any, words: str) -> None:
    assert _read(aud=audience).audience == words


@pytest.mark.parametrize("name", ["upn", "preferred_username", "unique_name", "email"])
def test_the_user_is_found_under_every_name_that_tokens_use(name: str) -> None:
    assert _read(**{name: "orders@acme.example"}).user == "orders@acme.example"


@pytest.mark.parametrize("name", ["appid", "azp", "client_id"])
def test_the_app_is_found_under_every_name_that_tokens_use(name: str) -> None:
    assert _read(**{name: "shop"}).app_id == "shop"


def test_an_app_without_a_user_is_told_by_its_type_or_by_its_roles() -> None:
    assert _read(idtyp="app", oid="1").is_app
    assert _read(aud="x", roles=["SMTP.SendAsApp"]).is_app
    assert not _read(aud="x", roles=["Reader"], upn="orders@acme.example").is_app
    assert not _read(idtyp="user", roles=["SMTP.SendAsApp"]).is_app
    assert _read(roles=["SMTP.SendAsApp"]).roles == ("SMTP.SendAsApp",)


@pytest.mark.parametrize(
    "token",
    ["ya29.fake-access-token", "EwBAAl3BAAUFFpUAo7J3Ve0b", "", ".", "..", "a.b.c", "eyJhIjoxfQ." * 4 + "x", "a.W10.c"],
    ids=lambda token: f"{token[:12]!r}",
)
def test_an_opaque_token_says_nothing(token: str) -> None:
    assert claims_of(Secret(token)) is None


def test_a_jwt_that_names_nothing_we_show_says_nothing() -> None:
    assert claims_of(jwt({"sub": "1", "ver": "2.0"})) is None


def test_wrong_types_count_as_not_said() -> None:
    wrong = {"scp": 5, "roles": {"a": 1}, "upn": ["x"], "tid": None, "appid": 7, "exp": "soon", "aud": "here"}
    assert _read(**wrong) == TokenClaims(audience="here", audience_id="here")


@pytest.mark.parametrize("exp", [True, -(10**30), 10**30, float("nan"), float("inf"), float("-inf"), 1e300])
def test_an_expiry_that_is_no_time_is_left_out(exp: Any) -> None:
    assert _read(aud="x", exp=exp).expires_at is None


def test_long_and_steering_texts_are_cut_and_put_on_one_line() -> None:
    found = _read(aud="x" * 9_000, upn="a\r\nb\x1b[31m\u202e", roles=["r"] * 5_000, scp="s " * 3_000)
    assert len(found.audience) == len(found.audience_id) == 200
    assert "\n" not in found.user
    assert "\x1b" not in found.user
    assert "\u202e" not in found.user
    assert len(found.roles) <= 40
    assert len(found.scopes) <= 41


@pytest.mark.parametrize(
    "body",
    [b"[" * 40_000, b'{"aud":' * 8_000, b'{"exp":' + b"9" * 20_000 + b"}", b"\xff\xfe", b'"text"', b'{"aud":"x"'],
    ids=["deep list", "deep object", "long number", "no text", "a text", "cut"],
)
def test_junk_where_the_claims_should_be_says_nothing(body: bytes) -> None:
    assert claims_of(Secret(f"e30.{_encoded(body)}.x")) is None


def test_a_huge_token_is_not_read() -> None:
    assert claims_of(jwt({"aud": "x", "junk": "y" * 100_000})) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["aud", "scp", "scope", "roles", "upn", "email", "tid", "appid", "azp", "exp", "idtyp"])


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=8))
def test_whatever_the_claims_hold_it_is_read_or_left_out(claims: dict[str, Any]) -> None:
    found = claims_of(jwt(claims))
    if found is not None:
        json.dumps(found.as_facts(), allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=string.printable, max_size=200))
def test_whatever_the_token_is_nothing_is_raised(token: str) -> None:
    claims_of(Secret(token))
