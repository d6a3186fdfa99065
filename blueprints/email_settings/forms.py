"""The two settings forms: labels, names and rules of product.md 3. What needs other rows is asked of mail/."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from wtforms import FieldList, FormField, HiddenField, RadioField, SelectField, ValidationError
from wtforms.fields import SelectChoice

from blueprints.fields import (
    AddressField,
    AddressListField,
    EndpointURLField,
    HostField,
    ParsedField,
    PortField,
    RowForm,
    SecretField,
    ShownWhen,
    StrippedForm,
    SwitchField,
)
from mail.discovery import parse_issuer
from mail.drafts import AdvancedDraft, General, SMTPDraft
from mail.providers import Catalogue, tenant_is_valid
from mail.text_rules import ADDRESS_WORDS, parse_scope
from models.connection import CLIENT_ID_MAX, SCOPE_MAX, SECRET_MAX, TENANT_MAX, URL_MAX, ClientAuth, GrantType
from models.email_settings import CUSTOM_FIELDS_MAX, CUSTOM_KEY_MAX, CUSTOM_VALUE_MAX, FROM_NAME_MAX, USERNAME_MAX

TENANT_WORDS = "Enter the directory’s GUID or domain, or common, organizations or consumers"
DATE_WORDS = "Enter a date like 2027-05-31"
ROWS_WORDS = f"Use {CUSTOM_FIELDS_MAX} custom fields or fewer"


def parse_tenant(text: str) -> str:
    if not tenant_is_valid(text):
        raise ValueError(TENANT_WORDS)
    return text


def parse_date(text: str) -> date:
    try:
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError(text)
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(DATE_WORDS) from None


class SettingsForm(StrippedForm):
    """What both tabs share: General Settings, and the version the form was filled from."""

    version = HiddenField()
    from_name = ParsedField(
        "From Display Name", required="Enter the name that recipients see, like Acme Store", limit=FROM_NAME_MAX
    )
    from_email = AddressField("From Email Address", required=ADDRESS_WORDS)
    bcc = AddressListField("Bcc Email Address")
    use_ssl = SwitchField("Enable SSL For SMTP")
    emails_off = SwitchField("Turn Off Emails")
    waiting_mail = RadioField(
        "Emails that waited",
        choices=[SelectChoice("send", "Send them now"), SelectChoice("discard", "Discard them")],
        validate_choice=False,
    )

    @property
    def general(self) -> General:
        return General(
            from_name=self.from_name.parsed,
            from_email=self.from_email.parsed,
            bcc=self.bcc.parsed,
            use_ssl=self.use_ssl.data,
            emails_off=self.emails_off.data,
        )


class SMTPForm(SettingsForm):
    smtp_host = HostField("SMTP Server")
    smtp_port = PortField("SMTP Port")
    username = ParsedField("Username", limit=USERNAME_MAX)
    password = SecretField("Password", limit=SECRET_MAX, trims=False)

    def draft(self) -> SMTPDraft:
        return SMTPDraft(
            general=self.general,
            smtp_host=self.smtp_host.parsed,
            smtp_port=self.smtp_port.parsed,
            username=self.username.parsed,
            password=self.password.edit,
        )


class CustomFieldRow(RowForm):
    key = ParsedField("Name", limit=CUSTOM_KEY_MAX)
    value = ParsedField("Value", limit=CUSTOM_VALUE_MAX)

    def validate_key(self, field: ParsedField) -> None:
        if self.value.data and not field.data:
            raise ValidationError("Enter a name for this value, or remove the field")


class AdvancedForm(SettingsForm):
    provider = RadioField("Email provider", invalid_choice_message="Choose one of the providers shown")
    smtp_host = HostField("SMTP Server")
    smtp_port = PortField("SMTP Port")
    client_id = ParsedField("Client Id", limit=CLIENT_ID_MAX)
    tenant_id = ParsedField("Tenant Id", parse_tenant, empty="common", limit=TENANT_MAX)
    client_secret = SecretField("Client Secret", limit=SECRET_MAX)
    client_secret_expires_on = ParsedField("Client Secret expires on", parse_date, empty=None, limit=100)
    refresh_token = SecretField("Refresh Token", limit=SECRET_MAX)
    grant_type = SelectField(
        "Grant Type",
        choices=[SelectChoice(str(grant), str(grant)) for grant in GrantType],
        invalid_choice_message="Choose one of the three grant types",
    )
    issuer = ParsedField("Issuer", parse_issuer, limit=URL_MAX, shown_when=ShownWhen("provider", "other"))
    client_auth = SelectField(
        "Client authentication",
        choices=[SelectChoice(auth.value, auth.value) for auth in ClientAuth],
        invalid_choice_message="Choose one of the two ways",
    )
    authorization_url = EndpointURLField("Authorization URL", shown_when=ShownWhen("provider", "other"))
    token_url = EndpointURLField("Access Token URL")
    scope = ParsedField("Scope", parse_scope, limit=SCOPE_MAX)
    login = AddressField("Sign-in address")
    custom_fields = FieldList(FormField(CustomFieldRow), "Custom Fields")
    # What the page filled in itself: a value that still stands as it was filled follows the provider and the tenant.
    filled_for = HiddenField()
    urls_tenant = HiddenField()
    looked_up = HiddenField()

    def __init__(self, *args: Any, catalogue: Catalogue, **kw: Any):
        super().__init__(*args, **kw)
        self.provider.choices = [SelectChoice(provider.key, provider.name) for provider in catalogue.choices()]

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """The custom fields as they stand on the page, rows without any text left out."""
        pairs = ((entry.form.key.data or "", entry.form.value.data or "") for entry in self.custom_fields.entries)
        return tuple(pair for pair in pairs if any(pair))

    def draft(self, *, authorization_url: str, keeps_rows: bool, facts: dict[str, Any]) -> AdvancedDraft:
        return AdvancedDraft(
            general=self.general,
            provider=self.provider.data,
            smtp_host=self.smtp_host.parsed,
            smtp_port=self.smtp_port.parsed,
            client_id=self.client_id.parsed,
            tenant_id=self.tenant_id.parsed,
            client_secret=self.client_secret.edit,
            client_secret_expires_on=self.client_secret_expires_on.parsed,
            refresh_token=self.refresh_token.edit,
            grant_type=GrantType(self.grant_type.data),
            authorization_url=authorization_url,
            token_url=self.token_url.parsed,
            scope=self.scope.parsed,
            login=self.login.parsed,
            # Presets know themselves what they take.
            client_auth=ClientAuth(self.client_auth.data) if self.provider.data == "other" else ClientAuth.POST,
            **facts,
            custom_fields=None if keeps_rows else self.rows,
        )
