"""DKIM keys of a From domain, judged for the provider that signs, in words for whoever keeps the zone.

A key stands under a selector that only the signer chooses, so a check can look where a provider puts its keys, or
where somebody says. Source: RFC 6376 3.6, RFC 8301 3.2, RFC 8463, RFC 8020 for what NXDOMAIN proves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mail.domain.dns import Asker, Reply, Status
from mail.domain.findings import Finding, Point, Publish, Verdict, sorted_points, worst
from mail.domain.needs import Need
from mail.domain.records import DKIMKey, cut, parse_dkim

_SUBJECT = "DKIM"
_BITS_MIN, _BITS_GOOD = 1024, 2048
# Where mail servers and services put their keys when nobody says otherwise.
_COMMON = (
    "default", "dkim", "mail", "smtp", "email", "s1", "s2", "k1", "k2", "selector1", "selector2", "google", "mx",
    "key1", "dkim1", "2024", "2025", "2026",
)  # fmt: skip
_SELECTOR = re.compile(
    r"(?=.{1,120}\Z)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
SELECTOR_WORDS = "Enter the selector alone, like selector1: letters, digits, hyphens and dots"


def parse_selector(text: str, domain: str = "") -> str:
    """Return a selector as it stands in DNS; a whole name like `s1._domainkey.acme.example` is cut to it.

    Raises:
        ValueError: what to enter.
    """
    name = text.strip().lower().rstrip(".")
    name = re.sub(r"\._domainkey(?:\..*)?\Z", "", name)
    if not _SELECTOR.fullmatch(name):
        raise ValueError(SELECTOR_WORDS)
    return name


@dataclass(frozen=True)
class _Place:
    """What stands under one selector."""

    selector: str
    name: str
    reply: Reply
    keys: tuple[DKIMKey, ...]
    points: tuple[Point, ...]

    @property
    def is_good(self) -> bool:
        return bool(self.keys) and worst(point.verdict for point in self.points) is not Verdict.MEND

    @property
    def is_empty(self) -> bool:
        return not self.keys and not self.reply.chain


def judge_dkim(asker: Asker, domain: str, need: Need | None, typed: str = "") -> Finding:
    """Return what is published for DKIM, under the provider's selectors, a typed one, or else the usual ones."""
    selectors = list(dict.fromkeys([*([typed] if typed else ()), *(need.selectors if need else ())]))
    is_guess = not selectors
    if is_guess:
        selectors = list(_COMMON)
    above = f"_domainkey.{domain}"
    asker.ask_ahead([(above, "TXT"), *((f"{selector}.{above}", "TXT") for selector in selectors)])
    places = [_look(asker, selector, f"{selector}.{above}", need) for selector in selectors]
    if any(not place.is_empty for place in places):
        return _found(domain, [p for p in places if not (is_guess and p.is_empty)], need, typed, is_guess)
    if not any(place.reply.is_known for place in places):
        return _unavailable(places)
    return _nothing(asker.ask(above), domain, places, need, typed)


def _look(asker: Asker, selector: str, name: str, need: Need | None) -> _Place:
    reply = asker.ask(name)
    texts = [text for text in reply.texts if re.search(r"(?:\A|;)\s*(?:p|v|k)\s*=", text)]
    keys = tuple(parse_dkim(text) for text in texts)
    points: list[Point] = []
    if len(keys) > 1:
        points.append(Point(Verdict.MEND, f"{selector}: {len(keys)} keys stand under one selector; keep one."))
    for key in keys:
        points += _of_key(selector, key)
    if not keys and reply.chain and reply.is_known:
        points.append(_dangling(selector, reply.chain[-1], need))
    ends = need.cname_ends if need else ()
    if ends and reply.chain and not any(_ends_with(target, ends) for target in reply.chain):
        words = f"{selector}: it leads to {cut(reply.chain[0])}, which is no name of {need.name if need else ''}."
        points.append(Point(Verdict.HINT, words))
    return _Place(selector, name, reply, keys, tuple(points))


def _of_key(selector: str, key: DKIMKey) -> list[Point]:
    if key.is_revoked:
        words = f"{selector}: the key is withdrawn (“p=” is empty), so a signature made with it fails."
        return [Point(Verdict.MEND, words)]
    points = [Point(Verdict.MEND, f"{selector}: {error}.") for error in key.errors]
    if key.bits is not None and key.bits < _BITS_MIN:
        words = f"{selector}: the RSA key has {key.bits} bits. Receivers ignore keys below {_BITS_MIN}."
        points.append(Point(Verdict.MEND, words))
    elif key.bits is not None and key.bits < _BITS_GOOD:
        words = f"{selector}: the RSA key has {key.bits} bits. {_BITS_GOOD} are the usual length today."
        points.append(Point(Verdict.HINT, words))
    elif key.bits is not None and not key.errors:
        points.append(Point(Verdict.OK, f"{selector}: an RSA key of {key.bits} bits."))
    elif key.kind == "ed25519" and not key.errors:
        words = f"{selector}: an Ed25519 key. Many receivers cannot check those yet; have an RSA key beside it."
        points.append(Point(Verdict.HINT, words))
    if key.is_testing:
        words = f"{selector}: the key is marked as a test (“t=y”), so some receivers treat the mail as unsigned."
        points.append(Point(Verdict.HINT, words))
    return points


def _dangling(selector: str, target: str, need: Need | None) -> Point:
    who = f"{need.name} has made no key there yet" if need else "no key stands there"
    words = f"{selector}: it leads to {cut(target)}, and {who}, or the name has a typing error."
    return Point(Verdict.MEND, words)


def _found(domain: str, places: list[_Place], need: Need | None, typed: str, is_guess: bool) -> Finding:
    good = [place for place in places if place.is_good]
    points: list[Point] = []
    for place in places:
        # One good key signs the mail. What is wrong with another one matters when the provider changes over to it.
        soften = bool(good) and place.selector != typed
        points += [
            Point(Verdict.HINT if soften and point.verdict is Verdict.MEND else point.verdict, point.text)
            for point in place.points
        ]
    missing = [place for place in places if place.is_empty and place.reply.is_known]
    all_needed = bool(need and need.cname_ends)
    if typed and any(place.selector == typed for place in missing):
        points.append(Point(Verdict.MEND, f"{typed}: nothing is published under {typed}._domainkey.{domain}."))
    elif missing and good and all_needed and need:
        names = " and ".join(place.selector for place in missing)
        words = f"{names}: not published. {need.name} changes its keys over; without the record, signing then ends."
        points.append(Point(Verdict.HINT, words))
    if is_guess and good:
        words = "Whether your server signs with it cannot be seen in DNS. A test email shows it in its headers."
        points.append(Point(Verdict.HINT, words))
    verdict = worst(point.verdict for point in points) if good else Verdict.MEND
    who = need.name if need else "your server"
    return Finding(
        _SUBJECT,
        verdict,
        _title(places, verdict, need),
        "" if good else f"Receivers cannot check the signature of {who}, so nothing proves that mail was not changed.",
        points=sorted_points(points),
        found=tuple(_shown(place) for place in places if not place.is_empty),
        publish=tuple(_publish(domain, place, need, places) for place in missing) if all_needed else (),
        steps=_steps(need) if not good else (),
        command=_command(domain, need) if not good else "",
        asks_selector=is_guess or (not good and not all_needed),
    )


def _title(places: list[_Place], verdict: Verdict, need: Need | None) -> str:
    if not any(place.keys for place in places):
        return "The DKIM records lead to no key"
    if not any(place.is_good for place in places):
        return "The DKIM key cannot be used"
    if verdict is Verdict.MEND:
        return "One of the DKIM keys cannot be used"
    return f"DKIM keys for {need.name} are published" if need else "A DKIM key is published"


def _nothing(above: Reply, domain: str, places: list[_Place], need: Need | None, typed: str) -> Finding:
    """Nothing under these selectors: NXDOMAIN above them proves that there is no key at all (RFC 8020)."""
    who = need.name if need else "your provider"
    tried = f"{typed} has" if typed else "The usual names have"
    if above.status is not Status.MISSING and (need is None or not need.cname_ends):
        return Finding(
            _SUBJECT,
            Verdict.UNKNOWN,
            "DKIM cannot be checked without the selector",
            f"{tried} no key, but there may be keys under other names. The selector stands in the DKIM settings of "
            f"{who}, and after “s=” in the DKIM-Signature header of a mail you sent.",
            steps=_steps(need),
            asks_selector=True,
        )
    return Finding(
        _SUBJECT,
        Verdict.MEND,
        "No DKIM key is published",
        f"{'Mail by ' + need.name if need else 'Its mail'} carries no signature of this domain, or one that nobody can "
        "check. Forwarded mail then fails every check, and Gmail, Outlook and Yahoo trust the rest less.",
        publish=tuple(_publish(domain, place, need, places) for place in places)
        if need and need.selectors
        else (Publish("TXT", f"{typed or 'selector'}._domainkey.{domain}", "", f"the DKIM settings of {who}"),),
        steps=_steps(need),
        command=_command(domain, need),
        asks_selector=not (need and need.cname_ends),
    )


def _publish(domain: str, place: _Place, need: Need | None, places: list[_Place]) -> Publish:
    kind = "CNAME" if need and need.cname_ends else "TXT"
    value = ""
    if need and need.cname and place.selector in need.selectors:
        value = need.cname.format(selector=place.selector, domain=domain)
    elif need and need.is_microsoft:
        value = _from_sibling(place.selector, places, need)
    source = "" if value else (need.dkim_source if need and need.dkim_source else "the provider’s DKIM settings")
    return Publish(kind, place.name, value, source)


def _from_sibling(selector: str, places: list[_Place], need: Need) -> str:
    """Return the target of the one Microsoft selector, read from that of the other: they differ in a digit."""
    for other in places:
        if other.selector == selector or not other.reply.chain:
            continue
        target = other.reply.chain[0]
        if target.startswith(f"{other.selector}-") and _ends_with(target, need.cname_ends):
            return selector + target.removeprefix(other.selector)
    return ""


def _steps(need: Need | None) -> tuple[str, ...]:
    if need is None or not need.dkim_source:
        return ()
    return (f"Open {need.dkim_source}, publish the records it shows, and switch signing on there.",)


def _command(domain: str, need: Need | None) -> str:
    return need.dkim_command.format(domain=domain) if need else ""


def _shown(place: _Place) -> tuple[str, str]:
    if place.reply.chain:
        return place.name, f"CNAME {place.reply.chain[0]}"
    return place.name, place.keys[0].text if place.keys else ""


def _unavailable(places: list[_Place]) -> Finding:
    if any(place.reply.status is Status.FAILED for place in places):
        words = "The name servers of the domain answer with an error"
        return Finding(_SUBJECT, Verdict.UNKNOWN, words, "Receivers likely get the same error.")
    return Finding(_SUBJECT, Verdict.UNKNOWN, "Not looked up: no answer in time")


def _ends_with(name: str, ends: tuple[str, ...]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)
