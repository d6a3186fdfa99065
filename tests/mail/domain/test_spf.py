"""SPF of a domain, judged for the provider that sends; a real name server on loopback."""

from __future__ import annotations

import pytest

from mail.domain.findings import Verdict
from tests.mail.domain.zones import (
    CLASSIC,
    FASTMAIL,
    GOOGLE,
    MICROSOFT,
    OUTLOOK,
    Ask,
    D,
    asking,
    part,
    words,
)


@pytest.fixture
def ask() -> Ask:
    return asking()


# --- SPF

SPF_CASES: list[tuple[str, list[str], tuple[str, str], Verdict, str, str]] = [
    ("none", [], MICROSOFT, Verdict.MEND, "No SPF record", f"v=spf1 include:{OUTLOOK} ~all"),
    ("foreign-texts", ["MS=ms123"], GOOGLE, Verdict.MEND, "No SPF record", "v=spf1 include:_spf.google.com ~all"),
    (
        "two",
        ["v=spf1 ip4:192.0.2.1 -all", f"v=spf1 include:{OUTLOOK} ~all"],
        MICROSOFT,
        Verdict.MEND,
        "only one is allowed",
        f"v=spf1 include:{OUTLOOK} ip4:192.0.2.1 ~all",
    ),
    ("google", ["v=spf1 include:_spf.google.com ~all"], GOOGLE, Verdict.OK, "lets Google Workspace send", ""),
    ("fastmail", ["v=spf1 include:spf.messagingengine.com ?all"], FASTMAIL, Verdict.HINT, "“?all” says nothing", ""),
    (
        "wrong-provider",
        ["v=spf1 include:_spf.google.com -all"],
        MICROSOFT,
        Verdict.MEND,
        "does not name Microsoft 365",
        f"v=spf1 include:{OUTLOOK} include:_spf.google.com -all",
    ),
    (
        "us-cloud",
        [f"v=spf1 include:{OUTLOOK} -all"],
        ("microsoft365", "smtp.office365.us"),
        Verdict.MEND,
        "include:spf.protection.office365.us",
        f"v=spf1 include:spf.protection.office365.us include:{OUTLOOK} -all",
    ),
    ("china", ["v=spf1 -all"], ("", "smtp.partner.outlook.cn"), Verdict.MEND, "spf.protection.partner.outlook.cn", ""),
    (
        "minus-include",
        [f"v=spf1 -include:{OUTLOOK} ~all"],
        MICROSOFT,
        Verdict.MEND,
        "with “-”",
        f"v=spf1 include:{OUTLOOK} ~all",
    ),
    (
        "after-all",
        [f"v=spf1 ~all include:{OUTLOOK}"],
        MICROSOFT,
        Verdict.MEND,
        "no receiver reads on",
        f"v=spf1 include:{OUTLOOK} ~all",
    ),
    ("plus-all", [f"v=spf1 include:{OUTLOOK} +all"], MICROSOFT, Verdict.MEND, "every server in the world", " ~all"),
    ("no-all", [f"v=spf1 include:{OUTLOOK}"], MICROSOFT, Verdict.HINT, "no “all”", f"v=spf1 include:{OUTLOOK} ~all"),
    ("syntax", [f"v=spf1 ip4:1.2.3 include:{OUTLOOK} -all"], MICROSOFT, Verdict.MEND, "no IPv4 address", OUTLOOK),
    ("redirect", ["v=spf1 redirect=all.acme.example"], MICROSOFT, Verdict.OK, "lets Microsoft 365 send", ""),
    ("nested", ["v=spf1 include:all.acme.example ~all"], MICROSOFT, Verdict.OK, "takes 2 of 10", ""),
    ("weak-nesting", ["v=spf1 ?include:all.acme.example ~all"], MICROSOFT, Verdict.MEND, "does not", OUTLOOK),
    ("circle", [f"v=spf1 include:{OUTLOOK} include:loop.acme.example -all"], MICROSOFT, Verdict.MEND, "leads back", ""),
    ("include-void", [f"v=spf1 include:{OUTLOOK} include:gone.example -all"], MICROSOFT, Verdict.MEND, "no SPF", ""),
    ("voids", [f"v=spf1 a:g1.{D} a:g2.{D} a:g3.{D} include:{OUTLOOK} -all"], MICROSOFT, Verdict.MEND, "give up", ""),
    ("one-void", [f"v=spf1 a:g1.{D} include:{OUTLOOK} -all"], MICROSOFT, Verdict.HINT, "1 of its names", ""),
    ("many", [f"v=spf1 include:{OUTLOOK} include:many.acme.example -all"], MICROSOFT, Verdict.MEND, "12 lookups", ""),
    ("ptr", [f"v=spf1 ptr include:{OUTLOOK} -all"], MICROSOFT, Verdict.HINT, "“ptr” is slow", ""),
    ("macro", ["v=spf1 exists:%{i}._spf.acme.example -all"], MICROSOFT, Verdict.UNKNOWN, "not evaluated", ""),
    (
        "long",
        [f"v=spf1 include:{OUTLOOK} " + "ip4:192.0.2.1 " * 40 + "-all"],
        MICROSOFT,
        Verdict.HINT,
        "characters long",
        "",
    ),
    ("own-envelope", [], ("", "email-smtp.eu-west-1.amazonaws.com"), Verdict.OK, "Not needed", ""),
    ("classic-named", ["v=spf1 a:mail.host.example.net -all"], CLASSIC, Verdict.OK, "names the addresses", ""),
    ("classic-network", ["v=spf1 ip4:8.8.4.0/24 -all"], CLASSIC, Verdict.OK, "names the addresses", ""),
    ("classic-foreign", ["v=spf1 ip4:192.0.2.1 -all"], CLASSIC, Verdict.HINT, "does not name 8.8.4.4", ""),
    ("classic-none", [], CLASSIC, Verdict.MEND, "No SPF record", "v=spf1 ip4:8.8.4.4 ~all"),
    ("classic-mx", ["v=spf1 mx:host.example.net -all"], CLASSIC, Verdict.OK, "names the addresses", ""),
    ("classic-macro", ["v=spf1 exists:%{i}.x.example -all"], CLASSIC, Verdict.UNKNOWN, "cannot be known", ""),
    ("private-host", ["v=spf1 -all"], ("", "relay.acme.internal"), Verdict.UNKNOWN, "no public address", ""),
    ("no-host", ["v=spf1 -all"], ("", ""), Verdict.UNKNOWN, "Enter the SMTP Server", ""),
]
NESTED = {
    "all.acme.example": {"TXT": [f"v=spf1 include:{OUTLOOK} ~all"]},
    "loop.acme.example": {"TXT": ["v=spf1 include:loop.acme.example -all"]},
    "many.acme.example": {"TXT": ["v=spf1 " + "mx:host.example.net " * 10 + "-all"]},
    "host.example.net": {"MX": ["10 mail.host.example.net"]},
}


@pytest.mark.parametrize(
    ("texts", "by", "verdict", "said", "publish"), [case[1:] for case in SPF_CASES], ids=[case[0] for case in SPF_CASES]
)
def test_spf_is_judged_for_the_provider(
    ask: Ask, texts: list[str], by: tuple[str, str], verdict: Verdict, said: str, publish: str
) -> None:
    finding = part(ask(NESTED | {D: {"TXT": texts} if texts else {}}, by), "SPF")
    assert (finding.verdict, said in words(finding)) == (verdict, True), words(finding)
    if publish:
        [record] = finding.publish
        assert (record.kind, record.name) == ("TXT", D)
        assert publish in record.value


def test_a_private_address_of_the_smtp_host_is_told_to_nobody(ask: Ask) -> None:
    report = ask({"mail.corp.example": {"A": ["10.1.2.3"]}} | {D: {}}, ("", "mail.corp.example"))
    assert "10.1.2.3" not in repr(report)
