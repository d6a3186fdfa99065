"""Failed sign-ins, counted per account and per address by all processes together."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import BigId, Instant


class SignInAttempt(Model):
    __tablename__ = "sign_in_attempts"
    __table_args__ = (Index("ix_sign_in_attempts_subject_at", "subject", "at"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    subject: Mapped[str] = mapped_column(String(80))  # "account:<hash>" or "address:<ip>"
    at: Mapped[datetime] = mapped_column(Instant)
