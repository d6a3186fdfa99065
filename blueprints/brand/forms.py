"""The fields of the brand page, and which version they were filled from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from wtforms import HiddenField

from blueprints.fields import AddressField, LinesField, ParsedField, StrippedForm, whole_number
from mail.templates.brand import (
    FIELDS,
    BrandDraft,
    parse_color,
    parse_currency,
    parse_lines,
    parse_logo_width,
    parse_time_zone,
    parse_web_url,
)
from mail.templates.locales import parse_locale
from models.store import NAME_MAX
from models.template import ADDRESS_LINES_MAX, LEGAL_MAX, URL_MAX


class BrandForm(StrippedForm):
    version = HiddenField()
    display_name = ParsedField("Name in mails", limit=NAME_MAX)
    logo_url = ParsedField("Logo URL", parse_web_url, limit=URL_MAX)
    logo_width = ParsedField("Logo width", parse_logo_width, required="Enter the width of the logo, like 160")
    accent = ParsedField("Colour of buttons and links", parse_color, required="Enter a colour, like #2153d4")
    header_color = ParsedField("Colour of the header", parse_color, required="Enter a colour, like #ffffff")
    website_url = ParsedField("Website", parse_web_url, limit=URL_MAX)
    support_email = AddressField("Support address")
    address = LinesField("Postal address", parse_lines, limit=ADDRESS_LINES_MAX)
    legal = LinesField("Legal footer", parse_lines, limit=LEGAL_MAX)
    locale = ParsedField("Language", parse_locale, required="Enter a language, like en or de-AT", limit=100)
    time_zone = ParsedField("Time zone", parse_time_zone, required="Enter a time zone, like Europe/Berlin", limit=100)
    currency = ParsedField("Currency", parse_currency, required="Enter a currency, like EUR", limit=20)

    @classmethod
    def of(cls, draft: BrandDraft, version: int, **more: Any) -> BrandForm:
        """The form, filled with these values; what was posted goes before them."""
        values = {name: str(getattr(draft, name)) for name in FIELDS}
        return cls(data=values | {"version": str(version)}, **more)

    @property
    def expected_version(self) -> int | None:
        return whole_number(self.version.data)

    def draft(self) -> BrandDraft:
        """What the form means; only after it was found right."""
        return BrandDraft(**{name: self[name].parsed for name in FIELDS})

    def draft_so_far(self, otherwise: BrandDraft) -> BrandDraft:
        """What the right fields mean, and for the others what is stored: somebody is still typing."""
        self.validate()
        return replace(otherwise, **{name: self[name].parsed for name in FIELDS if not self[name].errors})
