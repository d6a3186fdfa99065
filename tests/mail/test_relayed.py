"""A finished message from an application goes out as the store's: all that may stay is kept, nothing is smuggled."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.message import EmailMessage

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mail import header_blocks, wire
from mail.compose import Sender, compose_relayed
from mail.errors import Refused, Stage
from mail.relayed import NotWireSafe, Relayed, normalise

WHEN = datetime(2026, 3, 5, 14, 30, tzinfo=UTC)
SHOP = Sender("Acme Store", "orders@shop.example")
PLAIN = (
    b"From: Old Shop <web@old.example>\r\n"
    b"To: Anna <anna@example.com>\r\n"
    b"Cc: ben@example.com\r\n"
    b"Bcc: boss@example.com\r\n"
    b"Subject: Your order\r\n"
    b"Date: Wed, 04 Mar 2026 08:00:00 +0100\r\n"
    b"Message-ID: <app-1@old.example>\r\n"
    b"X-Order: 17\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=us-ascii\r\n"
    b"\r\n"
    b"Thank you.\r\n"
)


def composed(raw: bytes, *, sender: Sender = SHOP, extra_headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    return compose_relayed(
        normalise(raw), sender, message_id="ours@shop.example", date=WHEN, extra_headers=extra_headers
    )


def read(content: bytes) -> EmailMessage:
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def with_field(field: bytes, raw: bytes = PLAIN) -> bytes:
    return field + b"\r\n" + raw


def test_a_plain_message_goes_out_as_the_stores() -> None:
    assert composed(PLAIN) == (
        b"Date: Wed, 04 Mar 2026 08:00:00 +0100\r\n"
        b"From: Acme Store <orders@shop.example>\r\n"
        b"To: Anna <anna@example.com>\r\n"
        b"Cc: ben@example.com\r\n"
        b"Reply-To: Old Shop <web@old.example>\r\n"
        b"Subject: Your order\r\n"
        b"Message-ID: <app-1@old.example>\r\n"
        b"X-Order: 17\r\n"
        b"MIME-Version: 1.0\r\n"
        b"Content-Type: text/plain; charset=us-ascii\r\n"
        b"\r\n"
        b"Thank you.\r\n"
    )
    assert composed(PLAIN) == composed(PLAIN)


def test_what_it_says_is_read() -> None:
    found = normalise(PLAIN)
    assert found == Relayed(
        subject="Your order",
        to=('"Anna" <anna@example.com>',),
        cc=("ben@example.com",),
        message_id="<app-1@old.example>",
        date=datetime(2026, 3, 4, 8, tzinfo=timezone(timedelta(hours=1))),
        from_=('"Old Shop" <web@old.example>',),
        fields=(("X-Order", "17"),),
        body=b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nThank you.\r\n",
    )


def test_without_a_header_everything_is_body() -> None:
    content = composed(b"Just a line.\r\nAnd one more.\r\n")
    message = read(content)
    assert message.get_payload() == "Just a line.\r\nAnd one more.\r\n"
    assert message["To"] == "undisclosed-recipients:;"
    assert message["Message-ID"] == "<ours@shop.example>"
    assert message["Date"].datetime == WHEN
    assert message["Subject"] == ""


@pytest.mark.parametrize("raw", [b"", b"\r\n", b"Subject: x", b"Subject: x\r\n", b"Subject: x\r\n\r\n"])
def test_hardly_anything_is_a_message_too(raw: bytes) -> None:
    assert read(composed(raw)).get_content().strip() == ""


@pytest.mark.parametrize(
    ("reply_to", "sender", "expected"),
    [
        (b"", SHOP, "Old Shop <web@old.example>"),
        (b"Reply-To: help@shop.example\r\n", SHOP, "help@shop.example"),
        (b"Reply-To:  \r\n", SHOP, "Old Shop <web@old.example>"),
        (b"Reply-To: help@shop.example\r\nReply-To: other@shop.example\r\n", SHOP, "help@shop.example"),
        (b"", Sender("", "WEB@old.example"), None),
    ],
    ids=["none", "one", "an empty one", "two", "the same sender"],
)
def test_another_author_gets_the_replies(reply_to: bytes, sender: Sender, expected: str | None) -> None:
    message = read(composed(reply_to + PLAIN, sender=sender))
    assert message["Reply-To"] == expected
    assert message["From"].addresses[0].addr_spec == sender.address


LEFT_BEHIND = """
Bcc bcc Return-Path Received Sender Resent-From Resent-Bcc DKIM-Signature ARC-Seal Authentication-Results
X-Storepost-Id DomainKey-Signature Content-Length
"""


@pytest.mark.parametrize("name", LEFT_BEHIND.split())
def test_some_fields_stay_behind(name: str) -> None:
    content = composed(with_field(f"{name}: secret@hidden.example".encode()))
    assert b"hidden.example" not in content
    assert content == composed(PLAIN)


def test_all_other_fields_stay_in_their_order_and_form() -> None:
    fields = [
        ("List-Unsubscribe", "<https://shop.example/u/" + "t" * 300 + ">"),
        ("X-Tag", "one"),
        ("References", " ".join(f"<id-{number}@old.example>" for number in range(30))),
        ("X-Tag", "two"),
        ("X-Encoded", "=?utf-8?q?gr=C3=BC=C3=9Fe?="),
        ("Auto-Submitted", "auto-generated"),
    ]
    references = fields[2][1].replace(" ", "\r\n\t")
    raw = b"".join(f"{name}: {value}\r\n".encode() for name, value in fields).replace(
        fields[2][1].encode(), references.encode()
    )
    unfolded = composed(raw + PLAIN).replace(b"\r\n ", b" ")
    positions = [unfolded.index(f"\r\n{name}: {value}\r\n".encode()) for name, value in fields]
    assert positions == sorted(positions)


def test_the_stores_fields_come_last_and_give_way() -> None:
    extra = (("x-order", "99"), ("X-Shop", "Acme"), ("Bcc", "x@y.example"), ("Content-Type", "text/html"))
    message = read(composed(PLAIN, extra_headers=extra))
    assert message.get_all("X-Order") == ["17"]
    assert message["X-Shop"] == "Acme"
    assert message["Bcc"] is None
    assert message.get_all("Content-Type") == ['text/plain; charset="us-ascii"']


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        (b"<a@b.example>", "<a@b.example>"),
        (b"  <a@b.example>\t", "<a@b.example>"),
        (b"a@b.example", "<ours@shop.example>"),
        (b"<a@b@c.example>", "<ours@shop.example>"),
        (b"<a@b.example> <c@d.example>", "<ours@shop.example>"),
        (b"<" + b"a" * 300 + b"@b.example>", "<ours@shop.example>"),
        (b"<\xc3\xbc@b.example>", "<ours@shop.example>"),
    ],
)
def test_only_a_valid_message_id_is_kept(written: bytes, kept: str) -> None:
    content = composed(PLAIN.replace(b"<app-1@old.example>", written))
    assert f"Message-ID: {kept}\r\n".encode() in content


@pytest.mark.parametrize(
    "written",
    [
        b"yesterday",
        b"",
        b"Wed, 99 Mar 2026 08:00:00 +0100",
        b"Wed, 04 Mar 2026 08:00:00 +9999",
        b"Fri, 31 Dec 9999 23:59:00 -2300",
        b"Mon, 1 Jan 99999999999999999999 00:00:00 +0000",
        b"(" * 5000,
    ],
)
def test_a_date_that_is_none_is_replaced(written: bytes) -> None:
    raw = PLAIN.replace(b"Wed, 04 Mar 2026 08:00:00 +0100", written)
    assert normalise(raw).date is None
    assert read(composed(raw))["Date"].datetime == WHEN


def test_a_date_of_unknown_zone_is_utc() -> None:
    found = normalise(PLAIN.replace(b"08:00:00 +0100", b"08:00:00 -0000"))
    assert found.date == datetime(2026, 3, 4, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        (b"=?utf-8?q?Gr=C3=BC=C3=9Fe?= =?utf-8?b?IGF1cyBNw7xuY2hlbg==?=", "Grüße aus München"),
        (b"=?utf-8?b?w?= =?utf-8?b?7w=?=", "\ufffd"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=BC?=", "ü"),
        (b"=?iso-8859-1*de?q?Gr=FC=DFe?= there", "Grüße there"),
        (b"=?windows-1251?b?x+Dq4Oc=?=", "Заказ"),
        (b"=?x-nobody-knows?q?caf=C3=A9?=", "café"),
        (b"=?unicode_escape?q?=5Cx41?=", "\\x41"),
        (b"=?utf-8?q?a=0D=0ABcc:_x@y.example?=", "aBcc: x@y.example"),
        (b"=?utf-8?x?a?= stays", "=?utf-8?x?a?= stays"),
        ("Grüße in raw UTF-8".encode(), "Grüße in raw UTF-8"),
        (b"Gr\xfc\xdfe \x80", "Grüße €"),
        (b"a\x1b[31m b\x07\x7f", "a[31m b"),
        (b"folded\r\n \tover\r\n lines", "folded  over lines"),
        (b"=?utf-8?q?" + b"w" * 1200 + b"?=", "w" * 998),
    ],
)
def test_subjects_are_read_decoded_and_written_back(written: bytes, read_as: str) -> None:
    raw = PLAIN.replace(b"Your order", written)
    found = normalise(raw)
    assert found.subject == read_as
    assert str(read(composed(raw))["Subject"]) == found.subject
    assert b"\r\nBcc:" not in composed(raw).split(b"\r\n\r\n")[0]


@pytest.mark.parametrize(
    ("written", "mailboxes"),
    [
        ("a@b.example, <c@d.example>", ("a@b.example", "c@d.example")),
        ('"Berg, Anna" <a@b.example>', ('"Berg, Anna" <a@b.example>',)),
        ('"say \\"hi\\"" <a@b.example>', ('"say \\"hi\\"" <a@b.example>',)),
        ("=?utf-8?q?J=C3=BCrgen?= <j@b.example>", ('"Jürgen" <j@b.example>',)),
        ('"=?utf-8?q?J=C3=BCrgen?=" <j@b.example>', ('"Jürgen" <j@b.example>',)),
        ("Team: a@b.example, c@d.example; e@f.example", ("a@b.example", "c@d.example", "e@f.example")),
        ("undisclosed-recipients:;", ()),
        ("a@b.example (Anna, at home)", ("a@b.example",)),
        ("a@bücher.example", ("a@xn--bcher-kva.example",)),
        ("root, nobody <>, a@b@c.example, @x.example, a@b.example", ("a@b.example",)),
        ('"open <a@b.example>, c@d.example', ()),
        ("Evil <admin@bank.example> <a@b.example>", ('"Evil admin@bank.example" <a@b.example>',)),
        ("a@b.example, a@b.example", ("a@b.example",)),
        ("w" * 1000 + " <a@b.example>", ('"' + "w" * 200 + '" <a@b.example>',)),
        ("w" * 400 + "@b.example", ()),
    ],
)
def test_recipients_of_the_header_are_read_and_written_back(written: str, mailboxes: tuple[str, ...]) -> None:
    raw = PLAIN.replace(b"Anna <anna@example.com>", written.encode())
    found = normalise(raw)
    assert found.to == mailboxes
    addresses = [one.addr_spec for one in read(composed(raw))["To"].addresses]
    assert addresses == [text.rpartition("<")[2].rstrip(">") for text in mailboxes]


def test_several_fields_of_recipients_become_one() -> None:
    message = read(composed(with_field(b"to: zoe@example.com")))
    assert [one.addr_spec for one in message["To"].addresses] == ["zoe@example.com", "anna@example.com"]


@pytest.mark.parametrize(
    "name", ["From", "Subject", "Date", "Message-ID", "Content-Type", "MIME-Version", "References"]
)
def test_a_field_named_twice_goes_out_once(name: str) -> None:
    first = {"From": "a@b.example", "Date": "Thu, 05 Mar 2026 14:30:00 +0000", "Content-Type": "text/html"}
    field = f"{name}: {first.get(name, '<one@b.example>')}".encode()
    message = read(composed(with_field(field, with_field(field, PLAIN))))
    assert len(message.get_all(name)) == 1
    assert message.get_content_type() == ("text/html" if name == "Content-Type" else "text/plain")


def test_raw_bytes_beyond_ascii_in_a_field_become_encoded_words() -> None:
    raw = with_field("X-Shop: Grüße  aus München <a@b.example> und öfter".encode())
    content = composed(with_field(b"X-Old: caf\xe9", raw))
    assert content.isascii()
    assert b"<a@b.example>" in content
    message = read(content)
    assert message["X-Shop"] == "Grüße  aus München <a@b.example> und öfter"
    assert message["X-Old"] == "café"


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: hi\nBcc: x@y.example\r\n",
        b"Subject: hi\rBcc: x@y.example\r\n",
        b"Subject: hi\n\nBody\r\n",
        b"X-A: b\r\r\nX-C: d\r\n",
    ],
)
def test_line_breaks_that_could_be_somebody_elses_are_refused(header: bytes) -> None:
    with pytest.raises(NotWireSafe, match="line ends other than CRLF"):
        normalise(header + PLAIN)


def test_a_header_with_bare_line_feeds_throughout_is_read() -> None:
    message = read(composed(PLAIN.replace(b"\r\n", b"\n")))
    assert message["X-Order"] == "17"
    assert message.get_payload() == "Thank you.\r\n"


def test_the_first_line_of_a_mailbox_file_is_left_out() -> None:
    assert composed(b"From web@old.example Thu Mar  5 14:30:00 2026\r\n" + PLAIN) == composed(PLAIN)


def test_a_line_that_is_no_field_begins_the_body() -> None:
    message = read(composed(b"Subject: x\r\nthis is no field\r\nX-A: b\r\n\r\nbody\r\n"))
    assert message["X-A"] is None
    assert message.get_payload() == "this is no field\r\nX-A: b\r\n\r\nbody\r\n"


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (PLAIN + b"\0", "The message contains a NUL character."),
        (b"X-A: b\r\n" * 1001 + PLAIN, "more than 1,000 fields."),
        (b"X-A: b\r\n" + b" c\r\n" * 300_000 + PLAIN, "larger than 1 MB"),
        (b"X-A: " + b"w" * 999 + b"\r\n" + PLAIN, "longer than a line may be."),
        (b"X-" + b"n" * 999 + b": w\r\n" + PLAIN, "longer than a line may be."),
    ],
    ids=["nul", "many fields", "long header", "long word", "long name"],
)
def test_what_cannot_be_sent_is_refused_with_a_sentence(raw: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        normalise(raw)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"message_id": "<no id>"}, "message id"),
        ({"subject": "a\r\nBcc: x@y.example"}, "control character"),
        ({"subject": "half \ud83d"}, "control character"),
        ({"fields": (("X-A", "a\r\nBcc: x@y.example"),)}, "control character"),
        ({"fields": (("X-A: b\r\nBcc", "x@y.example"),)}, "other than the intended"),
        ({"to": ("nobody",)}, "not an address"),
        ({"date": datetime(2026, 3, 5)}, "time zone"),  # noqa: DTZ001 - a naive date is the fault
        ({"body": b"Bcc: x@y.example\r\n\r\nx\r\n"}, "other than the intended"),
        ({"body": b"From: x@y.example\r\n\r\nx\r\n"}, "other than the intended"),
        ({"body": b"\r\nbare\nline feed\r\n"}, "line end"),
        ({"body": b"\r\n" + b"w" * 999 + b"\r\n"}, "998 octets"),
    ],
)
def test_what_did_not_come_from_normalise_is_looked_at_too(change: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        compose_relayed(replace(normalise(PLAIN), **change), SHOP, message_id="ours@shop.example", date=WHEN)
    assert (caught.value.code, caught.value.stage) == ("unsendable", Stage.MESSAGE)


STUMBLING = (
    b'From: |To: |Subject: |X-A: |Date: |=?utf-8?q?=0D=0A?=|=?|?=|<|>|a@b.example|,|;|(|"|\\|\xc3\xbc|\xfc|\x1b|=\n'
    b"| |\t|\r\n|\n|\r|\r\n\r\n|--b\r\n|--b--\r\n|Content-Type: multipart/mixed; boundary=b\r\n"
    b"|Content-Transfer-Encoding: |base64\r\n|quoted-printable\r\n|Content-Type: message/rfc822\r\n\r\n"
    b"|Content-Disposition: attachment; filename=|From: a@b.example\r\n|Bcc: x@y.example\r\n|\xe2\x80\xa8"
)
PIECES = st.sampled_from([*STUMBLING.split(b"|"), b"w" * 600])


@given(st.lists(PIECES | st.binary(max_size=5), max_size=40).map(b"".join))
@example(
    b"To: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\xfc\r\n--b\r\n--b--\r\n--b\r\n\xfc"
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_comes_in_is_refused_or_goes_out_safe_and_stays_so(raw: bytes) -> None:
    try:
        found = normalise(raw)
    except NotWireSafe:
        return
    assert wire.is_safe(found.body)
    content = compose_relayed(found, SHOP, message_id="ours@shop.example", date=WHEN)
    assert wire.line_fault(content) == ""
    names = wire.header_names(content)
    assert "bcc" not in names
    assert [names.count(name) for name in ("from", "to", "subject", "date", "message-id")] == [1] * 5
    again = normalise(content)
    assert again.body == found.body
    assert {name for name, _ in again.fields} - {name for name, _ in found.fields} <= {"Reply-To"}
    assert (again.subject, again.to, again.cc) == (found.subject, found.to, found.cc)
    assert all(header_blocks.parse_mailbox(one) for one in (*found.to, *found.cc, *found.from_))
