"""Addresses: what is read quickly is read as the library reads it."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.text_rules import parse_address


def library(text: str) -> str | None:
    try:
        return validate_email(text, check_deliverability=False, strict=True).normalized
    except (EmailNotValidError, UnicodeError):
        return None


def ours(text: str) -> str | None:
    try:
        return parse_address(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "text",
    [
        "lena@shop.example",
        "Lena.Meier+shop@Shop.Example",
        "lena@GMAIL.com",
        "Postmaster@shop.example",
        "INFO@shop.example",
        "info.shop@shop.example",
        "a" * 64 + "@shop.example",
        "a" * 65 + "@shop.example",
        "lena@" + "a" * 63 + ".example",
        "lena@" + "a" * 64 + ".example",
        "lena@" + "a." * 90 + "example",
        "lena@xn--bcher-kva.example",
        "lena@XN--BCHER-KVA.example",
        "lena@xn--zzzzzz-.example",
        "lena@bücher.example",
        "müller@shop.example",
        "lena@localhost",
        "lena@shop.local",
        "lena@shop.test",
        "lena@shop.invalid",
        "lena@shop",
        "lena@shop.123",
        "lena@-shop.example",
        "lena@shop-.example",
        "lena@sh--op.example",
        "lena@shop..example",
        "lena@.shop.example",
        "lena@shop.example.",
        "lena@192.0.2.1",
        "lena@[192.0.2.1]",
        ".lena@shop.example",
        "lena.@shop.example",
        "le..na@shop.example",
        "lena@home@shop.example",
        "lena@",
        "@shop.example",
        "",
        "lena",
        "Lena <lena@shop.example>",
        '"lena"@shop.example',
        "lena @shop.example",
        "lena@shop.example\n",
        "ſ@shop.example",
        "lena@ſhop.example",
        "ı@shop.example",
    ],
)
def test_an_address_is_what_the_library_says(text: str) -> None:
    assert ours(text) == library(text)


@settings(deadline=None, max_examples=400, derandomize=True, database=None)
@given(
    st.builds(
        "{}@{}".format,
        st.text(alphabet='aZ9._+-@ éKſ"<', max_size=12) | st.sampled_from(["info", "WWW", "noc", "a" * 64]),
        st.text(alphabet="aZ9.-xn@ é[K", max_size=20).map(lambda label: f"{label}.example") | st.text(max_size=10),
    )
)
def test_any_address_is_what_the_library_says(text: str) -> None:
    assert ours(text) == library(text)
