"""A connection: the OAuth grant and all that a token call needs. Stores refer to it; copies share it."""

from __future__ import annotations

import enum
from datetime import date, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Boolean, Date, Integer, String, Text, column, delete, select, table
from sqlalchemy.orm import Mapped, mapped_column, relationship

from extensions import Model, db
from models.types import Instant, enum_column, new_uid, utcnow

if TYPE_CHECKING:
    from models.email_settings import EmailSettings

CLIENT_ID_MAX = 255
TENANT_MAX = 253
URL_MAX = 2048
SCOPE_MAX = 2048
SECRET_MAX = 16_384


class GrantType(enum.StrEnum):
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  the name of an OAuth grant, no secret
    CLIENT_CREDENTIALS = "client_credentials"
    AUTHORIZATION_CODE = "authorization_code"


class Health(enum.StrEnum):
    """What the last token call or sign-in taught us."""

    NOT_CONNECTED = "not_connected"
    CONNECTED = "connected"
    EXPIRING = "expiring"
    NEEDS_REAUTHORIZATION = "needs_reauthorization"
    SETTINGS_WRONG = "settings_wrong"
    TEMPORARILY_FAILING = "temporarily_failing"


class ClientAuth(enum.StrEnum):
    """How an app with a secret proves itself at the token endpoint (RFC 6749 2.3.1)."""

    POST = "client_secret_post"
    BASIC = "client_secret_basic"


class TokenSource(enum.StrEnum):
    CONNECT = "connect"
    PASTED = "pasted"


class Connection(Model):
    __tablename__ = "connections"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    created_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    # Counts every change of credentials or tokens: a refresh writes its result only over the version it started from.
    version: Mapped[int] = mapped_column(Integer, default=1)
    # Counts what people change in it, and no refreshes: what a sign-in taught is noted only for the edition it used.
    edition: Mapped[int] = mapped_column(Integer, default=1)

    provider: Mapped[str] = mapped_column(String(40), default="microsoft365")
    client_id: Mapped[str] = mapped_column(String(CLIENT_ID_MAX), default="")
    tenant_id: Mapped[str] = mapped_column(String(TENANT_MAX), default="common")
    grant_type: Mapped[GrantType] = mapped_column(enum_column(GrantType), default=GrantType.AUTHORIZATION_CODE)
    authorization_url: Mapped[str] = mapped_column(String(URL_MAX), default="")
    token_url: Mapped[str] = mapped_column(String(URL_MAX), default="")
    scope: Mapped[str] = mapped_column(String(SCOPE_MAX), default="")
    login: Mapped[str] = mapped_column(String(320), default="")  # empty: the store's From Email Address
    client_auth: Mapped[ClientAuth] = mapped_column(enum_column(ClientAuth), default=ClientAuth.POST)
    # What the issuer's metadata said when somebody looked it up; both URLs are the metadata's then, or this is empty.
    issuer: Mapped[str] = mapped_column(String(URL_MAX), default="")
    iss_required: Mapped[bool] = mapped_column(Boolean, default=False)
    revocation_url: Mapped[str] = mapped_column(String(URL_MAX), default="")
    pkce_method: Mapped[str] = mapped_column(String(16), default="")
    token_parameters_sealed: Mapped[str | None] = mapped_column(Text)  # JSON list of the `token.*` custom fields

    client_secret_sealed: Mapped[str | None] = mapped_column(Text)
    client_secret_set_at: Mapped[datetime | None] = mapped_column(Instant)
    client_secret_set_by: Mapped[str] = mapped_column(String(320), default="")
    client_secret_expires_on: Mapped[date | None] = mapped_column(Date)

    refresh_token_sealed: Mapped[str | None] = mapped_column(Text)
    refresh_token_set_at: Mapped[datetime | None] = mapped_column(Instant)
    refresh_token_set_by: Mapped[str] = mapped_column(String(320), default="")
    refresh_token_source: Mapped[TokenSource | None] = mapped_column(enum_column(TokenSource))

    access_token_sealed: Mapped[str | None] = mapped_column(Text)
    access_token_expires_at: Mapped[datetime | None] = mapped_column(Instant)
    refreshed_at: Mapped[datetime | None] = mapped_column(Instant)  # when the access token was last obtained
    granted_scope: Mapped[str] = mapped_column(String(SCOPE_MAX), default="")

    # Who consented, learned from the ID token
    account: Mapped[str] = mapped_column(String(320), default="")
    account_tenant: Mapped[str] = mapped_column(String(TENANT_MAX), default="")
    connected_at: Mapped[datetime | None] = mapped_column(Instant)
    connected_by: Mapped[str] = mapped_column(String(320), default="")

    health: Mapped[Health] = mapped_column(enum_column(Health), default=Health.NOT_CONNECTED)
    health_since: Mapped[datetime | None] = mapped_column(Instant)
    health_stage: Mapped[str] = mapped_column(String(16), default="")  # the step that showed it: token or auth
    health_code: Mapped[str] = mapped_column(String(80), default="")
    health_detail: Mapped[str] = mapped_column(Text, default="")  # the provider's words, secrets masked

    # What is known of the grant's end: the moment itself, how long grants of this app live, how long unused ones do
    grant_ends_at: Mapped[datetime | None] = mapped_column(Instant)
    grant_lifetime_s: Mapped[int | None] = mapped_column(Integer)
    idle_limit_s: Mapped[int | None] = mapped_column(Integer)
    # Some worker looks after it until then (database clock)
    care_until: Mapped[datetime | None] = mapped_column(Instant)

    # One refresh at a time: who holds the right to call the token endpoint, until when (database clock)
    refresh_lease: Mapped[str | None] = mapped_column(String(32))
    refresh_lease_until: Mapped[datetime | None] = mapped_column(Instant)

    email_settings: Mapped[list[EmailSettings]] = relationship(back_populates="connection")

    @property
    def has_client_secret(self) -> bool:
        return self.client_secret_sealed is not None

    @property
    def has_refresh_token(self) -> bool:
        return self.refresh_token_sealed is not None


def delete_unused() -> None:
    """Remove connections that no store refers to any more, tokens included. The caller commits."""
    used = select(column("connection_id", Integer)).select_from(table("email_settings"))
    used = used.where(column("connection_id", Integer).is_not(None))
    db.session.execute(delete(Connection).where(Connection.id.not_in(used)))
