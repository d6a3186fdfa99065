"""A new API key needs a name, so that people can tell later which application to look at."""

from __future__ import annotations

from flask_wtf import FlaskForm
from wtforms import StringField, ValidationError

from mail import text_rules
from models.api_key import KEY_NAME_MAX


class NewKeyForm(FlaskForm):
    name = StringField("Name", filters=[lambda text: text_rules.clean(text or "")])

    def validate_name(self, field: StringField) -> None:
        if not field.data:
            raise ValidationError("Enter a name, like Web shop")
        if fault := text_rules.hidden_character(field.data):
            raise ValidationError(fault)
        if len(field.data) > KEY_NAME_MAX:
            raise ValidationError(f"Use {KEY_NAME_MAX} characters or fewer")
