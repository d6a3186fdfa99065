"""Keeps secrets out of logs, errors and exports: what looks like one or is known to be one becomes `***`.

This is the net under the rope. Secrets travel as `Secret` and are not put into texts in the first place; what is
caught here came from elsewhere: a provider that echoes a parameter, a traceback, a library's message. So the rules
err on the side of masking, except where the words are what a person needs: "basic authentication is disabled",
`code=535`, `"client_secret": "replaced"` stay.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import logging
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

from security.secret import Secret

MASK: Final = "***"

# Shorter known values would black out ordinary words: a password "mail" is not worth a log without the word mail.
SHORTEST_KNOWN: Final = 4

_KEYS_ALWAYS = (
    r"client[_-]?secret|refresh[_-]?token|access[_-]?token|id[_-]?token|device[_-]?code|code[_-]?verifier"
    r"|(?:client[_-]?)?assertion|pass(?:word|wd|phrase)|pwd|api[_-]?key|private[_-]?key|secret[_-]?key"
    r"|(?:proxy-)?authorization|(?:set-)?cookie|csrf[_-]?token|session[_-]?id|one[_-]?time[_-]?link"
)
# Words of many meanings: an OAuth code is a secret, a reply code is not.
_KEYS_DOUBTFUL = r"code|state|token|secret|nonce|auth|login_hint_token"
_HARMLESS_DOUBTFUL = re.compile(r"-?[0-9]{1,3}|[245]\.[0-9]{1,3}\.[0-9]{1,3}|[A-Za-z]{1,20}(?:[_-][a-z]{1,20}){0,4}")
# How the audit and the forms speak of a secret without telling it (security.md 7).
_HARMLESS = re.compile(
    r"(?:set|unset|kept|replaced|removed|missing|expired|none|null|true|false|\*+|Secret\(\*\*\*\))?", re.IGNORECASE
)

# key, then = or : (or a comma after a quoted key, as in the repr of a pair), then a value: in quotes, in quotes with
# backslashes (JSON inside JSON), or up to the next separator. One that was cut off before its end quote counts too.
_PAIR = re.compile(
    rf"""
    (?P<key>(?:{_KEYS_ALWAYS})|(?<![A-Za-z0-9_-])(?:{_KEYS_DOUBTFUL}))(?![A-Za-z0-9_-])
    (?P<sep>\\*["']?\s{{0,3}}(?:[:=]|=>|%3[dD]|(?<=["']),)\s{{0,3}}b?)
    (?:
        (?P<quote>["'])(?P<quoted>(?:\\.|(?!(?P=quote))[^\\])*)
      | (?P<escape>\\+["'])(?P<escaped>(?:(?!(?<!\\)(?P=escape)).)*)
      | (?P<scheme>(?:Bearer|Basic|Digest|NTLM|Negotiate)\s+)?(?P<plain>(?!Secret\(\*)[^\s&;,"'<>(){{}}\[\]\\]+)
    )
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_HEADER = re.compile(
    r"(?im)((?:^|(?<=\\n))[ \t]*(?:proxy-)?authorization[ \t]*:[ \t]*|(?<![\w-])(?:set-)?cookie:[ \t]*)[^\r\n\\]+"
)
_BEARER = re.compile(r"(?i)(\bbearer(?:\s+|%20|\+))([A-Za-z0-9._~+/=%-]+)")
_BASIC = re.compile(r"(?i)(\bbasic\s+)([A-Za-z0-9+/_-]{6,}={0,2})(?![A-Za-z0-9])")
_MECHANISMS = r"PLAIN|LOGIN|XOAUTH2?|OAUTHBEARER|CRAM-MD5|DIGEST-MD5|NTLM|GSSAPI|EXTERNAL|ANONYMOUS|SCRAM-[A-Z0-9-]+"
_AUTH_COMMAND = re.compile(rf"(?i)(\bAUTH\s+(?:{_MECHANISMS})\s+)(?!(?:{_MECHANISMS})\b)([A-Za-z0-9+/_=-]+)")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*){0,3}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{6,}={0,2}")
_LONG_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{24,}={0,2}")
_USER_INFO = re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{1,20}://)[^\s/?#@\"']+@")
# Shapes of Google and Microsoft: access token, refresh token, client secret; refresh tokens of Entra and Outlook.com.
_VENDOR = re.compile(
    r"\bya29\.[\w.-]{10,}|\b1//0[\w-]{10,}|\bGOCSPX-[\w-]{10,}|\b[01]\.A[\w-]{20,}(?:\.[\w.-]+)?|\bM\.[A-Z]\d+_[^\s\"'&,;]{20,}"
    r"|\b[\w.-]{3}8Q~[\w.~-]{20,}"
)


def redact(text: str, known: Iterable[str | Secret] = ()) -> str:
    """Return `text` with every secret in it replaced by `***`.

    Masked are the values of secret keys in JSON, form and header notation, bearer tokens, SASL payloads, JWTs, the
    token shapes of known providers, user info in URLs, and the `known` values, also when they are percent-encoded,
    JSON-escaped or in base64. Line breaks and controls stay: see `one_line`. Never raises.
    """
    if known == () and _is_harmless(text):
        return text
    return Redactor(known)(text)


def _is_harmless(text: str) -> bool:
    """Whether no rule can match, told at a tenth of the price of asking them all.

    Small letters, digits and spaces make no pair, no JWT and no address; in base64 a NUL byte and the words
    "auth=bearer" always need a capital letter; what is left are the rules that go by a word.
    """
    return _HARMLESS_TEXT.fullmatch(text) is not None and not any(word in text for word in _WORDS_BEFORE_SECRETS)


_HARMLESS_TEXT = re.compile(r"[a-z0-9_ ]*")
_WORDS_BEFORE_SECRETS: Final = ("auth", "bearer", "basic")


class Redactor:
    """`redact` for many texts with the same known values, whose spellings are worked out once.

    It holds the values in clear, so it lives no longer than whoever needs them for a while.
    """

    __slots__ = ("_known", "_spellings")

    def __init__(self, known: Iterable[str | Secret] = ()) -> None:
        self._known = _known_bytes(known)
        self._spellings = _spellings(self._known)

    def __repr__(self) -> str:
        return f"Redactor({MASK})"

    def known(self, text: str) -> str:
        """Return `text` with the known values replaced, and nothing else looked for: a hundredth of the whole price."""
        for value in self._spellings:
            text = text.replace(value, MASK)
        return _LONG_BASE64.sub(self._mask_payload, text)

    def __call__(self, text: str) -> str:
        """Return `text` with every secret in it replaced by `***`."""
        for value in self._spellings:
            text = text.replace(value, MASK)
        lower = text.lower()
        for needed, pattern, mask in _RULES:
            if any(literal in lower for literal in needed):
                text = pattern.sub(mask, text)
        text = _BASE64.sub(self._mask_payload, text)
        return _USER_INFO.sub(rf"\1{MASK}@", text) if "://" in text else text

    def _mask_payload(self, match: re.Match[str]) -> str:
        return MASK if _is_payload(match[0], self._known) else match[0]


def one_line(text: str, limit: int = 500) -> str:
    """Return `text` as one line of at most `limit` characters: controls, bidi marks and line ends escaped, cut by `…`.

    For what a server or a person wrote, on its way to a log or a terminal; it does not redact.
    """
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    # Nothing beyond the limit can be seen, so nothing beyond it is worked on.
    escaped = "".join(_escape(character) for character in text[: limit + 1])
    return escaped if len(escaped) <= limit else escaped[: max(limit - 1, 0)] + "…"


class JSONFormatter(logging.Formatter):
    """Writes each event as one line of JSON: time (UTC), level, logger, message, the extras, exception.

    Everything outside ASCII is escaped, so no value can end the line or steer a terminal. Values are redacted, then
    cut: the other way round, half a token would no longer look like one.
    """

    longest_value = 2000
    longest_traceback = 8000
    most_items = 50
    deepest = 4

    def __init__(self, known: Iterable[str | Secret] = ()) -> None:
        super().__init__()
        self._known = tuple(known)

    def format(self, record: logging.LogRecord) -> str:
        """Return the event's line, without a line end."""
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        event: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._text(_message(record)),
        }
        for key, value in list(_extras(record).items())[: self.most_items]:
            # An extra named like one of ours must not replace it.
            name = f"extra_{key}" if key in event or key == "exception" else key
            event[name] = self._plain(key, value, self.deepest)
        if record.exc_info or record.exc_text:
            event["exception"] = self._text(_traceback(record), self.longest_traceback, keep_end=True)
        return _ENCODER.encode(event)

    def _plain(self, key: str, value: object, depth: int) -> Any:
        """Return a value of plain JSON: redacted, cut, and not deeper than `depth`."""
        if value is None or isinstance(value, bool):
            return value
        # Others go the way of text: JSON has no NaN, and Python refuses to write integers of thousands of digits.
        if isinstance(value, int | float) and abs(value) < _LARGEST_NUMBER:
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if depth and isinstance(value, Mapping):
            pairs = list(value.items())[: self.most_items]
            return {self._text(str(name), 150): self._plain(str(name), item, depth - 1) for name, item in pairs}
        if depth and isinstance(value, list | tuple | set | frozenset):
            return [self._plain(key, item, depth - 1) for item in list(value)[: self.most_items]]
        text = _safe_str(value)
        return MASK if _is_secret(key, text) else self._text(text)

    def _text(self, text: str, longest: int | None = None, *, keep_end: bool = False) -> str:
        longest = longest or self.longest_value
        # A bound before the patterns run; generous, so that what is shown in the end was looked at whole.
        room = longest * 4
        text = redact(text[-room:] if keep_end else text[:room], self._known)
        if len(text) <= longest:
            return text
        # The end of a traceback names the error.
        return "…" + text[-(longest - 1) :] if keep_end else text[: longest - 1] + "…"


_LARGEST_NUMBER: Final = 2**63
_ENCODER: Final = json.JSONEncoder(ensure_ascii=True, allow_nan=False)

_RECORD_FIELDS: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in record.__dict__.items() if key not in _RECORD_FIELDS}


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit their format, or whose str() fails: say what can be said
        return f"{record.msg!s} [arguments do not fit]"


def _traceback(record: logging.LogRecord) -> str:
    if record.exc_text:
        return record.exc_text
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    return "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception:  # a log line must not fail on what it reports
        return f"<{type(value).__name__}>"


def _escape(character: str) -> str:
    # Cc, Cf, Cs, Co, Cn: controls, bidi marks and joiners, surrogates, private and unassigned; Zl, Zp: line ends.
    category = unicodedata.category(character)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def _known_bytes(known: Iterable[str | Secret]) -> list[bytes]:
    values = (item.reveal() if isinstance(item, Secret) else item for item in known)
    return [value.encode("utf-8", "surrogatepass") for value in values if len(value) >= SHORTEST_KNOWN]


def _spellings(known: Iterable[bytes]) -> list[str]:
    """Return the known values in the forms they travel in, longest first, so that none hides a longer one."""
    found: set[str] = set()
    for data in known:
        value = data.decode("utf-8", "surrogatepass")
        found |= {value, quote(data, safe=""), quote(data), quote_plus(data), repr(value)[1:-1]}
        found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return sorted(found, key=len, reverse=True)


def _is_secret(key: str, value: str) -> bool:
    """Return whether a value under this key is one to mask."""
    names_secret, is_doubtful = _kind_of_key(key)
    if not (names_secret or is_doubtful) or _HARMLESS.fullmatch(value):
        return False
    return names_secret or not _HARMLESS_DOUBTFUL.fullmatch(value)


@lru_cache(maxsize=512)  # a handful of names, in every line
def _kind_of_key(key: str) -> tuple[bool, bool]:
    """Whether the name always means a secret, and whether it may mean one."""
    return (
        re.search(rf"(?:{_KEYS_ALWAYS})\Z", key, re.IGNORECASE) is not None,
        re.fullmatch(_KEYS_DOUBTFUL, key, re.IGNORECASE) is not None,
    )


def _mask_pair(match: re.Match[str]) -> str:
    opening = match["quote"] or match["escape"] or ""
    value = match["quoted"] or match["escaped"] or match["plain"] or ""
    # In a query string or a form the doubtful keys are OAuth's: ?code=...&state=...
    before = match.string[max(match.start() - 1, 0) : match.start()]
    after = match.string[match.end() : match.end() + 1]
    in_form = match["plain"] is not None and (before in ("?", "&") or after == "&")
    masked = _is_secret(match["key"], value) or (in_form and not _HARMLESS.fullmatch(value))
    return f"{match['key']}{match['sep']}{opening}{match['scheme'] or ''}{MASK}" if masked else match[0]


def _mask_bearer(match: re.Match[str]) -> str:
    # "Bearer token is missing" and "Bearer authentication" are words, not tokens.
    word = match[2].rstrip(".")
    return match[0] if word.isalpha() and len(word) <= 20 else match[1] + MASK


def _mask_basic(match: re.Match[str]) -> str:
    data = _decode(match[2])
    return match[1] + MASK if data is not None and b":" in data else match[0]


def _mask_sasl_argument(match: re.Match[str]) -> str:
    argument = match[2]
    # "AUTH PLAIN not supported": a word. A payload that is all small letters and no base64 of anything is none.
    is_word = argument.isalpha() and argument.islower() and not (_decode(argument) or b"x").startswith(b"\0")
    return match[0] if is_word or argument == "=" else match[1] + MASK


def _is_payload(text: str, known: Iterable[bytes]) -> bool:
    """Return whether this is base64 of a known value, or of XOAUTH2, OAUTHBEARER (RFC 7628 3.1), PLAIN (RFC 4616 2)."""
    data = _decode(text)
    if data is None:
        return False
    if any(value in data for value in known):
        return True
    if re.search(rb"(?i)auth=bearer\s", data):
        return True
    parts = data.split(b"\0")
    if len(parts) != 3 or not parts[1] or not parts[2]:
        return False
    try:
        return "".join(part.decode("utf-8") for part in parts).isprintable()
    except UnicodeDecodeError:
        return False


def _decode(text: str) -> bytes | None:
    stripped = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        # Cut to whole groups: a payload that was cut off is still one.
        return base64.b64decode(stripped + "=" * (-len(stripped) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


# Which of these occur in lower case is asked first: most texts are short answers of mail servers, and a search for a
# literal costs a thousandth of one by pattern. Each list names what its pattern cannot match without.
_RULES: Final[tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    (("authorization", "cookie"), _HEADER, rf"\1{MASK}"),
    (("auth",), _AUTH_COMMAND, _mask_sasl_argument),
    (("bearer",), _BEARER, _mask_bearer),
    (("basic",), _BASIC, _mask_basic),
    ((":", "=", "%3d", "',", '",'), _PAIR, _mask_pair),
    (("eyj",), _JWT, MASK),
    (("ya29.", "1//0", "gocspx-", "0.a", "1.a", "m.", "8q~"), _VENDOR, MASK),
)
