"""The setup guide with a store's own values, and what a console will say about our redirect URI."""

from __future__ import annotations

import pytest

from mail.providers import FASTMAIL, GOOGLE, MICROSOFT365, OTHER, Provider, catalogue
from mail.setup_guide import guide_for, why_redirect_is_refused

REDIRECT = "https://mail.shop.example/oauth/callback"


def copies(provider: Provider, **values: str) -> list[str]:
    return [text for step in guide_for(provider, {"redirect_uri": REDIRECT, **values}) for text in step.copies]


@pytest.mark.parametrize("provider", catalogue().choices(), ids=lambda one: one.key)
def test_every_guide_has_the_redirect_uri_to_copy_and_no_gap(provider: Provider) -> None:
    texts = copies(provider)
    assert REDIRECT in texts
    assert not any("{" in text or not text for text in texts)


def test_the_stores_values_stand_in_commands() -> None:
    command = "Set-CASMailbox -Identity orders@acme.example -SmtpClientAuthenticationDisabled $false"
    assert command in copies(MICROSOFT365, mailbox="orders@acme.example")
    assert "client-7" in copies(GOOGLE, client_id="client-7")


def test_a_value_that_is_not_there_yet_is_seen_to_be_missing() -> None:
    assert any("-Identity <mailbox> " in text for text in copies(MICROSOFT365))


@pytest.mark.parametrize("mailbox", ["a'; Remove-Mailbox x", "a $(calc)@b.example", "a\u2019b@c.example"])
def test_a_pasted_command_does_not_do_more_than_it_says(mailbox: str) -> None:
    [command] = [text for text in copies(MICROSOFT365, mailbox=mailbox) if text.startswith("Set-CASMailbox")]
    quoted = command.removeprefix("Set-CASMailbox -Identity '").removesuffix(
        "' -SmtpClientAuthenticationDisabled $false"
    )
    assert quoted != command
    for sign in "'\u2019":
        assert quoted.replace(sign * 2, "").count(sign) == 0


@pytest.mark.parametrize(
    ("provider", "uri", "words"),
    [
        (MICROSOFT365, REDIRECT, ""),
        (MICROSOFT365, "http://localhost:8025/oauth/callback", ""),
        (MICROSOFT365, "http://shop.example/oauth/callback", "https addresses, and http for localhost only"),
        (MICROSOFT365, "https://shop.example/" + "x" * 256, "at most 256 characters"),
        (MICROSOFT365, "https://shop.example/it's", "refuses the character '"),
        (GOOGLE, "https://192.168.1.5/oauth/callback", "refuses addresses of private networks"),
        (GOOGLE, "http://localhost:8025/oauth/callback", ""),
        (FASTMAIL, "http://localhost:8025/oauth/callback", "https addresses only"),
        (OTHER, "http://10.0.0.1/oauth/callback", ""),
    ],
)
def test_a_redirect_uri_that_the_console_refuses_is_told_before(provider: Provider, uri: str, words: str) -> None:
    problem = why_redirect_is_refused(provider, uri)
    assert words in problem
    assert bool(words) is bool(problem)
