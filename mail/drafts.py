"""Email settings as a form holds them: plain records between the door and the tables, secrets as what to do with them.

`current_smtp` and `current_advanced` read what is stored into the same records, so that "what is on the screen" and
"what is stored" can be compared, tested and sent with by the same code.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from mail.equipment import Equipment
from models.connection import ClientAuth, Connection, GrantType
from models.email_settings import EmailSettings, Method
from security.secret import Secret
from security.vault import Place, Unreadable

Pair = tuple[str, str]


class SecretAction(enum.StrEnum):
    KEEP = "keep"
    REMOVE = "remove"
    REPLACE = "replace"


@dataclass(frozen=True)
class SecretEdit:
    """What to do with a stored secret; `value` only with REPLACE."""

    action: SecretAction
    value: Secret | None = None

    @classmethod
    def replace(cls, value: Secret) -> SecretEdit:
        return cls(SecretAction.REPLACE, value)

    @classmethod
    def typed(cls, text: str) -> SecretEdit:
        """Replace by what somebody typed; nothing typed keeps what is stored."""
        return cls.replace(Secret(text)) if text else KEEP_SECRET

    @property
    def is_typed(self) -> bool:
        return self.action == SecretAction.REPLACE


KEEP_SECRET = SecretEdit(SecretAction.KEEP)
REMOVE_SECRET = SecretEdit(SecretAction.REMOVE)


@dataclass(frozen=True)
class General:
    """Sender identity and switches: one set per store, used by both methods."""

    from_name: str = ""
    from_email: str = ""
    bcc: tuple[str, ...] = ()
    use_ssl: bool = True
    emails_off: bool = False


@dataclass(frozen=True)
class SMTPDraft:
    general: General = field(default_factory=General)
    smtp_host: str = ""
    smtp_port: int | None = None
    username: str = ""
    password: SecretEdit = KEEP_SECRET


@dataclass(frozen=True)
class AdvancedDraft:
    """`custom_fields` None means: leave them as they are (they could not be read, or were not sent).

    `issuer` and the three after it come from the issuer's metadata and are empty without; see `mail.discovery`.
    """

    general: General = field(default_factory=General)
    provider: str = "microsoft365"
    smtp_host: str = ""
    smtp_port: int | None = None
    client_id: str = ""
    tenant_id: str = "common"
    client_secret: SecretEdit = KEEP_SECRET
    client_secret_expires_on: date | None = None
    refresh_token: SecretEdit = KEEP_SECRET
    grant_type: GrantType = GrantType.AUTHORIZATION_CODE
    authorization_url: str = ""
    token_url: str = ""
    scope: str = ""
    login: str = ""
    client_auth: ClientAuth = ClientAuth.POST
    issuer: str = ""
    iss_required: bool = False
    revocation_url: str = ""
    pkce_method: str = ""
    custom_fields: tuple[Pair, ...] | None = ()

    @property
    def effective_login(self) -> str:
        """Who authenticates."""
        return self.login or self.general.from_email


Draft = SMTPDraft | AdvancedDraft


class SecretsNeeded(Exception):
    """Stored secrets do not go to another place than they were given for; `fields`: field name -> what to do."""

    def __init__(self, fields: dict[str, str]):
        super().__init__("secrets have to be typed again")
        self.fields = fields


class StaleSave(Exception):
    """Somebody else saved since this form was filled."""


# --- Where sealed values live


def password_place(settings: EmailSettings) -> Place:
    return Place("email_settings", settings.uid, "password_sealed")


def connection_place(connection: Connection, column: str) -> Place:
    return Place("connections", connection.uid, column)


def custom_value_place(uid: str) -> Place:
    return Place("custom_fields", uid, "value_sealed")


# --- What is stored


def general_of(settings: EmailSettings) -> General:
    return General(
        from_name=settings.from_name,
        from_email=settings.from_email,
        bcc=settings.bcc_addresses,
        use_ssl=settings.use_ssl,
        emails_off=settings.emails_off,
    )


def current_smtp(settings: EmailSettings, equipment: Equipment) -> SMTPDraft:
    """Return the stored settings of the SMTP tab, the password as KEEP."""
    return SMTPDraft(
        general=general_of(settings),
        smtp_host=settings.smtp_host,
        smtp_port=settings.smtp_port,
        username=settings.username,
    )


def current_advanced(settings: EmailSettings, equipment: Equipment) -> AdvancedDraft:
    """Return the stored settings of the Advanced SMTP tab, secrets as KEEP; unreadable custom fields as None."""
    connection = settings.connection or Connection(
        provider="microsoft365",
        client_id="",
        tenant_id="common",
        grant_type=GrantType.AUTHORIZATION_CODE,
        authorization_url="",
        token_url="",
        scope="",
        login="",
        client_auth=ClientAuth.POST,
        issuer="",
        iss_required=False,
        revocation_url="",
        pkce_method="",
    )
    try:
        custom_fields: tuple[Pair, ...] | None = load_custom_fields(settings, equipment)
    except Unreadable:
        custom_fields = None
    return AdvancedDraft(
        general=general_of(settings),
        provider=connection.provider,
        smtp_host=settings.advanced_smtp_host,
        smtp_port=settings.advanced_smtp_port,
        client_id=connection.client_id,
        tenant_id=connection.tenant_id,
        client_secret_expires_on=connection.client_secret_expires_on,
        grant_type=connection.grant_type,
        authorization_url=connection.authorization_url,
        token_url=connection.token_url,
        scope=connection.scope,
        login=connection.login,
        client_auth=connection.client_auth,
        issuer=connection.issuer,
        iss_required=connection.iss_required,
        revocation_url=connection.revocation_url,
        pkce_method=connection.pkce_method,
        custom_fields=custom_fields,
    )


def current(settings: EmailSettings, method: Method, equipment: Equipment) -> Draft:
    """Return what is stored for one of the two methods."""
    return current_smtp(settings, equipment) if method == Method.SMTP else current_advanced(settings, equipment)


def load_custom_fields(settings: EmailSettings, equipment: Equipment) -> tuple[Pair, ...]:
    """Return keys and opened values in their order.

    Raises:
        Unreadable: a value does not open.
    """
    return tuple(
        (row.key, equipment.vault.open_secret(row.value_sealed, custom_value_place(row.uid)).reveal())
        for row in settings.custom_fields
    )


@dataclass(frozen=True)
class OpenedSecrets:
    """The secrets that a draft would work with: typed ones as typed, kept ones as stored, removed ones None."""

    password: Secret | None = None
    client_secret: Secret | None = None
    refresh_token: Secret | None = None


def open_secrets(draft: Draft, settings: EmailSettings, equipment: Equipment) -> OpenedSecrets:
    """Return the secrets behind what is on the screen.

    Raises:
        Unreadable: a stored one does not open.
    """

    def opened(edit: SecretEdit, sealed: str | None, place: Place | None) -> Secret | None:
        if edit.action != SecretAction.KEEP:
            return edit.value
        return equipment.vault.open_secret(sealed, place) if sealed and place else None

    if isinstance(draft, SMTPDraft):
        return OpenedSecrets(password=opened(draft.password, settings.password_sealed, password_place(settings)))
    connection = settings.connection
    if connection is None:
        return OpenedSecrets(client_secret=draft.client_secret.value, refresh_token=draft.refresh_token.value)
    return OpenedSecrets(
        client_secret=opened(
            draft.client_secret,
            connection.client_secret_sealed,
            connection_place(connection, "client_secret_sealed"),
        ),
        refresh_token=opened(
            draft.refresh_token,
            connection.refresh_token_sealed,
            connection_place(connection, "refresh_token_sealed"),
        ),
    )


def values_for_words(draft: Draft, equipment: Equipment) -> dict[str, Any]:
    """Return what explanations are filled with: the values of a form, stored or on the screen, none of them secret."""
    values: dict[str, Any] = {
        "method": (Method.SMTP if isinstance(draft, SMTPDraft) else Method.ADVANCED_SMTP).value,
        "smtp_host": draft.smtp_host,
        "smtp_port": draft.smtp_port,
        "use_ssl": draft.general.use_ssl,
        "from_email": draft.general.from_email,
        "redirect_uri": equipment.redirect_uri,
    }
    if isinstance(draft, SMTPDraft):
        return {**values, "login": draft.username}
    values |= {"client_id": draft.client_id, "tenant_id": draft.tenant_id, "token_url": draft.token_url}
    values |= {"scope": draft.scope, "grant_type": draft.grant_type.value}
    return {**values, "login": draft.effective_login}
