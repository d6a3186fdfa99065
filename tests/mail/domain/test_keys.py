"""DKIM and DMARC of a domain, judged for the provider that sends; a real name server on loopback."""

from __future__ import annotations

from typing import Any

import pytest

from mail.domain.dkim import parse_selector
from mail.domain.findings import Verdict
from tests.mail.domain.test_records import packed_key
from tests.mail.domain.zones import (
    BOTH,
    CLASSIC,
    FASTMAIL,
    GOOGLE,
    KEY,
    WORLD,
    Ask,
    D,
    asking,
    dkim,
    dmarc,
    part,
    spf,
    words,
)


@pytest.fixture
def ask() -> Ask:
    return asking()


# --- DKIM


DKIM_CASES: list[tuple[str, dict[str, Any], tuple[str, str], Verdict, str]] = [
    ("google", dkim("google", KEY), GOOGLE, Verdict.OK, "RSA key of 2048 bits"),
    ("google-none", {}, GOOGLE, Verdict.MEND, "No DKIM key is published"),
    ("google-other-selector", dkim("x2026", KEY), GOOGLE, Verdict.UNKNOWN, "without the selector"),
    ("revoked", dkim("google", "v=DKIM1; p="), GOOGLE, Verdict.MEND, "withdrawn"),
    ("short", dkim("google", f"v=DKIM1; p={packed_key(1024)}"), GOOGLE, Verdict.HINT, "1024 bits"),
    ("too-short", dkim("google", f"v=DKIM1; p={packed_key(768)}"), GOOGLE, Verdict.MEND, "ignore keys below 1024"),
    ("damaged", dkim("google", KEY[:100]), GOOGLE, Verdict.MEND, "damaged"),
    ("testing", dkim("google", KEY.replace("k=rsa", "t=y")), GOOGLE, Verdict.HINT, "marked as a test"),
    ("two-keys", dkim("google", KEY, KEY.replace("k=rsa; ", "")), GOOGLE, Verdict.MEND, "2 keys"),
    ("ed25519", dkim("google", f"v=DKIM1; k=ed25519; p={'A' * 43}="), GOOGLE, Verdict.HINT, "Ed25519"),
    ("fastmail-none", {}, FASTMAIL, Verdict.MEND, "No DKIM key is published"),
    ("classic-none", {}, CLASSIC, Verdict.MEND, "No DKIM key is published"),
    ("classic-hidden", dkim("x2026", KEY), CLASSIC, Verdict.UNKNOWN, "without the selector"),
    ("classic-found", dkim("default", KEY), CLASSIC, Verdict.HINT, "cannot be seen in DNS"),
]


@pytest.mark.parametrize(
    ("zone", "by", "verdict", "said"), [case[1:] for case in DKIM_CASES], ids=[case[0] for case in DKIM_CASES]
)
def test_dkim_is_judged_for_the_provider(
    ask: Ask, zone: dict[str, Any], by: tuple[str, str], verdict: Verdict, said: str
) -> None:
    finding = part(ask(zone, by, without=BOTH), "DKIM")
    assert (finding.verdict, said in words(finding)) == (verdict, True), words(finding)


def test_microsoft_s_newer_names_are_accepted(ask: Ask) -> None:
    target = "selector1-acme-example._domainkey.acme.n-v1.dkim.mail.microsoft"
    zone = {BOTH[0]: {"CNAME": [target]}, target: {"TXT": [KEY]}}
    finding = part(ask(zone), "DKIM")
    assert finding.verdict is Verdict.OK


def test_a_microsoft_record_without_a_key_behind_it_says_how_to_switch_signing_on(ask: Ask) -> None:
    gone = tuple(name for name in WORLD if name.startswith("selector"))
    finding = part(ask(without=gone), "DKIM")
    assert (finding.verdict, finding.title) == (Verdict.MEND, "The DKIM records lead to no key")
    assert f"Get-DkimSigningConfig -Identity {D}" in finding.command


def test_the_second_microsoft_record_is_read_from_the_first(ask: Ask) -> None:
    finding = part(ask(without=BOTH[1:]), "DKIM")
    assert finding.verdict is Verdict.HINT
    [record] = finding.publish
    assert (record.kind, record.name) == ("CNAME", BOTH[1])
    assert record.value == "selector2-acme-example._domainkey.acme.onmicrosoft.com"


def test_without_any_microsoft_record_it_says_where_the_values_stand(ask: Ask) -> None:
    finding = part(ask(without=BOTH), "DKIM")
    assert [record.name for record in finding.publish] == list(BOTH)
    assert all(not record.value and "security.microsoft.com" in record.source for record in finding.publish)


def test_fastmail_records_are_ready_to_copy(ask: Ask) -> None:
    finding = part(ask(by=FASTMAIL, without=BOTH), "DKIM")
    assert [record.value for record in finding.publish] == [f"fm{n}.{D}.dkim.fmhosted.com" for n in (1, 2, 3)]


def test_a_record_that_leads_to_another_provider_is_told(ask: Ask) -> None:
    finding = part(ask({BOTH[1]: {"CNAME": ["else.example.net"]}, "else.example.net": {"TXT": [KEY]}}), "DKIM")
    assert "no name of Microsoft 365" in words(finding)


def test_a_typed_selector_is_looked_at(ask: Ask) -> None:
    report = ask(dkim("x2026", KEY), CLASSIC, selector="x2026", without=BOTH)
    assert part(report, "DKIM").verdict is Verdict.OK
    assert not report.asks_selector


def test_a_typed_selector_without_a_key_is_to_mend(ask: Ask) -> None:
    finding = part(ask(dkim("google", KEY), GOOGLE, selector="x2026", without=BOTH), "DKIM")
    assert (finding.verdict, "nothing is published under x2026._domainkey" in words(finding)) == (Verdict.MEND, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(" S1 ", "s1"), ("s1._domainkey.acme.example.", "s1"), ("a.b", "a.b"), ("x_1", "x_1")],
    ids=["blanks", "whole-name", "dots", "underscore"],
)
def test_a_selector_is_read_as_people_paste_it(typed: str, meant: str) -> None:
    assert parse_selector(typed) == meant


@pytest.mark.parametrize("typed", ["", "a b", "ä", "*", "a..b", "-", "x" * 121, "<script>", "a\\000"], ids=ascii)
def test_what_is_no_selector_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="selector alone"):
        parse_selector(typed)


# --- DMARC


DMARC_CASES: list[tuple[str, dict[str, Any], Verdict, str]] = [
    ("none", dmarc(f"v=DMARC1; p=none; rua=mailto:d@{D}"), Verdict.HINT, "Forgers are not stopped"),
    ("quarantine", dmarc(f"v=DMARC1; p=quarantine; rua=mailto:d@{D}"), Verdict.OK, "goes to the spam folder"),
    ("reject", dmarc(f"v=DMARC1; p=reject; rua=mailto:d@{D}"), Verdict.OK, "is refused by receivers"),
    ("no-reports", dmarc("v=DMARC1; p=reject"), Verdict.HINT, "nobody tells you"),
    ("part", dmarc(f"v=DMARC1; p=reject; pct=20; rua=mailto:d@{D}"), Verdict.HINT, "“pct=20”"),
    ("no-policy", dmarc("v=DMARC1; rua=mailto:d@acme.example"), Verdict.MEND, "states no policy"),
    ("typing-error", dmarc("v=DMARC1; p=rejekt"), Verdict.MEND, "“p=rejekt” is no policy"),
    ("strict", dmarc(f"v=DMARC1; p=reject; adkim=s; rua=mailto:d@{D}"), Verdict.OK, "exactly this domain"),
    ("foreign-reports", dmarc("v=DMARC1; p=reject; rua=mailto:d@reports.example"), Verdict.HINT, "does not agree"),
    (
        "agreed-reports",
        dmarc("v=DMARC1; p=reject; rua=mailto:d@reports.example")
        | {f"{D}._report._dmarc.reports.example": {"TXT": ["v=DMARC1"]}},
        Verdict.OK,
        "policy is reject",
    ),
    ("two", {f"_dmarc.{D}": {"TXT": ["v=DMARC1; p=none", "v=DMARC1; p=reject"]}}, Verdict.MEND, "only one is allowed"),
]


@pytest.mark.parametrize(
    ("zone", "verdict", "said"), [case[1:] for case in DMARC_CASES], ids=[case[0] for case in DMARC_CASES]
)
def test_dmarc_is_judged(ask: Ask, zone: dict[str, Any], verdict: Verdict, said: str) -> None:
    finding = part(ask(zone), "DMARC")
    assert (finding.verdict, said in words(finding)) == (verdict, True), words(finding)


def test_without_dmarc_there_is_a_record_to_begin_with(ask: Ask) -> None:
    [record] = part(ask(without=(f"_dmarc.{D}",)), "DMARC").publish
    assert (record.name, record.value) == (f"_dmarc.{D}", f"v=DMARC1; p=none; rua=mailto:postmaster@{D}")


@pytest.mark.parametrize(
    ("text", "title"),
    [("v=DMARC1; p=reject; sp=none", "policy is none"), ("v=DMARC1; p=reject", "policy is reject")],
    ids=["sp", "p"],
)
def test_a_subdomain_takes_the_policy_of_the_domain_above(ask: Ask, text: str, title: str) -> None:
    report = ask(dmarc(text) | {f"mail.shop.{D}": {"TXT": ["v=spf1 -all"]}}, address=f"a@mail.shop.{D}")
    finding = part(report, "DMARC")
    assert (title in finding.title, f"the one of {D} applies" in words(finding)) == (True, True)


def test_the_record_of_a_registry_is_not_taken_for_the_organization_s(ask: Ask) -> None:
    report = ask(
        {"_dmarc.bank.example": {"TXT": ["v=DMARC1; p=reject; psd=y"]}, "acme.bank.example": {"TXT": ["v=spf1 -all"]}},
        address="a@acme.bank.example",
    )
    assert part(report, "DMARC").title == "No DMARC record"


def test_a_strict_policy_without_spf_and_dkim_refuses_the_store_s_own_mail(ask: Ask) -> None:
    finding = part(ask(spf("v=spf1 -all"), without=BOTH), "DMARC")
    assert (finding.verdict, "own mail is refused" in words(finding)) == (Verdict.MEND, True)


def test_a_strict_policy_carried_by_spf_alone_is_a_hint(ask: Ask) -> None:
    finding = part(ask(without=BOTH), "DMARC")
    assert (finding.verdict, "somebody forwards" in words(finding)) == (Verdict.HINT, True)
