"""The header of a message or part as it came in: its fields, and what their values say. No I/O.

Lenient where mail in the wild is, as long as there is one way to read it. Source: RFC 5322 2.2 and 4, RFC 2047.
"""

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.headerregistry import Address
from encodings import normalize_encoding
from encodings.aliases import aliases

from mail import headers
from mail.wire import NotWireSafe

HEADER_BYTES_MAX = 1024 * 1024
FIELDS_MAX = 1000
_NAME_MAX = 200  # characters of a display name; longer ones are cut
_ADDRESS_MAX = 320  # as the outbox keeps them

_FIELD = re.compile(rb"([!-9;-~]{1,2000})[ \t]*:")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_BARE_LF_BEFORE_A_FIELD = re.compile(rb"(?<!\r)\n(?![ \t])")
_BARE_CR = re.compile(rb"\r(?!\n)")
_ENCODED_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?\s]*)?\?([bBqQ])\?([^?\r\n]*)\?=")
# The closing character is optional everywhere: a text that never closes is read once, not once for each opening.
_MAILBOX_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"?|\((?:[^()\\]|\\.)*\)?|<[^<>]*>?|[,;:]|[^"(<,;:]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"?')
# Only names that Python knows: it would keep every other one for good after looking for it.
_CHARSETS = frozenset({*aliases, *aliases.values()})


@dataclass(frozen=True, slots=True)
class RawField:
    """A field as it was received: `raw` is all of it, the line ends inside and at the end included."""

    name: str
    raw: bytes

    @property
    def lowered(self) -> str:
        return self.name.lower()

    @property
    def value(self) -> str:
        """The value on one line, without control characters; bytes beyond ASCII as UTF-8, or else as windows-1252."""
        value = _FOLD.sub(b"", self.raw).partition(b":")[2]
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            text = value.decode("windows-1252", "replace")
        return headers.CONTROLS.sub("", text.replace("\t", " ").rstrip("\r\n").replace("\r", " ")).strip(" ")


def read(raw: bytes, *, strictly: bool = False) -> tuple[list[RawField], int]:
    """Return the fields and where the body begins: behind the first empty line, or at a line that is no field.

    Lines may end with CRLF or LF. `strictly` refuses an LF or CR alone where other lines end with CRLF: an application
    that puts a visitor's line break into a field would otherwise let them write the next field, or the body.

    Raises:
        NotWireSafe: too large, too many fields, or line ends as said.
    """
    fields: list[RawField] = []
    position = _after_mbox_line(raw)
    name, start = "", position
    while position < len(raw):
        end = raw.find(b"\n", position) + 1 or len(raw)
        if not (name and raw[position] in b" \t"):
            if name:
                fields.append(RawField(name, raw[start:position]))
            found = _FIELD.match(raw, position, end)
            name, start = (found[1].decode("ascii"), position) if found else ("", position)
            if not name:
                break
        if end > HEADER_BYTES_MAX or len(fields) >= FIELDS_MAX:
            raise NotWireSafe(f"The header is larger than 1 MB or has more than {FIELDS_MAX:,} fields.")
        position = end
    if name:
        fields.append(RawField(name, raw[start:position]))
    end = position + (2 if raw.startswith(b"\r\n", position) else raw.startswith(b"\n", position))
    if strictly:
        _check_line_ends(raw, end)
    return fields, end


def first(fields: Sequence[RawField], name: str) -> str:
    """Return the value of the first field of this name (in lower case), or an empty string."""
    return next((field.value for field in fields if field.lowered == name), "")


def decoded(value: str) -> str:
    """Return the value with its encoded words as the text they stand for; those that are none stay as they are."""
    if "=?" not in value:
        return value
    pieces: list[str] = []
    charset, word = "", bytearray()
    position = 0
    for found in _ENCODED_WORD.finditer(value):
        between = value[position : found.start()]
        position = found.end()
        is_next = charset == found[1].lower() and between.strip(" ") == ""
        if not is_next:
            pieces.append(_text(charset, word))
            # Blanks between two encoded words belong to neither (RFC 2047 6.2).
            pieces.append(between if not charset or between.strip(" ") else "")
            charset, word = found[1].lower(), bytearray()
        word += _word_bytes(found[2], found[3])
    pieces += [_text(charset, word), value[position:]]
    return headers.CONTROLS.sub("", "".join(pieces))


def mailboxes(value: str) -> tuple[str, ...]:
    """Return the mailboxes of an address field, each as `headers.parse_mailbox` reads it; groups are dissolved.

    What is no address is left out: who gets the message is the envelope's matter, and a broken field helps nobody.
    """
    found: list[str] = []
    current = ""
    for piece in (*_MAILBOX_PIECE.findall(value), ","):
        if piece in (",", ";"):
            if (mailbox := parse_mailbox(current)) is not None:
                found.append(mailbox_text(mailbox))
            current = ""
        elif piece == ":":  # the name of a group
            current = ""
        else:
            current += " " if piece.startswith("(") else piece
    return tuple(found)


def parse_mailbox(text: str) -> Address | None:
    """Return the one mailbox in the text, its name decoded, or None when there is none."""
    name, opening, address = text.strip(" ").rpartition("<")
    address = (address.removesuffix(">") if opening else text).strip(" ")
    if len(address) > _ADDRESS_MAX:  # before anybody encodes a domain of any length
        return None
    name = _QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), name)
    name = re.sub("[<>]", "", " ".join(decoded(name).split()))[:_NAME_MAX].strip()
    try:
        mailbox = headers.parse_mailbox(address, name=name)
    except ValueError:
        return None
    return mailbox if len(mailbox.username) + len(mailbox.domain) < _ADDRESS_MAX else None


def mailbox_text(mailbox: Address) -> str:
    """Return the mailbox in the form that `headers.parse_mailbox` reads."""
    address = f"{mailbox.username}@{mailbox.domain}"
    if not mailbox.display_name:
        return address
    escaped = mailbox.display_name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{address}>'


def _after_mbox_line(raw: bytes) -> int:
    """Some programs hand in what they would write into a mailbox file, whose first line is no field."""
    if not raw.startswith(b"From "):
        return 0
    after = raw.find(b"\n", 0, 1000) + 1
    return after if _FIELD.match(raw, after) else 0


def _check_line_ends(raw: bytes, end: int) -> None:
    header = raw[:end]
    # The end of the data has a CRLF whatever the lines before it have.
    has_crlf = raw.find(b"\r\n", 0, len(raw) - 2) >= 0
    if _BARE_CR.search(header) or (has_crlf and _BARE_LF_BEFORE_A_FIELD.search(header)):
        raise NotWireSafe("The header has line ends other than CRLF.")


def _word_bytes(encoding: str, text: str) -> bytes:
    encoded = text.encode("utf-8")
    if encoding in "qQ":
        return binascii.a2b_qp(encoded, header=True)
    encoded = re.sub(rb"[^A-Za-z0-9+/]", b"", encoded)
    # A last character alone holds no whole byte; padding is often forgotten.
    encoded = encoded[: len(encoded) - (len(encoded) % 4 == 1)]
    return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4))


def _text(charset: str, word: bytes | bytearray) -> str:
    if normalize_encoding(charset) in _CHARSETS:
        try:
            return word.decode(charset, "replace")
        except (LookupError, ValueError):  # an encoding, but none of text
            pass
    return word.decode("utf-8", "replace")
