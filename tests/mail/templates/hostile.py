"""Templates and data that try to keep a process busy or to fill its memory; and a program that measures each of them.

As a program it writes one line of JSON for each: what came of it, processor seconds, and by how many bytes memory grew.
Each runs in a fork of its own, so that none profits from another, and none pays for what is loaded once.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mail.templates import kinds, rendering
from mail.templates.kinds import Source
from mail.templates.rendering import DataMissing, DoesNotRender, Look

KIND = kinds.ORDER_CONFIRMATION
LOOK = Look("Shop")
LINE = {"name": "Linen shirt", "quantity": 1, "total": "12.00"}


def _times(text: str, count: int) -> str:
    return text * count


def _nested(opening: str, closing: str, depth: int, inside: str = "x") -> str:
    return opening * depth + inside + closing * depth


_LOOP = "{% for i in (1..10000) %}"

# Name → HTML source.
SOURCES: Mapping[str, str] = {
    # Nesting
    "if within if, 5,000 deep": _nested("{% if true %}", "{% endif %}", 5_000),
    "if within if, never closed": _times("{% if true %}", 8_000),
    "for within for, 15 deep": _nested("{% for i in (1..9) %}", "{% endfor %}", 15),
    "for within for over the data": _nested("{% for l in order.lines %}", "{% endfor %}", 12, "{{ l.name }}"),
    "case whose values fit 200 times, 15 deep": _nested(
        "{% case 1 %}{% when " + ",".join("1" * 200) + " %}", "{% endcase %}", 15, "{% assign a = 1 %}"
    ),
    "capture within capture, in a loop": _LOOP + _nested("{% capture a %}", "{% endcapture %}", 12) + "{% endfor %}",
    # Loops
    "a billion turns": "{% for i in (1..1000000000) %}x{% endfor %}",
    "a billion turns, backwards": "{% for i in (1..1000000000) reversed %}x{% endfor %}",
    "a billion turns, without words": "{% for i in (1..1000000000) %}{% endfor %}",
    "a range of 900 digits": "{% for i in (1..1" + "0" * 900 + ") %}x{% endfor %}",
    "a range that ends at infinity": "{% for i in (1..1" + "0" * 900 + ".0) %}x{% endfor %}",
    "a range kept": "{% assign r = (1..1000000000) %}{% for i in r reversed %}x{% endfor %}",
    "a range that is searched": "{% if (1..1000000000) contains 'x' %}x{% endif %}",
    "a range that is joined": "{{ (1..1000000000) | join: ',' }}",
    "a loop from far behind": "{% for i in order.lines offset: 999999999999 limit: 99999999999 %}x{% endfor %}",
    "loops one after the other": _times(_LOOP + "{% endfor %}", 400),
    "a loop with 900 tags": _LOOP + _times("{% if 1 == 2 %}{% endif %}", 440) + "{% endfor %}",
    "a loop with 900 names": _LOOP + _times("{{ order.number }}", 900) + "{% endfor %}",
    "a loop with 10 KB of words": _LOOP + "x" * 10_000 + "{% endfor %}",
    "a loop that captures 90 KB": _LOOP + "{% capture a %}" + "x" * 90_000 + "{% endcapture %}{% endfor %}",
    "a loop that renders parts": _LOOP + "{% render 'order_lines', lines: order.lines %}{% endfor %}",
    "350 parts": _times("{% render 'button', label: order.number, url: order.url %}", 350),
    "a loop over parts that keep nothing": _LOOP + "{% render 'amount', label: 'x', amount: order.tax %}{% endfor %}",
    # Texts that grow
    "a text doubled 40 times": "{% assign a = '0123456789' %}" + _times("{% assign a = a | append: a %}", 40),
    "a text doubled in a loop": "{% assign a = 'ab' %}" + _LOOP + "{% assign a = a | append: a %}{% endfor %}",
    "a text that replaces itself": "{% assign a = 'aaaaaaaa' %}" + _times("{% assign a = a | replace: 'a', a %}", 12),
    "a list joined by a long text": "{% assign a = '" + "x" * 900 + "' | split: '' %}"
    "{% assign b = '" + "y" * 900 + "' %}" + _times("{{ a | join: b }}", 30),
    "a list doubled": "{% assign a = 'a,b,c,d' | split: ',' %}" + _times("{% assign a = a | concat: a %}", 40),
    "kept under many names": "{% assign a = '0123456789' %}"
    + _times("{% assign a = a | append: a %}", 14)
    + "".join(f"{{% assign a{n} = a | upcase %}}" for n in range(900)),
    "captures doubled": "{% capture a %}0123456789{% endcapture %}"
    + _times("{% capture a %}{{ a }}{{ a }}{% endcapture %}", 40),
    # Numbers that grow
    "a number squared 60 times": "{% assign a = 999999 %}" + _times("{% assign a = a | times: a %}", 60),
    "a fraction squared 60 times": "{% assign a = 0.000001 %}"
    + _times("{% assign a = a | times: a %}", 60)
    + "{{ a }}",
    "a number of 900 digits": "{{ 1" + "0" * 900 + " | times: 9 }}",
    "rounded to a billion digits": "{{ 1.5 | round: 1000000000 }}",
    "divided by nothing": "{{ 5 | divided_by: 0 }}{{ 5.5 | modulo: 0 }}",
    "as many digits as there are": "{{ 1.5 | number: 1000000000 }}",
    # Reading
    "{{ 50,000 times": _times("{{", 49_000),
    "{% 50,000 times": _times("{%", 49_000),
    "blanks behind {{": "{{" + " " * 99_000,
    "blanks behind {% if": "{% if" + " " * 99_000,
    "blanks within {{ }}": "{{" + " " * 90_000 + "}}",
    "raw never closed": _times("{% raw %}", 10_000),
    "endraw with blanks": "{% raw %}" + _times("{% endraw     ", 7_000),
    "comments never closed": _times("{% comment %}", 7_000),
    "{{ within a comment": "{% comment %}" + _times("{{ ", 30_000) + "{% endcomment %}",
    "one tag of 90 KB": "{{ order.number" + _times(" | upcase", 9_900) + " }}",
    "many long tags": _times("{{ order.number" + _times("|upcase", 130) + " }}", 100),
    "nested brackets": "{{ a" + _times("[a", 480) + _times("]", 480) + " }}",
    "brackets and quotes": _times('{{ a["b["b["b["b }}', 900),
    "round brackets": "{% if " + _times("(", 900) + " %}{% endif %}",
    "tags as full as may be": _times("{% if 1" + "<1" * 490 + " %}{% endif %}", 20),
    "conditions without end": "{% if 1" + _times(" and 1", 160) + " %}x{% endif %}",
    "a name with 450 parts": "{{ " + _times("a.", 450) + "a }}",
    "900 names that do not exist": "".join(f"{{{{ order.numbr{n} }}}}" for n in range(900)),
    "long names that do not exist": "".join(f"{{{{ order.{'numbr' * 18}{n} }}}}" for n in range(190)),
    "a tag with a name of 90 KB": "{% " + "x" * 90_000 + " %}",
    "too long": "x" * 100_001,
    # Filters
    "tags that are none, stripped": "{% assign a = '<' %}"
    + _times("{% assign a = a | append: a %}", 16)
    + _times("{{ a | strip_html | size }}", 100),
    "a long text searched": "{% assign a = 'ab' %}"
    + _times("{% assign a = a | append: a %}", 16)
    + "{% assign b = 'a' | append: a %}"
    + _times("{% if a contains b %}{% endif %}", 700),
    "long lists sorted": "{% assign a = 'a,b' | append: ',c' | split: ',' %}"
    + _times("{% assign a = a | concat: a | sort | uniq | concat: a | reverse %}", 200),
    # HTML that html parsers take badly
    "bold 2,000 times, then paragraphs": "<p>"
    + "".join(f"<b a={n}>" for n in range(2_000))
    + "</p>"
    + "<p>x</p>" * 7_000,
    "bold in a loop": "<p>{% for i in (1..9000) %}<b a={{ i }}>{% endfor %}</p>"
    "{% for i in (1..900) %}<p>x</p>{% endfor %}",
    "tables within tables": _times("<table><tr><td>", 6_000),
    "divisions within divisions": _times("<div>", 19_000),
    "divisions closed within comments": _times("<div><!--</div>-->", 5_000),
    "divisions closed within values": _times('<div><p title="</p></div>">', 3_000),
    "thousands of rules": "<style>"
    + "".join(f"div *:not(.x) b{{color:#{n:06x}}}" for n in range(2_500))
    + "</style>"
    + "<div><b>x</b></div>" * 1_000,
    "rules that nest deep": "<style>" + "div " * 400 + "b{color:red}</style>" + "<div>" * 700,
    "cells that fill each other up": "<table><tr><td>" + "x<br>" * 9_000 + "<td>" + "y" * 40_000 + "</table>",
    "lists set in far": "<ul style='padding-left: 1000em'>" * 60 + "<li>x" * 1_200,
    "margins without end": "<div style='margin-top: 100000000em; margin-bottom: 99999999em'>x</div>" * 500,
    "preformatted lines in lists": "<ul><li>" * 90 + "<pre>" + "\n" * 90_000 + "</pre>",
    "a page of line breaks": "<br>" * 24_000,
    "a doctype of 90 KB": "<!doctype " + "x" * 90_000,
    "attributes without end": "<p " + "a=1 " * 24_000 + ">",
    "entities": "&amp;" * 19_000 + "&#x41;" * 500,
}


def _deep(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = {"order": [value]}
    return value


def _order(**more: Any) -> dict[str, Any]:
    data = kinds.sample(KIND, "en")
    data["order"] = {**data["order"], **more}
    return data


# Name → data for the default template.
DATA: Mapping[str, Callable[[], Any]] = {
    "900 levels": lambda: {"order": _deep(900)},
    "900 levels where lines belong": lambda: _order(lines=_deep(900)),
    "200,000 lines": lambda: _order(lines=[LINE] * 200_000),
    "10,000 lines": lambda: _order(lines=[LINE] * 10_000),
    "lines of nothing": lambda: _order(lines=[None] * 200_000),
    "a text of 5 MB": lambda: _order(note="x" * 5_000_000),
    "a text of 900 KB with markup": lambda: _order(note="<&\"'" * 220_000),
    "a note of 10,000 lines": lambda: _order(note="a line\n" * 10_000),
    "a number of 4,000 digits": lambda: _order(total=10**4_000),
    "an amount of a million digits": lambda: _order(total="9" * 1_000_000),
    "a name of 900 KB": lambda: _order(number="\u202e\U0001f600" * 300_000),
    "a date of 900 KB": lambda: _order(placed_at="2027-01-31T" + "0" * 900_000),
    "an address of 900 KB": lambda: _order(url="https://" + "a" * 900_000 + "/"),
    "100,000 names that nobody knows": lambda: {**_order(), **{f"name{n}": n for n in range(100_000)}},
}


def _try(work: Callable[[], Any]) -> str:
    try:
        found = work()
    except DoesNotRender as error:
        return f"refused: {error.problems[0].message}"
    except DataMissing as error:
        return f"refused: {error.faults[0][0]}: {error.faults[0][1]}"
    problems = [one for one in found if not one.is_warning] if isinstance(found, list) else []
    return f"refused: {problems[0].message}" if problems else "rendered"


def _measured(work: Callable[[], Any]) -> dict[str, Any]:
    before, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = _try(work)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return {"outcome": outcome, "cpu_s": time.process_time() - before, "grown_bytes": grown * 1024}


def _in_a_fork(name: str, work: Callable[[], Any]) -> None:
    if pid := os.fork():
        _, status = os.waitpid(pid, 0)
        if status:
            print(
                json.dumps({"name": name, "outcome": f"ended by {status}", "cpu_s": 99, "grown_bytes": 0}), flush=True
            )
        return
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    found: dict[str, Any] = {}
    # As in a server, whose threads have smaller stacks than a main thread may have.
    thread = threading.Thread(target=lambda: found.update(_measured(work)))
    thread.start()
    thread.join()
    print(json.dumps({"name": name, **found}), flush=True)
    os._exit(0 if found else 1)


def _burn() -> None:
    ends = time.process_time() + 0.3
    while time.process_time() < ends:
        pass


def main() -> None:
    """Measure them all."""
    source, sample = kinds.default_source(KIND, "en"), kinds.sample(KIND, "en")
    rendering.render(KIND, source, sample, LOOK, "en")  # what is loaded once
    gc.collect()
    gc.freeze()  # what is there already is not looked through on anybody's account
    for name, html in SOURCES.items():
        for part in ("html", "text"):
            changed: Source = replace(source, **{part: html})
            _in_a_fork(f"{part}: {name}", lambda changed=changed: rendering.check(KIND, changed, sample, LOOK, "en"))
    _in_a_fork("control: 0.3 seconds", _burn)
    _in_a_fork("control: 200 MB", lambda: len(bytearray(b"x") * 200_000_000))
    for name, make in DATA.items():
        data = make()
        _in_a_fork(f"data: {name}", lambda data=data: rendering.render(KIND, source, data, LOOK, "en"))


if __name__ == "__main__":
    sys.setrecursionlimit(1_000)
    main()
