"""A new API key needs a name, so that people can tell later which application to look at."""

from __future__ import annotations

from wtforms import StringField, ValidationError

from blueprints.fields import StrippedForm
from models.api_key import KEY_NAME_MAX


class NewKeyForm(StrippedForm):
    name = StringField("Name")

    def validate_name(self, field: StringField) -> None:
        if not field.data:
            raise ValidationError("Enter a name, like Web shop")
        if len(field.data) > KEY_NAME_MAX:
            raise ValidationError(f"Use {KEY_NAME_MAX} characters or fewer")
