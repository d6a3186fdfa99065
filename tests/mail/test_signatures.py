import csv
import hashlib
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from mail.errors import Family
from mail.signatures import GENERIC, TEXT_LIMIT, Action, match, signatures

ROWS = 207
# Of the catalogue the product was specified with; an edit of the copy must be a decision, not an accident.
CATALOGUE_SHA256 = "8b457543839514b6519244e8b205cb2dff76d23b58529524d688127669e80813"


class Sample(NamedTuple):
    number: int
    provider: str
    family: Family
    text: str


def _samples() -> list[Sample]:
    with Path(__file__).with_name("signature_samples.csv").open(encoding="utf-8", newline="") as lines:
        return [
            Sample(int(row["number"]), row["provider"], Family(row["family"]), row["text"])
            for row in csv.DictReader(lines)
        ]


SAMPLES = _samples()


def _number(text: str, provider: str, family: Family) -> int | None:
    found = match(text, provider=provider, family=family)
    return found.number if found else None


def test_it_holds_all_rows_of_the_catalogue_in_order() -> None:
    assert [row.number for row in signatures()] == list(range(1, ROWS + 1))


def test_its_data_file_is_the_specified_one() -> None:
    data = Path(__file__).parents[2].joinpath("mail", "errors.csv").read_bytes()

    assert hashlib.sha256(data).hexdigest() == CATALOGUE_SHA256


def test_there_is_one_sample_for_every_row() -> None:
    assert [sample.number for sample in SAMPLES] == list(range(1, ROWS + 1))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"row-{sample.number}")
def test_it_finds_the_row_made_for_a_text(sample: Sample) -> None:
    assert _number(sample.text, sample.provider, sample.family) == sample.number


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"row-{sample.number}")
def test_it_finds_the_same_row_in_a_text_of_several_lines(sample: Sample) -> None:
    folded = sample.text.replace(" ", "\r\n", 1) if sample.family is Family.SMTP else f"{sample.text}\r\nTrace ID: 0"

    assert _number(folded, sample.provider, sample.family) == sample.number


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"row-{sample.number}")
def test_a_providers_text_never_gets_another_providers_row(sample: Sample) -> None:
    for provider, own in (("microsoft365", "microsoft"), ("google", "google"), ("zoho", "zoho"), ("fastmail", "-")):
        found = match(sample.text, provider=provider, family=sample.family)
        assert found is None or found.provider in (own, GENERIC)


@pytest.mark.parametrize(
    ("text", "provider", "family", "number"),
    [
        # Generic rows stand before these in the file; the provider's own row still comes first.
        ("access_denied AADSTS53003: Access has been blocked by Conditional Access", "microsoft365", Family.TOKEN, 49),
        ("421 4.4.1 Connection timed out [AM0PR01]", "microsoft365", Family.SMTP, 165),
        # The same words, another provider.
        ("452 4.5.3 Too many recipients", "microsoft365", Family.SMTP, 171),
        ("452 4.5.3 Too many recipients", "google", Family.SMTP, 183),
        ("452 4.5.3 Too many recipients", "fastmail", Family.SMTP, 197),
        # Who the custom provider is, is unknown: all rows count.
        ("535 5.7.3 Authentication unsuccessful", "other", Family.SMTP, 132),
        ("535 5.7.3 Authentication unsuccessful", "sandbox", Family.SMTP, 132),
        ("535 5.7.3 Authentication unsuccessful", "google", Family.SMTP, 156),
        # The two faults that look alike.
        ("535 5.7.139 SmtpClientAuthentication is disabled for the Mailbox", "microsoft365_gcc", Family.SMTP, 125),
        ("535-5.7.139 Authentication unsuccessful,\r\n535 5.7.139 and more", "outlook", Family.SMTP, 131),
        # A raw JSON answer and the joined form say the same.
        ('{"error":"invalid_grant","error_description":"Bad Request"}', "google", Family.TOKEN, 74),
        ("invalid_grant: Bad Request", "google", Family.TOKEN, 74),
    ],
)
def test_order_and_provider_decide(text: str, provider: str, family: Family, number: int) -> None:
    assert _number(text, provider, family) == number


def test_the_two_families_are_kept_apart() -> None:
    smtp_only = {"ehlo", "auth", "mail_from", "rcpt", "data"}
    token_only = {"consent", "token"}
    for sample in SAMPLES:
        as_token = match(sample.text, provider=sample.provider, family=Family.TOKEN)
        as_smtp = match(sample.text, provider=sample.provider, family=Family.SMTP)
        assert as_token is None or as_token.stage not in smtp_only
        assert as_smtp is None or as_smtp.stage not in token_only


def test_a_token_error_means_nothing_in_an_smtp_session() -> None:
    assert _number("invalid_grant", "microsoft365", Family.TOKEN) == 85
    assert _number("invalid_grant", "microsoft365", Family.SMTP) is None
    assert _number("535 5.7.3 no", "microsoft365", Family.TOKEN) is None


def test_an_unknown_text_has_no_row() -> None:
    assert match("", provider="other", family=Family.SMTP) is None
    assert match("the moon is full", provider="other", family=Family.TOKEN) is None


def test_actions_are_those_of_the_catalogue() -> None:
    assert {row.action for row in signatures()} == set(Action)


def test_only_the_head_of_a_text_is_looked_at() -> None:
    assert _number("x" * (TEXT_LIMIT - 4) + " 535", "other", Family.SMTP) == 156
    assert _number("x" * TEXT_LIMIT + " 535", "other", Family.SMTP) is None


@pytest.mark.parametrize(
    "piece",
    [
        "550",
        "550 ",
        "554\t",
        "5.7.139 ",
        "4.7.1 ",
        "5.1.8 ",
        "5.7.1 ",
        "HTTPSConnectionPool",
        "login_required ",
        '" , ',
        "Sender address rejected: ",
        "not registered ",
        '"status" : "400',
        "AADSTS",
        "\n",
        " ",
        "[",
        "9",
        "\\",
        "é",
    ],
)
def test_a_hostile_text_costs_no_time(piece: str) -> None:
    hostile = piece * (100_000 // len(piece))

    before = time.process_time()
    for family in Family:
        match(hostile, provider="other", family=family)

    assert time.process_time() - before < 3
