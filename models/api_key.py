"""API keys: how a store's applications hand mail in. Only a hash is kept."""

from __future__ import annotations

import enum
from datetime import datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import Instant, utcnow

KEY_NAME_MAX = 80


class Scope(enum.StrEnum):
    SEND = "send"  # hand in mail, and cancel it while it has not gone
    READ = "read"  # see what became of it


class APIKey(Model):
    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    store_id: Mapped[int] = mapped_column(ForeignKey("stores.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(KEY_NAME_MAX))
    prefix: Mapped[str] = mapped_column(String(16))  # shown, so that people can tell keys apart
    key_hash: Mapped[str] = mapped_column(String(64), unique=True)  # SHA-256 of 256 random bits
    scopes: Mapped[str] = mapped_column(String(80), default="send read")  # Scope values, one blank between two
    created_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    created_by: Mapped[str] = mapped_column(String(320), default="")
    last_used_at: Mapped[datetime | None] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)
