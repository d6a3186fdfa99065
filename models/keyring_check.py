"""A known text sealed with each key this database has seen: wrong keys are noticed at start, not at the first mail."""

from __future__ import annotations

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model


class KeyringCheck(Model):
    __tablename__ = "keyring_checks"

    key_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    uid: Mapped[str] = mapped_column(String(32), unique=True)
    sealed: Mapped[str] = mapped_column(Text)
