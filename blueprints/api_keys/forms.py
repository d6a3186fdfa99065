"""A new API key needs a name, so that people can tell later which application to look at, and something it may do."""

from __future__ import annotations

from wtforms import StringField, ValidationError

from blueprints.fields import StrippedForm, SwitchField
from models.api_key import KEY_NAME_MAX, Scope


class NewKeyForm(StrippedForm):
    name = StringField("Name")
    send = SwitchField("Send", default=True)
    read = SwitchField("Read", default=True)

    def validate_name(self, field: StringField) -> None:
        if not field.data:
            raise ValidationError("Enter a name, like Web shop")
        if len(field.data) > KEY_NAME_MAX:
            raise ValidationError(f"Use {KEY_NAME_MAX} characters or fewer")

    def validate_read(self, field: SwitchField) -> None:
        if field.arrived and self.send.arrived and not self.scopes:
            raise ValidationError("Choose Send, Read or both")

    @property
    def scopes(self) -> list[Scope]:
        """What the key may do."""
        return [scope for scope in Scope if self[scope].data]
