"""A store's email settings: one row per store, holding both methods; the unused one is kept."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Boolean, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from extensions import Model
from models.types import Instant, enum_column, new_uid, utcnow

if TYPE_CHECKING:
    from models.connection import Connection
    from models.store import Store

FROM_NAME_MAX = 150
ADDRESS_MAX = 320
HOST_MAX = 253
USERNAME_MAX = 320
CUSTOM_KEY_MAX = 150
CUSTOM_VALUE_MAX = 4096
CUSTOM_FIELDS_MAX = 100


class Method(enum.StrEnum):
    SMTP = "smtp"
    ADVANCED_SMTP = "advanced_smtp"


class UncertainChoice(enum.StrEnum):
    """What happens to a message whose connection ended after its last byte: it may have been sent."""

    RETRY = "retry"  # send it again, byte for byte, marked
    ASK = "ask"  # hold it until somebody has looked into the mailbox


class EmailSettings(Model):
    __tablename__ = "email_settings"

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), unique=True)
    # Counts saves: a form carries the one it was filled from, and a save from an older one is answered with 409.
    version: Mapped[int] = mapped_column(Integer, default=1)
    updated_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    updated_by: Mapped[str] = mapped_column(String(320), default="")

    # General settings, used by both methods
    from_name: Mapped[str] = mapped_column(String(FROM_NAME_MAX), default="")
    from_email: Mapped[str] = mapped_column(String(ADDRESS_MAX), default="")
    bcc: Mapped[str] = mapped_column(Text, default="")  # addresses separated by ", "
    use_ssl: Mapped[bool] = mapped_column(Boolean, default=True)
    emails_off: Mapped[bool] = mapped_column(Boolean, default=False)
    emails_off_since: Mapped[datetime | None] = mapped_column(Instant)
    emails_off_by: Mapped[str] = mapped_column(String(320), default="")
    on_uncertain: Mapped[UncertainChoice] = mapped_column(enum_column(UncertainChoice), default=UncertainChoice.RETRY)

    # SMTP: user name and password
    smtp_host: Mapped[str] = mapped_column(String(HOST_MAX), default="")
    smtp_port: Mapped[int | None] = mapped_column(Integer)
    username: Mapped[str] = mapped_column(String(USERNAME_MAX), default="")
    password_sealed: Mapped[str | None] = mapped_column(Text)
    password_set_at: Mapped[datetime | None] = mapped_column(Instant)
    password_set_by: Mapped[str] = mapped_column(String(320), default="")

    # Advanced SMTP (second schema revision); what belongs to the OAuth grant lives in the connection
    method: Mapped[Method] = mapped_column(enum_column(Method), default=Method.ADVANCED_SMTP)
    advanced_smtp_host: Mapped[str] = mapped_column(String(HOST_MAX), default="")
    advanced_smtp_port: Mapped[int | None] = mapped_column(Integer)
    connection_id: Mapped[int | None] = mapped_column(ForeignKey("connections.id", ondelete="SET NULL"), index=True)

    store: Mapped[Store] = relationship(back_populates="email_settings")
    connection: Mapped[Connection | None] = relationship(back_populates="email_settings")
    custom_fields: Mapped[list[CustomField]] = relationship(
        order_by="CustomField.position", cascade="all, delete-orphan", passive_deletes=True
    )

    @property
    def bcc_addresses(self) -> tuple[str, ...]:
        return tuple(address for address in self.bcc.split(", ") if address)

    @property
    def has_password(self) -> bool:
        return self.password_sealed is not None


class CustomField(Model):
    """A key-value pair of the Advanced SMTP form; the value is sealed, the meaning is never checked."""

    __tablename__ = "custom_fields"
    __table_args__ = (UniqueConstraint("email_settings_id", "position"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True, default=new_uid)
    email_settings_id: Mapped[int] = mapped_column(ForeignKey("email_settings.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(Integer)
    key: Mapped[str] = mapped_column(String(CUSTOM_KEY_MAX))
    value_sealed: Mapped[str] = mapped_column(Text)
