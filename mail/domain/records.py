"""SPF, DKIM and DMARC records as texts and what they say. Pure; no I/O.

Nothing here raises: a record that breaks a rule says which one in `errors`, in words for the person who publishes it.
Sources: RFC 7208 4.6, 5 and 12; RFC 6376 3.6.1, RFC 8301, RFC 8463; RFC 7489 6.3.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# Each of these costs a receiver a question to the name server (RFC 7208 4.6.4).
LOOKUPS = frozenset({"include", "a", "mx", "ptr", "exists", "redirect"})
_MECHANISMS = frozenset({"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"})
_TERMS_MAX = 200
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9._-]*)=(.*)")
_MECHANISM = re.compile(r"([+?~-]?)([A-Za-z0-9]+)(?::([^/]*))?((?:/.*)?)")
_CIDR = re.compile(r"(?:/([0-9]{1,3}))?(?://([0-9]{1,3}))?")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})+")
_TAG = re.compile(r"\s*([A-Za-z][A-Za-z0-9_]*)\s*=\s*(.*?)\s*", re.DOTALL)
_SHOWN_MAX = 60


@dataclass(frozen=True)
class SPFTerm:
    """One word of an SPF record.

    Attributes:
        text: as it stands in the record.
        qualifier: `+`, `-`, `~` or `?`; empty for a modifier.
        kind: name of the mechanism or modifier, in lower case.
        domain: what `include`, `a`, `mx`, `ptr`, `exists` or `redirect` names; empty for the record's own name.
        network: of `ip4` and `ip6`.
        prefixes: lengths after `a` and `mx`, for IPv4 and IPv6.
        has_macro: `domain` depends on each single message and cannot be looked up.
    """

    text: str
    qualifier: str
    kind: str
    domain: str = ""
    network: IPNetwork | None = None
    prefixes: tuple[int, int] = (32, 128)
    has_macro: bool = False


@dataclass(frozen=True)
class SPFRecord:
    text: str
    terms: tuple[SPFTerm, ...]
    errors: tuple[str, ...]

    def first(self, kind: str) -> SPFTerm | None:
        """Return the first term of this kind."""
        return next((term for term in self.terms if term.kind == kind), None)

    @property
    def effective(self) -> tuple[SPFTerm, ...]:
        """The terms a receiver gets to: mechanisms up to `all`, and `redirect` where there is no `all`."""
        mechanisms = [term for term in self.terms if term.qualifier]
        for position, term in enumerate(mechanisms):
            if term.kind == "all":
                return tuple(mechanisms[: position + 1])
        redirect = self.first("redirect")
        return (*mechanisms, redirect) if redirect else tuple(mechanisms)


@dataclass(frozen=True)
class DKIMKey:
    """A key record. `bits` is the length of an RSA key, None when it is not one or cannot be read."""

    text: str
    kind: str
    bits: int | None
    is_revoked: bool
    is_testing: bool
    errors: tuple[str, ...]


@dataclass(frozen=True)
class DMARCRecord:
    """A policy record; `policy` is empty when the record states none that counts."""

    text: str
    policy: str
    subdomain_policy: str
    percent: int
    report_addresses: tuple[str, ...]
    strict_dkim: bool
    strict_spf: bool
    public_suffix: str
    errors: tuple[str, ...]


def is_name(text: str) -> bool:
    """Tell whether the text is a full domain name that can be looked up."""
    return _NAME.fullmatch(text.rstrip(".")) is not None


# --- SPF


def spf_records(texts: Iterable[str]) -> list[str]:
    """Return the TXT records that are SPF records (RFC 7208 4.5)."""
    return [text for text in texts if re.match(r"v=spf1(?: |\Z)", text, re.IGNORECASE)]


def parse_spf(text: str) -> SPFRecord:
    """Return the terms of an SPF record and what is wrong with it."""
    terms: list[SPFTerm] = []
    errors: list[str] = []
    words = text.split(" ")[1:]
    for word in [word for word in words if word][:_TERMS_MAX]:
        parsed = _spf_term(word)
        if isinstance(parsed, SPFTerm):
            terms.append(parsed)
        else:
            errors.append(parsed)
    for kind in ("redirect", "exp"):
        if sum(term.kind == kind for term in terms) > 1:
            errors.append(f"“{kind}=” stands there more than once")
    return SPFRecord(text, tuple(terms), tuple(dict.fromkeys(errors)))


def _spf_term(word: str) -> SPFTerm | str:
    found = _MODIFIER.fullmatch(word)
    if found:
        return _modifier(word, found[1].lower(), found[2])
    matched = _MECHANISM.fullmatch(word)
    name = matched[2].lower() if matched else ""
    if matched is None or name not in _MECHANISMS:
        return f"“{cut(word)}” is no word that SPF knows"
    qualifier, value, tail = matched[1] or "+", matched[3], matched[4]
    if name in ("ip4", "ip6"):
        # An IPv6 address is full of colons, so the value is everything after the first one.
        return _network_term(word, qualifier, name, word.partition(":")[2])
    if name == "all":
        return (
            f"“{cut(word)}”: nothing may follow “all”" if value is not None or tail else SPFTerm(word, qualifier, name)
        )
    if value == "" or (value is None and name in ("include", "exists")):
        return f"“{cut(word)}” lacks the name after the colon"
    has_macro = "%" in (value or "")
    if value and not has_macro and not is_name(value):
        return f"“{cut(word)}” names no domain"
    prefixes = _prefixes(tail) if name in ("a", "mx") else (None if tail else (32, 128))
    if has_macro and tail and name not in ("a", "mx"):
        prefixes = (32, 128)  # macro letters may carry a slash as delimiter
    if prefixes is None:
        return f"“{cut(word)}” has a network length that cannot be read"
    domain = (value or "").lower().rstrip(".")
    return SPFTerm(word, qualifier, name, domain, prefixes=prefixes, has_macro=has_macro)


def _modifier(word: str, name: str, value: str) -> SPFTerm | str:
    if name in _MECHANISMS:
        return f"“{cut(word)}” needs a colon in the place of the equals sign"
    if name == "redirect":
        if "%" not in value and not is_name(value):
            return f"“{cut(word)}” names no domain"
        return SPFTerm(word, "", name, value.lower().rstrip("."), has_macro="%" in value)
    return SPFTerm(word, "", name)  # unknown modifiers are ignored (RFC 7208 6)


def _network_term(word: str, qualifier: str, name: str, value: str) -> SPFTerm | str:
    try:
        network: IPNetwork = (ipaddress.IPv4Network if name == "ip4" else ipaddress.IPv6Network)(value, strict=False)
    except ValueError:
        return f"“{cut(word)}” is no {'IPv4' if name == 'ip4' else 'IPv6'} address or network"
    return SPFTerm(word, qualifier, name, network=network)


def _prefixes(tail: str) -> tuple[int, int] | None:
    found = _CIDR.fullmatch(tail)
    if found is None:
        return None
    short, long = int(found[1] or 32), int(found[2] or 128)
    return (short, long) if short <= 32 and long <= 128 else None


# --- DKIM


def parse_dkim(text: str) -> DKIMKey:
    """Return what a key record says: which key, how long, whether it is withdrawn."""
    tags, errors = _tags(text)
    if "v" in tags and tags["v"] != "DKIM1":
        errors.append("“v=” has to be DKIM1")
    if "v" in tags and next(iter(tags)) != "v":
        errors.append("“v=DKIM1” has to stand first")
    if "p" not in tags:
        errors.append("There is no “p=”, the key itself")
    services = tags.get("s", "*").replace(" ", "").split(":")
    if not {"*", "email"} & set(services):
        errors.append("“s=” leaves out email, so the key does not count for mail")
    hashes = tags.get("h", "sha256").replace(" ", "").split(":")
    if "sha256" not in hashes:
        errors.append("“h=” leaves out sha256, the only hash that still counts")
    kind = tags.get("k", "rsa").lower()
    packed = re.sub(r"\s", "", tags.get("p", ""))
    bits = None
    if packed:
        bits, problem = _key_length(kind, packed)
        errors += [problem] if problem else []
    is_revoked = "p" in tags and not packed
    return DKIMKey(text, kind, bits, is_revoked, "y" in tags.get("t", "").replace(" ", "").split(":"), tuple(errors))


def _key_length(kind: str, packed: str) -> tuple[int | None, str]:
    """Return (bits of an RSA key, what is wrong)."""
    broken = "The key after “p=” is damaged: part of it is missing or another character slipped in"
    try:
        raw = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        return None, broken
    if kind == "ed25519":
        return None, "" if len(raw) == 32 else broken
    if kind != "rsa":
        return None, f"“k={cut(kind)}” is no kind of key that receivers know"
    try:
        # RFC 6376 wants a SubjectPublicKeyInfo; this also reads the bare RSAPublicKey that some tools publish.
        key = load_der_public_key(raw)
    except (ValueError, UnsupportedAlgorithm):
        return None, broken
    return (key.key_size, "") if isinstance(key, RSAPublicKey) else (None, broken)


# --- DMARC


def dmarc_records(texts: Iterable[str]) -> list[str]:
    """Return the TXT records that are DMARC records (RFC 7489 6.6.3)."""
    return [text for text in texts if re.match(r"v\s*=\s*DMARC1\s*(?:;|\Z)", text)]


def parse_dmarc(text: str) -> DMARCRecord:
    """Return the policy of a record and what is wrong with it."""
    tags, errors = _tags(text)
    policy = tags.get("p", "").lower()
    if policy not in ("none", "quarantine", "reject"):
        errors.append(f"“p={cut(policy)}” is no policy" if policy else "There is no “p=”, the policy itself")
        policy = ""
    sub = tags.get("sp", policy).lower()
    if sub not in ("none", "quarantine", "reject", ""):
        errors.append(f"“sp={cut(sub)}” is no policy")
        sub = policy
    percent = tags.get("pct", "100")
    if not re.fullmatch(r"[0-9]{1,3}", percent) or int(percent) > 100:
        errors.append(f"“pct={cut(percent)}” is no number from 0 to 100")
        percent = "100"
    addresses = []
    for uri in [part.strip() for part in tags.get("rua", "").split(",") if part.strip()]:
        found = re.fullmatch(r"mailto:([^@\s]+@[^@\s!]+)(?:![0-9]+[kmgt]?)?", uri, re.IGNORECASE)
        if found:
            addresses.append(found[1])
        else:
            errors.append(f"“{cut(uri)}” in “rua=” is no address like mailto:dmarc@yourdomain.com")
    for name in ("adkim", "aspf"):
        if tags.get(name, "r").lower() not in ("r", "s"):
            errors.append(f"“{name}={cut(tags[name])}” has to be r or s")
    return DMARCRecord(
        text=text,
        policy=policy,
        subdomain_policy=sub,
        percent=int(percent),
        report_addresses=tuple(addresses[:10]),
        strict_dkim=tags.get("adkim", "").lower() == "s",
        strict_spf=tags.get("aspf", "").lower() == "s",
        public_suffix=tags.get("psd", "u").lower(),
        errors=tuple(errors),
    )


def cut(text: str) -> str:
    """Return the text, shortened to what fits into a sentence."""
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"


def _tags(text: str) -> tuple[dict[str, str], list[str]]:
    """Return the tags of a `name=value; name=value` record, the first of each, and what cannot be read."""
    tags: dict[str, str] = {}
    errors: list[str] = []
    for part in text.split(";")[:50]:
        if not part.strip():
            continue
        found = _TAG.fullmatch(part)
        if found is None:
            errors.append(f"“{cut(part.strip())}” is no “name=value”")
        elif found[1].lower() in tags:
            errors.append(f"“{found[1]}=” stands there more than once")
        else:
            tags[found[1].lower()] = found[2]
    return tags, errors
