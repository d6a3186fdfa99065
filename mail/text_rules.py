"""What a typed text may be: one spelling, no hidden characters, and the formats of our fields. Pure; no I/O.

Every function says what to enter in its `ValueError`, so that forms, the API and the command line use the same words.
The order is the same everywhere: Unicode form NFC, outer blanks off, refuse, measure in code points (security.md 20).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email
from email_validator.rfc_constants import CASE_INSENSITIVE_MAILBOX_NAMES

from mail.wire_names import ascii_domain
from security.urls import parse_endpoint_url as _parse_endpoint_url

ADDRESSES_MAX = 50
PORT_WORDS = "Use a number from 1 to 65535"
ADDRESS_WORDS = "Enter a full email address, like admin@yourdomain.com"
HOST_WORDS = "Enter the server’s name, like smtp.office365.com"

# Characters that make a text read differently from what it is; marks that only set a direction (LRM, RLM) may stay.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# What `hidden_character` finds, for the inside of a character class; and halves of characters, which JSON Schema's
# patterns cannot name and well-formed JSON does not hold.
HIDDEN = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
SURROGATES = r"\ud800-\udfff"
_HIDDEN = re.compile(f"[{HIDDEN}{SURROGATES}]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
# A last label of digits is an IPv4 address to some readers and a name to others.
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
# RFC 6749 3.3: a scope is visible ASCII without the quote and the backslash.
_SCOPE = re.compile(r"[!#-\[\]-~]+")
_SHOWN_MAX = 80
# Addresses whose local part `email_validator` takes as it is, short enough for RFC 5321 4.5.3.1 however they are
# written; it writes the mailboxes of RFC 2142 small.
_PLAIN = re.compile(r"(?=[^@]{1,64}@)[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?!.*xn--)[a-z0-9.-]+", re.I | re.A)
_PLAIN_MAX = 200
_ONE_SPELLING = frozenset(CASE_INSENSITIVE_MAILBOX_NAMES)


def clean(text: str) -> str:
    """Return the text in Unicode form NFC without blanks around it."""
    return unicodedata.normalize("NFC", text).strip()


def hidden_character(text: str) -> str | None:
    """Return what to take out of the text, or None when every character of it can be seen or shapes what is seen.

    Source: security.md 21.
    """
    found = _HIDDEN.search(text)
    if found is None:
        return None
    character, position = found[0], found.start() + 1
    if character in "\r\n\u2028\u2029":
        return f"Use one line: take out the line break at position {position}"
    if character in _BIDI:
        return f"Take out the text direction character at position {position}"
    if unicodedata.category(character) == "Cs":
        return f"Take out the broken character at position {position}"
    return f"Take out the control character at position {position}"


def parse_port(text: str) -> int:
    """Return a port number written in ASCII digits.

    Raises:
        ValueError: anything else, other scripts' digits and signs included.
    """
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(PORT_WORDS)
    return int(text)


def parse_address(text: str) -> str:
    """Return the one spelling of an email address; international ones stay readable.

    Raises:
        ValueError: no address, or one with a display name, quotes or an address literal.
    """
    if len(text) > 320:  # keeps a long paste away from the parser
        raise ValueError(ADDRESS_WORDS)
    local, at, domain = text.partition("@")
    if at and len(text) <= _PLAIN_MAX and _PLAIN.fullmatch(text) and local.lower() not in _ONE_SPELLING:
        return f"{local}@{_parse_domain(domain)}"
    try:
        return validate_email(text, check_deliverability=False, strict=True, allow_display_name=False).normalized
    except (EmailNotValidError, UnicodeError):
        raise ValueError(ADDRESS_WORDS) from None


@lru_cache(maxsize=4096)
def _parse_domain(domain: str) -> str:
    """The one spelling of a domain: most addresses share a few, and nothing else of a plain one needs the parser."""
    try:
        return validate_email(f"a@{domain}", check_deliverability=False, strict=True).domain
    except (EmailNotValidError, UnicodeError):
        raise ValueError(ADDRESS_WORDS) from None


def parse_address_list(text: str) -> tuple[str, ...]:
    """Return the addresses of a comma-separated list, each once, in their order.

    Raises:
        ValueError: names the first bad or empty entry and its position, or says that there are too many.
    """
    if not text.strip():
        return ()
    found: dict[str, str] = {}
    for position, entry in enumerate(text.split(","), start=1):
        entry = entry.strip()
        if not entry:
            raise ValueError(f"Address {position} is empty. Put one comma between two addresses, and none at the end.")
        try:
            address = parse_address(entry)
        except ValueError:
            raise ValueError(
                f"Address {position}: “{_shorten(entry)}” is not a full email address. Separate addresses with commas."
            ) from None
        found.setdefault(address.casefold(), address)
        if len(found) > ADDRESSES_MAX:
            raise ValueError(f"Use {ADDRESSES_MAX} addresses or fewer")
    return tuple(found.values())


def parse_host(text: str) -> str:
    """Return a host name in its ASCII spelling, or a literal address; IPv6 without brackets.

    Raises:
        ValueError: a scheme, path, port or user name stands with it, or it is no name.
    """
    if "://" in text:
        raise ValueError(f"Leave out what stands before the name, like https://. {HOST_WORDS}")
    if re.search(r"[/\\?#]", text):
        raise ValueError(f"Leave out the path. {HOST_WORDS}")
    if "@" in text:
        raise ValueError(f"Leave out the user name. {HOST_WORDS}")
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        pass
    if re.search(r":[0-9]*\Z", text) and text.count(":") == 1:
        raise ValueError("Leave out the port: it has a field of its own")
    try:
        name = ascii_domain(text.lower().removesuffix("."))
    except (ValueError, IndexError):
        raise ValueError(HOST_WORDS) from None
    if not _HOST.fullmatch(name) or _NUMBER_AT_END.fullmatch(name):
        raise ValueError(HOST_WORDS)
    return name


def parse_endpoint_url(text: str) -> str:
    """Return the one spelling of an https endpoint; what is stored, shown and called.

    Raises:
        ValueError: with an instruction (security.md 24).
    """
    return _parse_endpoint_url(text)


def parse_scope(text: str) -> str:
    """Return scopes separated by single spaces, each once, in their order.

    Raises:
        ValueError: a character that no scope has.
    """
    scopes = list(dict.fromkeys(text.split(" ")))
    for scope in scopes:
        if scope and not _SCOPE.fullmatch(scope):
            raise ValueError(f"Separate scopes with spaces. “{_shorten(scope)}” has a character that no scope has.")
    return " ".join(scope for scope in scopes if scope)


def at_most(text: str, limit: int) -> None:
    """Raise ValueError when the text has more code points than `limit`."""
    if len(text) > limit:
        raise ValueError(f"Use {limit:,} characters or fewer")


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_MAX else f"{text[: _SHOWN_MAX - 1]}…"
