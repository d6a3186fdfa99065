"""The parts of a message as bytes: bodies, files and the multiparts around them. No I/O.

Everything is encoded: quoted-printable and base64 keep line ends, blanks at line ends and long lines from being changed
on the way, and no body can then contain a boundary, which begins with "=_" (RFC 2045 6.7).
"""

import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.headerregistry import ContentTypeHeader, HeaderRegistry
from functools import lru_cache
from io import BytesIO
from urllib.parse import quote

from mail import headers

BOUNDARY_START = "=_"

_FOLD_AT = 78  # RFC 5322 2.1.1
_BASE64_LINE_BYTES = 57  # 76 characters (RFC 2045 6.8)
_BLOCK_BYTES = _BASE64_LINE_BYTES * 8192
_QUOTED_FILENAME_MAX = 800  # longer ones need continuations (RFC 2231 3), or their line would pass 998 octets
_ATTRIBUTE_SAFE = "!#$&+^`{|}"  # beside letters, digits and "_.-~" (RFC 2231 7, RFC 5987 3.2.1)
# Types that may not be base64 (RFC 2046 5.1 and 5.2.1); as a file they are just bytes.
_NEVER_ENCODED = frozenset({"message", "multipart"})
_OCTETS = "application/octet-stream"
_CACHED_TYPE_MAX = 200

_PLAIN_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*/[A-Za-z0-9][A-Za-z0-9.+_-]*\Z")
_CHARSET = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_LEFT_AS_THEY_ARE = bytes(set(range(0x21, 0x7F)) - {ord("=")}) + b" \t\r\n"
_TOO_LONG_FOR_ITS_BLANK = re.compile(rb"^([^\r\n]{74,75})(=20|=09)\r$", re.MULTILINE)


@dataclass(frozen=True)
class Leaf:
    """A part with content. `fields` end with a line end each; `content` is written as it is, or in base64."""

    fields: str
    content: bytes
    is_raw: bool = False
    delimiters = 0


@dataclass(frozen=True)
class Multipart:
    """A part that holds parts; `subtype` is mixed or alternative."""

    subtype: str
    parts: Sequence["Leaf | Multipart"]

    @property
    def delimiters(self) -> int:
        """How many delimiter lines it has, those of the parts inside included."""
        return len(self.parts) + 1 + sum(part.delimiters for part in self.parts)


def text_leaf(text: str, subtype: str = "plain") -> Leaf:
    """Return a body of text: quoted-printable while most of it stays readable, else base64, which is shorter then.

    Lines end with CRLF, the last one too, whatever ended them before.

    Raises:
        UnicodeEncodeError: half of a surrogate pair, which no encoding can write.
    """
    encoded = text.encode("utf-8")
    beyond_ascii = 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
    in_base64 = beyond_ascii > 0 and beyond_ascii * 6 >= len(text)
    canonical = canonical_lines(encoded)
    return Leaf(
        f'Content-Type: text/{subtype}; charset="utf-8"\r\n'
        f"Content-Transfer-Encoding: {'base64' if in_base64 else 'quoted-printable'}\r\n",
        canonical if in_base64 else quoted_printable(canonical),
        is_raw=not in_base64,
    )


def file_leaf(filename: str, content_type: str, content: bytes) -> Leaf:
    """Return a file as an attachment. A content type that is none becomes application/octet-stream.

    Raises:
        ValueError: a control character in the name.
    """
    kind = _content_type(content_type) if len(content_type) <= _CACHED_TYPE_MAX else _read_type(content_type)
    filename = headers.check_value(filename) or "attachment"
    return Leaf(
        f"Content-Type: {kind}\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        f"{parameter_field('Content-Disposition', 'attachment', [('filename', filename)])}\r\n",
        content,
    )


def write_part(out: BytesIO, part: Leaf | Multipart, message_id: str, *, number: int = 0, further: str = "") -> int:
    """Write the part with everything inside it and return the number of the part after it, in the order of a walk.

    `further` are fields that go at the end of this part's own. A boundary derives from the part's number and the
    message id: the same message has the same bytes on every attempt, and no two messages share a boundary.
    """
    if isinstance(part, Leaf):
        out.write(f"{part.fields}{further}\r\n".encode("ascii"))
        if part.is_raw:
            out.write(part.content)
        else:
            for block in base64_blocks(part.content):
                out.write(block)
        return number + 1
    boundary = BOUNDARY_START + hashlib.sha256(f"{number} {message_id}".encode()).hexdigest()[:32]
    kind = parameter_field("Content-Type", f"multipart/{part.subtype}", [("boundary", boundary)])
    out.write(f"{kind}\r\n{further}\r\n".encode("ascii"))
    number += 1
    for inner in part.parts:
        out.write(f"--{boundary}\r\n".encode("ascii"))
        number = write_part(out, inner, message_id, number=number)
        out.write(b"\r\n")
    out.write(f"--{boundary}--\r\n".encode("ascii"))
    return number


def canonical_lines(content: bytes) -> bytes:
    """Return text whose lines, the last one too, end with CRLF; CR, LF and CRLF all end a line."""
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.endswith(b"\n"):
        content += b"\n"
    return content.replace(b"\n", b"\r\n")


def quoted_printable(canonical: bytes) -> bytes:
    """Return text with CRLF line ends, the last one included, in quoted-printable lines of at most 76 characters."""
    if _is_its_own_encoding(canonical):
        return canonical
    encoded = binascii.b2a_qp(canonical)
    if b" \r\n" in canonical or b"\t\r\n" in canonical:
        # binascii encodes a blank at a line end after it has measured the line, which may then be 78 characters long.
        encoded = _TOO_LONG_FOR_ITS_BLANK.sub(rb"\1=\r\n\2\r", encoded)
    return encoded


def _is_its_own_encoding(canonical: bytes) -> bool:
    """Whether quoted-printable leaves the text as it is: short lines of plain letters, as most texts have. Half the
    time of encoding them.
    """
    if canonical.translate(None, _LEFT_AS_THEY_ARE) or b" \r\n" in canonical or b"\t\r\n" in canonical:
        return False
    # A line of a single dot is encoded, because it would end a message where nobody doubles it.
    lines = canonical.split(b"\r\n")
    return max(map(len, lines)) <= 75 and b"." not in lines


def base64_blocks(content: bytes) -> Iterator[bytes]:
    """Yield base64 in lines of 76 characters with CRLF, some thousand lines at a time.

    A large file is thus never in memory as text without line ends, as list of lines and as bytes at once.
    """
    view = memoryview(content)
    for start in range(0, len(view), _BLOCK_BYTES):
        yield base64_lines(binascii.b2a_base64(view[start : start + _BLOCK_BYTES], newline=False))


def base64_lines(encoded: bytes) -> bytes:
    """Return base64 without line ends in lines of 76 characters, each with its CRLF."""
    lines = [encoded[start : start + 76] for start in range(0, len(encoded), 76)]
    lines.append(b"")
    return b"\r\n".join(lines)


def parameter_field(name: str, value: str, parameters: Sequence[tuple[str, str]]) -> str:
    """Return "Name: value; parameter=..." in folded lines without the last line end.

    Parameters are quoted strings as long as they can be, else written as RFC 2231 says. One that looks like an
    encoded word counts as beyond ASCII, because many readers would decode it.
    """
    field = f"{name}: {value}"
    for parameter, text in parameters:
        for piece in _pieces(parameter, text):
            fits = len(field) - field.rfind("\n") + len(piece) + 2 <= _FOLD_AT
            field += f"; {piece}" if fits else f";\r\n {piece}"
    return field


def _pieces(parameter: str, text: str) -> list[str]:
    if parameter.endswith("*"):  # in percent encoding already
        return [f"{parameter}={text}"]
    if not text.isascii() or "=?" in text or len(text) > _QUOTED_FILENAME_MAX:
        return _extended(parameter, text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return [f'{parameter}="{escaped}"']


def _extended(parameter: str, text: str) -> list[str]:
    """The parameter in percent encoding, in one piece or in numbered ones, each of whole characters."""
    characters = [quote(character, safe=_ATTRIBUTE_SAFE) for character in text]
    whole = f"{parameter}*=utf-8''{''.join(characters)}"
    if len(whole) < _FOLD_AT - 1:
        return [whole]
    pieces: list[str] = []
    piece = f"{parameter}*0*=utf-8''"
    for character in characters:
        if len(piece) + len(character) > _FOLD_AT - 2:
            pieces.append(piece)
            piece = f"{parameter}*{len(pieces)}*="
        piece += character
    return [*pieces, piece]


@lru_cache(maxsize=256)
def _content_type(content_type: str) -> str:
    return _read_type(content_type)


def _read_type(content_type: str) -> str:
    """The type as it is written down, with its charset if it names one."""
    if _PLAIN_TYPE.match(content_type):
        main_type, _, subtype = content_type.lower().partition("/")
        return _OCTETS if main_type in _NEVER_ENCODED else f"{main_type}/{subtype}"
    parsed = HeaderRegistry()("content-type", " ".join(content_type.split()))
    if not isinstance(parsed, ContentTypeHeader) or parsed.defects or not content_type.isascii():
        return _OCTETS
    if parsed.maintype in _NEVER_ENCODED:
        return _OCTETS
    charset = parsed.params.get("charset", "")
    kind = f"{parsed.maintype}/{parsed.subtype}"
    return f'{kind}; charset="{charset}"' if _CHARSET.match(charset) else kind
