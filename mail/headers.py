"""Header fields in their final form: encoded, folded, nothing in them that could begin another field. No I/O.

Written here rather than left to the `email` package, whose folding turns long plain words (a List-Unsubscribe URL, a
References id) into encoded words that no program reads back, and drops quotes around long display names
(cpython issues 80222 and 121284). What is folded here unfolds to exactly what went in.
"""

import binascii
import re
from collections.abc import Iterable
from email.headerregistry import Address
from functools import lru_cache
from itertools import groupby

from mail.wire_names import ascii_domain

_FOLD_AT = 78  # RFC 5322 2.1.1 asks for 78 and requires 998
_ENCODED_LINE = 76  # RFC 2047 2: a line with an encoded word
_ENCODED_WORD = 75  # RFC 2047 2: one encoded word
_WORD_FRAME = len("=?utf-8?b??=")
_WORD_BYTES = (_ENCODED_WORD - _WORD_FRAME) // 4 * 3

_CACHED_MAILBOX_MAX = 320  # longer texts are rare and would make a full cache large

# Control characters, halves of surrogate pairs, line and paragraph separators: categories Cc, Cs, Zl and Zp.
CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")
_MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>\Z")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_MAILBOX = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>\s*\Z")
_LOCAL_PART = re.compile(r'[^\s"(),:;<>@\[\]\\]+\Z')
_DOMAIN = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Za-z:.]+\])\Z")
_WORDS = re.compile(r" *[^ ]+")


def is_field_name(name: str) -> bool:
    """True for a name that RFC 5322 2.2 allows."""
    return _FIELD_NAME.match(name) is not None


def is_message_id(text: str) -> bool:
    """True for "<left@right>" of visible ASCII, which is the form of a Message-ID (RFC 5322 3.6.4)."""
    return _MESSAGE_ID.match(text) is not None


def check_value(value: str) -> str:
    """Return a value fit for one field, tabs as spaces, without blanks around it.

    Raises:
        ValueError: a line break or another control character: somebody may be trying to begin a field of their own.
    """
    if not (value.isascii() and value.isprintable()):
        value = value.replace("\t", " ")
        if CONTROLS.search(value):
            raise ValueError("a line break or control character")
    return value.strip(" ")


def text_field(name: str, value: str) -> str:
    """Return "Name: value" in folded lines without the last line end.

    ASCII stays as it is; anything else becomes UTF-8 encoded words, and so does text that only looks like one, which
    a reader would otherwise decode into something else.
    """
    value = check_value(value)
    if not value.isascii() or "=?" in value:
        return _encoded(f"{name}:", value)
    return _folded(name, value)


def encoded_field(name: str, value: str) -> str:
    """Return "Name: value" in encoded words: text of any length, in lines that are never too long."""
    return _encoded(f"{name}:", check_value(value))


def kept_field(name: str, value: str) -> str:
    """Return "Name: value" for an unfolded value that is already in the form of the wire, encoded words and all.

    Words beyond ASCII become encoded words, each run of them for itself: the addresses and ids beside them stay.
    """
    value = check_value(value)
    if value.isascii():
        return _folded(name, value)
    pieces: list[str] = []
    # A blank between two words that are encoded would be lost unless it is encoded with them (RFC 2047 6.2).
    for stays, words in groupby(value.split(" "), key=lambda word: word != "" and word.isascii()):
        run = " ".join(words)
        pieces.append(run if stays or run.isascii() else _encoded("", run).lstrip().replace("\r\n", ""))
    return _folded(name, " ".join(pieces))


def mailbox_field(name: str, mailboxes: Iterable[Address]) -> str:
    """Return "Name: mailbox, mailbox" in folded lines, one mailbox to a line, without the last line end."""
    return f"{name}: " + ",\r\n ".join(_mailbox(mailbox, len(name) + 2) for mailbox in mailboxes)


def parse_mailbox(text: str, *, name: str = "") -> Address:
    """Return the one address in "a@example.com" or "A Name <a@example.com>", its domain in ASCII.

    `name` is the display name for the first form. Comments, groups and quoted local parts are not accepted.

    Raises:
        ValueError: it is no address.
    """
    # A store writes as one sender, and often to the same people: the last ones are kept.
    return _parsed(text, name) if len(text) + len(name) <= _CACHED_MAILBOX_MAX else _parse(text, name)


@lru_cache(maxsize=2048)
def _parsed(text: str, name: str) -> Address:
    return _parse(text, name)


def _parse(text: str, name: str) -> Address:
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
    room = _ENCODED_LINE - len(prefix) - indent - 1
    starts_below = room < _WORD_FRAME + 8
    limit = _WORD_BYTES if starts_below else min(_WORD_BYTES, (room - _WORD_FRAME) // 4 * 3)
    encoded = text.encode("utf-8")
    words: list[str] = []
    start = 0
    while not words or start < len(encoded):
        end = start + limit
        while end < len(encoded) and encoded[end] & 0xC0 == 0x80:
            end -= 1
        words.append(f"=?utf-8?b?{binascii.b2a_base64(encoded[start:end], newline=False).decode('ascii')}?=")
        start, limit = end, _WORD_BYTES
    return prefix + ("\r\n " if starts_below else " ") + "\r\n ".join(words)


def _folded(name: str, value: str) -> str:
    """Break before a word that does not fit; every word keeps the blanks that stood before it."""
    if len(name) + len(value) + 2 <= _FOLD_AT:
        return f"{name}: {value}"
    prefix = line = f"{name}:"
    lines: list[str] = []
    for word in _WORDS.findall(f" {value}"):
        if line != prefix and len(line) + len(word) > _FOLD_AT:
            lines.append(line)
            line = ""
        line += word
    return "\r\n".join((*lines, line))
