"""Bodies with files: the same objects as the strict parser gives, with the files decoded, however they arrive."""

from __future__ import annotations

import base64
import io
import json
import random
from typing import Any

import pytest

from blueprints import streamed_json, strict_json
from mail import intake

FILE = random.Random(7).randbytes(200_001)
TEXT = base64.b64encode(FILE).decode("ascii")


class Trickle(io.RawIOBase):
    """A body that arrives in pieces of this size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body, self._size = io.BytesIO(body), size

    def read(self, size: int = -1) -> bytes:
        return self._body.read(min(size, self._size))


def read(body: bytes, size: int = 64 * 1024) -> dict[str, Any]:
    return streamed_json.read_object(Trickle(body, size))  # type: ignore[arg-type]  # it reads, and nothing else is asked


def message(content: str = TEXT, **more: Any) -> dict[str, Any]:
    file = {"filename": "a.bin", "content_type": "application/octet-stream", "content": content}
    return {"to": ["lena@shop.example"], "text": "Hi.", "attachments": [file], **more}


def as_php(document: Any) -> str:
    return json.dumps(document).replace("/", "\\/")


def as_dotnet(document: Any) -> str:
    return json.dumps(document).replace("+", "\\u002B").replace("=", "\\u003d").replace("/", "\\u002f")


def spread_out(document: Any) -> str:
    return json.dumps(document, indent=3, sort_keys=True).replace('":', '" :\t')


@pytest.mark.parametrize("size", [1_000, 1_023, 4_097, 65_536])
@pytest.mark.parametrize("write", [json.dumps, as_php, as_dotnet, spread_out])
def test_a_file_arrives_decoded_in_whatever_pieces_and_spelling(write: Any, size: int) -> None:
    document = read(write(message()).encode(), size)
    assert document["attachments"][0]["content"] == FILE
    assert {**document, "attachments": []} == message(attachments=[])


@pytest.mark.parametrize("length", [1_022, 1_023, 1_024, 1_025, 3_000])
def test_files_of_every_length_read_alike(length: int) -> None:
    for count in range(length, length + 3):
        text = base64.b64encode(FILE[:count]).decode("ascii")
        (file,) = intake.read_message(read(json.dumps(message(text)).encode(), 1_000)).attachments
        assert file.content == FILE[:count]


def test_several_files_keep_their_places() -> None:
    files = [
        {"content": base64.b64encode(FILE[:size]).decode("ascii"), "filename": f"{size}.bin"}
        for size in (5, 2_000, 100_000, 2_000)
    ]
    found = intake.read_message(read(json.dumps(message(attachments=files)).encode(), 777))
    assert [(one.filename, len(one.content)) for one in found.attachments] == [
        ("5.bin", 5), ("2000.bin", 2_000), ("100000.bin", 100_000), ("2000.bin", 2_000),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        TEXT + "!",
        TEXT[:-1],
        TEXT[:5_000] + "\n" + TEXT[5_000:],
        TEXT[:5_000] + "é" + TEXT[5_000:],
        TEXT[:5_000] + '"' + TEXT[5_000:],
        TEXT[:5_000] + "\\" + TEXT[5_000:],
        TEXT[:70_000] + "====" + TEXT[70_000:],
        base64.b64encode(FILE[:70_001]).decode() + TEXT,
        "A" * 5_001 + "B==",
        "<" * 5_000,
        "word " * 5_000,
    ],
)
def test_what_is_no_base64_is_left_to_the_rules_word_for_word(content: str) -> None:
    document = message(content)
    for size in (1_000, 65_536):
        assert read(json.dumps(document).encode(), size) == document


@pytest.mark.parametrize(
    "document",
    [
        {"content": TEXT},
        {"data": {"content": TEXT}, "text": TEXT},
        {'a"content': TEXT, 'said "content": "': TEXT},
        {"content": {"content": [TEXT]}},
        {"text": '"content": "' + TEXT + '"'},
    ],
)
def test_long_text_anywhere_else_stays_text(document: dict[str, Any]) -> None:
    assert read(json.dumps(document).encode(), 1_500) == document


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"content":"' + TEXT.encode(),
        b'{"content":"' + TEXT.encode() + b'"',
        b'{"content":"' + TEXT.encode() + b'","content":"' + TEXT.encode() + b'"}',
        b'{"filename":"a","content":"' + TEXT.encode() + b'\\x"}',
        b'{"filename":"a","content":"' + TEXT[:3_000].encode() + b'\n"}',
        b'{"filename":"a","content":"' + TEXT.encode() + b'"}{}',
        b'["content":"' + TEXT.encode() + b'"]',
        b'{"a":"b"content":"' + TEXT.encode() + b'"}',
        b'{"text":"\xff","content":"' + TEXT.encode() + b'"}',
    ],
)
def test_it_is_as_strict_as_without_files(body: bytes) -> None:
    with pytest.raises(strict_json.BadJSON):
        strict_json.parse_object(body)
    with pytest.raises(strict_json.BadJSON):
        read(body, 1_000)


# The fingerprint


@pytest.mark.parametrize("length", [0, 1, 2, 3, 700, 150_001])
def test_a_message_has_one_fingerprint_however_its_json_is_laid_out(length: int) -> None:
    document = message(base64.b64encode(FILE[:length]).decode("ascii"), subject="Grüße 📦", expires_in=60)
    prints = {
        intake.fingerprint(read(write(one).encode(), size))
        for write in (json.dumps, as_php, as_dotnet, spread_out)
        for one in (document, dict(reversed(document.items())))
        for size in (1_000, 65_536)
    }
    assert prints == {intake.fingerprint(document)}


def test_reading_the_message_changes_no_fingerprint() -> None:
    document = message()
    before = intake.fingerprint(document)
    intake.read_message(document)
    assert intake.fingerprint(document) == before


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Hi!"},
        {"text": None},
        {"html": "Hi."},
        {"to": ["lena@shop.example", "tom@shop.example"]},
        {"to": "lena@shop.example"},
        {"expires_in": 1},
        {"expires_in": True},
        {"expires_in": 1.0},
        {"headers": {"a": "bc"}},
        {"headers": {"ab": "c"}},
        {"text": "\ud800"},
        {"attachments": []},
        {"attachments": [{"filename": "a.bin", "content_type": "application/octet-stream", "content": TEXT[:-4]}]},
    ],
)
def test_another_message_has_another_fingerprint(change: dict[str, Any]) -> None:
    prints = [intake.fingerprint(one) for one in (message(), {**message(), **change})]
    assert prints[0] != prints[1]


def test_messages_that_differ_in_kinds_only_have_fingerprints_of_their_own() -> None:
    values = [1, True, 1.0, "1", [1], ["1"], {"1": 1}, None, "null", "", [], {}]
    assert len({intake.fingerprint({"x": one}) for one in values}) == len(values)
