"""An application's data: taken as it was promised, copied as plain values, or refused with every fault by its path."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator

from mail.templates import data, data_schema, kinds
from mail.templates.data import Need, shape_of, take
from mail.templates.kinds import Group, Kind
from mail.templates.variables import ValueType, Variable, needed, optional

KIND = Kind(
    "test",
    "Test",
    Group.SYSTEM,
    "For tests.",
    (
        needed("order.number", "Number"),
        needed("order.total", "Total", ValueType.MONEY),
        needed("order.placed_at", "When", ValueType.DATE),
        optional("order.url", "Page", ValueType.URL),
        optional("order.currency", "Currency", ValueType.CURRENCY),
        optional("order.note", "Note"),
        optional("order.is_gift", "Gift", ValueType.FLAG),
        needed("lines", "Lines", ValueType.LIST),
        needed("lines[].name", "Name"),
        optional("lines[].quantity", "How many", ValueType.NUMBER),
        optional("offer.code", "Code"),
    ),
)
GOOD: dict[str, Any] = {
    "order": {"number": "A-1", "total": "12.50", "placed_at": "2027-01-31"},
    "lines": [{"name": "Shirt", "quantity": 2}],
}
VALIDATOR = OAS31Validator(data_schema.data_of(KIND), format_checker=OAS31Validator.FORMAT_CHECKER)


def taken(value: object) -> tuple[dict[str, Any], dict[str, str]]:
    found, faults = take(value, shape_of(KIND), Need())
    return found, dict(faults)


def order(**more: Any) -> dict[str, Any]:
    return {**GOOD, "order": {**GOOD["order"], **more}}


def test_what_is_optional_and_absent_is_empty() -> None:
    found, faults = taken(GOOD)
    assert faults == {}
    assert found == {
        "order": {
            "number": "A-1",
            "total": Decimal("12.50"),
            "placed_at": "2027-01-31",
            **dict.fromkeys(("url", "currency", "note", "is_gift")),
        },
        "lines": [{"name": "Shirt", "quantity": 2}],
        "offer": {"code": None},
    }


def test_all_that_is_missing_is_told_at_once() -> None:
    assert set(taken({})[1]) == {"order.number", "order.total", "order.placed_at", "lines"}
    assert taken({**GOOD, "lines": [{}, {"name": "x"}, {"name": None}]})[1] == {
        "lines[0].name": "Send a text",
        "lines[2].name": "Send a text",
    }


def test_faults_are_at_most_a_hundred() -> None:
    assert len(taken({**GOOD, "lines": [{}] * 500})[1]) == data.FAULTS_MAX


def test_names_that_nobody_knows_are_left_out() -> None:
    found, faults = taken({**order(secret=1), "other": object()})
    assert (found, faults) == taken(GOOD)


def test_the_copy_has_nothing_of_the_original() -> None:
    found, _ = taken(GOOD)
    found["lines"][0]["name"] = "changed"
    found["order"]["number"] = "changed"
    assert GOOD["lines"][0]["name"] == "Shirt"
    assert GOOD["order"]["number"] == "A-1"


BAD: dict[str, Any] = {
    "a flag for a text": order(number=True),
    "a list for a text": order(number=["A-1"]),
    "an object for a text": order(number={"a": 1}),
    "a control character": order(number="a\x00b"),
    "a number without end": order(number=math.inf),
    "a number that is none": order(total=math.nan),
    "words for an amount": order(total="twelve"),
    "an amount in another script": order(total="١٢"),
    "an amount with a comma": order(total="12,50"),
    "an amount beyond money": order(total=10**16),
    "an exponent": order(total="1e5"),
    "a day that is none": order(placed_at="2027-02-30"),
    "a time without a zone": order(placed_at="2027-01-31T09:00:00"),
    "a date as people write it": order(placed_at="31.1.2027"),
    "a number for a date": order(placed_at=20270131),
    "a script for an address": order(url="javascript:alert(1)"),
    "a file for an address": order(url="file:///etc/passwd"),
    "an address without a host": order(url="https://"),
    "an address with a quote": order(url='https://a.example/"x'),
    "an address with a line break": order(url="https://a.example/\nx"),
    "an address of 3,000 characters": order(url="https://a.example/" + "x" * 3_000),
    "a currency of four letters": order(currency="EURO"),
    "a word for a flag": order(is_gift="yes"),
    "a number for a flag": order(is_gift=1),
    "an object for a list": {**GOOD, "lines": {}},
    "a text for a list": {**GOOD, "lines": "x"},
    "texts in a list of objects": {**GOOD, "lines": ["x"]},
    "a text for a number": {**GOOD, "lines": [{"name": "x", "quantity": "two"}]},
    "a text for an object": {**GOOD, "offer": "x"},
    "a list for it all": [GOOD],
}
FINE: dict[str, Any] = {
    "a number for a text": order(number=1001),
    "a fraction for an amount": order(total=12.5),
    "an amount without money": order(total=0),
    "an amount to be paid back": order(total="-1.5"),
    "a time": order(placed_at="2027-01-31T09:00:00Z"),
    "a time with a zone": order(placed_at="2027-01-31T09:00:00.125+05:30"),
    "empty texts for what is optional": order(url="", currency="", note="", is_gift=""),
    "null for what is optional": {**order(url=None, is_gift=None), "offer": None},
    "an address": order(url="https://shop.example:8443/a?b=c&d=%20#e"),
    "an address beyond ASCII": order(url="https://bücher.example/ä"),
    "a currency": order(currency="EUR"),
    "no lines": {**GOOD, "lines": []},
    "lines in a text": order(note="a\n\tb"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_refused(name: str) -> None:
    _, faults = taken(BAD[name])
    assert len(faults) == 1
    assert all(words.split()[0] in ("Send", "Take") for words in faults.values())


@pytest.mark.parametrize("name", FINE)
def test_what_can_be_used_is_taken(name: str) -> None:
    assert taken(FINE[name])[1] == {}


@pytest.mark.parametrize("name", sorted({*BAD, *FINE} - {"a number without end", "a number that is none"}))
def test_the_schema_says_the_same(name: str) -> None:
    assert VALIDATOR.is_valid({**BAD, **FINE}[name]) == (name in FINE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["order", "number", "lines", "x"]), inner)
    ),
    max_leaves=20,
)


@given(json_values, json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_is_taken_as_plain_values_or_refused(order_: Any, lines: Any) -> None:
    found, faults = taken({"order": order_, "lines": lines})

    def is_plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(name) is str and is_plain(one) for name, one in value.items())
        if isinstance(value, list):
            return all(map(is_plain, value))
        return type(value) in (str, int, float, bool, Decimal, type(None))

    assert is_plain(found)
    assert all(path == "" or path.startswith(("order", "lines")) for path in dict(faults))


def test_a_long_text_is_cut_where_the_kind_says_so() -> None:
    kind = Kind("cut", "Cut", Group.SYSTEM, "For tests.", (Variable("a", "A", longest=5),))
    assert take({"a": "x" * 9}, shape_of(kind), Need())[0] == {"a": "xxxx…"}


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: kind.key)
@pytest.mark.parametrize("locale", kinds.DEFAULT_LOCALES)
def test_every_sample_fits_its_schema(kind: Kind, locale: str) -> None:
    schema = data_schema.data_of(kind)
    OAS31Validator.check_schema(schema)
    assert [error.message for error in OAS31Validator(schema).iter_errors(kinds.sample(kind, locale))] == []
