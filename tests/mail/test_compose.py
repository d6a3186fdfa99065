"""A message as bytes: what goes in comes out again, and nothing else does."""

import email
import email.policy
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mail import headers
from mail.compose import Attachment, Draft, Sender, compose, is_settable_header
from mail.errors import Refused, Stage

WHEN = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
DRAFT = Draft("abc123@shop.example", WHEN, "Your order", text="Thank you.\n", to=("anna@example.com",))
SHOP = Sender("Acme Store", "orders@shop.example")

# What people type: no control characters and no halves of surrogate pairs.
LINE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=150)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)


def read(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.SMTP)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    return message


def display_name(message: EmailMessage, field: str) -> str:
    """The name as readers show it; EmailMessage itself leaves a blank between two encoded words of a name."""
    raw = next(str(value) for name, value in message.raw_items() if name == field)
    return str(make_header(decode_header(parseaddr(raw.replace("\r\n", ""))[0])))


def header_lines(content: bytes) -> list[bytes]:
    return content.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_plain_message_is_what_the_standards_say() -> None:
    assert compose(DRAFT, SHOP) == (
        b"Date: Thu, 05 Mar 2026 14:30:00 +0000\r\n"
        b"From: Acme Store <orders@shop.example>\r\n"
        b"To: anna@example.com\r\n"
        b"Subject: Your order\r\n"
        b"Message-ID: <abc123@shop.example>\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n"
        b"MIME-Version: 1.0\r\n"
        b"\r\n"
        b"Thank you.\r\n"
    )


def test_the_bytes_are_the_same_on_each_call() -> None:
    draft = replace(
        DRAFT,
        html="<p>Thank you.</p>",
        attachments=(Attachment("a.pdf", "application/pdf", b"%PDF-"), Attachment("b.bin", "", b"\x00")),
    )
    assert len({compose(draft, SHOP) for _ in range(5)}) == 1


def test_boundaries_differ_between_messages_and_between_levels() -> None:
    draft = replace(DRAFT, html="<p>x</p>", attachments=(Attachment("a", "text/plain", b"x"),))
    found = re.findall(rb'boundary="([^"]+)"', compose(draft, SHOP))
    other = re.findall(rb'boundary="([^"]+)"', compose(replace(draft, message_id="other@shop.example"), SHOP))
    assert len({*found, *other}) == 4
    assert all(boundary.startswith(b"=_") for boundary in found)


def test_html_is_the_alternative_after_the_text() -> None:
    message = read(compose(replace(DRAFT, html="<p>Danke schön</p>"), SHOP))
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    html = message.get_body(("html",))
    assert html is not None
    assert html.get_content().strip() == "<p>Danke schön</p>"


def test_html_alone_stands_alone() -> None:
    assert read(compose(replace(DRAFT, text=None, html="<p>x</p>"), SHOP)).get_content_type() == "text/html"


def test_neither_text_nor_html_is_an_empty_text() -> None:
    message = read(compose(replace(DRAFT, text=None), SHOP))
    assert message.get_content_type() == "text/plain"
    assert message.get_content().strip() == ""


def test_without_visible_recipients_the_header_says_so() -> None:
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in compose(replace(DRAFT, to=()), SHOP)


def test_cc_and_reply_to_are_written_and_bcc_never_is() -> None:
    draft = replace(
        DRAFT, cc=("ben@example.com",), reply_to=("Help Desk <help@shop.example>",), headers=(("Bcc", "x@y.example"),)
    )
    content = compose(draft, SHOP, extra_headers=[("bcc", "z@y.example")])
    message = read(content)
    assert message["Cc"] == "ben@example.com"
    assert message["Reply-To"] == "Help Desk <help@shop.example>"
    assert b"y.example" not in content


@pytest.mark.parametrize(
    "name",
    [
        "Ünïcode Shöp",
        "Acme, Inc.",
        'The "Best" Shop \\ Ever',
        "Dr. Who",
        "=?utf-8?q?Bank?=",
        "a" * 150,
        "ü" * 150,
        "👩‍👩‍👧‍👦 " * 20,
        "x, " * 49 + "ü",
        "Shop <admin@bank.example>",
        "(comment)",
        "",
    ],
)
def test_any_sender_name_arrives_as_it_was(name: str) -> None:
    message = read(compose(DRAFT, Sender(name, "orders@shop.example")))
    assert display_name(message, "From") == name.strip()
    assert [address.addr_spec for address in message["From"].addresses] == ["orders@shop.example"]


@pytest.mark.parametrize(
    "subject",
    ["Grüße aus München", "", "=?utf-8?q?Hello=0ABcc:?=", "a" * 900, "ü" * 500, "two  blanks   three", "Re: 你好" * 30],
)
def test_any_subject_arrives_as_it_was(subject: str) -> None:
    content = compose(replace(DRAFT, subject=subject), SHOP)
    assert str(read(content)["Subject"]) == subject


@given(name=LINE, subject=LINE, text=TEXT, html=st.none() | TEXT, to_name=LINE)
@example(name="\u00e4, b", subject=" ", text="\r\n.\r\nFrom x\n", html=None, to_name='"')
@example(name="x" * 78, subject="\u00e4" * 30 + " =?", text="=\t \n\n", html="\x0c\x85", to_name="a\\")
@settings(max_examples=150, deadline=None)
def test_what_goes_in_comes_out_again(name: str, subject: str, text: str, html: str | None, to_name: str) -> None:
    quoted = to_name.strip().replace("\\", "\\\\").replace('"', '\\"')
    to = f'"{quoted}" <anna@example.com>' if not re.search("[<>]", quoted) else "anna@example.com"
    content = compose(replace(DRAFT, subject=subject, text=text, html=html, to=(to,)), Sender(name, SHOP.address))
    assert content.isascii()
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
    message = read(content)
    # A reader drops the blanks around a value; those inside are kept.
    assert str(message["Subject"]) == subject.strip(" ")
    assert display_name(message, "From") == name.strip(" ")
    assert message["To"].addresses[0].addr_spec == "anna@example.com"
    bodies = {"plain": text, "html": html}
    for kind, expected in bodies.items():
        body = message.get_body((kind,))
        assert (body is None) is (expected is None)
        if body is not None and expected is not None:
            assert _lines(body.get_payload(decode=True).decode()) == _lines(expected)


def _lines(text: str) -> list[str]:
    lines = re.split("\r\n|\r|\n", text)
    return lines[:-1] if lines[-1] == "" and len(lines) > 1 else lines


@given(
    filename=LINE.map(str.strip).filter(bool),
    content=st.binary(max_size=300),
    kind=st.sampled_from(
        ["application/pdf", "text/plain", "text/csv; charset=utf-8", "image/png", "message/rfc822", "junk"]
    ),
)
@example(filename='say "hi" \\ now.txt', content=b"", kind="text/plain")
@example(filename="Rechnung für Zoë; Nr. 7.pdf", content=b"\r\n.\r\n", kind="application/pdf")
@example(filename="n" * 120 + "ü.pdf", content=b"x", kind="application/pdf")
@settings(max_examples=80, deadline=None)
def test_any_attachment_arrives_as_it_was(filename: str, content: bytes, kind: str) -> None:
    message = read(compose(replace(DRAFT, attachments=(Attachment(filename, kind, content),)), SHOP))
    (part,) = message.iter_attachments()
    assert part.get_filename() == filename
    assert part.get_payload(decode=True) == content
    assert part["Content-Transfer-Encoding"] == "base64"
    expected = "application/octet-stream" if kind in {"message/rfc822", "junk"} else kind.partition(";")[0]
    assert part.get_content_type() == expected


def test_a_file_name_beyond_ascii_is_written_as_rfc_2231_says() -> None:
    content = compose(replace(DRAFT, attachments=(Attachment("größe.pdf", "application/pdf", b"x"),)), SHOP)
    assert b"filename*=utf-8''gr%C3%B6%C3%9Fe.pdf" in content


@pytest.mark.parametrize("text", ["a" * 5000, "ü" * 5000, "." * 2000, "line \n" * 3])
def test_long_lines_and_blanks_at_line_ends_survive(text: str) -> None:
    content = compose(replace(DRAFT, text=text), SHOP)
    assert all(len(line) <= 78 for line in content.split(b"\r\n"))
    assert _lines(read(content).get_content()) == _lines(text)


@pytest.mark.parametrize(
    "draft",
    [
        replace(DRAFT, subject="Hello\r\nBcc: x@y.example"),
        replace(DRAFT, subject="Hello\nX: y"),
        replace(DRAFT, subject="Hello\rX: y"),
        replace(DRAFT, subject="Hello\x0bX"),
        replace(DRAFT, subject="Hello\u2028X"),
        replace(DRAFT, subject="Hello\x00"),
        replace(DRAFT, subject="half \ud83d"),
        replace(DRAFT, text="half \ud83d"),
        replace(DRAFT, to=("anna@example.com\r\nBcc: x@y.example",)),
        replace(DRAFT, to=("Anna\n <anna@example.com>",)),
        replace(DRAFT, cc=("nobody",)),
        replace(DRAFT, reply_to=("a@b@c.example",)),
        replace(DRAFT, to=("a@example.com, b@example.com",)),
        replace(DRAFT, to=("",)),
        replace(DRAFT, to=("group: a@example.com;",)),
        replace(DRAFT, headers=(("X-Note", "a\r\nBcc: x@y.example"),)),
        replace(DRAFT, headers=(("X-Note", "b" * 1000),)),
        replace(DRAFT, message_id="no id"),
        replace(DRAFT, message_id="a@b>\r\nX: <c@d"),
        replace(DRAFT, date=datetime(2026, 3, 5)),  # noqa: DTZ001 - a naive date is the fault
        replace(DRAFT, attachments=(Attachment("a\r\nX: y", "text/plain", b""),)),
    ],
)
def test_what_could_become_another_header_is_refused(draft: Draft) -> None:
    with pytest.raises(Refused) as caught:
        compose(draft, SHOP)
    assert (caught.value.code, caught.value.stage) == ("unsendable", Stage.MESSAGE)
    assert "y.example" not in caught.value.detail


@pytest.mark.parametrize("subject", ["Hello\r\nBcc: x@y.example", "Hello\r\nX-Other: y", "Hello\r\nFrom: x@y.example"])
def test_a_field_nobody_intended_is_found_in_the_bytes(monkeypatch: pytest.MonkeyPatch, subject: str) -> None:
    # As if the first guard had a hole: the second reads what was really written.
    monkeypatch.setattr(headers, "check_value", str)
    with pytest.raises(Refused, match="other than the intended"):
        compose(replace(DRAFT, subject=subject), SHOP)


@pytest.mark.parametrize(
    "sender", [Sender("A\r\nBcc: x@y.example", SHOP.address), Sender("A", "not an address"), Sender("A", "")]
)
def test_a_sender_that_cannot_be_written_is_refused(sender: Sender) -> None:
    with pytest.raises(Refused):
        compose(DRAFT, sender)


@pytest.mark.parametrize(
    ("name", "settable"),
    [
        ("X-Campaign", True),
        ("List-Unsubscribe", True),
        ("Auto-Submitted", True),
        ("From", False),
        ("TO", False),
        ("cc", False),
        ("Bcc", False),
        ("Sender", False),
        ("Reply-To", False),
        ("Return-Path", False),
        ("Date", False),
        ("Message-ID", False),
        ("Subject", False),
        ("MIME-Version", False),
        ("Content-Type", False),
        ("content-foo", False),
        ("DKIM-Signature", False),
        ("X Space", False),
        ("X:Colon", False),
        ("X-\r\nBcc", False),
        ("X-Ü", False),
        ("", False),
    ],
)
def test_some_header_names_have_no_effect(name: str, settable: bool) -> None:
    assert is_settable_header(name) is settable
    content = compose(DRAFT, SHOP, extra_headers=[(name, "value-of-mine")])
    assert (b"value-of-mine" in content) is settable


def test_the_headers_of_a_message_win_over_those_of_the_settings() -> None:
    draft = replace(DRAFT, headers=(("X-Tag", "one"), ("X-Tag", "two")), auto_submitted="auto-generated")
    message = read(compose(draft, SHOP, extra_headers=[("x-tag", "three"), ("X-Other", "four")]))
    assert message.get_all("X-Tag") == ["one", "two"]
    assert message["X-Other"] == "four"
    assert message["Auto-Submitted"] == "auto-generated"


def test_auto_submitted_is_written_once() -> None:
    draft = replace(DRAFT, headers=(("Auto-Submitted", "auto-replied"),), auto_submitted="auto-generated")
    assert read(compose(draft, SHOP)).get_all("Auto-Submitted") == ["auto-replied"]


def test_a_long_word_in_a_header_is_never_encoded() -> None:
    url = "<https://shop.example/unsubscribe/" + "t" * 300 + ">"
    content = compose(replace(DRAFT, headers=(("List-Unsubscribe", url),)), SHOP)
    assert url.encode() in content


def test_long_headers_are_folded_and_unfold_to_what_they_were() -> None:
    value = " ".join(f"<id-{number}@shop.example>" for number in range(40))
    content = compose(replace(DRAFT, headers=(("References", value),)), SHOP)
    assert max(len(line) for line in header_lines(content)) <= 78
    unfolded = content.replace(b"\r\n ", b" ")
    assert f"References: {value}\r\n".encode() in unfolded


def test_domains_are_written_in_ascii() -> None:
    content = compose(replace(DRAFT, to=("anna@münchen.example",)), Sender("Bücher", "post@bücher.example"))
    assert b"anna@xn--mnchen-3ya.example" in content
    assert b"post@xn--bcher-kva.example" in content
    assert content.isascii()


def test_an_international_local_part_is_the_only_thing_beyond_ascii() -> None:
    content = compose(replace(DRAFT, to=("Jürgen <jürgen@example.com>",)), SHOP)
    assert "<jürgen@example.com>".encode() in content
    assert content.replace("jürgen".encode(), b"").isascii()


def test_the_date_keeps_its_zone() -> None:
    content = compose(replace(DRAFT, date=WHEN.astimezone(timezone(timedelta(hours=2)))), SHOP)
    assert b"Date: Thu, 05 Mar 2026 16:30:00 +0200\r\n" in content


def test_a_message_id_may_bring_its_brackets() -> None:
    assert compose(replace(DRAFT, message_id="<abc123@shop.example>"), SHOP) == compose(DRAFT, SHOP)


def test_every_required_field_stands_there_exactly_once() -> None:
    content = compose(replace(DRAFT, html="<p>x</p>", headers=(("X-A", "b"),)), SHOP)
    names = [line.partition(b":")[0] for line in header_lines(content) if not line.startswith(b" ")]
    for name in (b"From", b"To", b"Subject", b"Date", b"Message-ID", b"MIME-Version", b"Content-Type"):
        assert names.count(name) == 1
