"""Envelope and header of a relayed message: who gets it, who is shown, and how urgent it is."""

from __future__ import annotations

from mail.relay_intake import read_message
from models.outbox import Priority


def test_recipients_are_those_of_the_envelope_by_where_the_header_shows_them() -> None:
    raw = (
        b"To: =?utf-8?q?J=C3=B6rg?= <JOERG@shop.example>, lena@xn--bcher-kva.example, stranger@else.example\r\n"
        b"Cc: joerg@shop.example, carl@shop.example\r\nBcc: hidden@shop.example\r\n\r\nHi\r\n"
    )
    everyone = ("joerg@shop.example", "lena@bücher.example", "carl@shop.example", "hidden@shop.example")
    new = read_message(raw, everyone)
    assert new.to == ("joerg@shop.example", "lena@bücher.example")
    assert new.cc == ("carl@shop.example",)
    assert new.bcc == ("hidden@shop.example",)


def test_without_to_and_cc_everybody_gets_a_blind_copy() -> None:
    new = read_message(b"Subject: Hello\r\n\r\nHi\r\n", ("lena@shop.example",))
    assert (new.to, new.cc, new.bcc) == ((), (), ("lena@shop.example",))
    assert new.subject == "Hello"
    assert new.priority is Priority.NORMAL


def test_bulk_mail_waits_behind_the_rest_whatever_else_it_says() -> None:
    raw = b"X-Priority: 1\r\nImportance: high\r\nPrecedence: Bulk\r\nSubject: News\r\n\r\nHi\r\n"
    assert read_message(raw, ("lena@shop.example",)).priority is Priority.LOW
