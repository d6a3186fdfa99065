"""A JSON body whose files are decoded while it arrives: an attachment takes its own size in memory, not four times it.

What stands as base64 in a `content` is taken out of the text and decoded piece by piece; the rest is parsed by
`strict_json` with placeholders in these places, which nobody can guess, and then gets its files back. Nothing is
judged here: text that turns out to be no base64 is left to the parser and to the rules, word for word.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import secrets
from typing import IO, Any

from blueprints import strict_json

CHUNK_BYTES = 64 * 1024
# Short ones are not worth it; a run of this length also keeps the number of searches per body small.
RUN_MIN = 1024

# Quotes inside a JSON string have a backslash before them, so this finds names of members, or text that is no JSON
# with and without the placeholder. The backslash: PHP writes "\/" for "/", .NET "\u002B" for "+".
_START = re.compile(rb'"content"[ \t\r\n]{0,16}:[ \t\r\n]{0,16}"(?=[A-Za-z0-9+/\\]{%d})' % RUN_MIN)
_LONGEST_START = 9 + 16 + 1 + 16 + 1 + RUN_MIN
_LONGEST_ESCAPE = 6


def read_object(stream: IO[bytes]) -> dict[str, Any]:
    r"""Return the object that the stream describes, with `bytes` for a `content` that was base64 beside a `filename`.

    Raises:
        strict_json.BadJSON: one sentence for the caller's developer.
    """
    body = _Body()
    while chunk := stream.read(CHUNK_BYTES):
        body.feed(chunk)
    return body.close()


class _NotBase64(Exception):
    pass


class _Body:
    """The text so far without its files, and what is not decided yet."""

    def __init__(self) -> None:
        self._text = bytearray()
        self._pending = b""
        self._files: dict[str, bytes] = {}
        self._file: _File | None = None
        self._mark = secrets.token_hex(16)

    def feed(self, chunk: bytes) -> None:
        self._pending += chunk
        while self._step():
            pass

    def close(self) -> dict[str, Any]:
        if self._file is not None:
            self._text += self._file.as_text()
        self._text += self._pending
        return strict_json.parse_object(self._text, each_object=self._with_files if self._files else None)

    def _step(self) -> bool:
        """Go on with what is pending; False when more is needed."""
        return self._find() if self._file is None else self._decode(self._file)

    def _find(self) -> bool:
        found = _START.search(self._pending)
        if found is None:
            self._move(max(0, len(self._pending) - _LONGEST_START))
            return False
        self._move(found.end())
        self._file = _File()
        return True

    def _decode(self, file: _File) -> bool:
        end = self._pending.find(b'"')
        is_whole = end >= 0
        part, rest = (self._pending[:end], self._pending[end:]) if is_whole else (self._pending, b"")
        try:
            file.feed(part, is_last=is_whole)
        except _NotBase64:
            self._text += file.as_text() + part
            self._file = None
        else:
            if is_whole:
                self._text += self._keep(file.content()).encode("ascii")
                self._file = None
        self._pending = rest
        return bool(rest)

    def _move(self, count: int) -> None:
        self._text += self._pending[:count]
        self._pending = self._pending[count:]

    def _keep(self, content: bytes) -> str:
        placeholder = f"{self._mark}{len(self._files)}"
        self._files[placeholder] = content
        return placeholder

    def _with_files(self, found: dict[str, Any]) -> dict[str, Any]:
        """Put files back into an object: bytes where an attachment has them, the text again anywhere else."""
        for name, value in found.items():
            if isinstance(value, str) and value.startswith(self._mark) and value in self._files:
                content = self._files[value]
                is_file = name == "content" and "filename" in found
                found[name] = content if is_file else base64.b64encode(content).decode("ascii")
        return found


class _File:
    """Base64 as it stands in a JSON string, decoded as it comes."""

    def __init__(self) -> None:
        # Grows in place and gives its bytes away without a copy.
        self._content = io.BytesIO()
        self._escape = b""  # the beginning of an escape sequence
        self._odd = b""  # characters that are no whole group of four yet
        self._is_padded = False

    def feed(self, part: bytes, *, is_last: bool) -> None:
        """Take the next characters.

        Raises:
            _NotBase64: these are none; `as_text` has all those before them.
        """
        plain, escape = _unescaped(self._escape + part, is_last=is_last)
        text = self._odd + plain
        if text and self._is_padded:
            raise _NotBase64
        count = len(text) if is_last else len(text) - len(text) % 4
        decoded = _decoded(text[:count])
        self._content.write(decoded)
        self._odd, self._escape, self._is_padded = text[count:], escape, len(decoded) % 3 != 0

    def content(self) -> bytes:
        return self._content.getvalue()

    def as_text(self) -> bytes:
        return base64.b64encode(self._content.getvalue()) + self._odd + self._escape


def _unescaped(part: bytes, *, is_last: bool) -> tuple[bytes, bytes]:
    """Return the characters that the JSON means, and the beginning of an escape sequence at its end."""
    last = part.rfind(b"\\")
    if last < 0:
        return part, b""
    count = last if not is_last and len(part) - last < _LONGEST_ESCAPE else len(part)
    try:
        return json.loads('"' + part[:count].decode("ascii") + '"').encode("ascii"), part[count:]
    except ValueError:
        raise _NotBase64 from None


def _decoded(text: bytes) -> bytes:
    try:
        decoded = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise _NotBase64 from None
    # Only what is written the same way again: the text may be asked for, and fingerprints are taken of it.
    if binascii.b2a_base64(binascii.a2b_base64(text[-4:]), newline=False) != text[-4:]:
        raise _NotBase64
    return decoded
