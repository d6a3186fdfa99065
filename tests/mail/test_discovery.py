"""Metadata looked up over real https: taken only when all of it is sound, and nobody is asked who must not be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mail.discovery import LIMIT_BYTES, Discovered, IssuerRefused, discover, parse_issuer
from models.connection import ClientAuth
from security.outbound import AllowRule, Door
from tests.fakes.certs import CA, ServerCert, make_server_cert
from tests.fakes.provider import FakeProvider, Reply, Request, reply

OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"


@pytest.fixture
def server(cert: ServerCert) -> Iterator[FakeProvider]:
    with FakeProvider(cert) as running:
        yield running


def issuer_of(server: FakeProvider, path: str = "") -> str:
    return server.token_url.removesuffix("/token") + path


def metadata(server: FakeProvider, path: str = "", **members: Any) -> dict[str, Any]:
    """What a usual server says; a member given as None is left out."""
    issuer = issuer_of(server, path)
    body = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "revocation_endpoint": f"{issuer}/revoke",
        "scopes_supported": ["openid", "email", "phone", "offline_access"],
        "code_challenge_methods_supported": ["plain", "S256"],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        **members,
    }
    return {name: value for name, value in body.items() if value is not None}


def look_up(server: FakeProvider, door: Door, path: str = "", **members: Any) -> Discovered:
    server.answer = reply(200, metadata(server, path, **members))
    return discover(issuer_of(server, path), door=door)


def refusal_of(server: FakeProvider, door: Door, answer: Reply | None = None, **members: Any) -> IssuerRefused:
    server.answer = answer or reply(200, metadata(server, **members))
    with pytest.raises(IssuerRefused) as caught:
        discover(issuer_of(server), door=door)
    assert str(caught.value).endswith(".")
    return caught.value


def test_everything_that_connect_needs_is_taken(server: FakeProvider, door: Door) -> None:
    issuer = issuer_of(server)
    assert look_up(server, door) == Discovered(
        issuer=issuer,
        authorization_url=f"{issuer}/authorize",
        token_url=f"{issuer}/token",
        revocation_url=f"{issuer}/revoke",
        scopes=("openid", "email", "offline_access"),
        iss_required=True,
        pkce_method="S256",
        client_auth=ClientAuth.BASIC,
    )
    assert [(request.path, request.fields) for request in server.requests] == [(OPENID, [])]


def test_a_server_that_says_little_gets_the_standards_defaults(server: FakeProvider, door: Door) -> None:
    silent = dict.fromkeys(
        (
            *("revocation_endpoint", "scopes_supported", "code_challenge_methods_supported"),
            *("authorization_response_iss_parameter_supported", "token_endpoint_auth_methods_supported"),
        )
    )
    found = look_up(server, door, **silent)
    assert (found.revocation_url, found.iss_required, found.pkce_method) == ("", False, "")
    assert found.scopes == ("openid", "email", "offline_access")
    assert found.client_auth is ClientAuth.BASIC


def test_an_app_proves_itself_as_the_server_can_take_it(server: FakeProvider, door: Door) -> None:
    only_post = look_up(server, door, token_endpoint_auth_methods_supported=["private_key_jwt", "client_secret_post"])
    assert only_post.client_auth is ClientAuth.POST


def test_a_scope_for_smtp_comes_first(server: FakeProvider, door: Door) -> None:
    assert look_up(server, door, scopes_supported=["openid", "urn:SMTP.send"]).scopes == ("urn:SMTP.send", "openid")


def test_an_issuer_with_a_path_is_asked_where_either_standard_keeps_it(server: FakeProvider, door: Door) -> None:
    good = metadata(server, "/realms/shop")

    def answer(request: Request) -> Reply:
        return reply(200, good) if request.path == f"{OAUTH}/realms/shop" else reply(404, {})

    server.answer = answer
    assert discover(issuer_of(server, "/realms/shop"), door=door).token_url.endswith("/realms/shop/token")
    assert [request.path for request in server.requests] == [f"/realms/shop{OPENID}", f"{OAUTH}/realms/shop"]


def test_the_two_endpoints_may_be_on_other_hosts_but_not_the_revocation(server: FakeProvider, door: Door) -> None:
    found = look_up(
        server,
        door,
        token_endpoint="https://token.example/token",
        authorization_endpoint="https://id.example/authorize",
        revocation_endpoint="https://elsewhere.example/revoke",
    )
    assert (found.token_url, found.authorization_url) == ("https://token.example/token", "https://id.example/authorize")
    # The refresh token and the client secret would go there as well.
    assert found.revocation_url == ""


@pytest.mark.parametrize(
    "named",
    ["https://evil.example", "{issuer}/", "{upper}", "", None, ["{issuer}"], 7],
    ids=["another", "slash", "capitals", "empty", "none", "list", "number"],
)
def test_a_server_that_calls_itself_otherwise_is_refused(server: FakeProvider, door: Door, named: Any) -> None:
    issuer = issuer_of(server)
    if isinstance(named, str):
        named = named.format(issuer=issuer, upper=issuer.upper())
    assert refusal_of(server, door, issuer=named).code == "issuer_differs"


def test_the_name_it_gives_itself_is_shown_on_one_line(server: FakeProvider, door: Door) -> None:
    assert "\n" not in str(refusal_of(server, door, issuer="https://evil.example/\n\u202e" + "x" * 9_000))


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"token_endpoint": None}, "no_endpoints"),
        ({"authorization_endpoint": ""}, "no_endpoints"),
        ({"token_endpoint": "http://id.example/token"}, "unusable_endpoint"),
        ({"token_endpoint": "https://user:pw@id.example/token"}, "unusable_endpoint"),
        ({"token_endpoint": "https://id.example/token#x"}, "unusable_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "unusable_endpoint"),
        ({"authorization_endpoint": ["https://id.example"]}, "unusable_endpoint"),
        ({"authorization_endpoint": "/authorize"}, "unusable_endpoint"),
        ({"code_challenge_methods_supported": ["plain"]}, "no_s256"),
        ({"response_types_supported": ["token"]}, "no_code"),
        ({"grant_types_supported": ["implicit"]}, "no_code"),
    ],
)
def test_metadata_that_connect_cannot_work_with_is_refused(
    server: FakeProvider, door: Door, members: dict[str, Any], code: str
) -> None:
    assert refusal_of(server, door, **members).code == code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply(404, {}), "no_metadata"),
        (reply(500, b"<html>"), "no_metadata"),
        (reply(302, {}, Location="https://elsewhere.example/"), "redirected"),
        (reply(200, b"<html>"), "not_json"),
        (reply(200, b"[]"), "not_json"),
        (reply(200, b'{"issuer": "a", "issuer": "b"}'), "not_json"),
        (reply(200, b'{"issuer": NaN}'), "not_json"),
        (reply(200, b"\xff"), "not_json"),
        (reply(200, b"[" * 60_000), "not_json"),
        (reply(200, b" " * (LIMIT_BYTES + 1)), "no_answer"),
    ],
    ids=["404", "500", "redirect", "html", "list", "twice", "nan", "bytes", "deep", "large"],
)
def test_an_answer_that_is_none_is_refused(server: FakeProvider, door: Door, answer: Reply, code: str) -> None:
    assert refusal_of(server, door, answer).code == code


def test_a_server_that_drips_ends_with_the_deadline(
    server: FakeProvider, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.discovery.DEADLINE_S", 0.5)
    server.answer = Reply(200, b" " * 200, pause_s=0.1, drips=True)
    with pytest.raises(IssuerRefused) as caught:
        discover(issuer_of(server), door=door)
    assert caught.value.code == "timed_out"


def test_an_address_inside_the_network_is_not_asked(server: FakeProvider, ca: CA) -> None:
    closed = Door(AllowRule.parse_list(""), ca_file=ca.cert_file)
    refused = refusal_of(server, closed)
    assert refused.code == "blocked"
    assert "STOREPOST_EGRESS_ALLOW" in str(refused)
    assert server.requests == []


def test_a_certificate_of_another_name_is_not_trusted(ca: CA, door: Door) -> None:
    with FakeProvider(make_server_cert(ca, names=("elsewhere.example",), ips=())) as stranger:
        assert refusal_of(stranger, door).code == "not_trusted"
        assert stranger.requests == []


@pytest.mark.parametrize(
    ("typed", "issuer"),
    [
        ("https://id.example", "https://id.example"),
        (" https://ID.example:443 ", "https://id.example"),
        ("https://id.example/", "https://id.example/"),
        ("https://id.example/realms/shop", "https://id.example/realms/shop"),
        ("https://id.example/realms/shop/", "https://id.example/realms/shop/"),
        (f"https://id.example/realms/shop{OPENID}", "https://id.example/realms/shop"),
        (f"https://id.example{OAUTH}", "https://id.example"),
    ],
)
def test_an_issuer_keeps_its_spelling(typed: str, issuer: str) -> None:
    assert parse_issuer(typed) == issuer
    assert parse_issuer(issuer) == issuer


@pytest.mark.parametrize(
    "typed",
    ["http://id.example", "id.example", "https://id.example?x=1", "https://id.example#x", "https://u:p@id.example", ""],
)
def test_what_is_no_issuer_is_refused_in_words(typed: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_issuer(typed)
