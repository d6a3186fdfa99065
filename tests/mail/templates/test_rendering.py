"""A whole mail: subject and preheader in one line, HTML in the store's look, a text beside it; and what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mail.templates import finishing, kinds, rendering
from mail.templates.kinds import Source
from mail.templates.rendering import DataMissing, DoesNotRender, Look, Problem, Rendered
from models.outbox import SUBJECT_MAX

KIND = kinds.SIGN_IN_CODE
LOOK = Look("Acme & Sons", address=("1 Quay", "Dublin"), legal=("VAT 1",), website_url="https://acme.example/")
DATA: dict[str, Any] = {"sign_in": {"code": "481516", "minutes": 10}}
PLAIN = Source("Your code", "", "<p>{{ sign_in.code }}</p>")


def render(data: Any = DATA, look: Look = LOOK, locale: str = "en", sample: Any = None, **texts: str) -> Rendered:
    return rendering.render(KIND, replace(PLAIN, **texts), data, look, locale, sample=sample)


def check(sample: Any = DATA, **texts: str) -> list[Problem]:
    return rendering.check(KIND, replace(PLAIN, **texts), sample, LOOK, "en")


# Subject and preheader


def test_subject_and_preheader_are_one_line_without_what_nobody_sees() -> None:
    code = "a\r\n\tb\u2028c\u202ed \u200f"
    data = {"sign_in": {"code": code, "minutes": 1}}
    found = render(data, subject=" {{ sign_in.code }} ", preheader="\n{{ sign_in.code }}")
    assert found.subject == found.preheader == "a b cd \u200f"


def test_a_long_subject_is_cut() -> None:
    found = render(subject="{% for i in (1..400) %}Long {% endfor %}")
    assert len(found.subject) == SUBJECT_MAX
    assert found.subject.endswith("…")


def test_a_subject_is_no_html() -> None:
    data = {"sign_in": {"code": "<b>&", "minutes": 1}}
    assert render(data, subject="{{ sign_in.code }} & {{ store.name }}").subject == "<b>& & Acme & Sons"


# HTML


def test_the_content_stands_in_the_layout_of_the_store() -> None:
    html = render(subject="Hello").html
    assert html.startswith("<!DOCTYPE html>")
    assert "<title>Hello</title>" in html
    assert "Acme &amp; Sons" in html
    assert "481516" in html


def test_a_whole_page_goes_out_as_it_is_with_its_styles_inlined() -> None:
    page = (
        "<!doctype html><html><head><style>p { color: #111111 } @media (max-width: 600px) { p { color: red } }</style>"
        "</head><body><p>{{ sign_in.code }}</p></body></html>"
    )
    html = render(html=page).html
    assert 'style="color: #111111' in html
    assert "@media (max-width: 600px)" in html
    assert "Acme" not in html


@pytest.mark.parametrize(
    "sheet",
    [
        "<link rel='stylesheet' href='file://{0}'>",
        "<link rel='stylesheet' href='{0}'>",
        "<style>@import '{0}';</style>",
    ],
)
def test_no_style_is_read_from_a_file(sheet: str, tmp_path: Path) -> None:
    path = tmp_path / "a.css"
    path.write_text("p { color: #123456 }")
    assert "#123456" not in render(html=f"<html><head>{sheet.format(path)}</head><body><p>x</p></body></html>").html


@pytest.mark.parametrize(
    ("color", "ink"), [("#ffffff", "#000000"), ("#000000", "#ffffff"), ("#2153d4", "#ffffff"), ("#ffd400", "#000000")]
)
def test_ink_can_be_read_on_its_color(color: str, ink: str) -> None:
    assert rendering.ink_on(color) == ink


def test_the_direction_follows_the_language() -> None:
    assert 'dir="rtl"' in render(locale="he").html
    assert 'dir="ltr"' in render(locale="de").html


@pytest.mark.parametrize(
    ("locale", "look_locale", "text"),
    [("de", "de-AT", "€ 1,50"), ("de", "en-GB", "1,50 €"), ("de-CH", "de-AT", "EUR 1.50")],
)
def test_the_texts_decide_the_language_and_the_store_the_region(locale: str, look_locale: str, text: str) -> None:
    found = render(look=replace(LOOK, locale=look_locale), locale=locale, subject="{{ 1.5 | money }}")
    assert found.subject.replace("\xa0", " ") == text


# Text


def test_a_text_is_derived_with_its_links_and_the_store_below() -> None:
    html = (
        "<h1>Hello</h1><p>Your <b>code</b> is {{ sign_in.code }}.<br>Bye</p><ul><li>One<li>Two</ul>"
        "<table><tr><td>Total</td><td>5 €</td></tr></table><a href='https://acme.example/x'>See it</a>"
        "<a href='mailto:a@b.example'>Write</a><p style='display:none'>hidden</p><!-- a comment -->"
    )
    assert render(html=html).text == (
        "Hello\n\nYour code is 481516.\nBye\n\n* One\n\n* Two\n\nTotal 5 €\n"
        "See it <https://acme.example/x>Write <a@b.example>\n\n"
        "-- \nAcme & Sons\n1 Quay\nDublin\nhttps://acme.example/\nVAT 1\n"
    )


def test_a_written_text_stays_what_it_is() -> None:
    data = {"sign_in": {"code": "<b>&", "minutes": 1}}
    assert render(data, text="Code: {{ sign_in.code }}").text == "Code: <b>&"


# Names and data


def test_every_unknown_name_is_told_with_its_line_even_where_nothing_is_rendered() -> None:
    found = check(html="{% if false %}\n{{ sign_in.cod }}{% endif %}\n{{ sigh_in.code }}", subject="{{ nothing }}")
    assert [(one.part, one.line, one.name) for one in found] == [
        ("subject", 1, "nothing"),
        ("html", 2, "sign_in.cod"),
        ("html", 3, "sigh_in"),
    ]
    assert found[1].message == "There is no sign_in.cod here. Did you mean sign_in.code?"


def test_names_of_the_store_s_own_sample_may_be_used() -> None:
    own = {"sign_in": {"code": "1", "minutes": 1, "tip": None}, "shop": {"tags": [{"name": "x"}]}}
    texts = {"html": "{{ sign_in.tip }}{% for tag in shop.tags %}{{ tag.name }}{% endfor %}"}
    assert [one for one in check(own, **texts) if not one.is_warning] == []
    assert {one.name for one in check(**texts)} == {"sign_in.tip", "shop"}
    with pytest.raises(DataMissing) as caught:
        render(sample=own, **texts)
    assert caught.value.faults == [("shop.tags", "Send a list")]
    assert "x" in render({**DATA, "shop": {"tags": [{"name": "x"}]}}, sample=own, **texts).html


def test_a_sample_that_lacks_what_is_needed_is_refused() -> None:
    (found,) = check({"sign_in": {"code": "1"}})
    assert (found.part, found.message) == ("sample", "sign_in.minutes: Send a number, like 3")


def test_a_fault_while_rendering_names_its_part_and_line() -> None:
    (found,) = check(html="<p>\n{{ 5 | divided_by: 0 }}</p>")
    assert (found.part, found.line, found.message) == ("html", 2, "A number cannot be divided by zero")
    with pytest.raises(DoesNotRender) as caught:
        render(text="{{ 5 | divided_by: 0 }}")
    assert caught.value.problems[0].part == "text"


def test_a_fault_within_a_part_is_told_at_the_line_that_renders_it() -> None:
    source = "\n\n{% render 'amount', label: 'x', amount: sign_in.code %}"
    (found,) = check({"sign_in": {"code": "no amount", "minutes": 1}}, html=source)
    assert (found.line, found.message.startswith("“no amount” is no amount")) == (3, True)


def test_everything_that_cannot_be_read_is_told_at_once() -> None:
    assert {one.part for one in check(subject="{{", preheader="{% if %}", html="{{ x | y }}", text="{% z %}")} == {
        "subject",
        "preheader",
        "html",
        "text",
    }


@pytest.mark.parametrize(
    ("html", "line", "words"),
    [
        ("\n<script>x</script>", 2, "Mail programs drop <script>"),
        ("\n<form></form>", 2, "Mail programs drop <form>"),
        ("\n<iframe src='https://x'></iframe>", 2, "Mail programs drop <iframe>"),
        ("\n<img src='https://x/a.png'>", 2, "Give this image words"),
        ("\n<img alt='' src='http://x/a.png'>", 2, "Use https:// for this image"),
        ("{% for i in (1..4500) %}{{ sign_in.code }} and a good many words {% endfor %}", None, "Gmail cuts off"),
    ],
)
def test_what_mail_programs_do_not_show_is_a_warning(html: str, line: int | None, words: str) -> None:
    found = [one for one in check(html=html) if words in one.message]
    assert [(one.line, one.is_warning) for one in found] == [(line, True)]


def test_a_mail_without_a_subject_or_without_words_is_a_warning() -> None:
    assert [one.part for one in check(subject=" ") if one.is_warning] == ["subject"]
    assert any("this mail is empty" in one.message for one in check(html=" "))


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<svg></svg>", "<svg>"),
        ("<div>" * 2_000, "Nest HTML tags 200 deep or less"),
        ("<p>" + "<i>" * 150 + "</p>" + "<p>x</p>" * 1_400, "closed in its turn"),
        ("<b></i>" * 800, "closed in its turn: look at </i>"),
        ("<p>" * 100 + "</p>" * 99 + "<b></b>" * 800, "has to be closed: look at <p>"),
        ("<title><b></title>" * 800, "Keep tags out of <title>"),
        ("<b a='<'>" * 800, "Write &lt;"),
        ("<!--><b></b>" * 800, "Close comments by -->"),
        ("<br>" * 13_000, "Use 12,000 HTML tags or fewer"),
    ],
)
def test_html_of_a_shape_that_breaks_parsers_is_refused(html: str, words: str) -> None:
    assert words in (finishing.fault_of_shape(html) or "")


def test_long_html_that_is_in_order_is_no_trouble() -> None:
    rows = "<tr><td><b>a</b><br><img src='x' alt='a > b'></td></tr>\n<!-- <b> -->" * 1_000
    assert finishing.fault_of_shape(f"<table><tbody>{rows}</tbody></table><style>p{{}}</style>") is None


def test_whoever_only_delivers_mail_does_not_pay_for_writing_it() -> None:
    lines = "import json, sys, worker; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True, timeout=60)
    assert not {"liquid", "css_inline", "inscriptis", "lxml"} & set(json.loads(done.stdout))
