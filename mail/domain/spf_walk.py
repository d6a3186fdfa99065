"""SPF as a receiver works through it: what a record costs, whom it names, and what it says of one address.

Source: RFC 7208 4.6.4 (limits), 5 (mechanisms), 6.1 (redirect).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from mail.domain.dns import Asker, Reply, Status
from mail.domain.records import LOOKUPS, SPFRecord, SPFTerm, cut, parse_spf, spf_records

LOOKUPS_MAX = 10
VOIDS_MAX = 2
# Counting further would only make a larger number of "too many".
_COUNTED_MAX = 40
_DEPTH_MAX = 10
_MX_MAX = 10

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass
class Walk:
    """What working through a record showed.

    Attributes:
        lookups: questions a receiver has to ask in the worst case.
        voids: those of them that find nothing.
        costs: (term, lookups) of the record itself.
        passed: names whose records let a sender pass.
        reached: names that are included in any way, and how: the qualifier.
        errors: what breaks the record for every receiver, in words.
        unseen: names that could not be looked up, so that the numbers are at least these.
        macros: terms that depend on each message.
    """

    lookups: int = 0
    voids: int = 0
    costs: list[tuple[str, int]] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)
    reached: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    macros: list[str] = field(default_factory=list)


def walk(asker: Asker, domain: str, record: SPFRecord) -> Walk:
    """Return what a receiver meets in the record of this domain and in those it includes; bounded."""
    found = Walk()
    _ask_ahead(asker, domain, record)
    for term in record.effective:
        before = found.lookups
        _count(asker, domain, term, found, path=(domain,), passes=True)
        if found.lookups > before:
            found.costs.append((term.text, found.lookups - before))
    return found


def _ask_ahead(asker: Asker, domain: str, record: SPFRecord) -> None:
    questions = []
    for term in record.effective:
        if term.has_macro:
            continue
        name = term.domain or domain
        if term.kind in ("include", "redirect"):
            questions.append((name, "TXT"))
        elif term.kind in ("a", "exists"):
            questions.append((name, "A"))
        elif term.kind == "mx":
            questions.append((name, "MX"))
    asker.ask_ahead(questions)


def _count(asker: Asker, domain: str, term: SPFTerm, found: Walk, *, path: tuple[str, ...], passes: bool) -> None:
    if term.has_macro:
        found.macros.append(term.text)
    if term.kind not in LOOKUPS or found.lookups >= _COUNTED_MAX:
        return
    found.lookups += 1
    if term.has_macro:
        return
    if term.kind in ("include", "redirect"):
        _follow(asker, term, found, path=path, passes=passes)
        return
    # What stands inside the records of providers is their affair; those questions are left unasked.
    if len(path) == 1 and term.kind != "ptr":
        reply = _targets(asker, domain, term)
        found.voids += reply.is_void
        if not reply.is_known:
            found.unseen.append(term.domain or domain)


def _follow(asker: Asker, term: SPFTerm, found: Walk, *, path: tuple[str, ...], passes: bool) -> None:
    name = term.domain
    passes = passes and term.qualifier in ("+", "")
    if name in path:
        found.errors.append(f"“{cut(term.text)}” leads back to a record that it comes from")
        return
    if len(path) > _DEPTH_MAX:
        return
    reply = asker.ask(name)
    if not reply.is_known:
        found.unseen.append(name)
        return
    found.voids += reply.is_void
    texts = spf_records(reply.texts)
    if len(texts) != 1:
        many = "more than one SPF record" if texts else "no SPF record"
        found.errors.append(f"“{cut(term.text)}” leads to a name with {many}")
        return
    found.reached.setdefault(name, term.qualifier or "+")
    if passes:
        found.passed.add(name)
    record = parse_spf(texts[0])
    if record.errors:
        found.errors.append(f"The record at {cut(name)} cannot be read: {record.errors[0]}")
    _ask_ahead_included(asker, record)
    for inner in record.effective:
        _count(asker, name, inner, found, path=(*path, name), passes=passes)


def _ask_ahead_included(asker: Asker, record: SPFRecord) -> None:
    terms = [term for term in record.effective if term.kind in ("include", "redirect") and not term.has_macro]
    asker.ask_ahead((term.domain, "TXT") for term in terms)


def _targets(asker: Asker, domain: str, term: SPFTerm) -> Reply:
    """Return the addresses of `a` and `exists`, IPv4 or else IPv6, or the hosts of `mx`."""
    name = term.domain or domain
    if term.kind == "mx":
        return asker.ask(name, "MX")
    reply = asker.ask(name, "A")
    return asker.ask(name, "AAAA") if reply.status is Status.EMPTY and term.kind == "a" else reply


# --- One address


def says_of(asker: Asker, domain: str, address: IPAddress) -> str:
    """Return what the record of a domain says of a sending address.

    "pass", "fail", "softfail", "neutral", "none" (no record), or "unknown" where a macro, an error or a silent name
    server stands in the way.
    """
    return _Reading(asker, address).of(domain)


class _Reading:
    """Reads records for one address; a circle of includes ends after as many records as a receiver would read."""

    def __init__(self, asker: Asker, address: IPAddress) -> None:
        self._asker = asker
        self._address = address
        self._left = LOOKUPS_MAX + 1

    def of(self, domain: str) -> str:
        reply = self._asker.ask(domain)
        self._left -= 1
        if not reply.is_known or self._left < 0:
            return "unknown"
        texts = spf_records(reply.texts)
        if len(texts) != 1:
            return "unknown" if texts else "none"
        record = parse_spf(texts[0])
        if record.errors:
            return "unknown"
        for term in record.effective:
            if term.kind == "redirect":
                return "unknown" if term.has_macro else self.of(term.domain)
            hit = self._hits(domain, term)
            if hit is None:
                return "unknown"
            if hit:
                return {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}[term.qualifier]
        return "neutral"

    def _hits(self, domain: str, term: SPFTerm) -> bool | None:
        """Return whether the mechanism covers the address; None when it cannot be known."""
        if term.has_macro or term.kind == "ptr":
            return None
        if term.kind == "all":
            return True
        if term.network is not None:
            return self._address in term.network
        if term.kind == "include":
            inner = self.of(term.domain)
            return None if inner in ("unknown", "none") else inner == "pass"
        name = term.domain or domain
        if term.kind == "exists":
            reply = self._asker.ask(name, "A")
            return bool(reply.addresses) if reply.is_known else None
        if term.kind != "mx":
            return self._is_among([name], term)
        reply = self._asker.ask(name, "MX")
        return self._is_among(list(reply.hosts[:_MX_MAX]), term) if reply.is_known else None

    def _is_among(self, hosts: list[str], term: SPFTerm) -> bool | None:
        kind, length = ("A", term.prefixes[0]) if self._address.version == 4 else ("AAAA", term.prefixes[1])
        self._asker.ask_ahead((host, kind) for host in hosts)
        replies = [self._asker.ask(host, kind) for host in hosts]
        networks = [ipaddress.ip_network(f"{text}/{length}", strict=False) for r in replies for text in r.addresses]
        if any(self._address in network for network in networks):
            return True
        return False if all(reply.is_known for reply in replies) else None
