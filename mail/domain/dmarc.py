"""DMARC of a From domain: which policy applies, what it makes of the store's mail, in words.

Where a domain has no record of its own, one of a name above it applies. Which one is found by walking up the labels
as DMARCbis does, so that no list of public suffixes is needed. Source: RFC 7489 6.3 and 6.6.3, DMARCbis 4.10.
"""

from __future__ import annotations

from dataclasses import dataclass

from mail.domain.dns import Asker, Reply, Status
from mail.domain.findings import Finding, Point, Publish, Verdict, sorted_points, worst
from mail.domain.needs import Need
from mail.domain.records import DMARCRecord, cut, dmarc_records, is_name, parse_dmarc

_SUBJECT = "DMARC"
_WALK_MAX = 8
_REPORTS_MAX = 2
_MEANINGS = {
    "none": "Receivers watch and report; mail that fails the check is delivered as before. Forgers are not stopped.",
    "quarantine": "Mail that fails the check goes to the spam folder.",
    "reject": "Mail that fails the check is refused by receivers.",
}


@dataclass(frozen=True)
class _Where:
    """The name whose records apply; `trouble` is the reply that ended the search early."""

    name: str
    texts: tuple[str, ...]
    trouble: Reply | None = None


def judge_dmarc(asker: Asker, domain: str, need: Need | None, *, spf: Verdict, dkim: Verdict) -> Finding:
    """Return which policy applies to mail from the domain, and whether the store's mail passes it.

    Args:
        spf, dkim: the verdicts of the other two, since DMARC passes when one of them does.
    """
    where = _search(asker, domain)
    if where.trouble is not None:
        failed = where.trouble.status is Status.FAILED
        words = "The name servers of the domain answer with an error" if failed else "Not looked up: no answer in time"
        return Finding(_SUBJECT, Verdict.UNKNOWN, words)
    found = tuple((f"_dmarc.{where.name}", text) for text in where.texts)
    starter = Publish("TXT", f"_dmarc.{domain}", f"v=DMARC1; p=none; rua=mailto:postmaster@{domain}")
    if not where.texts:
        return Finding(
            _SUBJECT,
            Verdict.MEND,
            "No DMARC record",
            "Anybody can put this domain into a From line, and you never hear of it. Gmail, Outlook and Yahoo ask for "
            "a record from whoever sends in numbers.",
            publish=(starter,),
            steps=("Begin with p=none. When the reports show only senders of yours, go on to quarantine or reject.",),
        )
    if len(where.texts) > 1:
        return Finding(
            _SUBJECT,
            Verdict.MEND,
            f"{len(where.texts)} DMARC records, only one is allowed",
            "Receivers ignore all of them: the domain has no policy.",
            found=found,
            steps=("Keep the one you want and remove the others.",),
        )
    record = parse_dmarc(where.texts[0])
    return _judge_record(asker, domain, where.name, record, need, found, starter, spf, dkim)


def _judge_record(
    asker: Asker,
    domain: str,
    at: str,
    record: DMARCRecord,
    need: Need | None,
    found: tuple[tuple[str, str], ...],
    starter: Publish,
    spf: Verdict,
    dkim: Verdict,
) -> Finding:
    policy = record.policy if at == domain else record.subdomain_policy
    points = [Point(Verdict.MEND, f"{error}.") for error in record.errors]
    if at != domain:
        points.append(Point(Verdict.OK, f"{domain} has no record of its own, so the one of {at} applies."))
    if policy == "none" and record.policy:
        points.append(Point(Verdict.HINT, "When the reports show only senders of yours, go on to p=quarantine."))
    if record.percent < 100 and policy in ("quarantine", "reject"):
        words = f"“pct={record.percent}” applies the policy to a part of the mail only."
        points.append(Point(Verdict.HINT, f"{words} Newer receivers ignore it."))
    points += _reports(asker, at, record)
    points += _alignment(record, need, policy, spf, dkim)
    verdict = worst(point.verdict for point in points)
    mended = Publish("TXT", starter.name, starter.value, replaces=True)
    return Finding(
        _SUBJECT,
        verdict,
        f"The DMARC policy is {policy}" if policy else "The DMARC record states no policy",
        _MEANINGS.get(policy, "Receivers find no policy they can follow, so the record protects nobody."),
        points=sorted_points(points),
        found=found,
        publish=(mended,) if record.errors and not record.policy and at == domain else (),
    )


def _search(asker: Asker, domain: str) -> _Where:
    """Return the record that applies: the domain's own, or the nearest one above it, at most eight names up."""
    names = _names_above(domain)
    own = asker.ask(f"_dmarc.{domain}")
    if not own.is_known:
        return _Where(domain, (), own)
    texts = tuple(dmarc_records(own.texts))
    if texts:
        return _Where(domain, texts)
    asker.ask_ahead((f"_dmarc.{name}", "TXT") for name in names)
    for name in names:
        reply = asker.ask(f"_dmarc.{name}")
        if not reply.is_known:
            return _Where(name, (), reply)
        texts = tuple(dmarc_records(reply.texts))
        # A registry's record (psd=y) is not this organization's.
        if len(texts) == 1 and parse_dmarc(texts[0]).public_suffix == "y":
            break
        if texts:
            return _Where(name, texts)
    return _Where(domain, ())


def _names_above(domain: str) -> list[str]:
    """Return the names to ask after the domain itself: a long one is first cut to its last seven labels."""
    labels = domain.split(".")[1:]
    labels = labels[-(_WALK_MAX - 1) :]
    # A single label is a whole top-level domain; a record there is a registry's.
    return [".".join(labels[start:]) for start in range(len(labels) - 1)]


def _reports(asker: Asker, at: str, record: DMARCRecord) -> list[Point]:
    if not record.report_addresses:
        words = "It has no “rua=”, so nobody tells you who sends with this domain."
        return [Point(Verdict.HINT, words)]
    points = []
    hosts = dict.fromkeys(address.rpartition("@")[2].lower() for address in record.report_addresses)
    for host in list(hosts)[:_REPORTS_MAX]:
        if not is_name(host) or host == at or host.endswith(f".{at}") or at.endswith(f".{host}"):
            continue
        # Reports to a foreign domain are sent only when it agrees (RFC 7489 7.1).
        reply = asker.ask(f"{at}._report._dmarc.{host}")
        if reply.is_void or (reply.status is Status.ANSWER and not dmarc_records(reply.texts)):
            words = f"Reports to {cut(host)} are not sent: that domain does not agree to get them for {at}."
            points.append(Point(Verdict.HINT, words))
    return points


def _alignment(record: DMARCRecord, need: Need | None, policy: str, spf: Verdict, dkim: Verdict) -> list[Point]:
    """What the policy makes of mail by this provider."""
    who = need.name if need else "your server"
    is_strict = policy in ("quarantine", "reject")
    # SPF counts for DMARC only when the envelope has the domain of the From line.
    spf_counts = spf in (Verdict.OK, Verdict.HINT) and not (need and need.own_envelope)
    dkim_counts = dkim in (Verdict.OK, Verdict.HINT)
    points = []
    if Verdict.UNKNOWN in (spf, dkim) and not spf_counts and not dkim_counts:
        pass
    elif not spf_counts and not dkim_counts:
        what = {"quarantine": "goes to the spam folder", "reject": "is refused"}.get(policy, "is reported as failing")
        words = f"Neither SPF nor DKIM passes for {who}, so the store’s own mail {what}. Mend one of them first."
        points.append(Point(Verdict.MEND if is_strict else Verdict.HINT, words))
    elif dkim is Verdict.MEND and is_strict:
        words = f"Only SPF lets mail by {who} pass. A mail that somebody forwards fails; DKIM would carry it."
        points.append(Point(Verdict.HINT, words))
    strict = [name for name, on in (("adkim=s", record.strict_dkim), ("aspf=s", record.strict_spf)) if on]
    if strict:
        words = f"“{'” and “'.join(strict)}” ask for exactly this domain; one above or below it does not count."
        points.append(Point(Verdict.OK, words))
    return points
