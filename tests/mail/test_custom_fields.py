"""What custom fields do, and above all what they cannot do."""

from __future__ import annotations

import pytest

from mail.custom_fields import Effects, describe, effects_of


def test_each_documented_name_has_its_effect() -> None:
    found = effects_of(
        [
            ("token.resource", "https://outlook.example/"),
            ("authorize.prompt", "login"),
            ("header.X-Mailer-Pool", "transactional"),
            ("ehlo_hostname", "Mail.Acme.example"),
            ("timeout_seconds", "12.5"),
            ("max_connections", "2"),
            ("messages_per_minute", "120"),
            ("auth_mechanism", "oauthbearer"),
        ]
    )
    assert found == Effects(
        token_parameters=(("resource", "https://outlook.example/"),),
        authorize_parameters=(("prompt", "login"),),
        headers=(("X-Mailer-Pool", "transactional"),),
        ehlo_hostname="mail.acme.example",
        timeout_s=12.5,
        max_connections=2,
        messages_per_minute=120,
        auth_mechanism="OAUTHBEARER",
    )


WITHOUT_EFFECT = [
    ("X-Mailer-Pool", "transactional"),
    ("host", "evil.example"),
    ("smtp_host", "evil.example"),
    ("verify_tls", "false"),
    ("token.", "x"),
    *((f"token.{name}", "x") for name in ("client_id", "client_secret", "grant_type", "scope", "code_verifier")),
    ("token.Redirect_URI", "https://evil.example/"),
    ("authorize.redirect_uri", "https://evil.example/"),
    ("authorize.state", "x"),
    ("authorize.code_challenge_method", "plain"),
    ("authorize.request", "x"),
    *((f"header.{name}", "x") for name in ("From", "to", "BCC", "Sender", "Reply-To", "Return-Path", "Date")),
    *((f"header.{name}", "x") for name in ("Message-ID", "MIME-Version", "Content-Type", "DKIM-Signature")),
    ("header.X Pool", "x"),
    ("header.X-Pool", ""),
    ("ehlo_hostname", "not a host"),
    ("timeout_seconds", "soon"),
    ("timeout_seconds", "0"),
    ("timeout_seconds", "901"),
    ("max_connections", "many"),
    ("max_connections", "-1"),
    ("messages_per_minute", "٣٠"),
    ("messages_per_minute", "1e3"),
    ("auth_mechanism", "PLAIN"),
]


@pytest.mark.parametrize(("key", "value"), WITHOUT_EFFECT)
def test_it_is_stored_and_not_used(key: str, value: str) -> None:
    assert effects_of([(key, value)]) == Effects(unused=(key,))
    assert describe([(key, value)]) == ("Stored, not used",)


def test_the_last_one_of_a_repeated_name_applies() -> None:
    fields = [("max_connections", "2"), ("note", "x"), ("max_connections", "5")]
    found = effects_of(fields)
    assert (found.max_connections, found.repeated, found.unused) == (5, ("max_connections",), ("note",))
    assert describe(fields) == (
        "This name stands again further down: the last one applies",
        "Stored, not used",
        "At most 5 connections at the same time",
    )


def test_header_names_that_differ_in_capitals_only_are_one_header() -> None:
    assert effects_of([("header.X-Pool", "a"), ("header.x-pool", "b")]).headers == (("x-pool", "b"),)
