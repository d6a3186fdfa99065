"""The shared form parts, tried on a form of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.datastructures import MultiDict
from wtforms import StringField
from wtforms.validators import InputRequired

from blueprints.fields import (
    NOT_WHOLE,
    ParsedField,
    SecretField,
    ShownWhen,
    StrippedForm,
    SwitchField,
    _unreadable_names,
    whole_number,
)
from mail.drafts import KEEP_SECRET, REMOVE_SECRET


class SampleForm(StrippedForm):
    class Meta(StrippedForm.Meta):
        csrf = False

    name = StringField("Name", validators=[InputRequired("Enter a name")])
    kind = ParsedField("Kind")
    size = ParsedField("Size", int, shown_when=ShownWhen("kind", "box"), empty=0)
    on = SwitchField("On")
    token = SecretField("Token", limit=20)
    password = SecretField("Password", limit=20, trims=False)


@pytest.fixture(autouse=True)
def request_context() -> Iterator[None]:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = "test-only"
    with app.test_request_context("/"):
        yield


def form(**values: Any) -> SampleForm:
    posted = {"name": "x", "on-present": "1"} | {name.replace("__", "-"): value for name, value in values.items()}
    made = SampleForm(formdata=MultiDict({k: v for k, v in posted.items() if v is not None}), data={"on": True})
    made.validate()
    return made


def test_texts_come_out_in_one_spelling() -> None:
    assert form(name="  Cafe\u0301 ").name.data == "Caf\u00e9"


@pytest.mark.parametrize("name", ["", "   ", "\t"])
def test_blanks_are_nothing(name: str) -> None:
    assert form(name=name).name.errors == ["Enter a name"]


@pytest.mark.parametrize(
    "text", ["a\x00b", "a\x1bb", "a\x7fb", "a\u2028b", "a\u2029b", "a\ud800b", "a\u202eb", "a\u2066b"]
)
def test_hidden_characters_are_refused_in_every_text(text: str) -> None:
    made = form(name=text, kind=text, token=text)
    assert all(field.errors for field in (made.name, made.kind, made.token))


def test_marks_that_only_shape_what_is_seen_may_stay() -> None:
    assert form(name="\U0001f468\u200d\U0001f469 \u200f\u05d0").errors == {}


def test_a_field_that_is_not_shown_is_not_judged() -> None:
    assert form(kind="bag", size="large").size.parsed == 0
    assert form(kind="box", size="large").size.errors
    assert form(kind="box", size="12").size.parsed == 12


def test_a_switch_that_was_not_sent_is_not_off() -> None:
    assert form().on.data is False
    made = form(on__present=None)
    assert (made.on.data, made.on.errors) == (True, [NOT_WHOLE])


def test_a_secret_keeps_replaces_and_removes() -> None:
    assert form().token.edit == KEEP_SECRET
    assert form(token="••••••••").token.edit == KEEP_SECRET
    assert form(token__remove="1").token.edit == REMOVE_SECRET
    typed = form(token=" fake \n", password=" fake ")
    assert typed.token.edit.value is not None
    assert typed.token.edit.value.reveal() == "fake"
    assert typed.password.edit.value is not None
    assert typed.password.edit.value.reveal() == " fake "
    assert form(token="x" * 21).token.errors == ["Use 20 characters or fewer"]
    assert "fake" not in str(typed.token())


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"a=caf%C3%A9&b=1", set()),
        (b"a=caf%FF", {"a"}),
        (b"a=%ED%A0%80", {"a"}),
        (b"a=\xff&b=1", {"a"}),
        (b"%FF=1", {"*"}),
        (b"a+b=%C3&c=%c3%a9", {"a b"}),
    ],
)
def test_bytes_that_are_no_utf_8_are_found_by_field(body: bytes, names: set[str]) -> None:
    assert _unreadable_names(body, "application/x-www-form-urlencoded") == names


@pytest.mark.parametrize("text", [None, "", "-1", "+1", "1.0", "٣", " 1", "1\n", "1" * 10])
def test_only_ascii_digits_are_a_whole_number(text: str | None) -> None:
    assert whole_number(text) is None
    assert whole_number("0042") == 42
