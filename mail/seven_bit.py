"""MIME content from outside made fit for any server: CRLF only, short lines, ASCII. No I/O.

What is fit already stays byte for byte. Otherwise only the parts that are not are encoded anew, and the structure
around them stays. Source: RFC 2045 6, RFC 2046 5, RFC 1847 2.1.
"""

import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mail import header_blocks, headers, mime, wire
from mail.header_blocks import RawField
from mail.wire import NotWireSafe

DEPTH_MAX = 20
PARTS_MAX = 1000

_AS_IT_IS = frozenset({"", "7bit", "8bit", "binary"})
_PARAMETER = re.compile(r';\s*([!#$%&*+.^_`{|}~0-9A-Za-z-]+)\s*=\s*("(?:[^"\\]|\\.)*"?|[^;]*)')
_TYPE = re.compile(r"[!#$&^_.+0-9A-Za-z-]+/[!#$&^_.+0-9A-Za-z-]+\Z")
_PERCENT_ENCODED = re.compile(r"[!#-'*+./0-:=?-~-]*\Z")
_CONTROL = re.compile(rb"[^\t\r\n -~]")
_DELIMITER_END = re.compile(rb"(--)?[ \t]*(?:\r?\n|\Z)")
_NOT_ASCII = bytes(range(128, 256))
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_EMBEDDED = frozenset({"message/rfc822", "message/global"})


def fit(fields: Sequence[RawField], content: bytes, *, default_type: str = "text/plain", depth: int = 0) -> bytes:
    """Return the fields, an empty line and the content, fit to travel.

    Raises:
        NotWireSafe: it cannot be made so without breaking a signature or guessing; the text says why.
    """
    if wire.is_safe(content):
        return b"".join([*map(_fit_field, fields), b"\r\n", content])
    if depth > DEPTH_MAX:
        raise NotWireSafe("Parts are nested too deeply.")
    kind = _kind_of(fields, default_type)
    if kind.type == "multipart/signed":
        raise NotWireSafe("A signed part has long lines, bytes beyond ASCII or line ends other than CRLF.")
    if kind.type.startswith("multipart/"):
        content = _fit_parts(content, kind, depth)
        changed = _without(fields, "content-transfer-encoding") if kind.encoding in _AS_IT_IS else list(fields)
    elif kind.type in _EMBEDDED and kind.encoding in _AS_IT_IS:
        content = _fit_raw(content, "text/plain", depth + 1)
        changed = _without(fields, "content-transfer-encoding")
    else:
        content, changed = _fit_leaf(fields, content, kind)
    return b"".join([*map(_fit_field, changed), b"\r\n", content])


@dataclass(frozen=True)
class _Kind:
    """What the fields of a part say about its content."""

    type: str
    encoding: str
    boundary: str
    charset: str

    @property
    def is_text(self) -> bool:
        return self.type.startswith("text/")


def _kind_of(fields: Sequence[RawField], default_type: str) -> _Kind:
    """Read by hand: `email` raises on some of what comes in (TypeError, IndexError), and this must not."""
    value, parameters = _parameters(header_blocks.first(fields, "content-type"))
    if value:
        default_type = "text/plain"  # for a type that is none (RFC 2045 5.2)
    texts = {name.lower().rstrip("*"): text for name, text in reversed(parameters)}
    return _Kind(
        value.lower() if _TYPE.match(value) else default_type,
        header_blocks.first(fields, "content-transfer-encoding").partition(";")[0].strip().lower(),
        texts.get("boundary", "").rstrip(),
        texts.get("charset", "").lower(),
    )


def _fit_raw(raw: bytes, default_type: str, depth: int) -> bytes:
    if wire.is_safe(raw):
        return raw
    fields, start = header_blocks.read(raw)
    return fit(fields, raw[start:], default_type=default_type, depth=depth)


def _without(fields: Sequence[RawField], name: str) -> list[RawField]:
    return [field for field in fields if field.lowered != name]


# Multiparts ------------------------------------------------------------------------------------------------------


def _fit_parts(content: bytes, kind: _Kind, depth: int) -> bytes:
    """Split at the delimiters, fit what lies between, and put it together again with the same delimiters."""
    if not kind.boundary or not kind.boundary.isascii():
        raise NotWireSafe("A multipart names no boundary in ASCII.")
    boundary = b"--" + kind.boundary.encode("ascii")
    default_type = "message/rfc822" if kind.type == "multipart/digest" else "text/plain"
    parts: list[bytes] = []
    preamble, epilogue, start = b"", b"", -1
    for line_start, line_end, closes in _delimiters(content, boundary):
        if start < 0:
            preamble = content[:line_start]
        else:
            parts.append(_fit_raw(content[start : max(start, line_start)], default_type, depth + 1))
        start = line_end
        if len(parts) > PARTS_MAX:
            raise NotWireSafe(f"A multipart has more than {PARTS_MAX} parts.")
        if closes:
            epilogue = content[line_end:]
            break
    else:
        if start >= 0:
            parts.append(_fit_raw(content[start:], default_type, depth + 1))
    if not parts:
        raise NotWireSafe("A multipart lacks the parts it announces.")
    written = [_fit_margin(preamble, b"\r\n")]
    for part in parts:
        written += [boundary, b"\r\n", part, b"\r\n"]
    return b"".join([*written, boundary, b"--\r\n", _fit_margin(epilogue, b"")])


def _delimiters(content: bytes, boundary: bytes) -> Iterator[tuple[int, int, bool]]:
    """Yield where each delimiter begins, its line end before it included, where its line ends, and if it closes."""
    for start in _lines_that_begin_with(boundary, content):
        if (end := _DELIMITER_END.match(content, start + len(boundary))) is not None:
            before = content[max(0, start - 2) : start]
            yield start - (2 if before == b"\r\n" else len(before[-1:])), end.end(), end[1] is not None


def _lines_that_begin_with(text: bytes, content: bytes) -> Iterator[int]:
    if content.startswith(text):
        yield 0
    position = content.find(b"\n" + text)
    while position >= 0:
        yield position + 1
        position = content.find(b"\n" + text, position + 1)


def _fit_margin(text: bytes, end: bytes) -> bytes:
    """Preamble and epilogue are read by nobody (RFC 2046 5.1.1): what is not fit may go."""
    if not text:
        return b""
    text = _with_crlf(text)
    return text + end if wire.is_safe(text) else b""


# Leaves ----------------------------------------------------------------------------------------------------------


def _fit_leaf(fields: Sequence[RawField], content: bytes, kind: _Kind) -> tuple[bytes, list[RawField]]:
    is_as_it_is = kind.encoding in _AS_IT_IS
    with_crlf = _with_crlf(content)
    if wire.is_safe(with_crlf) and (kind.is_text or kind.type.startswith("message/") or not is_as_it_is):
        return with_crlf, list(fields)
    if kind.encoding == "base64":
        encoded = content.translate(None, b"\r\n\t ")
        if encoded.translate(None, _BASE64):
            raise NotWireSafe("A part is said to be base64 and is not.")
        return mime.base64_lines(encoded), list(fields)
    if kind.type.startswith("message/") or not (is_as_it_is or kind.encoding == "quoted-printable"):
        raise NotWireSafe("A part has long lines or bytes beyond ASCII and may not be encoded.")
    return _encode(fields, content if is_as_it_is else binascii.a2b_qp(with_crlf), kind)


def _encode(fields: Sequence[RawField], content: bytes, kind: _Kind) -> tuple[bytes, list[RawField]]:
    """Encode text as quoted-printable while most of it stays readable, all else as base64."""
    changed = _without(fields, "content-transfer-encoding")
    if kind.is_text:
        changed = _with_charset(changed, content, kind)
        content = _with_crlf(content)
    beyond_ascii = len(content) - len(content.translate(None, _NOT_ASCII))
    if kind.is_text and beyond_ascii * 6 < len(content):
        changed.append(_field("Content-Transfer-Encoding", "quoted-printable"))
        ended = content.endswith(b"\r\n")
        encoded = mime.quoted_printable(content if ended else content + b"\r\n")
        return encoded if ended else encoded[:-2], changed
    changed.append(_field("Content-Transfer-Encoding", "base64"))
    return b"".join(mime.base64_blocks(content)), changed


def _with_charset(fields: list[RawField], content: bytes, kind: _Kind) -> list[RawField]:
    """Name the charset that was not named when it is UTF-8 beyond doubt; otherwise readers guess as before."""
    if kind.charset not in ("", "us-ascii", "ascii") or content.isascii():
        return fields
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return fields
    value, parameters = _parameters(header_blocks.first(fields, "content-type") or "text/plain")
    kept = [(name, text) for name, text in parameters if name.lower() != "charset"]
    written = mime.parameter_field("Content-Type", value, [*kept, ("charset", "utf-8")])
    return [*_without(fields, "content-type"), RawField("Content-Type", f"{written}\r\n".encode("ascii", "replace"))]


def _with_crlf(text: bytes) -> bytes:
    """Every line end as CRLF, and none at the end where there was none: that one belongs to the delimiter."""
    lines = mime.canonical_lines(text)
    return lines if text.endswith((b"\n", b"\r")) else lines[:-2]


# Fields ----------------------------------------------------------------------------------------------------------


def _field(name: str, value: str) -> RawField:
    return RawField(name, f"{name}: {value}\r\n".encode("ascii"))


def _fit_field(field: RawField) -> bytes:
    """The field as it came when it is fit, else written anew on lines as they may be."""
    if wire.is_safe(field.raw) and not _CONTROL.search(field.raw):
        return field.raw if field.raw.endswith(b"\r\n") else field.raw + b"\r\n"
    if field.lowered in ("content-type", "content-disposition"):
        value, parameters = _parameters(field.value)
        written = mime.parameter_field(field.name, value, parameters)
    else:
        written = headers.kept_field(field.name, field.value)
    encoded = f"{written}\r\n".encode("ascii", "replace")
    if wire.line_fault(encoded):
        raise NotWireSafe("A header field has a word that is longer than a line may be.")
    return encoded


def _parameters(value: str) -> tuple[str, list[tuple[str, str]]]:
    """The value before its parameters, and their names and texts; those in numbered pieces stay in pieces."""
    found: list[tuple[str, str]] = []
    for name, text in _PARAMETER.findall(value):
        text = text.strip()
        if text.startswith('"'):
            text = re.sub(r"\\(.)", r"\1", text[1:].removesuffix('"'))
        if "*" not in name:
            found.append((name, header_blocks.decoded(text)))
        elif _PERCENT_ENCODED.match(text) if name.endswith("*") else text.isascii():
            found.append((name, text))
    return value.partition(";")[0].strip(), found
