"""Zones of a shop for the tests of the domain check, and the check of one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mail.domain.check import Sender, check
from mail.domain.dns import Asker
from mail.domain.findings import DomainReport, Finding
from tests.fakes.dns import NameServer
from tests.mail.domain.test_records import packed_key

D = "acme.example"
KEY = f"v=DKIM1; k=rsa; p={packed_key(2048)}"
OUTLOOK = "spf.protection.outlook.com"
# These name servers answer, unless a test says otherwise.
_PATIENT = {"deadline_s": 60.0, "patience_s": 30.0}
# What the world beside the shop looks like.
WORLD: dict[str, dict[str, list[str]]] = {
    "com": {"TXT": ["a registry"]},
    OUTLOOK: {"TXT": ["v=spf1 ip4:40.92.0.0/15 ip4:40.107.0.0/16 -all"]},
    "_spf.google.com": {"TXT": ["v=spf1 include:_netblocks.google.com ~all"]},
    "_netblocks.google.com": {"TXT": ["v=spf1 ip4:35.190.247.0/24 ~all"]},
    "spf.messagingengine.com": {"TXT": ["v=spf1 ip4:103.168.172.128/27 ?all"]},
    "selector1-acme-example._domainkey.acme.onmicrosoft.com": {"TXT": [KEY]},
    "selector2-acme-example._domainkey.acme.onmicrosoft.com": {"TXT": [KEY]},
    "mail.host.example.net": {"A": ["8.8.4.4"]},
}
GOOD: dict[str, dict[str, list[str]]] = {
    D: {"TXT": [f"v=spf1 include:{OUTLOOK} -all"]},
    f"selector1._domainkey.{D}": {"CNAME": ["selector1-acme-example._domainkey.acme.onmicrosoft.com"]},
    f"selector2._domainkey.{D}": {"CNAME": ["selector2-acme-example._domainkey.acme.onmicrosoft.com"]},
    f"_dmarc.{D}": {"TXT": [f"v=DMARC1; p=reject; rua=mailto:dmarc@{D}"]},
}
MICROSOFT = ("microsoft365", "smtp.office365.com")
GOOGLE = ("google", "smtp.gmail.com")
FASTMAIL = ("other", "smtp.fastmail.com")
CLASSIC = ("", "mail.host.example.net")

BOTH = (f"selector1._domainkey.{D}", f"selector2._domainkey.{D}")

Ask = Callable[..., DomainReport]


def asking() -> Ask:
    """Checks a zone; `without` takes names out of the good one."""

    def ask_(
        zone: dict[str, dict[str, list[str]]] | None = None,
        by: tuple[str, str] = MICROSOFT,
        *,
        faults: dict[str, str] | None = None,
        address: str = f"orders@{D}",
        selector: str = "",
        without: tuple[str, ...] = (),
        **limits: Any,
    ) -> DomainReport:
        names = {name: sets for name, sets in (WORLD | GOOD | (zone or {})).items() if name not in without}
        with NameServer(names, faults) as server:
            report = check(Sender(address, *by, selector), Asker(server.servers, **(_PATIENT | limits)))
            report_asked.append(len(server.asked))
        return report

    report_asked: list[int] = []
    ask_.asked = report_asked  # type: ignore[attr-defined]
    return ask_


def part(report: DomainReport, subject: str) -> Finding:
    return next(finding for finding in report.findings if finding.subject == subject)


def words(finding: Finding) -> str:
    return " ".join([finding.title, finding.meaning, *(point.text for point in finding.points), *finding.steps])


def spf(text: str) -> dict[str, dict[str, list[str]]]:
    return {D: {"TXT": [text]}}


def dkim(selector: str, *texts: str) -> dict[str, dict[str, list[str]]]:
    return {f"{selector}._domainkey.{D}": {"TXT": list(texts)}}


def dmarc(text: str, at: str = D) -> dict[str, dict[str, list[str]]]:
    return {f"_dmarc.{at}": {"TXT": [text]}}
