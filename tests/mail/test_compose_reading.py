"""What a reader finds in our bytes is what was meant, whatever was meant; and the last look at them is not blind."""

from __future__ import annotations

import binascii
import email
import email.policy
import quopri
import re
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mail import headers, mime, wire
from mail.compose import Attachment, Draft, Sender, compose
from mail.errors import Refused

WHEN = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
DRAFT = Draft("abc123@shop.example", WHEN, "Your order", text="Thank you.\n", to=("anna@example.com",))
SHOP = Sender("Acme Store", "orders@shop.example")

# Pieces that writers of mail stumble over, beside what people type.
STUMBLING = ["a", " ", "  ", "\t", '"', "\\", "@", ",", ";", ":", "(", "=?", "?=", "=?utf-8?q?x?=", "%", "'", "é" * 40]
PIECES = st.sampled_from(
    [*STUMBLING, "ü", "€", "👩‍👩‍👧‍👦", "\u202eabc", "שלום", "\u200b", "word " * 5, "w" * 70, "w" * 300, "--=_", "From "]
)
TYPED = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
LINE = st.lists(PIECES | TYPED, max_size=12).map("".join)
BODY = st.lists(PIECES | st.sampled_from(["\r\n", "\n", "\r", "\0", ".", "\x0c"]) | TYPED, max_size=40).map("".join)
# The reader of this test takes every kind of blank off the ends of a file name.
FILENAME = LINE.map(lambda text: text.replace("\t", " ").strip()).filter(bool)
ADDRESSES = ["anna@example.com", "o'neil+tag@example.co.uk", "root@localhost", "x@xn--bcher-kva.example"]
# Angle brackets in the name of a recipient are refused, not written.
MAILBOX = st.tuples(LINE.map(lambda name: re.sub("[<>]", "", name)), st.sampled_from(ADDRESSES))
TYPES = ["application/pdf", "text/csv; charset=utf-8", "Image/PNG", "message/rfc822", "junk"]
FILE = st.builds(Attachment, FILENAME, st.sampled_from(TYPES), st.binary(max_size=200))


def read(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def lines_of(text: str) -> str:
    """The text as canonical form has it: LF here, and one at the end."""
    text = re.sub("\r\n|\r", "\n", text)
    return text if text.endswith("\n") else f"{text}\n"


def body_of(message: EmailMessage, kind: str) -> str | None:
    found = message.get_body((kind,))
    return None if found is None else found.get_payload(decode=True).decode("utf-8").replace("\r\n", "\n")


def name_in(field: str) -> str:
    """The display name as readers show it; EmailMessage leaves a blank between two encoded words of a name."""
    return str(make_header(decode_header(parseaddr(field)[0])))


@given(
    sender_name=LINE,
    subject=LINE,
    text=st.none() | BODY,
    html=st.none() | BODY,
    to=st.lists(MAILBOX, max_size=3),
    cc=st.lists(MAILBOX, max_size=2),
    field=LINE,
    files=st.lists(FILE, max_size=3),
)
@example("", "", "", "", [], [], "", [Attachment('a";b="c.txt', "text/plain", b"\r\n--=_\r\n")])
@example("x", "ü" * 300, "a" * 10_000, None, [("\u202e", ADDRESSES[0])], [], "=?", [Attachment("ü" * 200, "junk", b"")])
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_reader_finds_what_was_meant_and_nothing_else(
    sender_name: str,
    subject: str,
    text: str | None,
    html: str | None,
    to: list[tuple[str, str]],
    cc: list[tuple[str, str]],
    field: str,
    files: list[Attachment],
) -> None:
    written_to, written_cc = ([_written(*one) for one in them] for them in (to, cc))
    draft = replace(DRAFT, subject=subject, text=text, html=html, to=tuple(written_to), cc=tuple(written_cc))
    draft = replace(draft, headers=(("X-Order", field),), attachments=tuple(files), auto_submitted="auto-generated")
    content = compose(draft, Sender(sender_name, SHOP.address), extra_headers=[("X-Shop", "Acme"), ("Bcc", "b@c.d")])
    message = read(content)

    assert compose(draft, Sender(sender_name, SHOP.address), extra_headers=[("X-Shop", "Acme")]) == content
    assert wire.line_fault(content) == ""
    expected = ["Date", "From", "To", *(["Cc"] if cc else []), "Subject", "Message-ID"]
    expected += ["X-Order", "X-Shop", "Auto-Submitted", "Content-Type", "MIME-Version"]
    assert sorted({*message.keys(), "Content-Transfer-Encoding"}) == sorted({*expected, "Content-Transfer-Encoding"})
    assert len(message.keys()) == len(set(message.keys()))
    assert message["Date"].datetime == WHEN
    assert message["Message-ID"] == "<abc123@shop.example>"
    assert str(message["Subject"]) == subject.replace("\t", " ").strip(" ")
    assert str(message["X-Order"]) == field.replace("\t", " ").strip(" ")
    assert message["X-Shop"] == "Acme"
    assert [one.addr_spec for one in message["From"].addresses] == [SHOP.address]
    raw_from = next(value for name, value in message.raw_items() if name == "From")
    assert name_in(raw_from.replace("\r\n", "")) == sender_name.replace("\t", " ").strip(" ")
    assert [one.addr_spec for one in message["To"].addresses] == [address for _, address in to]
    assert [one.addr_spec for one in (message["Cc"].addresses if cc else ())] == [address for _, address in cc]
    assert body_of(message, "plain") == (None if text is None and html is not None else lines_of(text or ""))
    assert body_of(message, "html") == (None if html is None else lines_of(html))
    found = list(message.iter_attachments()) if files else []
    assert [part.get_filename() for part in found] == [one.filename for one in files]
    assert [part.get_payload(decode=True) for part in found] == [one.content for one in files]
    assert [part.get_content_type() for part in found] == [_type_read(one.content_type) for one in files]


def _written(name: str, address: str) -> str:
    escaped = name.strip(" \t").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{address}>' if escaped else address


def _type_read(kind: str) -> str:
    return "application/octet-stream" if kind in {"message/rfc822", "junk"} else kind.partition(";")[0].lower()


@given(BODY)
@example("a" * 74 + " \r\n" + "b" * 75 + "\t\n" + "ü" * 12 + "x" * 2 + " \n")
@settings(max_examples=150, deadline=None)
def test_quoted_printable_lines_stay_within_76_and_decode_to_the_same(text: str) -> None:
    canonical = mime.canonical_lines(text.encode("utf-8"))
    encoded = mime.quoted_printable(canonical)
    assert quopri.decodestring(encoded) == canonical
    assert all(len(line) <= 76 and not line.endswith((b" ", b"\t")) for line in encoded.split(b"\r\n"))
    assert wire.is_safe(encoded)


@pytest.mark.parametrize(
    "line", ["x" * 75, "x" * 76, "x" * 77, ".", "..", "a=b", "a ", "a\t", "a\tb", "~", "\x7f", "\x00", "", "ü"]
)
def test_a_text_that_is_its_own_quoted_printable_is_told_from_one_that_is_not(line: str) -> None:
    canonical = mime.canonical_lines(f"Hello\n{line}\nBye\n".encode())
    assert mime.quoted_printable(canonical) == binascii.b2a_qp(canonical)


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 57 * 8192, 57 * 8192 + 1])
def test_files_are_base64_in_lines_of_76(size: int) -> None:
    content = b"".join(mime.base64_blocks(bytes(size)))
    lines = content.split(b"\r\n")
    assert lines[-1] == b""
    assert all(len(line) == 76 for line in lines[:-2])
    (part,) = read(compose(replace(DRAFT, attachments=(Attachment("a", "", bytes(size)),)), SHOP)).iter_attachments()
    assert part.get_payload(decode=True) == bytes(size)


@pytest.mark.parametrize(
    ("filename", "written"),
    [
        ("a.pdf", b'; filename="a.pdf"\r\n'),
        ('a "b" \\ c.txt', b'; filename="a \\"b\\" \\\\ c.txt"\r\n'),
        ("n" * 200 + ".pdf", b';\r\n filename="' + b"n" * 200 + b'.pdf"\r\n'),
        ("=?utf-8?q?x?=.pdf", b";\r\n filename*=utf-8''%3D%3Futf-8%3Fq%3Fx%3F%3D.pdf\r\n"),
        ("", b'; filename="attachment"\r\n'),
    ],
)
def test_a_file_name_is_quoted_while_it_can_be(filename: str, written: bytes) -> None:
    assert written in compose(replace(DRAFT, attachments=(Attachment(filename, "", b"x"),)), SHOP)


@pytest.mark.parametrize("filename", ["ü" * 100 + ".pdf", "👩‍👩‍👧‍👦" * 20, "n" * 5000])
def test_a_long_file_name_continues_over_lines_of_whole_characters(filename: str) -> None:
    content = compose(replace(DRAFT, attachments=(Attachment(filename, "", b"x"),)), SHOP)
    assert max(map(len, content.split(b"\r\n"))) <= 78
    (part,) = read(content).iter_attachments()
    assert part.get_filename() == filename


def test_a_thousand_recipients_are_read_back() -> None:
    to = tuple(f"Person Nº {number} <p{number}@example.com>" for number in range(1000))
    message = read(compose(replace(DRAFT, to=to), SHOP))
    assert [one.addr_spec for one in message["To"].addresses] == [f"p{number}@example.com" for number in range(1000)]


def test_a_name_of_ten_thousand_characters_is_read_back() -> None:
    content = compose(DRAFT, Sender("ü" * 10_000, SHOP.address))
    raw_from = next(value for name, value in read(content).raw_items() if name == "From")
    assert name_in(raw_from.replace("\r\n", "")) == "ü" * 10_000


@pytest.mark.parametrize(
    "draft",
    [
        replace(DRAFT, subject="w" * 10_000),
        replace(DRAFT, to=("w" * 10_000 + " <anna@example.com>",)),
        replace(DRAFT, to=("w" * 10_000 + "@example.com",)),
        replace(DRAFT, headers=(("X-" + "n" * 2000, "x"),)),
        replace(DRAFT, attachments=(Attachment("a", "application/" + "x" * 2000, b""),)),
        replace(DRAFT, message_id="w" * 1000 + "@shop.example"),
    ],
    ids=["subject", "name", "address", "field name", "type", "message id"],
)
def test_a_header_line_that_cannot_be_folded_is_refused(draft: Draft) -> None:
    with pytest.raises(Refused, match="a line longer than 998 octets"):
        compose(draft, SHOP)


@pytest.mark.parametrize("bad", ["\r\nX: y", "\n", "\r", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\ud83d"])
@pytest.mark.parametrize("field", ["subject", "to", "cc", "reply_to", "headers", "filename", "sender"])
def test_no_control_character_gets_into_any_field(field: str, bad: str) -> None:
    text = f"a{bad}b"
    values = {
        "subject": text,
        "to": (f"{text} <a@example.com>",),
        "cc": (f"{text}@example.com",),
        "reply_to": (f"a@{text}.example",),
        "headers": (("X-Note", text),),
    }
    draft = replace(DRAFT, attachments=(Attachment(text if field == "filename" else "a", "", b""),))
    if field in values:
        draft = replace(draft, **{field: values[field]})
    with pytest.raises(Refused):
        compose(draft, Sender(text if field == "sender" else "A", SHOP.address))


def test_a_file_of_25_mb_takes_little_more_than_its_encoded_size() -> None:
    draft = replace(DRAFT, attachments=(Attachment("a.bin", "", bytes(25 * 1024 * 1024)),))
    tracemalloc.start()
    try:
        content = compose(draft, SHOP)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(content) > 34_000_000
    assert peak < 1.5 * len(content)


def test_a_field_in_a_part_that_nobody_intended_is_found_in_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the first guard had a hole: the second reads what was really written.
    monkeypatch.setattr(headers, "check_value", str)
    file = Attachment('a"\r\nX-Other: y', "", b"")
    with pytest.raises(Refused, match="fields of a part other than the intended"):
        compose(replace(DRAFT, attachments=(file,)), SHOP)


@pytest.mark.parametrize("closing", ["", "--"])
def test_a_part_that_nobody_intended_is_found_in_the_bytes(monkeypatch: pytest.MonkeyPatch, closing: str) -> None:
    draft = replace(DRAFT, html="<p>x</p>")
    (boundary,) = re.findall(rb'boundary="([^"]+)"', compose(draft, SHOP))
    monkeypatch.setattr(mime, "quoted_printable", bytes)
    with pytest.raises(Refused, match="parts other than the intended"):
        compose(replace(draft, text=f"\n--{boundary.decode()}{closing}\nContent-Type: text/html\n\nForeign"), SHOP)


@given(st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"x", b"x" * 499, b"x" * 998, b"x" * 999]), max_size=12))
@example([b"x" * 998, b"\r\n", b"x" * 998, b"\r\n"])
@example([b"x" * 998, b"x"])
@settings(max_examples=200, deadline=None)
def test_the_look_at_the_lines_finds_what_splitting_them_finds(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    lines = content.split(b"\r\n")
    fault = ""
    if any(b"\r" in line or b"\n" in line for line in lines):
        fault = "a line end other than CRLF"
    elif any(len(line) > 998 for line in lines):
        fault = "a line longer than 998 octets"
    assert wire.line_fault(content) == fault
