"""Is the From domain of a store set up so that mail by its provider is trusted? SPF, DKIM and DMARC, in words.

On request only. A check asks name servers and nothing else: it opens no connection to a host that somebody typed, and
ends by its deadline whatever the zones answer. Sources: RFC 7208, RFC 6376, RFC 7489.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mail.domain.dkim import judge_dkim
from mail.domain.dmarc import judge_dmarc
from mail.domain.dns import Asker, Reply, Status
from mail.domain.findings import DomainReport, Finding, Point, Verdict
from mail.domain.needs import Need, Owner, need_for, owner_of
from mail.domain.records import is_name
from mail.domain.spf import judge_spf
from mail.wire_names import ascii_domain
from security.addresses import why_not_public_name

_SURELY_THERE = "com"
_ONMICROSOFT_CAP = (
    "All stores and people of the organization together reach at most 100 external recipients in 24 hours from such "
    "an address; Microsoft refuses the rest with 550 5.7.236. Use a domain of your own for a shop."
)


@dataclass(frozen=True)
class Sender:
    """Who sends: the From address, and by which provider.

    Attributes:
        from_email: a checked address.
        provider: key of the provider catalogue; empty for classic SMTP.
        smtp_host: the server that takes the mail.
        selector: a DKIM selector that somebody named; empty for the provider's.
    """

    from_email: str
    provider: str = ""
    smtp_host: str = ""
    selector: str = ""


def check(sender: Sender, asker: Asker) -> DomainReport:
    """Return what the DNS of the From domain means for the store's mail. Network; never raises for what it finds."""
    domain = sender.from_email.rpartition("@")[2].lower()
    if sender.provider == "sandbox":
        return _report(
            domain,
            domain,
            Verdict.OK,
            "The sandbox needs no DNS records",
            "It delivers to its own inbox only. Choose the provider that will send for real, then check again.",
        )
    try:
        name = ascii_domain(domain).lower().rstrip(".")
    except ValueError:
        name = ""
    if not is_name(name) or why_not_public_name(name):
        return _report(
            domain,
            domain,
            Verdict.MEND,
            f"{domain} is not a domain of the internet",
            "Receivers look its records up and find nothing. Use a From Email Address of a domain that you registered.",
        )
    need = need_for(sender.provider, sender.smtp_host)
    owner = owner_of(name)
    if owner is not None:
        return _owned(domain, name, owner, need, sender)
    return _look(domain, name, sender, need, asker)


def _look(domain: str, name: str, sender: Sender, need: Need | None, asker: Asker) -> DomainReport:
    # The first question alone: when nobody answers it, asking all the others would only take longer to say so.
    root = asker.ask(name)
    if not root.is_known or root.status is Status.MISSING:
        return _no_answer(domain, name, root, asker)
    asker.ask_ahead([(f"_dmarc.{name}", "TXT"), (f"_domainkey.{name}", "TXT")])
    spf = judge_spf(asker, name, root, need, sender.smtp_host)
    dkim = judge_dkim(asker, name, need, sender.selector)
    dmarc = judge_dmarc(asker, name, need, spf=spf.verdict, dkim=dkim.verdict)
    return _summary(domain, name, need, (spf, dkim, dmarc), asker.asked)


def _no_answer(domain: str, name: str, root: Reply, asker: Asker) -> DomainReport:
    # A name server that is cut off from the internet fails or denies every name, even one that surely exists.
    if root.status is Status.SILENT or asker.ask(_SURELY_THERE).status not in (Status.ANSWER, Status.EMPTY):
        return _report(
            domain,
            name,
            Verdict.UNKNOWN,
            "The name server could not be reached",
            f"This says nothing about {domain}: the server that Storepost runs on got no answer out of the internet’s "
            "DNS. Check again in a minute. If it stays so, its operator can name another name server in "
            "STOREPOST_DNS_SERVERS.",
            asked=asker.asked,
        )
    if root.status is Status.MISSING:
        return _report(
            domain,
            name,
            Verdict.MEND,
            f"{domain} does not exist",
            "There is no such name in DNS, and receivers refuse mail from domains that do not exist. Look for a typing "
            "error in From Email Address, or register the domain.",
            asked=asker.asked,
        )
    return _report(
        domain,
        name,
        Verdict.UNKNOWN,
        f"The name servers of {domain} answer with an error",
        "The answer was SERVFAIL, so no record could be read. Receivers likely get the same and may refuse mail. Often "
        "the DNSSEC signatures have run out or a name server is down: ask whoever keeps the DNS of the domain. Then "
        "check again.",
        asked=asker.asked,
    )


def _summary(domain: str, name: str, need: Need | None, findings: tuple[Finding, ...], asked: int) -> DomainReport:
    who = need.name if need else "your mail server"
    mend = [finding.subject for finding in findings if finding.verdict is Verdict.MEND]
    unknown = [finding.subject for finding in findings if finding.verdict is Verdict.UNKNOWN]
    hints = sum(finding.verdict is Verdict.HINT for finding in findings)
    if mend:
        headline = f"{len(mend)} {'thing' if len(mend) == 1 else 'things'} to mend for {domain}"
        verb = "needs" if len(mend) == 1 else "need"
        sentence = f"{_list(mend)} {verb} a change in the DNS of the domain before mail by {who} is fully trusted."
        verdict = Verdict.MEND
    elif unknown:
        headline = f"{_list(unknown)} of {domain} could not be judged"
        sentence = "What was found is in order." if len(unknown) < len(findings) else "Nothing could be learned."
        verdict = Verdict.UNKNOWN
    else:
        headline = f"Mail from {domain} is set up for {who}"
        sentence = "SPF, DKIM and DMARC are in place."
        verdict = Verdict.OK
    if hints:
        sentence += f" {hints} {'hint' if hints == 1 else 'hints'} below."
    return _report(domain, name, verdict, headline, sentence, need=need, findings=findings, asked=asked)


def _owned(domain: str, name: str, owner: Owner, need: Need | None, sender: Sender) -> DomainReport:
    """A domain that a provider keeps for everybody: nothing to publish, but it has to be that provider that sends."""
    # All clouds of Microsoft count as one: which tenant an address is in, its owner alone knows.
    same = need.key.partition("_")[0] == owner.key if need else _is_of(owner, sender.smtp_host)
    by_other = bool(need or sender.smtp_host) and not same
    if by_other:
        who = need.name if need else sender.smtp_host
        return _report(
            domain,
            name,
            Verdict.MEND,
            f"{domain} belongs to {owner.name}, and {who} sends",
            f"Only {owner.name} can name the servers that send for {domain}. Mail by {who} fails the checks of "
            f"receivers and is refused or put into spam. Connect the mailbox at {owner.name} itself, or use a From "
            "Email Address of a domain of your own.",
            need=need,
        )
    points = [Point(Verdict.HINT, _ONMICROSOFT_CAP)] if owner.is_onmicrosoft else []
    finding = Finding("Domain", Verdict.HINT, "Only for trying things out", points=tuple(points)) if points else None
    return _report(
        domain,
        name,
        Verdict.OK,
        f"{domain} belongs to {owner.name}: there is nothing to do",
        f"{owner.name} keeps SPF, DKIM and DMARC of this domain. Nobody else can or has to publish anything.",
        need=need,
        findings=(finding,) if finding else (),
    )


def _is_of(owner: Owner, host: str) -> bool:
    """Tell whether an SMTP host that no need names is of the owner itself, like smtp.mail.yahoo.com."""
    other = owner_of(".".join(host.lower().rstrip(".").split(".")[-2:]))
    return other is not None and other.name == owner.name


def _report(
    domain: str,
    name: str,
    verdict: Verdict,
    headline: str,
    sentence: str,
    *,
    need: Need | None = None,
    findings: Iterable[Finding] = (),
    asked: int = 0,
) -> DomainReport:
    provider = need.name if need else ""
    return DomainReport(domain, name, verdict, headline, sentence, provider, tuple(findings), asked)


def _list(subjects: list[str]) -> str:
    return subjects[0] if len(subjects) == 1 else f"{', '.join(subjects[:-1])} and {subjects[-1]}"
