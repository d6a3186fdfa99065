"""People who sign in, and their roles."""

from __future__ import annotations

from datetime import datetime

from flask_security import RoleMixin, UserMixin
from sqlalchemy import Boolean, Column, ForeignKey, String, Table
from sqlalchemy.orm import Mapped, mapped_column, relationship

from extensions import Base, Model
from models.types import Instant, new_uid, utcnow

PLATFORM_ADMIN = "platform_admin"

user_roles = Table(
    "user_roles",
    Base.metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
)


class Role(Model, RoleMixin):
    __tablename__ = "roles"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    description: Mapped[str] = mapped_column(String(255), default="")


class User(Model, UserMixin):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    name: Mapped[str] = mapped_column(String(150), default="")
    password: Mapped[str] = mapped_column(String(255))
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    # Changing it ends every session of this person.
    fs_uniquifier: Mapped[str] = mapped_column(String(64), unique=True, default=new_uid)
    created_at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    roles: Mapped[list[Role]] = relationship(  # type: ignore[assignment]  # the mixin declares a list of mixins
        secondary=user_roles, lazy="selectin"
    )

    @property
    def is_platform_admin(self) -> bool:
        return any(role.name == PLATFORM_ADMIN for role in self.roles)

    @property
    def display_name(self) -> str:
        return self.name or self.email
