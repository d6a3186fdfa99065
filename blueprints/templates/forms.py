"""The editor's form: texts exactly as they were typed, and which version they were typed over."""

from __future__ import annotations

from typing import Any

from flask import request
from wtforms import HiddenField, StringField, TextAreaField

from blueprints.fields import PAGE_NOT_WHOLE, StrippedForm, SwitchField, whole_number
from mail.templates.drafts import LIMITS, Draft

LABELS = {
    "subject": "Subject",
    "preheader": "Preview text",
    "html": "HTML",
    "text": "Text",
    "sample": "Sample data",
}


class NumberForm(StrippedForm):
    """A press on a button of a page that was filled at this version."""

    expected = HiddenField()

    @property
    def expected_number(self) -> int | None:
        return whole_number(self.expected.data)


class TemplateForm(NumberForm):
    """`mail/templates/drafts` says what the texts may be; here nothing is trimmed, so that lines keep their numbers."""

    class Meta:
        def bind_field(self, form: Any, unbound_field: Any, options: Any) -> Any:
            return unbound_field.bind(form=form, **options)

    subject = StringField(LABELS["subject"])
    preheader = StringField(LABELS["preheader"])
    html = TextAreaField(LABELS["html"])
    text = TextAreaField(LABELS["text"])
    sample = TextAreaField(LABELS["sample"])

    def arrived_whole(self) -> bool:
        """Whether every field came along, in characters; what is wrong with that stands in the form's errors."""
        valid = bool(self.validate())
        if any(name not in request.form for name in (*LIMITS, "expected")) or self.expected_number is None:
            self.form_errors.append(PAGE_NOT_WHOLE)
            valid = False
        return valid

    @property
    def draft(self) -> Draft:
        return Draft(**{name: self[name].data or "" for name in LIMITS})


class SwitchForm(StrippedForm):
    on = SwitchField("Send mails of this kind")
