"""Shared WTForms parts: texts in one spelling, formats by `mail/text_rules`, write-only secrets, honest checkboxes.

A field keeps what was typed in `data`, so that a refused form shows it again; what it means stands in `parsed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from flask import abort, g, request
from flask_wtf import FlaskForm
from wtforms import BooleanField, Form, PasswordField, StringField
from wtforms.meta import DefaultMeta
from wtforms.validators import StopValidation
from wtforms.widgets import TextArea

from mail.drafts import REMOVE_SECRET, SecretEdit
from mail.text_rules import (
    at_most,
    clean,
    hidden_character,
    parse_address,
    parse_address_list,
    parse_endpoint_url,
    parse_host,
    parse_port,
)

MASK = "•"
PAGE_NOT_WHOLE = "The page did not arrive whole. Load it again, then repeat what you changed."
NOT_WHOLE = "This switch did not arrive with the form. Load the page again, then save once more."
UNREADABLE = "Some characters of this entry could not be read. Type it again."


# --- Forms


class CleanMeta(DefaultMeta):
    """Texts arrive in form NFC without blanks around them, and without hidden characters (security.md 20, 21)."""

    def bind_field(self, form: Any, unbound_field: Any, options: Any) -> Any:
        field = super().bind_field(form, unbound_field, options)
        if isinstance(field, StringField) and not isinstance(field, PasswordField | LinesField):
            field.filters = (_clean, *field.filters)
            field.validators = (_refuse_hidden, *field.validators)
        return field


class StrippedForm(FlaskForm):
    """The base of our forms."""

    class Meta(CleanMeta, FlaskForm.Meta):
        pass

    def validate(self, extra_validators: Any = None) -> bool:
        valid = super().validate(extra_validators)
        for name in unreadable_fields():
            if name in self._fields:
                self[name].errors = [UNREADABLE]
                valid = False
        if "*" in unreadable_fields():
            self.form_errors.append(PAGE_NOT_WHOLE)
            valid = False
        return valid

    def check(self, name: str) -> bool:
        """Whether this one field is right, its own rule of the form included."""
        inline = getattr(self, f"validate_{name}", None)
        valid = bool(self[name].validate(self, [inline] if inline else []))
        if name in unreadable_fields():
            self[name].errors, valid = [UNREADABLE], False
        return valid


class RowForm(Form):
    """The base of a row in a list: no CSRF token of its own."""

    class Meta(CleanMeta):
        pass


def _clean(text: str | None) -> str | None:
    return clean(text) if isinstance(text, str) else text


def _refuse_hidden(form: Any, field: Any) -> None:
    # Blanks alone are nothing: `InputRequired` looks at what arrived, not at what is left of it.
    field.raw_data = [clean(text) for text in field.raw_data or [] if isinstance(text, str)]
    if problem := hidden_character(field.data or ""):
        raise StopValidation(problem)


# --- What arrived as bytes


def note_unreadable_bytes(most_fields: int) -> None:
    """Look at the raw body before anyone parses it: Werkzeug turns bytes that are no UTF-8 into text like "%FF".

    To be called before the form is read, so from a `url_value_preprocessor`. Answers 413 for more fields than that.
    """
    body = request.get_data(cache=True)
    if body.count(b"&") >= most_fields:
        abort(413)
    g.unreadable_fields = _unreadable_names(body, request.mimetype)


def unreadable_fields() -> frozenset[str]:
    """Names of fields of this request whose bytes are no UTF-8; "*" when nobody can tell which."""
    found: frozenset[str] = g.get("unreadable_fields", frozenset())
    return found


def _unreadable_names(body: bytes, mimetype: str) -> frozenset[str]:
    if mimetype != "application/x-www-form-urlencoded":
        return frozenset() if _is_utf8(body) else frozenset({"*"})
    found = set()
    for pair in body.split(b"&"):
        name, _, value = (unquote_to_bytes(part.replace(b"+", b" ")) for part in pair.partition(b"="))
        if not _is_utf8(name):
            found.add("*")
        elif not _is_utf8(value):
            found.add(name.decode())
    return frozenset(found)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


# --- Fields


@dataclass(frozen=True)
class ShownWhen:
    """A field counts only while another one has this value; otherwise what it holds is left alone, right or wrong."""

    other: str
    value: str

    def applies(self, form: Any) -> bool:
        return bool(form[self.other].data == self.value)


class ParsedField(StringField):
    """A text with a format.

    Args:
        parse: gives the meaning of a text or raises ValueError with an instruction.
        required: what to say when nothing was entered; without it, empty means `empty`.
        limit: the most code points; as many as the column has.
        shown_when: when the field counts at all.
    """

    def __init__(
        self,
        label: str = "",
        parse: Callable[[str], Any] = str,
        *,
        required: str = "",
        empty: Any = "",
        limit: int = 4096,
        shown_when: ShownWhen | None = None,
        **kw: Any,
    ):
        super().__init__(label, **kw)
        self.parse, self.required, self.empty, self.limit = parse, required, empty, limit
        self.shown_when = shown_when
        self.parsed: Any = empty

    def pre_validate(self, form: Any) -> None:
        text = self.data or ""
        if self.shown_when and not self.shown_when.applies(form):
            self.parsed = self.empty
            return
        if not text:
            if self.required:
                raise StopValidation(self.required)
            self.parsed = self.empty
            return
        if problem := hidden_character(text):
            raise StopValidation(problem)
        try:
            at_most(text, self.limit)
            self.parsed = self.parse(text)
        except ValueError as error:
            raise StopValidation(str(error)) from None


class LinesField(ParsedField):
    """A text of several lines; `parse` judges each of its characters."""

    widget = TextArea()

    def pre_validate(self, form: Any) -> None:
        try:
            at_most(self.data or "", self.limit)
            self.parsed = self.parse(self.data or "")
        except ValueError as error:
            raise StopValidation(str(error)) from None


class AddressField(ParsedField):
    def __init__(self, label: str = "", **kw: Any):
        super().__init__(label, parse_address, limit=320, **kw)


class AddressListField(ParsedField):
    """Addresses separated by commas; `parsed` is a tuple."""

    def __init__(self, label: str = "", **kw: Any):
        super().__init__(label, parse_address_list, empty=(), limit=17_000, **kw)


class HostField(ParsedField):
    def __init__(self, label: str = "", **kw: Any):
        super().__init__(label, parse_host, limit=255, **kw)


class PortField(ParsedField):
    """`parsed` is the number, None when nothing was entered."""

    def __init__(self, label: str = "", **kw: Any):
        super().__init__(label, parse_port, empty=None, limit=100, **kw)


class EndpointURLField(ParsedField):
    def __init__(self, label: str = "", **kw: Any):
        super().__init__(label, parse_endpoint_url, limit=2048, **kw)


class SecretField(PasswordField):
    """A write-only secret with three answers: blank keeps, a text replaces, `<name>-remove` removes.

    The widget never renders a value, not even one just typed. `trims`: blanks around a pasted token are an accident,
    in a password they may be meant.
    """

    def __init__(self, label: str = "", *, limit: int, trims: bool = True, **kw: Any):
        super().__init__(label, **kw)
        self.limit, self.trims, self.removes = limit, trims, False

    def process(self, formdata: Any, *args: Any, **kw: Any) -> None:
        super().process(formdata, *args, **kw)
        self.removes = bool(formdata and formdata.get(f"{self.name}-remove"))

    def process_formdata(self, valuelist: list[Any]) -> None:
        text = valuelist[0] if valuelist and isinstance(valuelist[0], str) else ""
        text = text.strip() if self.trims else text
        self.data = "" if text and set(text) == {MASK} else text

    def pre_validate(self, form: Any) -> None:
        text = self.data or ""
        if text and self.removes:
            raise StopValidation(f"Either type a new {self.label.text} or remove the saved one")
        if problem := hidden_character(text):
            raise StopValidation(problem)
        try:
            at_most(text, self.limit)
        except ValueError as error:
            raise StopValidation(str(error)) from None

    @property
    def edit(self) -> SecretEdit:
        return REMOVE_SECRET if self.removes else SecretEdit.typed(self.data or "")


class SwitchField(BooleanField):
    """A checkbox that tells "off" from "not sent": `<name>-present` stands beside it (security.md 26)."""

    arrived = True

    def process(self, formdata: Any, *args: Any, **kw: Any) -> None:
        super().process(formdata, *args, **kw)
        self.arrived = formdata is None or f"{self.name}-present" in formdata
        if not self.arrived:
            self.data = bool(self.object_data)

    def pre_validate(self, form: Any) -> None:
        if not self.arrived:
            raise StopValidation(NOT_WHOLE)


def whole_number(text: str | None) -> int | None:
    """The number behind a hidden field of ours, or None when the field is missing or was tampered with."""
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,9}", text) else None
