"""SPF of a From domain, judged for the provider that sends, in words for whoever keeps the zone.

Source: RFC 7208.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from mail.domain.dns import Asker, Reply
from mail.domain.findings import Finding, Point, Publish, Verdict, sorted_points, worst
from mail.domain.needs import Need
from mail.domain.records import SPFRecord, SPFTerm, cut, parse_spf, spf_records
from mail.domain.spf_walk import LOOKUPS_MAX, VOIDS_MAX, Walk, says_of, walk
from security.addresses import why_not_public, why_not_public_name

_SUBJECT = "SPF"
_LENGTH_MAX = 450
_ADDRESSES_MAX = 4


def judge_spf(asker: Asker, domain: str, reply: Reply, need: Need | None, smtp_host: str) -> Finding:
    """Return what the SPF record of the domain means for mail by this provider or host.

    Args:
        reply: TXT records of the domain.
        need: None when the provider is not known; then the addresses of `smtp_host` are what can be judged.
    """
    texts = spf_records(reply.texts)
    found = tuple((domain, text) for text in texts)
    wanted = need.spf[0] if need and need.spf else ""
    if not texts:
        return _none(domain, need, wanted, asker, smtp_host)
    if len(texts) > 1:
        merged = merge([parse_spf(text) for text in texts], wanted)
        return Finding(
            _SUBJECT,
            Verdict.MEND,
            f"{len(texts)} SPF records, only one is allowed",
            "Receivers give up on a domain with more than one SPF record: none of them counts, and no sender passes.",
            found=found,
            publish=(Publish("TXT", domain, merged, replaces=True),),
            steps=("Remove all of them and publish this one, which joins them.",),
        )
    record = parse_spf(texts[0])
    seen = walk(asker, domain, record)
    points = [*_form(record), *_cost(seen), *_end(record), *_names(record, seen, need)]
    if need is None:
        points += _by_address(asker, domain, smtp_host)
    mended = merge([record], wanted if need and not need.own_envelope and not _is_named(seen, need) else "")
    verdict = worst(point.verdict for point in points)
    return Finding(
        _SUBJECT,
        verdict,
        _title(verdict, record, seen, need),
        _meaning(verdict, need),
        points=sorted_points(points),
        found=found,
        publish=(Publish("TXT", domain, mended, replaces=True),)
        if verdict in (Verdict.MEND, Verdict.HINT) and _differs(mended, record)
        else (),
        steps=_steps(seen),
    )


def merge(records: Sequence[SPFRecord], wanted: str) -> str:
    """Return one record that says what these say, and includes `wanted`; what cannot be read is left out."""
    terms: dict[str, None] = {}
    ends: list[SPFTerm] = []
    redirect = None
    for record in records:
        for term in record.effective:
            if term.kind == "all":
                ends.append(term)
            elif term.kind == "redirect":
                redirect = term
            elif not (term.kind == "include" and term.domain == wanted):
                terms[term.text] = None
        # What stands behind `all` was meant to count.
        behind = [term for term in record.terms if term.qualifier and term not in record.effective]
        for term in [term for term in behind if not (term.kind == "include" and term.domain == wanted)]:
            terms[term.text] = None
    words = [*terms]
    if wanted:
        words.insert(0, f"include:{wanted}")
    if redirect is not None and not ends and len(records) == 1:
        return " ".join(["v=spf1", *words, redirect.text])
    if redirect is not None and f"include:{redirect.domain}" not in words:
        words.append(f"include:{redirect.domain}")
    return " ".join(["v=spf1", *words, "-all" if ends and all(end.qualifier == "-" for end in ends) else "~all"])


def _none(domain: str, need: Need | None, wanted: str, asker: Asker, smtp_host: str) -> Finding:
    if need is not None and need.own_envelope:
        return Finding(
            _SUBJECT,
            Verdict.OK,
            "Not needed",
            f"{need.name} sends with an envelope address of its own, so receivers ask that domain’s SPF record and not "
            "this one. DKIM carries the proof for this domain.",
        )
    value = f"v=spf1 include:{wanted} ~all" if wanted else ""
    source = ""
    if not wanted:
        addresses = _addresses(asker, smtp_host)
        value = " ".join(["v=spf1", *(f"ip{a.version}:{a}" for a in addresses), "~all"]) if addresses else ""
        source = "" if value else "the mail provider’s set-up page, which names the include for its servers"
    steps: tuple[str, ...] = ()
    if not wanted and value:
        steps = (
            f"The record names the addresses of {smtp_host}. If your provider passes mail on through other servers, "
            "use the include that its set-up page names instead.",
        )
    return Finding(
        _SUBJECT,
        Verdict.MEND,
        "No SPF record",
        "Receivers cannot tell the servers that may send for this domain from any others. Gmail, Outlook and Yahoo "
        "put such mail into spam or refuse it.",
        publish=(Publish("TXT", domain, value, source),),
        steps=steps,
    )


def _form(record: SPFRecord) -> list[Point]:
    points = [
        Point(Verdict.MEND, f"{error}. Receivers stop at such a word, and the whole record counts for nothing.")
        for error in record.errors
    ]
    behind = [term for term in record.terms if term.qualifier and term not in record.effective]
    if behind:
        words = " ".join(term.text for term in behind)
        points.append(Point(Verdict.HINT, f"“{cut(words)}” stands after “all”, where no receiver reads on."))
    if record.first("redirect") and record.first("all"):
        points.append(Point(Verdict.HINT, "“redirect=” never counts in a record that has “all”."))
    if any(term.kind == "ptr" for term in record.effective):
        points.append(Point(Verdict.HINT, "“ptr” is slow and some receivers ignore it. Name addresses instead."))
    if len(record.text) > _LENGTH_MAX:
        words = (
            f"The record is {len(record.text)} characters long. Beyond {_LENGTH_MAX} it may not fit into one answer."
        )
        points.append(Point(Verdict.HINT, words))
    return points


def _cost(seen: Walk) -> list[Point]:
    points = [
        Point(Verdict.MEND, f"{error}. Receivers then treat the whole record as broken.") for error in seen.errors
    ]
    at_least = "at least " if seen.unseen else ""
    if seen.lookups > LOOKUPS_MAX:
        dearest = sorted(seen.costs, key=lambda cost: -cost[1])[:3]
        words = ", ".join(f"{cut(term)} takes {cost}" for term, cost in dearest)
        points.append(
            Point(
                Verdict.MEND,
                f"It takes {at_least}{seen.lookups} lookups and only {LOOKUPS_MAX} are allowed; receivers then treat "
                f"it as broken. {words}.",
            )
        )
    else:
        points.append(Point(Verdict.OK, f"It takes {at_least}{seen.lookups} of {LOOKUPS_MAX} lookups."))
    if seen.voids:
        names = f"{seen.voids} of its names {'leads' if seen.voids == 1 else 'lead'} to nothing"
        if seen.voids > VOIDS_MAX:
            points.append(Point(Verdict.MEND, f"{names}; more than {VOIDS_MAX} make receivers give up on the record."))
        else:
            points.append(Point(Verdict.HINT, f"{names}. Take out what does not exist any more."))
    if seen.macros:
        words = ", ".join(cut(text) for text in seen.macros[:3])
        points.append(Point(Verdict.HINT, f"{words}: macros depend on each message and were not evaluated."))
    if seen.unseen:
        words = ", ".join(cut(name) for name in list(dict.fromkeys(seen.unseen))[:3])
        points.append(Point(Verdict.UNKNOWN, f"{words} could not be looked up just now."))
    return points


def _end(record: SPFRecord) -> list[Point]:
    end = record.first("all")
    if end is None:
        if record.first("redirect"):
            return []
        return [Point(Verdict.HINT, "It has no “all” at its end, so it says nothing about foreign senders.")]
    if end.qualifier == "+":
        words = "“+all” lets every server in the world send as this domain. That protects nobody and looks like spam."
        return [Point(Verdict.MEND, words)]
    if end.qualifier == "?":
        return [Point(Verdict.HINT, "“?all” says nothing about foreign senders. “~all” is the usual end.")]
    return []


def _is_named(seen: Walk, need: Need) -> bool:
    return any(name in seen.passed for name in need.spf)


def _names(record: SPFRecord, seen: Walk, need: Need | None) -> list[Point]:
    if need is None:
        return []
    if need.own_envelope:
        words = f"{need.name} sends with an envelope address of its own, so it need not be named here."
        return [Point(Verdict.OK, words)]
    named = next((name for name in need.spf if name in seen.passed), "")
    if named:
        return [Point(Verdict.OK, f"It names {need.name} ({named}).")]
    weak = next((name for name in need.spf if name in seen.reached), "")
    if weak:
        words = (
            f"It includes {weak} with “{seen.reached[weak]}”, so mail by {need.name} does not pass. Take the sign out."
        )
        return [Point(Verdict.MEND, words)]
    if any(term.kind == "include" and term.domain in need.spf for term in record.terms):
        tried = next(term.domain for term in record.terms if term.kind == "include" and term.domain in need.spf)
        if tried in seen.unseen:
            return [Point(Verdict.OK, f"It names {need.name} ({tried}).")]
    words = f"It does not name {need.name} (include:{need.spf[0]}), so mail sent through it does not pass."
    if seen.macros:
        return [Point(Verdict.UNKNOWN, f"{words} A service behind the macro may do it all the same.")]
    if seen.unseen:
        return [Point(Verdict.UNKNOWN, f"Whether it names {need.name} could not be seen to the end.")]
    return [Point(Verdict.MEND, words)]


def _addresses(asker: Asker, host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the public addresses of a host; others are told to nobody (security.md 47)."""
    try:
        literal = [ipaddress.ip_address(host)]
    except ValueError:
        if not host or why_not_public_name(host):
            return []
        asker.ask_ahead([(host, "A"), (host, "AAAA")])
        texts = (*asker.ask(host, "A").addresses, *asker.ask(host, "AAAA").addresses)
        literal = [ipaddress.ip_address(text) for text in texts]
    return [address for address in literal if why_not_public(address) is None][:_ADDRESSES_MAX]


def _by_address(asker: Asker, domain: str, host: str) -> list[Point]:
    if not host:
        return [Point(Verdict.UNKNOWN, "Enter the SMTP Server, then the record can be judged for it.")]
    addresses = _addresses(asker, host)
    if not addresses:
        words = f"{cut(host)} has no public address that the record could be judged by."
        return [Point(Verdict.UNKNOWN, words)]
    said = [(address, says_of(asker, domain, address)) for address in addresses]
    refused = [address for address, word in said if word not in ("pass", "unknown")]
    if refused:
        words = (
            f"The record does not name {refused[0]}, an address of {cut(host)}. If your provider sends from the same "
            "servers, its mail does not pass: add the include that its set-up page names."
        )
        return [Point(Verdict.HINT, words)]
    if any(word == "unknown" for _, word in said):
        return [Point(Verdict.UNKNOWN, f"Whether the record names {cut(host)} cannot be known from here.")]
    words = f"The record names the addresses of {cut(host)}. From which ones your provider sends on cannot be seen."
    return [Point(Verdict.OK, words)]


def _title(verdict: Verdict, record: SPFRecord, seen: Walk, need: Need | None) -> str:
    if record.errors or seen.errors:
        return "The SPF record is broken"
    end = record.first("all")
    if end is not None and end.qualifier == "+":
        return "The SPF record lets everybody send"
    if seen.lookups > LOOKUPS_MAX or seen.voids > VOIDS_MAX:
        return "The SPF record asks for too much"
    if verdict is Verdict.MEND and need:
        return f"The SPF record does not let {need.name} send"
    if verdict is Verdict.UNKNOWN:
        return "The SPF record could not be judged completely"
    if need and not need.own_envelope:
        return f"The SPF record lets {need.name} send"
    return "There is one SPF record, and it can be read"


def _meaning(verdict: Verdict, need: Need | None) -> str:
    sender = need.name if need else "your server"
    if verdict is Verdict.MEND:
        return f"Receivers cannot see that {sender} may send for this domain: its mail may land in spam or be refused."
    return ""


def _steps(seen: Walk) -> tuple[str, ...]:
    if seen.lookups <= LOOKUPS_MAX:
        return ()
    return (
        "Take out the includes of services that do not send for this domain any more. For the rest, give a service a "
        "subdomain of its own.",
    )


def _differs(mended: str, record: SPFRecord) -> bool:
    return mended.lower() != " ".join(record.text.lower().split())
