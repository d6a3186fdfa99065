"""A body from outside: untouched when any server takes it, else only the parts that need it are encoded anew."""

from __future__ import annotations

import email
import email.policy
import time
from email.message import EmailMessage

import pytest

from mail import wire
from mail.relayed import NotWireSafe, normalise

SIGNED = (
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n'
    b'\tmicalg=sha-256; boundary="----=_signed"\r\n'
    b"\r\n"
    b"This is an S/MIME signed message\r\n"
    b"\r\n"
    b"------=_signed\r\n"
    b"Content-Type:  text/plain;charset=utf-8\r\n"
    b"Content-Transfer-Encoding:quoted-printable\r\n"
    b"\r\n"
    b"Gr=C3=BC=C3=9Fe, trailing blank: =20\r\n"
    b"\r\n"
    b"------=_signed  \r\n"
    b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b"\r\n"
    b"MIIB" + b"A" * 60 + b"\r\n"
    b"------=_signed--\r\n"
    b"\r\n"
)


def mixed(*parts: bytes, kind: bytes = b"mixed", fields: bytes = b"", boundary: bytes = b"b1") -> bytes:
    head = (
        b"MIME-Version: 1.0\r\n" + fields + b"Content-Type: multipart/" + kind + b"; boundary=" + boundary + b"\r\n\r\n"
    )
    return head + b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


def body_of(raw: bytes) -> bytes:
    body = normalise(raw).body
    assert wire.is_safe(body)
    return body


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(body_of(raw), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def content_of(part: EmailMessage) -> bytes:
    return bytes(part.get_payload(decode=True))


PLAIN = b"Content-Type: text/plain\r\n\r\nplain\r\n"
LOGO = (
    b"Content-Type: image/png\r\nContent-ID: <logo@shop>\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n"
)
CALENDAR = b"Content-Type: text/calendar; method=REQUEST; charset=utf-8\r\n\r\nBEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        SIGNED,
        mixed(PLAIN, LOGO, kind=b"related"),
        mixed(PLAIN, CALENDAR, kind=b"alternative"),
        mixed(mixed(PLAIN, PLAIN, boundary=b"b2").partition(b"\r\n")[2], LOGO),
        b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: nonsense\r\n\r\n.\r\n..\r\nFrom me\r\n",
        b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed\r\n\r\nno boundary, no parts\r\n",
    ],
    ids=["signed", "inline image", "calendar", "nested", "charset", "no type", "no boundary"],
)
def test_what_is_fit_stays_byte_for_byte(raw: bytes) -> None:
    assert body_of(b"Subject: x\r\n" + raw) == raw


@pytest.mark.parametrize(
    "bad",
    [(b"Gr=C3=BC", b"Gr\xc3\xbc"), (b"blank: =20\r\n", b"blank: =20\n"), (b"=C3=9Fe", b"w" * 999)],
    ids=["8-bit", "bare LF", "long line"],
)
def test_a_signed_body_is_refused_rather_than_changed(bad: tuple[bytes, bytes]) -> None:
    with pytest.raises(NotWireSafe, match="A signed part has"):
        normalise(SIGNED.replace(*bad))


def test_a_signed_part_is_kept_while_its_neighbour_is_encoded() -> None:
    signed = SIGNED.partition(b"\r\n")[2]
    body = body_of(mixed("Content-Type: text/plain\r\n\r\nGrüße\r\n".encode(), signed))
    assert signed in body
    assert b"Gr=C3=BC=C3=9Fe" in body


def test_text_beyond_ascii_becomes_quoted_printable_and_keeps_its_charset() -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    message = read(raw + b"Sch\xf6ne Gr\xfc\xdfe aus dem Laden\r\n")
    assert message["Content-Transfer-Encoding"] == "quoted-printable"
    assert message["Content-Type"].params["charset"] == "iso-8859-1"
    assert message.get_content() == "Schöne Grüße aus dem Laden\r\n"


def test_text_mostly_beyond_ascii_becomes_base64() -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n" + "Заказ принят\r\n".encode("koi8-r")
    message = read(raw)
    assert message["Content-Transfer-Encoding"] == "base64"
    assert message.get_content() == "Заказ принят\r\n"


@pytest.mark.parametrize(
    "fields",
    [b"", b"Content-Type: text/plain\r\n", b'Content-Type: text/plain; charset="us-ascii"; format=flowed\r\n'],
    ids=["no fields", "no charset", "wrong charset"],
)
def test_utf_8_that_nobody_named_is_named(fields: bytes) -> None:
    message = read(b"Subject: x\r\n" + fields + "\r\nGrüße aus dem Laden\r\n".encode())
    assert message["MIME-Version"] == "1.0"
    assert message["Content-Type"].params["charset"] == "utf-8"
    assert ("format" in message["Content-Type"].params) is (b"format" in fields)
    assert message.get_content() == "Grüße aus dem Laden\r\n"


def test_bytes_of_an_unknown_charset_stay_what_they_were() -> None:
    message = read(b"MIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nsome caf\xe9 on the corner\r\n")
    assert "charset" not in message["Content-Type"].params
    assert content_of(message) == b"some caf\xe9 on the corner\r\n"


@pytest.mark.parametrize("line", [b"w" * 999, b"word " * 400, b"\xc3\xbc" * 700])
def test_long_lines_are_broken_softly(line: bytes) -> None:
    raw = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + line + b"\r\nEnd\r\n"
    assert content_of(read(raw)) == line + b"\r\nEnd\r\n"
    assert max(map(len, body_of(raw).split(b"\r\n"))) <= 76


@pytest.mark.parametrize(
    ("lines", "fit"),
    [(b"one\ntwo", b"one\r\ntwo"), (b"one\rtwo", b"one\r\ntwo"), (b"one\r\r\ntwo\n", b"one\r\n\r\ntwo\r\n")],
)
def test_line_ends_of_text_become_crlf_without_another_encoding(lines: bytes, fit: bytes) -> None:
    part = b"Content-Type: text/plain\r\n\r\n"
    assert body_of(mixed(part + lines)) == mixed(part + fit)


def test_a_file_that_is_no_text_keeps_each_byte() -> None:
    content = b'{"a": "\xc3\xbc",\n"b": 1}\r'
    part = b"Content-Type: application/json\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + content
    (attached,) = read(mixed(part)).iter_parts()
    assert content_of(attached) == content
    assert attached.get_all("Content-Transfer-Encoding") == ["base64"]


def test_base64_on_one_long_line_is_broken_into_lines() -> None:
    part = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: BASE64\r\n\r\n" + b"JVBERi0x" * 500
    (attached,) = read(mixed(part)).iter_parts()
    assert content_of(attached) == b"%PDF-1" * 500


def test_quoted_printable_with_raw_bytes_is_encoded_anew() -> None:
    fields = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    (part,) = read(mixed(fields + "Sch=C3=B6ne Grüße =\r\naus dem Laden=20\nEnde".encode())).iter_parts()
    assert part.get_content() == "Schöne Grüße aus dem Laden \r\nEnde"


def test_only_the_part_that_needs_it_is_changed() -> None:
    body = body_of(mixed(PLAIN, b"Content-Type: text/plain\n\nbare\nlines", LOGO, CALENDAR))
    assert body == mixed(PLAIN, b"Content-Type: text/plain\r\n\r\nbare\r\nlines", LOGO, CALENDAR)


def test_preamble_and_epilogue_go_when_they_are_not_fit() -> None:
    raw = mixed(PLAIN, b"\r\n" + b"w" * 999).replace(b"\r\n--b1", b"\r\n\xfcber\r\n--b1", 1) + b"\xfcber\r\n"
    body = body_of(raw)
    assert b"ber\r\n" not in body
    assert len(list(read(raw).iter_parts())) == 2


def test_a_multipart_that_is_never_closed_is_closed() -> None:
    raw = mixed(PLAIN, "\r\nGrüße".encode()).removesuffix(b"\r\n--b1--\r\n")
    assert [part.get_content_type() for part in read(raw).iter_parts()] == ["text/plain", "text/plain"]


def test_a_label_of_eight_bits_goes_with_the_bytes() -> None:
    raw = mixed(b"\r\n\xc3\xbc and more text", fields=b"Content-Transfer-Encoding: 8bit\r\n")
    assert b"8bit" not in body_of(raw)


def test_an_attached_message_is_encoded_inside() -> None:
    inner = "Subject: Grüße von dort\r\nX-Long: {}\r\nContent-Type: text/plain\r\n\r\nSchöne Grüße\r\n".format(
        "w " * 600
    )
    digest = mixed(b"\r\n" + inner.encode(), kind=b"digest")
    attached = mixed(b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + inner.encode())
    for raw in (digest, attached):
        (part,) = read(raw).iter_parts()
        assert part.get_content_type() == "message/rfc822"
        (message,) = part.get_payload()
        assert message["Subject"] == "Grüße von dort"
        assert content_of(message) == "Schöne Grüße\r\n".encode()


@pytest.mark.parametrize(
    ("field", "filename"),
    [
        ('Content-Disposition: attachment; filename="größe \\"1\\".pdf"'.encode(), 'größe "1".pdf'),
        (b'Content-Type: application/pdf; name="gr\xf6\xdfe.pdf"', "größe.pdf"),
        (b"Content-Disposition: attachment; size=3;\n filename==?utf-8?q?gr=C3=B6=C3=9Fe?=", "größe"),
        (b"Content-Disposition: attachment;\n filename*0*=utf-8''gr%C3%B6;\n filename*1*=%C3%9Fe", "größe"),
        (b'Content-Disposition: attachment;\n filename*0="a b";\n filename*1="c"', "a bc"),
        (b"Content-Disposition: attachment; filename=" + b"w" * 1200, "w" * 1200),
    ],
)
def test_file_names_in_raw_bytes_are_written_as_the_standards_say(field: bytes, filename: str) -> None:
    (part,) = read(mixed(field + b"\r\n\r\nx")).iter_parts()
    assert part.get_filename() == filename


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (mixed(b"\r\n\xfc", boundary=b"\xfc"), "no boundary"),
        (mixed(b"\r\n\xfc").replace(b"boundary=b1", b"x=y"), "no boundary"),
        (mixed(b"\r\n\xfc").replace(b"boundary=b1", b"boundary=b2"), "lacks the parts"),
        (mixed(b"Content-Type: message/delivery-status\r\n\r\nX: \xfc"), "may not be encoded"),
        (mixed(b"Content-Transfer-Encoding: x-uuencode\r\n\r\n\xfc"), "may not be encoded"),
        (mixed(b"Content-Transfer-Encoding: base64\r\n\r\nnot \xfc base64"), "said to be base64"),
        (mixed(b"Content-Description: " + b"w" * 999 + b"\r\n\r\nx"), "longer than a line"),
        (mixed(*[b"\r\n"] * 1001, b"\r\n\xfc"), "more than 1000 parts"),
        (b"Content-Type: message/rfc822\r\n\r\n" * 25 + b"\xfc\r\n", "nested too deeply"),
    ],
)
def test_what_would_have_to_be_guessed_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(NotWireSafe, match=reason) as caught:
        normalise(raw)
    assert str(caught.value).endswith(".")


def test_a_boundary_that_begins_like_another_is_not_taken_for_it() -> None:
    inner = mixed(b"\r\n\xc3\xbc one", boundary=b"b11").partition(b"\r\n")[2]
    outer = read(mixed(inner, b"\r\n--b1x\r\ntwo"))
    first, second = outer.iter_parts()
    assert [content_of(part) for part in first.iter_parts()] == ["ü one".encode()]
    assert content_of(second) == b"--b1x\r\ntwo"


@pytest.mark.parametrize(
    "raw",
    [
        b"To: " + b'"\\' * 500_000,
        b"To: " + b"(" * 1_000_000,
        b"To: a@" + "ü".encode() * 500_000,
        b"Subject: " + b"=?utf-8?b?YWFh?= " * 50_000,
        b"Subject: " + b"=?x*" * 250_000,
        b"Content-Type: text/plain" + b';a="\\"' * 160_000 + b"\r\n\r\n\xfc",
        b"Content-Type: multipart/mixed; boundary=-\r\n\r\n" + b"-" * 5_000_000 + b"\n---\n\xfc",
        b"\n" * 5_000_000,
        b"x\r" * 2_500_000,
        b"w" * 5_000_000,
    ],
    ids=["quotes", "comments", "domain", "words", "no words", "parameters", "dashes", "LF", "CR", "one line"],
)
def test_hostile_input_costs_no_more_than_its_length(raw: bytes) -> None:
    # Each takes well under a second; what grows with the square of the length would take minutes.
    started = time.process_time()
    normalise(raw)
    assert time.process_time() - started < 10
