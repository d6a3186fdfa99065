"""Liquid as stores write it: strict about names, with plain data, and no way to anything else."""

from __future__ import annotations

from typing import Any

import markupsafe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mail.templates import lexing, liquid
from mail.templates.lexing import Fault
from mail.templates.running import Run

ORDER: dict[str, Any] = {"order": {"number": "A-1", "lines": [{"name": "Shirt"}, {"name": "Socks"}], "note": None}}


def render(source: str, *, is_html: bool = True, **names: Any) -> str:
    return liquid.render(liquid.compiled(source, is_html=is_html), ORDER | names, Run({"store": {"name": "Acme"}}))


def fault(source: str, **names: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        render(source, **names)
    return caught.value


# What it does


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ order.number }}", "A-1"),
        ("{% for line in order.lines %}{{ forloop.index }}{{ line.name }}{% endfor %}", "1Shirt2Socks"),
        ("{% for line in order.lines reversed %}{{ line.name }}{% endfor %}", "SocksShirt"),
        ("{% for line in order.lines limit: 1 offset: 1 %}{{ line.name }}{% endfor %}", "Socks"),
        ("{% for x in order.note %}x{% else %}none{% endfor %}", "none"),
        ("{% for i in (1..3) %}{% if i == 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "13"),
        ("{% for i in (1..9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "12"),
        ("{{ order.lines.size }}{{ order.lines.first.name }}{{ order.lines[1].name }}", "2ShirtSocks"),
        ("{% if order.note %}x{% else %}y{% endif %}{{ order.note.anything }}", "y"),
        ("{% unless order.note %}y{% endunless %}", "y"),
        ("{% case order.number %}{% when 'B', 'A-1', 'A-1' %}a{% when 'A-1' %}b{% else %}c{% endcase %}", "a"),
        ("{% case order.number %}{% when 'B' %}a{% else %}c{% endcase %}", "c"),
        ("{% assign n = order.number %}{{ n }}{% capture c %}[{{ n }}]{% endcapture %}{{ c }}", "A-1[A-1]"),
        ("{% comment %}{{ nothing }}{% comment %}{% endcomment %}{% endcomment %}x{% # y %}", "x"),
        ("{% raw %}{{ order.number }}{% endraw %}", "{{ order.number }}"),
        (" a {%- if true -%} b {%- endif -%} c ", " abc "),
        ("{{ store.name }}", "Acme"),
        ("{% if order.number == 'A-1' and order.lines.size > 1 %}x{% endif %}", "x"),
    ],
)
def test_it_renders_what_shops_write(source: str, text: str) -> None:
    assert render(source) == text


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_values_are_escaped_in_html_and_never_scanned_again(value: str) -> None:
    source = (
        '<p title="{{ v }}">{{ v }}</p>{% assign w = v | append: "" %}{{ w }}'
        "{% capture c %}{{ v }}{% endcapture %}{{ c }}"
    )
    found = render(source, v=value)
    hole = str(markupsafe.escape(value))
    assert not set("<>\"'") & set(hole)
    assert found == f'<p title="{hole}">{hole}</p>{hole}{hole}'


@given(st.text(alphabet="{}%-# 'ab|", max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_source_renders_or_says_why_not(source: str) -> None:
    try:
        render(source)
    except Fault as found:
        sentence = found.sentence
    else:
        return
    assert sentence[0].isupper() or sentence[0] == "{"


def test_texts_that_are_no_html_are_not_escaped() -> None:
    assert render("{{ v }}{{ v | escape }}{{ v | newline_to_br }}", is_html=False, v="<&\n") == "<&\n" * 3


# What it refuses


@pytest.mark.parametrize(
    "source",
    [
        "{{ order.__class__ }}",
        "{{ order.number.__class__ }}",
        "{{ order.lines.append }}",
        "{{ order['__class__'] }}",
        "{{ order.number.format }}",
        "{{ order.keys }}",
        "{{ order.lines[0].items }}",
        "{{ store.__init__.__globals__ }}",
        "{{ forloop.it }}",
        "{% for i in (1..2) %}{{ forloop.step }}{% endfor %}",
        "{% for i in (1..2) %}{{ forloop.__class__ }}{% endfor %}",
        "{{ now }}",
        "{{ today }}",
        "{{ context }}",
        "{{ self }}",
    ],
)
def test_there_is_no_way_to_an_object_or_a_clock(source: str) -> None:
    assert fault(source).name


@pytest.mark.parametrize(
    "tag", ["include 'button'", "liquid echo 1", "tablerow x in y", "increment x", "echo 1", "block x"]
)
def test_there_are_no_other_tags(tag: str) -> None:
    assert "There is no tag" in fault(f"{{% {tag} %}}").sentence


@pytest.mark.parametrize("name", ["../layout", "layout", "/etc/passwd", "file:///etc/passwd", "button.liquid"])
def test_only_our_own_parts_can_be_rendered(name: str) -> None:
    assert "There is no part" in fault(f"{{% render '{name}' %}}").sentence


def test_a_part_is_named_not_computed() -> None:
    assert "There is no part this" in fault("{% render order.number %}").sentence
    assert "takes" in fault("{% render 'button', labl: 'x' %}").sentence
    assert "near" in fault("{% render 'button' for order.lines %}").sentence


@pytest.mark.parametrize(
    ("source", "line", "sentence"),
    [
        ("\n\n{{ order.numbr }}", 3, "There is no order.numbr here"),
        ("\n{{ ordr.number }}", 2, "There is no ordr here"),
        ("\n{{ order.number | mony }}", 2, "There is no filter “mony”. Did you mean money?"),
        ("\n{{ order.number | append }}", 2, "Put one value behind the filter append"),
        ("\n{{ order.number | upcase: 1 }}", 2, "The filter upcase takes no value"),
        ("\n{{ order.number | append: text: 'x' }}", 2, "The filter append takes its values without names"),
        ("\n{{ order.number", 2, "{{ is never closed. Put }} where it ends"),
        ("\n{% if order.number", 2, "{% is never closed. Put %} where it ends"),
        ("\n{% if order.number %}\n", 2, "{% if %} is never closed. Put {% endif %} where it ends"),
        ("{% if true %}\n{% for i in order.lines %}\n{% endif %}", 3, "Close {% for %} of line 2 by {% endfor %}"),
        ("\n{% endif %}", 2, "{% endif %} has no {% if %} before it"),
        ("\n{% else %}", 2, "{% else %} has no place here"),
        ("\n{{ }}", 2, "Put a name between {{ and }}"),
        ("\n{% if %}{% endif %}", 2, "This tag is incomplete"),
        ("\n{% if (order.number) %}{% endif %}", 2, "Leave out the brackets"),
        ("\n{{ order.number ! }}", 2, "This tag cannot be read"),
        ("\n{{ 'x }}", 2, "This tag cannot be read near “'”"),
        ("\n{{ order }}", 2, "This has several values"),
        ("\n{{ order.lines }}", 2, "This is a list"),
        ("\n{% if order.number > 3 %}{% endif %}", 2, "These two cannot be compared"),
        ("\n{% break %}", 2, "{% break %} and {% continue %} belong between"),
        ("\n{% raw %}", 2, "{% raw %} is never closed"),
        ("\n{% comment %}", 2, "{% comment %} is never closed"),
        ("\n{% assign a = (1..3) %}", 2, "A range like (1..5) can stand only in"),
        ("\n{% for i in order.lines limit: 'x' %}{% endfor %}", 2, "Use a whole number behind limit:"),
        ("{% if true %}\n\n{{ order.x }}{% endif %}", 3, "There is no order.x here"),
        ("{% for l in order.lines %}\n{{ l.price }}{% endfor %}", 2, "There is no l.price here"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(source: str, line: int, sentence: str) -> None:
    found = fault(source)
    assert found.sentence.startswith(sentence)
    assert found.line_in(source) == line


# What it remembers


def test_the_same_text_is_read_once() -> None:
    source = "{{ order.number }} once"
    assert liquid.compiled(source, is_html=True) is liquid.compiled(str(source), is_html=True)
    assert liquid.compiled(source, is_html=True) is not liquid.compiled(source, is_html=False)


def test_it_forgets_what_was_used_least(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liquid, "CACHED_CHARS_MAX", 3_000)
    cache = liquid._Cache()
    first = cache.get("first", True)
    for n in range(3):
        cache.get(f"{n} {{{{ store.name }}}}", True)
        assert cache.get("first", True) is first
    assert len(cache._found) <= 4
    for n in range(9):
        cache.get(f"other {n}", True)
    assert cache.get("first", True) is not first
    assert len(cache._found) < 7


def test_uses_are_told_in_the_words_of_the_data() -> None:
    source = (
        "{% for line in order.lines %}{{ line.name }}{% endfor %}{% assign o = order %}{{ o.number }}"
        "{% assign w = order.note | upcase %}{{ w.size }}{{ order.lines.first.name }}{{ order.lines[0].name }}"
    )
    paths = {use.path for use in liquid.compiled(source, is_html=True).uses}
    assert paths == {
        ("order", "lines"),
        ("order", "lines", "[]", "name"),
        ("order",),
        ("order", "number"),
        ("order", "note"),
        ("order", "lines", "first", "name"),
    }


def test_a_source_has_a_longest_length() -> None:
    assert fault("x" * (lexing.SOURCE_MAX + 1)).is_limit
    assert render("x" * lexing.SOURCE_MAX) == "x" * lexing.SOURCE_MAX
