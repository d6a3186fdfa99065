"""A store: a shop with a code, a name and one set of email settings."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from extensions import Model
from models.types import Instant, utcnow

if TYPE_CHECKING:
    from models.email_settings import EmailSettings

CODE_MAX = 40
NAME_MAX = 150
DOMAIN_MAX = 253


class Store(Model):
    __tablename__ = "stores"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(CODE_MAX), unique=True)
    name: Mapped[str] = mapped_column(String(NAME_MAX))
    domain: Mapped[str] = mapped_column(String(DOMAIN_MAX), default="")
    created_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    email_settings: Mapped[EmailSettings] = relationship(
        back_populates="store", cascade="all, delete-orphan", passive_deletes=True, single_parent=True
    )

    @property
    def tint(self) -> int:
        """The number of the store's colour, the same on every page."""
        return self.id % 8
