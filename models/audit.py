"""Who did what, when, to which store: append-only, names of fields and never their secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Integer, String, event
from sqlalchemy.orm import Mapped, mapped_column

from extensions import Model
from models.types import BigId, Instant, utcnow


class AuditEntry(Model):
    # No foreign keys: the trail outlives the people and stores it tells of.
    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_store_id_id", "store_id", "id"),)

    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant, default=utcnow)
    user_id: Mapped[int | None] = mapped_column(Integer)
    actor: Mapped[str] = mapped_column(String(320), default="")
    store_id: Mapped[int | None] = mapped_column(Integer)
    store_code: Mapped[str] = mapped_column(String(40), default="")
    action: Mapped[str] = mapped_column(String(60))
    fields: Mapped[list[str]] = mapped_column(JSON, default=list)
    detail: Mapped[str] = mapped_column(String(500), default="")


def _refuse(mapper: Any, connection: Any, target: AuditEntry) -> None:
    raise RuntimeError("audit entries are append-only")


event.listen(AuditEntry, "before_update", _refuse)
event.listen(AuditEntry, "before_delete", _refuse)
