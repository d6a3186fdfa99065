"""An https URL that an administrator typed, read once; what is stored, shown and called is the result of that reading.

URL parsers disagree about backslashes, user info, odd ports and encoded hosts, and every disagreement is a way to
make the check look at one host and the call go to another. So the accepted language is small, and its words are
spelled in one way: `urllib.parse`, urllib3 and requests read the result alike (a test compares them).
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Final
from urllib.parse import quote

from requests.utils import unquote_unreserved
from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

LONGEST_URL: Final = 2048

_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# A name whose last label is a number is read as an IPv4 address by some (WHATWG URL 3.5), as a name by others.
_NUMBER_AT_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)")
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENCODED = re.compile(r"%[0-9a-f]{2}", re.IGNORECASE)
# RFC 3986 3.3 and 3.4, with "%" for what is encoded already.
_PATH_SAFE: Final = "/!$&'()*+,;=:@~%"
_QUERY_SAFE: Final = _PATH_SAFE + "?"


def parse_endpoint_url(text: str) -> str:
    """Return the one spelling of an https endpoint URL: ASCII, lower-case host as A-label, no default port, a path.

    Reading the result again gives the same. Whether the host may be called is decided when it is
    called, by `security.outbound`.

    Raises:
        ValueError: with an instruction for the person who typed it.

    Source: RFC 3986; RFC 6749 3.1 and 3.2 (no fragment, a query is allowed).
    """
    text = unicodedata.normalize("NFC", text).strip()
    if not text:
        raise ValueError("Enter a URL, like https://login.example.com/oauth2/token")
    if len(text) > LONGEST_URL:
        raise ValueError(f"Use {LONGEST_URL:,} characters or fewer")
    if any(unicodedata.category(character)[0] in "CZ" for character in text):
        raise ValueError("Take the spaces and invisible characters out of the URL")
    if "\\" in text:
        raise ValueError("Use / instead of \\ in the URL")
    if not text[:8].lower() == "https://":
        raise ValueError("Start the URL with https://")
    if "#" in text:
        raise ValueError("Leave out # and everything after it")
    authority, slash, rest = _split_authority(text[8:])
    host, port = _read_authority(authority)
    path, _, query = (slash + rest).partition("?")
    url = f"https://{host}{'' if port == 443 else f':{port}'}{_encode(path or '/', _PATH_SAFE)}"
    if any(segment in (".", "..") for segment in url.split("/")[3:]):
        raise ValueError("Write the path without . and .. steps")
    if query:
        url += "?" + _encode(query, _QUERY_SAFE)
    if len(url) > LONGEST_URL:
        raise ValueError(f"Use {LONGEST_URL:,} characters or fewer")
    return url


def _split_authority(text: str) -> tuple[str, str, str]:
    """Return what stands before the first slash or question mark, that sign, and what follows."""
    match = re.search(r"[/?]", text)
    if match is None:
        return text, "", ""
    if match.group() == "?":
        return text[: match.start()], "/", text[match.start() :]
    return text[: match.start()], "/", text[match.end() :]


def _read_authority(authority: str) -> tuple[str, int]:
    """Return host and port of the part between https:// and the path."""
    if "@" in authority:
        raise ValueError("Leave out the user name and password before the host name")
    if "%" in authority:
        raise ValueError("Write the host name without % signs")
    match = re.fullmatch(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::(.*))?", authority)
    if match is None:
        raise ValueError("Enter the host name right after https://, like https://login.example.com/oauth2/token")
    host, port = match.groups()
    if not host:
        raise ValueError("Enter a host name after https://")
    if port is not None and (not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535):
        raise ValueError("Use a port from 1 to 65535, or none")
    return _read_host(host), 443 if port is None else int(port)


def _read_host(host: str) -> str:
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        except ValueError:
            raise ValueError("Enter a host name, or an IPv6 address in brackets") from None
    try:
        return str(ipaddress.IPv4Address(host))
    except ValueError:
        pass
    try:
        # urllib3 encodes international names by IDNA 2008, as it will when the URL is called. Python's own "idna"
        # codec is the older IDNA 2003, which sends straße.example to another host.
        name = (parse_url(f"https://{host.lower()}/").host or "").removesuffix(".")
    except LocationParseError:
        name = ""
    if not _NAME.fullmatch(name) or _NUMBER_AT_END.fullmatch(name):
        raise ValueError("Enter the host name as the provider gives it, like login.example.com")
    return name


def _encode(text: str, safe: str) -> str:
    """Return a path or query in its one spelling: encoded where needed, not encoded where not, hex in capitals."""
    if _PERCENT.search(text):
        raise ValueError("Write a percent sign in the URL as %25")
    # Letters, digits and -._~ mean the same encoded or not; requests decodes them, so it is done before we look.
    encoded = quote(unquote_unreserved(text), safe=safe)
    return _ENCODED.sub(lambda match: match.group().upper(), encoded)
