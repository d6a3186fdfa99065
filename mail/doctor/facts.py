"""What each step of a test learned: one line of words, and what there is beyond it. Pure; knows no database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from mail.access_token_claims import EXCHANGE
from mail.errors import Stage

Facts = Mapping[str, Any]
Details = tuple[tuple[str, str], ...]

# Beyond this the clock of this server is worth a word (providers.md 12).
_CLOCK_TOLERANCE_S = 120.0

# The check that failed, by what a TLS library says of it, the most telling first. What to do about it is told by the
# catalogue (providers.md 14); this says only what it was.
_FAILED_CHECKS = {
    "The certificate has expired": r"certificate has expired",
    "The certificate is not valid yet": r"certificate is not yet valid",
    "The certificate names another server": r"(?:hostname|IP address) mismatch|is not valid for|doesn't match",
    "The certificate comes from an issuer that is not trusted here": r"self[- ]signed certificate in certificate chain",
    "The certificate is self-signed: no issuer vouches for it": r"self[- ]signed certificate",
    "The issuer of the certificate is not known here, or is missing from the server's chain": (
        r"unable to get (?:local )?issuer certificate|unable to verify the first certificate"
    ),
    "The certificate was revoked": r"certificate (?:has been )?revoked",
    "The certificate uses a key or signature that is too weak": r"(?:ca|ee)[_ ](?:key|md)[_ ]too[_ ](?:weak|small)",
    "The certificate was not made for servers": r"unsuitable certificate purpose|invalid purpose",
    "The certificate was not accepted": r"CERTIFICATE_VERIFY_FAILED",
    "The server did not answer with TLS": r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNKNOWN_PROTOCOL|HTTP_REQUEST",
    "No common TLS version: Storepost needs TLS 1.2 or later": (
        r"UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|NO_PROTOCOLS_AVAILABLE|VERSION_TOO_LOW|WRONG_SSL_VERSION"
    ),
    "No common cipher: the server refused the handshake": (
        r"NO_SHARED_CIPHER|NO_CIPHERS|HANDSHAKE_FAILURE|INSUFFICIENT_SECURITY"
    ),
    "The server does not know itself by this name": r"UNRECOGNIZED_NAME",
    "The handshake used a key that is too weak": r"DH_KEY_TOO_SMALL|BAD_(?:DH|ECPOINT)",
    "The server does not offer STARTTLS": r"STARTTLS extension not supported",
    "Bytes came unasked between STARTTLS and the handshake": r"unencrypted bytes followed",
    "The handshake did not end in time": r"timed out",
    "The handshake was cut off": r"EOF occurred|SSLEOF|SSLZeroReturn|Connection ?Reset|closed|broken ?pipe",
    "The handshake failed": r"\[SSL|SSLError",
}

_EXTENSIONS = {
    "8BITMIME": "Text with 8 bits (8BITMIME)",
    "BINARYMIME": "Binary content (BINARYMIME)",
    "CHUNKING": "Content in chunks, without dot-stuffing (CHUNKING)",
    "DELIVERBY": "Delivery by a given time (DELIVERBY)",
    "DSN": "Delivery reports (DSN)",
    "ENHANCEDSTATUSCODES": "Detailed reply codes (ENHANCEDSTATUSCODES)",
    "ETRN": "Queue start on request (ETRN)",
    "FUTURERELEASE": "Delivery at a later time (FUTURERELEASE)",
    "HELP": "Help (HELP)",
    "PIPELINING": "Several commands in one round trip (PIPELINING)",
    "REQUIRETLS": "Encryption all the way on request (REQUIRETLS)",
    "SMTPUTF8": "International addresses (SMTPUTF8)",
    "STARTTLS": "Encryption after the greeting (STARTTLS)",
    "VRFY": "Address checks (VRFY)",
    "XCLIENT": "Trusted proxies (XCLIENT)",
}
_LONGEST_SIZE = 15


def learned(stage: Stage, facts: Facts, *, host: str, now: datetime) -> str:
    """Return what a step that is done taught.

    Args:
        facts: as the conversation told them (`mail.smtp.Observer`).
        host: the tested mail server.
        now: when the test ended, for how long a token was still good.
    """
    match stage:
        case Stage.SETTINGS:
            return "Nothing is missing"
        case Stage.RESOLVE:
            return _addresses(facts)
        case Stage.CONNECT:
            address = str(facts.get("address", ""))
            return f"Reached {f'[{address}]' if ':' in address else address}:{facts.get('port', '')}"
        case Stage.TLS:
            return _encryption(facts)
        case Stage.TOKEN:
            return _token(facts, now)
        case Stage.GREET:
            return f"{host} offers {_offered(facts) or 'no sign-in'}"
        case Stage.AUTH:
            return f"As {facts.get('user', '')} by {facts.get('mechanism', '')}"
        case Stage.MESSAGE:
            return _answer(facts)
    return str(facts.get("address", ""))


def details(stage: Stage, facts: Facts, *, host: str, now: datetime) -> Details:
    """Return what a step learned beyond its one line, as terms and values; empty when the line says it all.

    Args:
        facts: as for `learned`. Of RESOLVE also `used`, the address that was connected to; of TOKEN also `claims`,
            what the token says about itself (`TokenClaims.as_facts`), and `clock_skew_s`.
        host: the tested mail server.
        now: when the test ended, for the days that are left.
    """
    match stage:
        case Stage.RESOLVE:
            found = _address_details(facts)
        case Stage.TLS:
            found = _tls_details(facts, now)
        case Stage.TOKEN:
            found = _token_details(facts)
        case Stage.GREET:
            found = _greeting_details(facts, host)
        case Stage.AUTH:
            found = [("Mechanism", _text(facts, "mechanism")), ("User", _text(facts, "user"))]
        case Stage.RECIPIENT:
            found = [("The server's words", f"{_text(facts, 'code')} {_text(facts, 'text')}".strip())]
        case Stage.MESSAGE:
            found = _message_details(facts)
        case _:
            found = []
    return tuple((term, value) for term, value in found if value)


def failed_check(detail: str) -> str:
    """Return which check of an encrypted connection failed, from the words of the fault; empty when they name none."""
    return next((words for words, pattern in _FAILED_CHECKS.items() if re.search(pattern, detail, re.IGNORECASE)), "")


def _addresses(facts: Facts) -> str:
    first, *more = facts.get("addresses") or [""]
    if not more:
        return str(first)
    return f"{first} and {len(more)} more address{'' if len(more) == 1 else 'es'}"


def _address_details(facts: Facts) -> list[tuple[str, str]]:
    addresses = [str(address) for address in facts.get("addresses") or ()]
    used = _text(facts, "used")
    if len(addresses) < 2:
        return []
    return [("Addresses", ", ".join(addresses)), ("Used", used)]


def _encryption(facts: Facts) -> str:
    version = _tls_version(facts)
    if not version:
        return "Not encrypted: the server offers no encryption"
    name = _common_name(str(facts.get("subject") or ""))
    words = f"{version}, certificate of {name}" if name else f"{version}, certificate"
    at = _instant(facts.get("not_after"))
    return f"{words}{',' if name else ''} valid to {_day(at)}" if at else words


def _tls_details(facts: Facts, now: datetime) -> list[tuple[str, str]]:
    if not facts.get("version"):
        return []
    way = "From the first byte (implicit TLS)" if facts.get("implicit") else "After a greeting in clear, by STARTTLS"
    return [
        ("Version", _tls_version(facts)),
        ("Cipher", _text(facts, "cipher")),
        ("Begun", way),
        ("Certificate for", _text(facts, "subject")),
        ("Issued by", _text(facts, "issuer")),
        ("Valid until", _until(_instant(facts.get("not_after")), now)),
    ]


def _tls_version(facts: Facts) -> str:
    return str(facts.get("version") or "").replace("TLSv", "TLS ")


def _until(at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    days = (at - now).days
    left = "ends today" if days == 0 else "has ended" if days < 0 else f"{days} day{'' if days == 1 else 's'} left"
    return f"{_day(at)}, {left}"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b %Y}"


def _common_name(subject: str) -> str:
    return next((part.removeprefix("CN=") for part in subject.split(", ") if part.startswith("CN=")), "")


def _token(facts: Facts, now: datetime) -> str:
    scope, expires_at = facts.get("scope"), facts.get("expires_at")
    parts = [f"Granted {scope}" if scope else "Granted"]
    if expires_at:
        left_s = max((datetime.fromisoformat(str(expires_at)) - now).total_seconds(), 0.0)
        parts.append(f"valid for {left_s:.0f} s" if left_s < 90 else f"valid for {left_s / 60:.0f} min")
    if facts.get("renewed"):
        parts.append("renewed because the server refused the kept one")
    elif not facts.get("fresh"):
        parts.append("kept from the last renewal")
    if facts.get("rotated") and not facts.get("pasted"):
        parts.append("new refresh token stored")
    return ", ".join(parts)


def _token_details(facts: Facts) -> list[tuple[str, str]]:
    claims = facts.get("claims")
    at = _instant(facts.get("expires_at"))
    found = [
        ("Granted scopes", _text(facts, "scope")),
        ("Expires", f"{_day(at)}, {at:%H:%M:%S} UTC" if at else ""),
        ("Refresh token", "Replaced by a new one" if facts.get("rotated") else "Not replaced" if at else ""),
        ("Clock", _clock(facts.get("clock_skew_s"))),
    ]
    if isinstance(claims, Mapping):
        return [*found, *_claim_details(claims)]
    return [*found, ("Content", "Opaque: this token does not say whom or what it is for" if facts else "")]


def _claim_details(claims: Facts) -> list[tuple[str, str]]:
    """The token's own claims. A Microsoft service that is not Exchange is called by its name, and said not to be."""
    audience, named = _text(claims, "audience"), _text(claims, "audience_id")
    if audience not in ("", EXCHANGE, named):
        audience = f"{audience}, not {EXCHANGE}"
    who = _text(claims, "user")
    if claims.get("is_app"):
        who = f"No user: the app itself{f', {who}' if who else ''}"
    app = " ".join(text for text in (_text(claims, "app_name"), _text(claims, "app_id")) if text)
    return [
        ("Audience", audience if named in ("", audience) else f"{audience} ({named})"),
        ("Scopes in the token", _listed(claims, "scopes")),
        ("Roles in the token", _listed(claims, "roles")),
        ("User", who),
        ("Tenant", _text(claims, "tenant")),
        ("App", app),
    ]


def _clock(skew_s: object) -> str:
    if isinstance(skew_s, bool) or not isinstance(skew_s, int | float) or abs(skew_s) <= _CLOCK_TOLERANCE_S:
        return ""
    way = "behind" if skew_s > 0 else "ahead of"
    return f"This server's clock is {abs(skew_s) / 60:.0f} minutes {way} the provider's"


def _greeting_details(facts: Facts, host: str) -> list[tuple[str, str]]:
    offers = [_in_words(str(line)) for line in facts.get("capabilities") or ()]
    plain = [offer for offer in offers if isinstance(offer, str)]
    named = [offer for offer in offers if not isinstance(offer, str)]
    return [
        ("Greeting", _text(facts, "banner")),
        *named,
        ("Also offers", " · ".join(plain)),
    ]


def _in_words(line: str) -> str | tuple[str, str]:
    """Return one line of the EHLO answer in words: with a term of its own when it says more than yes."""
    keyword, _, parameters = line.partition(" ")
    if keyword == "AUTH":
        return ("Sign-in by", ", ".join(parameters.split()))
    if keyword == "SIZE":
        return ("Largest message", _size_limit(parameters))
    if keyword == "LIMITS":
        return ("Limits", parameters.replace("=", " ").replace("RCPTMAX", "recipients").replace("MAILMAX", "messages"))
    known = _EXTENSIONS.get(keyword)
    return (f"{known} {parameters}".rstrip() if parameters else known) if known else line


def _size_limit(parameters: str) -> str:
    if not (parameters.isascii() and parameters.isdigit() and len(parameters) <= _LONGEST_SIZE):
        return "Not said"
    size = int(parameters)
    return f"{_megabytes(size)} ({size:,} bytes)" if size else "No fixed limit"


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB".replace(".0 MB", " MB") if size >= 1_000_000 else f"{size / 1_000:.0f} kB"


def _message_details(facts: Facts) -> list[tuple[str, str]]:
    size = facts.get("size_bytes")
    return [
        ("The server's words", f"{_text(facts, 'code')} {_text(facts, 'text')}".strip()),
        ("Queue id", _text(facts, "queue_id")),
        ("Size", f"{size:,} bytes" if isinstance(size, int) else ""),
    ]


def _answer(facts: Facts) -> str:
    """The server's words, and the queue id where it is not plain to see at their end."""
    words = f"{facts.get('code', '')} {facts.get('text', '')}".strip()
    queue_id = str(facts.get("queue_id") or "")
    return words if not queue_id or words.endswith(queue_id) else f"{words} · Queue id {queue_id}"


def _offered(facts: Facts) -> str:
    """The mechanisms in the server's AUTH line."""
    for line in facts.get("capabilities") or ():
        keyword, _, mechanisms = str(line).partition(" ")
        if keyword == "AUTH":
            return ", ".join(mechanisms.split())
    return ""


def _text(facts: Facts, name: str) -> str:
    found = facts.get(name)
    return "" if found is None else str(found)


def _listed(facts: Facts, name: str) -> str:
    found = facts.get(name)
    return ", ".join(map(str, found)) if isinstance(found, list | tuple) else ""


def _instant(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
