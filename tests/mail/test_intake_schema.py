"""The JSON Schema of a message says what the rules say: what fits is taken, and what does not is refused."""

from __future__ import annotations

import copy
import re
import sys
import unicodedata
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from mail import intake, intake_schema, text_rules
from mail.templates import locales

VALIDATOR = OAS31Validator(intake_schema.new_message({}, locales.TAG))
PLAIN: dict[str, Any] = {"to": ["lena@shop.example"], "text": "Thanks."}
FILE: dict[str, Any] = {"filename": "a.pdf", "content": "JVBERg=="}


def is_taken(document: dict[str, Any]) -> bool:
    try:
        intake.read_message(copy.deepcopy(document))  # it decodes files where they stand
    except intake.Rejected:
        return False
    return True


def with_file(**more: Any) -> dict[str, Any]:
    return {"attachments": [{**FILE, **more}]}


GOOD = {
    "a subject of 998": {"subject": "x" * 998},
    "a subject with blanks around it": {"subject": "\t Your order \n"},
    "emoji": {"subject": "📦" * 998, "text": "📦"},
    "marks that set a direction": {"subject": "\u200f שלום", "text": "a\u202eb\u2028c"},
    "null everywhere": dict.fromkeys(intake.FIELDS - {"to", "text"}),
    "no text": {"text": None, "html": "<p>"},
    "only bcc": {"to": None, "bcc": ["lena@shop.example"]},
    "50 addresses": {"to": [f"a{n}@shop.example" for n in range(50)]},
    "headers": {"headers": {"X-A": "é" * 900, "0": ""}},
    "50 headers": {"headers": {f"X-{n}": "" for n in range(50)}},
    "an empty file": with_file(content=""),
    "a name of 255": with_file(filename="é" * 255),
    "a name with blanks around it": with_file(filename=" a.pdf\n"),
    "a charset": with_file(content_type="text/csv; charset=utf-8"),
    "100 files": {"attachments": [FILE] * 100},
    "a day": {"expires_in": 86_400},
    "60.0": {"expires_in": 60.0},
    "30 days": {"expires_in": intake.EXPIRES_IN_MAX_S},
    "low": {"priority": "low"},
    "a zone": {"send_at": "2024-01-31T09:00:00+05:30"},
}
BAD = {
    "a subject of 999": {"subject": "x" * 999},
    "a line break in the subject": {"subject": "a\nb"},
    "a bidi override": {"subject": "a\u202eb"},
    "a control character": {"subject": "a\x7fb"},
    "NUL in the text": {"text": "a\x00b"},
    "a C1 control in the HTML": {"html": "a\x85b"},
    "nobody": {"to": []},
    "nobody at all": {"to": None},
    "nothing to read": {"text": None},
    "51 addresses": {"to": [f"a{n}@shop.example" for n in range(51)]},
    "one address in place of a list": {"to": "lena@shop.example"},
    "a number among addresses": {"to": [7]},
    "a header name with a blank": {"headers": {"X A": ""}},
    "a header name of 77": {"headers": {"X" * 77: ""}},
    "a header of 901": {"headers": {"X-A": "x" * 901}},
    "51 headers": {"headers": {f"X-{n}": "" for n in range(51)}},
    "a file without a name": {"attachments": [{"content": ""}]},
    "a file without content": {"attachments": [{"filename": "a"}]},
    "a name of blanks": with_file(filename=" \t"),
    "a path": with_file(filename="a/b"),
    "another path": with_file(filename="a\\b"),
    "a name of 256": with_file(filename="x" * 256),
    "no padding": with_file(content="YQ"),
    "a line break in base64": with_file(content="JVBE\nRg=="),
    "no media type": with_file(content_type="pdf"),
    "a field that a file has not": with_file(cid="x"),
    "101 files": {"attachments": [FILE] * 101},
    "urgent": {"priority": "urgent"},
    "no time at all": {"expires_in": 0},
    "31 days": {"expires_in": intake.EXPIRES_IN_MAX_S + 1},
    "a fraction": {"expires_in": 1.5},
    "true as a number": {"expires_in": True},
    "a time without zone": {"send_at": 7},
    "an unknown field": {"colour": "red"},
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD.keys())
def test_what_is_taken_fits(change: dict[str, Any]) -> None:
    assert is_taken(PLAIN | change)
    assert [error.message for error in VALIDATOR.iter_errors(PLAIN | change)] == []


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_what_is_refused_does_not_fit(change: dict[str, Any]) -> None:
    assert not is_taken(PLAIN | change)
    assert not VALIDATOR.is_valid(PLAIN | change)


def test_the_example_is_taken_and_fits() -> None:
    assert is_taken(intake_schema.EXAMPLE)
    assert VALIDATOR.is_valid(intake_schema.EXAMPLE)


def test_hidden_characters_are_those_of_their_kinds() -> None:
    """All of Unicode: line and paragraph separators, controls, halves of characters, and what turns a text around."""
    turning = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    everything = map(chr, range(sys.maxunicode + 1))
    kinds = ("Zl", "Zp", "Cc", "Cs")
    expected = {one for one in everything if unicodedata.category(one) in kinds or one in turning}
    pattern = re.compile(f"[{text_rules.HIDDEN}{text_rules.SURROGATES}]")
    assert {one for one in map(chr, range(sys.maxunicode + 1)) if pattern.match(one)} == expected
    assert all(text_rules.hidden_character(f"a{one}b") for one in expected)
