"""A store's own data: name, code, web address; and the questions before copying and deleting."""

from __future__ import annotations

import re

from sqlalchemy import select
from wtforms import StringField, ValidationError
from wtforms.validators import InputRequired

from blueprints.fields import StrippedForm, SwitchField
from extensions import db
from models import Store
from models.store import CODE_MAX, DOMAIN_MAX, NAME_MAX

CODE_PATTERN = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN_PATTERN = re.compile(rf"{LABEL}(?:\.{LABEL})+")


class StoreForm(StrippedForm):
    name = StringField("Store name", validators=[InputRequired("Enter the store’s name")])
    code = StringField("Code", validators=[InputRequired("Enter a short code, like acme-store")])
    domain = StringField("Web address")

    def __init__(self, *args: object, store: Store | None = None, **kw: object):
        super().__init__(*args, **kw)
        self.store = store

    def validate_name(self, field: StringField) -> None:
        if len(field.data) > NAME_MAX:
            raise ValidationError(f"Use {NAME_MAX} characters or fewer")

    def validate_code(self, field: StringField) -> None:
        field.data = field.data.lower()
        if len(field.data) > CODE_MAX or not CODE_PATTERN.fullmatch(field.data):
            raise ValidationError(f"Use up to {CODE_MAX} letters a–z, digits and single hyphens, like acme-store")
        taken = db.session.scalar(select(Store.id).where(Store.code == field.data))
        if taken is not None and (self.store is None or taken != self.store.id):
            raise ValidationError("Another store has this code already")

    def validate_domain(self, field: StringField) -> None:
        field.data = (field.data or "").lower()
        if field.data and (len(field.data) > DOMAIN_MAX or not DOMAIN_PATTERN.fullmatch(field.data)):
            raise ValidationError("Enter the address without https://, like acmestore.example")


class CopyForm(StoreForm):
    emails_off = SwitchField("Start the copy with emails turned off", default=True)


class DeleteForm(StrippedForm):
    code = StringField("Type the store’s code to delete it")

    def __init__(self, *args: object, store: Store, **kw: object):
        super().__init__(*args, **kw)
        self.store = store

    def validate_code(self, field: StringField) -> None:
        if field.data != self.store.code:
            raise ValidationError(f"Type {self.store.code} exactly as it stands here")
