"""What templates do with values: amounts and dates as the store's customers write them, and Liquid's harmless rest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from mail.templates import filters, liquid
from mail.templates.filtering import FILTERS
from mail.templates.lexing import Fault
from mail.templates.running import Run


def render(source: str, value: Any = None, *, locale: str = "en", zone: str = "UTC", is_html: bool = False) -> str:
    text = liquid.compiled("{{ v | " + source + " }}", is_html=is_html)
    filters.get_ready(locale)
    found = liquid.render(text, {"v": value}, Run({}, locale, zone, "EUR"))
    return found.replace("\xa0", " ").replace("\u202f", " ")


@pytest.mark.parametrize(
    ("source", "value", "locale", "text"),
    [
        ("money", "1234.5", "de", "1.234,50 €"),
        ("money", Decimal("12.50"), "en", "€12.50"),
        ("money: 'USD'", 12.5, "en", "$12.50"),
        ("money: 'usd'", 0, "de-AT", "$ 0,00"),
        ("money: 'JPY'", 1200, "ja", "￥1,200"),
        ("money: ''", -3, "fr", "-3,00 €"),
        ("money: 'CHF'", "1234.5", "de-CH", "CHF 1'234.50"),
        ("money", None, "en", ""),
        ("number", 1234567, "de", "1.234.567"),
        ("number", "0.125", "de", "0,125"),
        ("number: 1", 12.345, "en", "12.3"),
        ("number: 0", 12.5, "en", "12"),
        ("money", 5, "xx", "€5.00"),
        ("money", 5, "de-ZZ", "5,00 €"),
    ],
)
def test_amounts_and_numbers_follow_the_locale(source: str, value: Any, locale: str, text: str) -> None:
    assert render(source, value, locale=locale) == text


AT = "2027-01-31T23:30:00Z"


@pytest.mark.parametrize(
    ("source", "value", "locale", "zone", "text"),
    [
        ("date", AT, "en", "UTC", "Jan 31, 2027"),
        ("date", AT, "en-GB", "Europe/Berlin", "1 Feb 2027"),
        ("date: 'long'", AT, "de", "Europe/Berlin", "1. Februar 2027"),
        ("date: 'short'", AT, "de", "UTC", "31.01.27"),
        ("date: 'time'", AT, "de", "Europe/Berlin", "00:30"),
        ("date: 'datetime'", AT, "de", "America/New_York", "31.01.2027, 18:30"),
        ("date: 'full'", "2027-01-31", "en", "Pacific/Auckland", "Sunday, January 31, 2027"),
        ("date: 'time'", "2027-01-31", "en", "UTC", "Jan 31, 2027"),
        ("date", "2027-01-31T23:30:00-05:00", "en", "Nowhere/Nothing", "Feb 1, 2027"),
        ("date", None, "en", "UTC", ""),
    ],
)
def test_dates_follow_the_locale_and_the_time_zone(source: str, value: Any, locale: str, zone: str, text: str) -> None:
    assert render(source, value, locale=locale, zone=zone) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("https://shop.example/a?b=1&c=2", "https://shop.example/a?b=1&c=2"),
        ("http://shop.example", "http://shop.example"),
        ("mailto:a@b.example", "mailto:a@b.example"),
        ("tel:+49123", "tel:+49123"),
        ("javascript:alert(1)", ""),
        ("JAVASCRIPT:alert(1)", ""),
        ("java\nscript:alert(1)", ""),
        ("data:text/html,x", ""),
        ("//shop.example", ""),
        ("https:", ""),
        ("http://[", ""),
        ("vbscript:x", ""),
        ("", ""),
    ],
)
def test_a_link_leads_where_a_mail_may_lead(value: str, text: str) -> None:
    assert render("link", value) == text


def test_lines_are_kept_in_html_and_what_they_say_is_escaped() -> None:
    assert render("newline_to_br", "a<b>\r\nc\nd", is_html=True) == "a&lt;b&gt;<br>\nc<br>\nd"
    assert render("newline_to_br | upcase", "a\nb", is_html=True) == "A&lt;BR&gt;\nB"


@pytest.mark.parametrize(
    "source", ["upcase", "append: '<i>'", "replace: 'a', '<i>'", "split: '' | join: '<i>'", "strip"]
)
def test_what_a_filter_made_is_escaped(source: str) -> None:
    assert "<" not in render(source, "a<b>", is_html=True)


def test_escaping_happens_once() -> None:
    assert render("escape", "<&", is_html=True) == "&lt;&amp;"


@pytest.mark.parametrize(
    ("source", "value", "text"),
    [
        ("default: 'x'", None, "x"),
        ("default: 'x'", "", "x"),
        ("default: 'x'", 0, "0"),
        ("truncate: 5", "abcdefgh", "abcd…"),
        ("truncate: 8", "abcdefgh", "abcdefgh"),
        ("truncate: 2, '...'", "abcdefgh", "..."),
        ("truncatewords: 2", "a b c", "a b…"),
        ("capitalize", "heLLO", "Hello"),
        ("upcase | downcase", "Ä", "ä"),
        ("append: '!' | prepend: '?'", "a", "?a!"),
        ("replace: 'a', 'b'", "aa", "bb"),
        ("replace: ''", "aa", "aa"),
        ("replace_first: 'a', 'b'", "aa", "ba"),
        ("remove: 'a'", "abca", "bc"),
        ("remove_first: 'a'", "abca", "bca"),
        ("strip | size", "  a ", "1"),
        ("lstrip | size", "  a ", "2"),
        ("rstrip | size", "  a ", "3"),
        ("squish", " a \n b ", "a b"),
        ("strip_newlines", "a\r\nb", "ab"),
        ("strip_html", "<b>a</b><", "a<"),
        ("slice: 1, 2", "abcd", "bc"),
        ("slice: -2, 2", "abcd", "cd"),
        ("split: ',' | last", "a,b", "b"),
        ("split: '' | reverse | join: ''", "abc", "cba"),
        ("url_encode", "a b/&ä", "a%20b%2F%26%C3%A4"),
        ("plus: 2", "1.5", "3.5"),
        ("minus: 1", 3, "2"),
        ("times: 1.1", 3, "3.3"),
        ("divided_by: 2", 5, "2"),
        ("divided_by: 2.0", 5, "2.5"),
        ("modulo: 3", 5, "2"),
        ("round", 2.6, "3"),
        ("round: 1", 2.66, "2.7"),
        ("ceil", 2.1, "3"),
        ("floor", 2.9, "2"),
        ("abs", -3, "3"),
        ("at_least: 5", 3, "5"),
        ("at_most: 2", 3, "2"),
        ("map: 'n' | join: ','", [{"n": 1}, {"n": 2}], "1,2"),
        ("where: 'n', 2 | size", [{"n": 1}, {"n": 2}], "1"),
        ("where: 'n' | size", [{"n": None}, {"n": 2}], "1"),
        ("sum: 'n'", [{"n": 1}, {"n": 2.5}], "3.5"),
        ("sort: 'n' | map: 'n' | join: ','", [{"n": "b"}, {"n": 3}, {}, {"n": "A"}], "3,A,b,"),
        ("uniq | join: ','", ["b", "a", "b"], "b,a"),
        ("compact | size", [None, 1], "1"),
        ("concat: v | size", [1], "2"),
        ("first", [7, 8], "7"),
    ],
)
def test_the_usual_filters_do_the_usual(source: str, value: Any, text: str) -> None:
    assert render(source, value) == text


@pytest.mark.parametrize(
    ("source", "value", "sentence"),
    [
        ("money", "twelve", "“twelve” is no amount"),
        ("money", True, "“true” is no amount"),
        ("money: 'EURO'", 1, "“EURO” is no currency. Use its three letters, like EUR"),
        ("date", "31.1.2027", "“31.1.2027” is no date"),
        ("date", "2027-02-30", "“2027-02-30” is no date"),
        ("date: '%Y'", AT, "Use one of medium, long"),
        ("plus: 'x'", 1, "“x” is no number"),
        ("divided_by: 0", 1, "A number cannot be divided by zero"),
        ("times: 999999999999", 999999999999, "This number is too large"),
        ("truncate: 'x'", "a", "Use a whole number behind this filter"),
    ],
)
def test_a_value_that_is_of_no_use_is_named(source: str, value: Any, sentence: str) -> None:
    with pytest.raises(Fault) as caught:
        render(source, value)
    assert caught.value.sentence.startswith(sentence)


def test_nothing_gives_html_unescaped_or_reads_anything() -> None:
    assert not {"safe", "raw", "escapejs", "base64_decode", "url_decode", "json", "t", "find"} & set(FILTERS)
