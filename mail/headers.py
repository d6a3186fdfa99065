"""Header fields in their final form: encoded, folded, nothing in them that could begin another field. No I/O.

Written here rather than left to the `email` package, whose folding turns long plain words (a List-Unsubscribe URL, a
References id) into encoded words that no program reads back, and drops quotes around long display names
(cpython issues 80222 and 121284). What is folded here unfolds to exactly what went in.
"""

import base64
import re
import unicodedata
from collections.abc import Iterable
from email.headerregistry import Address

from mail.wire_names import ascii_domain

_FOLD_AT = 78  # RFC 5322 2.1.1 asks for 78 and requires 998
_ENCODED_LINE = 76  # RFC 2047 2: a line with an encoded word
_ENCODED_WORD = 75  # RFC 2047 2: one encoded word
_WORD_FRAME = len("=?utf-8?b??=")

_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_MAILBOX = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>\s*\Z")
_LOCAL_PART = re.compile(r'[^\s"(),:;<>@\[\]\\]+\Z')
_DOMAIN = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Za-z:.]+\])\Z")


def is_field_name(name: str) -> bool:
    """True for a name that RFC 5322 2.2 allows."""
    return _FIELD_NAME.match(name) is not None


def check_value(value: str) -> str:
    """Return a value fit for one field, tabs as spaces, without blanks around it.

    Raises:
        ValueError: a line break or another control character: somebody may be trying to begin a field of their own.
    """
    value = value.replace("\t", " ").strip(" ")
    if any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in value):
        raise ValueError("a line break or control character")
    return value


def text_field(name: str, value: str) -> str:
    """Return "Name: value" in folded lines without the last line end.

    ASCII stays as it is; anything else becomes UTF-8 encoded words, and so does text that only looks like one, which
    a reader would otherwise decode into something else.
    """
    value = check_value(value)
    if value.isascii() and "=?" not in value:
        return _fold(f"{name}:", re.findall(r" *[^ ]+", f" {value}")) if value else f"{name}: "
    return _encoded(f"{name}:", value)


def mailbox_field(name: str, mailboxes: Iterable[Address]) -> str:
    """Return "Name: mailbox, mailbox" in folded lines, one mailbox to a line, without the last line end."""
    return f"{name}: " + ",\r\n ".join(_mailbox(mailbox, len(name) + 2) for mailbox in mailboxes)


def parse_mailbox(text: str, *, name: str = "") -> Address:
    """Return the one address in "a@example.com" or "A Name <a@example.com>", its domain in ASCII.

    `name` is the display name for the first form. Comments, groups and quoted local parts are not accepted.

    Raises:
        ValueError: it is no address.
    """
    text = check_value(text)
    if found := _MAILBOX.match(text):
        name, text = _unquoted(found["name"].strip()), found["address"].strip()
    local, _, domain = text.rpartition("@")
    if not _LOCAL_PART.match(local) or local.startswith(".") or local.endswith(".") or ".." in local:
        raise ValueError("not an address")
    domain = ascii_domain(domain)
    if not _DOMAIN.match(domain):
        raise ValueError("not an address")
    return Address(display_name=check_value(name), username=local, domain=domain)


def _unquoted(phrase: str) -> str:
    if len(phrase) > 1 and phrase.startswith('"') and phrase.endswith('"'):
        return re.sub(r"\\(.)", r"\1", phrase[1:-1])
    return phrase


def _mailbox(mailbox: Address, indent: int) -> str:
    name, address = mailbox.display_name, f"{mailbox.username}@{mailbox.domain}"
    if not name:
        return address
    if not name.isascii() or "=?" in name:
        phrase = _encoded("", name, indent=indent).lstrip()
    elif _ATOMS.match(name):
        phrase = name
    else:
        phrase = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    last_line = phrase.rpartition("\n")[2]
    start = indent if "\n" not in phrase else 0
    gap = " " if start + len(last_line) + len(address) + 3 <= _FOLD_AT else "\r\n "
    return f"{phrase}{gap}<{address}>"


def _encoded(prefix: str, text: str, *, indent: int = 0) -> str:
    """Return the prefix and base64 encoded words, each of whole characters, one to a line."""
    words: list[str] = []
    room = _ENCODED_LINE - len(prefix) - indent - 1
    starts_below = room < _WORD_FRAME + 8
    chunk = b""
    for character in text:
        encoded = character.encode("utf-8")
        limit = min(_ENCODED_WORD, room if not words and not starts_below else _ENCODED_WORD)
        if len(chunk) + len(encoded) > (limit - _WORD_FRAME) // 4 * 3:
            words.append(_word(chunk))
            chunk = b""
        chunk += encoded
    words.append(_word(chunk))
    return prefix + ("\r\n " if starts_below else " ") + "\r\n ".join(words)


def _word(chunk: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(chunk).decode('ascii')}?="


def _fold(prefix: str, pieces: Iterable[str]) -> str:
    """Break before a piece that does not fit; every piece begins with the blanks that stood before it."""
    lines, line = [], prefix
    for piece in pieces:
        if line != prefix and len(line) + len(piece) > _FOLD_AT:
            lines.append(line)
            line = ""
        line += piece
    return "\r\n".join((*lines, line))
